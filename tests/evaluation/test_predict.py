"""Predictions: of the rows that are asked for, in the task's terms, leaving no trace."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from muppet_dag.corpus import shards
from muppet_dag.evaluation.predict import (
    GREEDY,
    LONGEST_ANSWER,
    _spans,
    best_spans,
    chosen,
    predict,
)
from muppet_dag.evaluation.predictions import Predictions
from muppet_dag.model.multitask import load
from muppet_dag.recipes import GenerationSection

CPU = torch.device("cpu")


def model_for(bench, *names: str, base: str = "tiny-bert"):
    heads = {f.head.name: f.head for f in (bench.files(name, base) for name in names)}
    return load(bench.base(base).path, heads.values(), seed=4)


def run(bench, model, name: str, base: str = "tiny-bert", rows: int = 100, **more) -> Predictions:
    return predict(
        model, bench.files(name, base), "validation", rows=rows, device=CPU,
        tokenizer=bench.base(base).path, **more,
    )  # fmt: skip


def best(pairs: dict[tuple[int, int], float], low: int, high: int, length: int = 60):
    """Score, start and end in the passage of the best span, when these pairs have these scores."""
    logits = torch.full((1, length, 2), -10.0)
    for (start, end), score in pairs.items():
        logits[0, start, 0] = logits[0, end, 1] = score / 2
    score, place = best_spans(logits, torch.tensor([[low, high]]))
    return score.item(), *place[0].tolist()


def test_the_best_span_has_the_best_start_and_end():
    assert best({(5, 7): 8.0}, 4, 20) == (8.0, 1, 3)


def test_a_span_never_ends_before_it_starts():
    logits = torch.full((1, 12, 2), -10.0)
    logits[0, 9, 0], logits[0, 5, 1], logits[0, 10, 1] = 5.0, 5.0, 1.0
    score, place = best_spans(logits, torch.tensor([[4, 12]]))
    assert (score.item(), *place[0].tolist()) == (6.0, 5, 6)


@pytest.mark.parametrize(
    ("length", "allowed"), [(LONGEST_ANSWER, True), (LONGEST_ANSWER + 1, False)]
)
def test_a_span_is_no_longer_than_allowed(length, allowed):
    _, start, end = best({(4, 3 + length): 20.0}, 4, 60)
    assert (end - start + 1 == length) == allowed


def test_a_span_stays_inside_the_passage():
    assert best({(2, 3): 50.0, (6, 6): 1.0}, 5, 10) == (1.0, 1, 1)


def test_a_window_without_passage_has_no_span():
    assert best({}, 0, 0)[0] < -1e30


def always(none: float):
    """A reading head that gives the no-answer position this logit and every other one 0."""

    def logits(_head: str, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        out = torch.zeros(len(inputs["lengths"]), int(inputs["lengths"].max()), 2)
        out[:, 0] = none
        return out

    return logits


@pytest.mark.parametrize(("name", "none", "empty"), [
    ("squad_v2", 1.0, True), ("squad_v2", -1.0, False), ("squad", 1.0, False),
])  # fmt: skip
def test_no_answer_is_given_only_where_it_is_allowed_and_scores_higher(
    bench, monkeypatch, name, none, empty
):
    model = model_for(bench, name)
    monkeypatch.setattr(model, "logits", always(none))
    predictions = run(bench, model, name)
    assert all((answer == "") == empty for answer in predictions.predicted)


def test_an_answer_of_a_long_passage_comes_from_its_best_window(bench):
    """Only one window of a passage holds the token that the head looks for."""
    model = model_for(bench, "squad")
    table = shards.read(bench.shards("squad").path, "validation").to_pylist()
    predictions = run(bench, model, "squad", batch_tokens=256)
    assert len(predictions.ids) == len(table) == 24
    for answer, row in zip(predictions.predicted, table, strict=True):
        assert answer in row["text"] and answer


@pytest.mark.parametrize(("total", "rows"), [(100, 10), (7, 7), (7, 100), (1, 1)])
def test_the_choice_of_rows_is_fixed_sorted_and_without_repetition(total, rows):
    once = chosen(total, rows)
    assert np.array_equal(once, chosen(total, rows))
    assert len(once) == min(total, rows) == len(set(once.tolist()))
    assert (np.diff(once) > 0).all() and once.min() >= 0 and once.max() < total


@pytest.mark.parametrize("name", ["sst2", "stsb", "commonsense_qa", "squad_v2"])
def test_fewer_rows_are_a_part_of_all_with_the_same_predictions(bench, name):
    model = model_for(bench, name)
    whole, some = run(bench, model, name), run(bench, model, name, rows=5)
    at = [whole.ids.index(each) for each in some.ids]
    assert len(some.ids) == 5
    assert some.gold == [whole.gold[i] for i in at]
    expected = [whole.predicted[i] for i in at]
    if name == "stsb":
        assert some.predicted == pytest.approx(expected, abs=1e-5)
    else:
        assert some.predicted == expected


@pytest.mark.parametrize("name", ["sst2", "commonsense_qa", "squad_v2"])
def test_predictions_do_not_depend_on_how_rows_are_batched(bench, name):
    model = model_for(bench, name)
    one, many = (run(bench, model, name, batch_tokens=n).predicted for n in (1, 100_000))
    assert one == many


@pytest.mark.parametrize(("name", "column"), [
    ("sst2", "label"), ("stsb", "score"), ("commonsense_qa", "label"), ("squad_v2", "answers"),
])  # fmt: skip
def test_gold_values_are_those_of_the_shards_in_their_order(bench, name, column):
    predictions = run(bench, model_for(bench, name), name)
    rows = shards.read(bench.shards(name).path, "validation").to_pylist()
    gold = [row[column] for row in rows]
    assert predictions.ids == [row["id"] for row in rows]
    assert predictions.gold == (
        [[a["text"] for a in g] for g in gold] if column == "answers" else gold
    )


def test_a_choice_is_one_of_the_candidates(bench):
    predictions = run(bench, model_for(bench, "arc_easy"), "arc_easy")
    rows = shards.read(bench.shards("arc_easy").path, "validation").to_pylist()
    for answer, row in zip(predictions.predicted, rows, strict=True):
        assert 0 <= answer < len(row["choices"])


def test_summaries_are_text_no_longer_than_allowed(bench):
    model = model_for(bench, "aeslc", base="tiny-bart")
    predictions = run(
        bench, model, "aeslc", "tiny-bart", rows=3, generation=GenerationSection(beams=2)
    )
    assert len(predictions.predicted) == 3 and all(
        isinstance(answer, str) for answer in predictions.predicted
    )
    assert all("[SEP]" not in answer and "[PAD]" not in answer for answer in predictions.predicted)


def written(bench, monkeypatch, generation: GenerationSection, own=None) -> tuple[list, dict]:
    """Token ids of three summaries, and what ``generate`` was given; ``own`` are the model's."""
    model, ids, given = model_for(bench, "aeslc", base="tiny-bart"), [], {}
    backbone, generate = model.backbone, model.backbone.generate
    backbone.generation_config.update(**(own or {}))

    def spied(**kwargs):
        given.update(kwargs)
        ids.extend((out := generate(**kwargs)).tolist())
        return out

    monkeypatch.setattr(backbone, "generate", spied)
    run(bench, model, "aeslc", "tiny-bart", rows=3, generation=generation)
    end, pad = backbone.generation_config.eos_token_id, model.pad_id
    ends = end if isinstance(end, list) else [end]
    return [[i for i in row[1:] if i not in (*ends, pad)] for row in ids], given


