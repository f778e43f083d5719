"""Losses: what torch.nn.functional gives, scaled so that knowing nothing costs 1 in every task."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from muppet_dag.model import losses
from muppet_dag.model.multitask import load
from muppet_dag.model.spec import HeadSpec
from muppet_dag.recipes import TrainingSection

#: Every family with its head, on rows of the samples.
HEADS = {
    "sst2": HeadSpec("sst2", "classification", 2),
    "rte": HeadSpec("rte", "classification", 2),
    "arc_easy": HeadSpec("commonsense", "ranking"),
    "squad": HeadSpec("mrc", "span"),
    "aeslc": HeadSpec("summarization", "generation"),
}


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def inputs(bench, task: str, base: str) -> dict[str, torch.Tensor]:
    from muppet_dag.mixture.batch import Tokens, collate

    return collate(task, Tokens(bench.tokens(task, base).path, "train"), range(12)).tensors()


@pytest.mark.parametrize("regularizer", ["none", "r3f"])
@pytest.mark.parametrize("base", ["tiny-bert", "tiny-bart"])
def test_with_zeroed_heads_every_scaled_loss_is_one(bench, base, regularizer):
    heads = {task: head for task, head in HEADS.items() if base == "tiny-bart" or task != "aeslc"}
    model = load(bench.base(base).path, heads.values()).train()
    for parameter in model.heads.parameters():
        torch.nn.init.zeros_(parameter)
    if model.generates:
        # The words' weights are the output layer's too: with them zero, all words are as likely.
        torch.nn.init.zeros_(model.backbone.get_output_embeddings().weight)
    slots = [(head.name, inputs(bench, task, base)) for task, head in heads.items()]
    training = TrainingSection(regularizer=regularizer, label_smoothing=0.1)
    with torch.no_grad():
        for loss, n in model.losses(slots, training):
            scaled = losses.scale(loss, n)
            assert scaled.shape == (12,)
            torch.testing.assert_close(scaled, torch.ones(12), rtol=0, atol=1e-6)


@pytest.mark.parametrize("classes", [2, 3, 50])
def test_uniform_class_logits_cost_one_after_scaling(classes):
    loss, n = losses.classification(torch.zeros(4, classes), torch.arange(4) % classes)
    torch.testing.assert_close(losses.scale(loss, n), torch.ones(4), rtol=0, atol=1e-6)
    assert n.tolist() == [classes] * 4


def test_uniform_candidates_cost_one_whatever_their_number():
    sequences = torch.tensor([3, 4, 5, 2])
    loss, n = losses.ranking(torch.zeros(14), torch.tensor([2, 3, 0, 1]), sequences)
    assert n.tolist() == [3, 4, 5, 2]
    torch.testing.assert_close(losses.scale(loss, n), torch.ones(4), rtol=0, atol=1e-6)


def test_uniform_spans_cost_one_over_the_passage_and_no_answer():
    passage = torch.tensor([[3, 9], [5, 6], [2, 12]])
    span = torch.tensor([[4, 8], [0, 0], [11, 11]])
    loss, n = losses.span(torch.zeros(3, 12, 2), span, passage)
    assert n.tolist() == [7, 2, 11]
    torch.testing.assert_close(losses.scale(loss, n), torch.ones(3), rtol=0, atol=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_uniform_words_cost_one_for_any_smoothing(smoothing):
    target, mask = torch.randint(0, 500, (3, 6)), torch.ones(3, 6, dtype=torch.int64)
    mask[1, 2:] = 0
    loss, n = losses.generation(torch.zeros(3, 6, 500), target, mask, smoothing)
    torch.testing.assert_close(losses.scale(loss, n), torch.ones(3), rtol=0, atol=1e-6)


def test_classification_is_cross_entropy():
    logits, labels = torch.randn(5, 3), torch.tensor([0, 2, 1, 1, 0])
    loss, n = losses.classification(logits, labels)
    expected = torch.stack([F.cross_entropy(row, y) for row, y in zip(logits, labels, strict=True)])
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(losses.scale(loss, n), expected / math.log(3))


def test_regression_is_squared_error_and_stays_unscaled():
    predicted, scores = torch.randn(5), torch.rand(5)
    loss, n = losses.regression(predicted, scores)
    torch.testing.assert_close(loss, (predicted - scores) ** 2)
    torch.testing.assert_close(losses.scale(loss, n), loss)


def test_ranking_is_cross_entropy_over_each_rows_own_candidates():
    logits, sequences = torch.randn(12), torch.tensor([3, 4, 5])
    loss, _ = losses.ranking(logits, torch.tensor([2, 0, 4]), sequences)
    parts = zip(logits.split([3, 4, 5]), (2, 0, 4), strict=True)
    torch.testing.assert_close(
        loss, torch.stack([F.cross_entropy(part, torch.tensor(y)) for part, y in parts])
    )


def test_absent_candidates_get_no_probability():
    table = losses.candidate_logits(torch.full((5,), -50.0), torch.tensor([2, 3]))
    shares = table.softmax(-1)
    assert shares[0, 2] == 0
    torch.testing.assert_close(shares[0, :2], torch.tensor([0.5, 0.5]))


def test_a_span_is_the_mean_of_start_and_end_over_the_allowed_positions():
    logits = torch.randn(2, 8, 2)
    span, passage = torch.tensor([[3, 5], [0, 0]]), torch.tensor([[3, 7], [2, 4]])
    loss, n = losses.span(logits, span, passage)
    first = logits[0, [0, 3, 4, 5, 6]]
    second = logits[1, [0, 2, 3]]
    for row, (kept, start, end) in enumerate([(first, 1, 3), (second, 0, 0)]):
        each = [F.cross_entropy(kept[:, i], torch.tensor(at)) for i, at in enumerate((start, end))]
        torch.testing.assert_close(loss[row], sum(each) / 2)
    assert n.tolist() == [5, 3]


def test_positions_outside_the_passage_get_no_probability():
    logits = torch.full((1, 8, 2), -80.0)
    logits[0, 1] = logits[0, 7] = 100.0
    shares = losses.span_logits(logits, torch.tensor([[3, 6]])).softmax(1)[0, :, 0]
    torch.testing.assert_close(shares, torch.tensor([0.25, 0, 0, 0.25, 0.25, 0.25, 0, 0]))


def test_a_window_with_no_room_for_its_passage_costs_nothing():
    span, passage = torch.zeros(1, 2, dtype=torch.int64), torch.zeros(1, 2, dtype=torch.int64)
    logits = torch.randn(1, 8, 2, requires_grad=True)
    scaled = losses.scale(*losses.span(logits, span, passage))
    scaled.sum().backward()
    assert scaled.tolist() == [0.0]
    assert torch.isfinite(logits.grad).all()


def test_generation_is_label_smoothed_and_averaged_over_real_tokens():
    logits, target = torch.randn(2, 4, 9), torch.randint(0, 9, (2, 4))
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
    loss, n = losses.generation(logits, target, mask, 0.1)
    for row, length in enumerate((4, 2)):
        shares = logits[row, :length].log_softmax(-1)
        picked = -shares.gather(-1, target[row, :length, None]).squeeze(-1)
        smoothed = 0.9 * picked - 0.1 * shares.mean(-1)
        torch.testing.assert_close(loss[row], smoothed.mean())
    assert n.tolist() == [9.0, 9.0]


def test_padding_in_a_target_does_not_count():
    logits, target = torch.randn(1, 4, 9), torch.tensor([[1, 2, 0, 0]])
    mask = torch.tensor([[1, 1, 0, 0]])
    one, _ = losses.generation(logits, target, mask, 0.1)
    logits[:, 2:] = 1e4
    other, _ = losses.generation(logits, target, mask, 0.1)
    torch.testing.assert_close(one, other)


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_losses_of_half_precision_logits_are_full_precision(kind):
    loss, n = losses.classification(torch.randn(3, 4, dtype=kind), torch.tensor([0, 1, 2]))
    assert loss.dtype == n.dtype == torch.float32


def test_losses_of_double_precision_logits_stay_double():
    logits = torch.randn(2, 8, 2).double()
    passage = torch.tensor([[2, 6], [1, 4]])
    pairs = [
        losses.classification(logits[:, 0], torch.tensor([0, 1])),
        losses.regression(logits[:, 0, 0], torch.rand(2)),
        losses.ranking(logits[0, :, 0], torch.tensor([0, 1]), torch.tensor([3, 5])),
        losses.span(logits, passage[:, [0, 0]], passage),
        losses.generation(logits, torch.ones(2, 8).long(), torch.ones(2, 8), 0.1),
    ]
    assert {each.dtype for pair in pairs for each in pair} == {torch.float64}
