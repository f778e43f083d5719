"""Slots that share a pass through the backbone give what they give one by one."""

from __future__ import annotations

from dataclasses import replace

import passes
import pytest
import torch
from torch import nn

from muppet_dag.recipes import TrainingSection

PLAIN = TrainingSection(label_smoothing=0.1)
NOISED = TrainingSection(regularizer="r3f", r3f_epsilon=0.05)


@pytest.fixture(scope="module", params=["bert", "roberta", "bart"])
def folder(request, tmp_path_factory):
    return passes.make(tmp_path_factory.mktemp(request.param) / request.param, request.param)


@pytest.fixture
def model(folder):
    generates = folder.name == "bart"
    return passes.model(folder, *passes.SPECS, *([passes.GENERATION] if generates else []))


@pytest.fixture
def slots(model):
    return passes.everything(model.generates)


def calls(model: nn.Module) -> list:
    """A list that grows with every pass through the backbone."""
    seen: list = []
    model.backbone.register_forward_pre_hook(lambda *_: seen.append(1))
    return seen


def test_a_fused_pass_has_the_losses_and_gradients_of_its_slots(model, slots):
    fused = model.losses(slots, PLAIN)
    apart = [model.losses([each], PLAIN)[0] for each in slots]
    for (loss, n), (own, own_n) in zip(fused, apart, strict=True):
        torch.testing.assert_close(loss, own, rtol=0, atol=1e-10)
        assert loss.dtype == torch.float64 and torch.equal(n, own_n)
    passes.same(passes.gradients(model, fused), passes.gradients(model, apart))


def test_a_pass_goes_through_the_backbone_once_for_each_kind(model, slots):
    seen = calls(model)
    model.losses(slots, PLAIN)
    assert len(seen) == (2 if model.generates else 1)


def test_order_of_slots_is_kept(model, slots):
    there = [loss for loss, _ in model.losses(slots, PLAIN)]
    back = [loss for loss, _ in model.losses(slots[::-1], PLAIN)]
    for one, other in zip(there, reversed(back), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-10)


def test_padding_of_neighbours_does_not_change_what_a_slot_says(model, slots):
    for head, inputs in slots:
        if head == passes.GENERATION.name:
            continue
        rows = model.logits(head, inputs)
        single = {**inputs, "input_ids": inputs["input_ids"][: int(inputs["lengths"][0])],
                  "lengths": inputs["lengths"][:1], "second": inputs["second"][:1]}  # fmt: skip
        own = model.logits(head, single)
        torch.testing.assert_close(rows[:1, : own.shape[1]] if own.ndim > 1 else rows[:1], own)


def test_an_idle_head_has_no_gradient(model):
    losses = model.losses([("three", passes.slot(2))], PLAIN)
    assert not any("mrc" in name for name in passes.gradients(model, losses))


def test_words_of_generation_are_those_of_transformers(model, slots):
    if not model.generates:
        pytest.skip("an encoder")
    inputs = passes.slot(1, 8)
    labels = inputs["target"][None]
    kwargs = {"input_ids": inputs["input_ids"][None], "labels": labels}
    loss, n = model.losses(
        [(passes.GENERATION.name, inputs)], TrainingSection(label_smoothing=0.0)
    )[0]
    torch.testing.assert_close(loss[0], model.backbone(**kwargs).loss, rtol=0, atol=1e-10)
    assert n.tolist() == [passes.VOCABULARY]


def test_a_compiled_backbone_says_the_same(tmp_path):
    model = passes.model(passes.make(tmp_path, "bert"))
    check_compiled(model, passes.everything(), NOISED)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "fused"), [("bert", False), ("bart", True)])
def test_any_compiled_backbone_says_the_same(tmp_path, kind, fused):
    specs = (*passes.SPECS, passes.GENERATION) if kind == "bart" else passes.SPECS
    model = passes.model(passes.make(tmp_path, kind), *specs)
    check_compiled(model, passes.everything(model.generates), replace(NOISED, fuse_noised=fused))


def check_compiled(model, slots, training) -> None:
    """Equal gradients, and nothing is compiled again for sequences of another number and length."""
    others = [(head, inputs) for head, inputs in slots[::-1] for _ in range(2)]
    plain = []
    for each in (slots, others):
        torch.manual_seed(0)
        plain.append(passes.gradients(model, model.losses(each, training)))
    model.backbone.compile(dynamic=True, backend="aot_eager")
    for expected, each, again in zip(plain, (slots, others), (False, True), strict=True):
        torch.manual_seed(0)
        with torch._dynamo.config.patch(error_on_recompile=again):
            passes.same(expected, passes.gradients(model, model.losses(each, training)))
    torch._dynamo.reset()