def test_summaries_are_as_long_as_the_settings_say(bench, monkeypatch):
    for least, most in ((3, 3), (5, 8)):
        section = GenerationSection(beams=2, min_length=least, max_length=most)
        rows, _ = written(bench, monkeypatch, section)
        assert all(least <= len(row) <= most + 1 for row in rows)


def test_no_tokens_in_a_row_come_twice(bench, monkeypatch):
    section = GenerationSection(min_length=20, max_length=24, no_repeat_ngram_size=2)
    rows, _ = written(bench, monkeypatch, section)
    pairs = [list(pairwise(row)) for row in rows]
    assert all(len(each) == len(set(each)) for each in pairs) and max(map(len, pairs)) > 10
    rows, _ = written(bench, monkeypatch, replace(section, no_repeat_ngram_size=0))
    assert any(len(row) - 1 > len(set(pairwise(row))) for row in rows)


def test_what_the_settings_leave_open_is_the_models_own(bench, monkeypatch):
    own = {"num_beams": 3, "length_penalty": 2.0, "early_stopping": True, "min_length": 7}
    rows, given = written(bench, monkeypatch, GenerationSection(), own)
    assert all(len(row) >= 6 for row in rows)
    assert given.keys() == {"input_ids", "attention_mask", "max_new_tokens", "do_sample"}
    section = GenerationSection(
        beams=4, length_penalty=0.5, min_length=1, max_length=9, no_repeat_ngram_size=3
    )
    rows, given = written(bench, monkeypatch, section, own)
    names = ("num_beams", "length_penalty", "min_new_tokens", "max_new_tokens",
             "no_repeat_ngram_size")  # fmt: skip
    assert [given[name] for name in names] == [4, 0.5, 1, 10, 3]
    greedy, _ = written(bench, monkeypatch, GREEDY, own)  # beside own settings that are for beams
    assert all(len(row) >= 6 for row in greedy)


