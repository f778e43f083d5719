"""Packed sequences: the same numbers as padded ones, and none sees another."""

from __future__ import annotations

import json

import passes
import pytest
import torch

from muppet_dag.model.attention import PACKABLE
from muppet_dag.model.multitask import MultiTaskModel, load
from muppet_dag.recipes import TrainingSection

PLAIN = TrainingSection()
R3F = TrainingSection(regularizer="r3f", r3f_epsilon=0.05)


@pytest.fixture(scope="module", params=PACKABLE)
def folder(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param) / request.param
    # ModernBERT: the first and the fourth layer see all, the others three tokens on either side.
    windows = {"local_attention": 6, "num_hidden_layers": 4} if "modern" in request.param else {}
    return passes.make(folder, request.param, **windows)


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return passes.make(tmp_path_factory.mktemp("bert") / "bert", "bert")


def both(folder) -> tuple[MultiTaskModel, MultiTaskModel]:
    padded, packed = passes.model(folder), passes.model(folder, packed=True)
    assert packed.packed and not padded.packed
    return padded, packed


@pytest.mark.parametrize("training", [PLAIN, R3F], ids=["plain", "r3f"])
def test_packed_losses_and_gradients_are_the_padded_ones(folder, training):
    results = []
    for model in both(folder):
        torch.manual_seed(0)
        losses = model.losses(passes.everything(), training)
        results.append((losses, passes.gradients(model, losses)))
    (padded, one), (packed, other) = results
    torch.testing.assert_close(padded, packed, rtol=0, atol=1e-10)
    passes.same(one, other)


def test_packed_logits_are_the_padded_ones(folder):
    padded, packed = both(folder)
    for head, inputs in passes.everything():
        logits = [model.eval().logits(head, inputs) for model in (padded, packed)]
        torch.testing.assert_close(*logits, rtol=0, atol=1e-10)


def test_no_sequence_sees_another(bert):
    _, model = both(bert)
    inputs = passes.slot(5, 3)
    other = {**inputs, "input_ids": inputs["input_ids"].clone()}
    low, high = inputs["lengths"].cumsum(0)[1:3].tolist()
    other["input_ids"][low:high] = other["input_ids"][low:high] % 36 + 4
    before, after = (model.logits("three", each) for each in (inputs, other))
    assert torch.equal(before[[0, 1, 3, 4]], after[[0, 1, 3, 4]])
    assert not torch.allclose(before[2], after[2])


def test_packing_computes_over_no_padding(bert):
    _, model = both(bert)
    seen = []
    model.backbone.encoder.register_forward_pre_hook(lambda _, args: seen.append(args[0].shape))
    inputs = passes.slot(5, 3)
    model.logits("three", inputs)
    assert seen == [(1, len(inputs["input_ids"]), passes.HIDDEN)]


def test_attention_probabilities_are_not_dropped(tmp_path):
    """On a CPU as on a GPU, whose kernel cannot."""
    folder = passes.make(tmp_path, "bert")
    model = load(folder, passes.SPECS, dropout=0.5, packed=True)
    for module in model.modules():
        if hasattr(module, "dropout") and not hasattr(module, "query"):
            module.dropout.p = 0.0  # what is left is the dropout inside attention
    model.heads.eval()
    model.backbone.train()
    once, again = (model.logits("three", passes.slot(4)) for _ in range(2))
    assert torch.equal(once, again)


def test_an_encoder_decoder_stays_padded_and_says_so(tmp_path):
    folder = passes.make(tmp_path, "bart")
    model = load(folder, passes.SPECS, packed=True)
    assert not model.packed
    torch.testing.assert_close(
        model.eval().logits("three", passes.slot(3)),
        load(folder, passes.SPECS).eval().logits("three", passes.slot(3)),
    )


def test_a_saved_model_knows_nothing_of_packing(bert, tmp_path):
    from transformers import AutoModel

    _, model = both(bert)
    model.float().save(tmp_path)
    assert "packed" not in json.dumps(json.loads((tmp_path / "config.json").read_text()))
    inputs = passes.slot(1)
    theirs = AutoModel.from_pretrained(tmp_path).eval()
    types = (torch.arange(len(inputs["input_ids"])) >= inputs["second"])[None].long()
    states = theirs(inputs["input_ids"][None], token_type_ids=types).last_hidden_state
    ours = model.eval().heads["three"](states[:, 0])
    torch.testing.assert_close(ours, model.logits("three", inputs), rtol=0, atol=1e-5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="FlashAttention needs a GPU")
@pytest.mark.parametrize("training", [PLAIN, R3F], ids=["plain", "r3f"])
def test_packed_on_a_gpu_agrees_with_padded_in_half_precision(bert, training):
    results = []
    for model in both(bert):
        model.float().cuda()
        torch.manual_seed(0)
        with torch.autocast("cuda", torch.bfloat16):
            losses = model.losses(passes.everything(), training)
        results.append((losses, passes.gradients(model, losses)))
    (padded, one), (packed, other) = results
    torch.testing.assert_close(padded, packed, rtol=0.1, atol=0.1)
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert (value - other[name]).norm() <= 0.1 * value.norm() + 1e-3, name