@pytest.mark.parametrize("training", [True, False])
def test_training_mode_and_random_state_are_left_as_they_were(bench, training):
    model = model_for(bench, "sst2", "squad")
    model.train(training)
    torch.manual_seed(7)
    np.random.seed(7)
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].tolist()
    run(bench, model, "sst2")
    run(bench, model, "squad")
    assert model.training == training
    assert torch.equal(before, torch.get_rng_state())
    assert numpy_before == np.random.get_state()[1].tolist()
    assert all(p.grad is None for p in model.parameters())


def test_training_mode_is_restored_after_an_error(bench):
    model = model_for(bench, "sst2")
    model.train()
    model.heads["sst2"] = torch.nn.Linear(1, 1)
    with pytest.raises(RuntimeError):
        run(bench, model, "sst2")
    assert model.training


@pytest.mark.parametrize("stop", [1, 3])
def test_a_prediction_can_be_stopped_before_any_batch(bench, stop):
    model, batches = model_for(bench, "sst2"), []
    model.train()

    def before() -> None:
        batches.append(len(batches))
        if len(batches) == stop:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        run(bench, model, "sst2", batch_tokens=1, before_batch=before)
    assert len(batches) == stop and model.training


def test_predictions_are_read_as_they_were_written(tmp_path):
    predictions = Predictions(["a-1", "a-2"], ["Zoë", 0.5], [["x", "y"], None])
    predictions.write(tmp_path / "p.arrow")
    assert Predictions.read(tmp_path / "p.arrow") == predictions
    assert predictions.groups == ["a", "a"]


# --- Long passages --------------------------------------------------------------------------------

#: Windows in the order of prediction: example, tokens of the question, tokens of the passage.
WINDOWS = st.lists(
    st.tuples(st.integers(0, 3), st.integers(1, 4), st.integers(0, LONGEST_ANSWER + 5)),
    min_size=1, max_size=10,
)  # fmt: skip


class Fake:
    """Windows over passages of one-letter words, with logits drawn for each of them."""

    def __init__(self, windows: list[tuple[int, int, int]], seed: int, unanswerable: bool) -> None:
        self.windows, self.task = windows, SimpleNamespace(unanswerable=unanswerable)
        draw = np.random.default_rng(seed)
        self.starts = draw.integers(0, 60, len(windows))  # of each window in its passage
        texts = ("".join(map(chr, draw.integers(0x4E00, 0x9FFF, 100))) for _ in range(4))
        self.gold = SimpleNamespace(texts=dict(enumerate(texts)))
        self.scores = [draw.normal(size=(q + p, 2)).astype(np.float32) for _, q, p in windows]
        for scores in self.scores:
            scores[0] += draw.choice([0, 2])
        self.tokens = self

    def take(self, rows: np.ndarray) -> SimpleNamespace:
        parts = [
            [at for i in range(self.windows[row][2]) for at in (i, i + 1)] for row in rows.tolist()
        ]
        lists = [np.array(p) + self.starts[r] for p, r in zip(parts, rows.tolist(), strict=True)]
        flat, lengths = np.concatenate(lists).astype(int), np.array([len(p) for p in parts])
        return SimpleNamespace(lists=lambda name: (flat, lengths))

    def logits(self, batch: SimpleNamespace) -> torch.Tensor:
        out = torch.full((len(batch.rows), max(len(s) for s in self.scores), 2), 99.0)
        for at, row in enumerate(batch.rows.tolist()):
            out[at, : len(self.scores[row])] = torch.from_numpy(self.scores[row])
        return out

    def batches(self, size: int) -> Iterator[SimpleNamespace]:
        for low in range(0, len(self.windows), size):
            some = self.windows[low : low + size]
            passage = np.array([[q, q + p] if p else [0, 0] for _, q, p in some])
            rows = np.arange(low, low + len(some))
            yield SimpleNamespace(rows=rows, examples=np.array([e for e, *_ in some]),
                                  passage=passage)  # fmt: skip

    def answer(self, example: int) -> str:
        """By trying every span of every window."""
        spans, nulls = [(-np.inf, "")], []
        for (of, q, p), scores, at in zip(self.windows, self.scores, self.starts, strict=True):
            if of != example:
                continue
            nulls.append(scores[0, 0] + scores[0, 1])
            spans += [
                (scores[q + i, 0] + scores[q + j, 1], self.gold.texts[of][at + i : at + j + 1])
                for i in range(p) for j in range(i, min(p, i + LONGEST_ANSWER))
            ]  # fmt: skip
        score, text = max(spans)
        return "" if self.task.unanswerable and min(nulls) > score else text


@given(WINDOWS, st.integers(0, 999), st.integers(1, 10), st.booleans())
@settings(max_examples=80, deadline=None)
def test_an_answer_is_the_best_over_all_windows(windows, seed, size, unanswerable):
    """And having none is scored by the window that says so least, wherever either of them is."""
    fake = Fake(windows, seed, unanswerable)
    answers = _spans(fake, fake.batches(size))
    assert answers == {example: fake.answer(example) for example in {w[0] for w in windows}}
