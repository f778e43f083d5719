"""R4F: heads work with W / sigma(W), whoever does the step and whenever it is taken up again."""

from __future__ import annotations

import copy

import passes
import pytest
import torch
from torch import nn

from muppet_dag.model.multitask import load
from muppet_dag.model.spectral import SpectralLinear
from muppet_dag.recipes import TrainingSection

R4F = TrainingSection(regularizer="r4f", r3f_epsilon=0.05)
NAMES = [spec.name for spec in passes.SPECS]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return passes.make(tmp_path_factory.mktemp("bert") / "bert", "bert")


def layers(model) -> list[SpectralLinear]:
    return [layer for layer in model.heads.modules() if isinstance(layer, SpectralLinear)]


def norm(weight: torch.Tensor) -> float:
    return torch.linalg.matrix_norm(weight.detach().double(), 2).item()


def in_use(layer: SpectralLinear) -> torch.Tensor:
    """The weights that a layer works with, found from outside."""
    eye = torch.eye(layer.in_features, dtype=layer.weight.dtype)
    return (layer(eye) - layer.bias).T


@pytest.mark.parametrize("shape", [(12, 12), (12, 3), (12, 1), (5, 9)])
def test_a_fresh_layer_is_exact_in_value_and_gradient(shape):
    torch.manual_seed(0)
    plain = nn.Linear(*shape, dtype=torch.float64)
    layer = SpectralLinear(copy.deepcopy(plain))
    x, toward = torch.randn(7, shape[0]).double(), torch.randn(7, shape[1]).double()
    for _ in range(2):
        layer.zero_grad(), plain.zero_grad()
        sigma = torch.linalg.matrix_norm(plain.weight, 2)
        expected = x @ (plain.weight / sigma).T + plain.bias
        torch.testing.assert_close(layer(x), expected, rtol=0, atol=1e-10)
        (layer(x) * toward).sum().backward()
        (expected * toward).sum().backward()
        torch.testing.assert_close(layer.weight.grad, plain.weight.grad, rtol=0, atol=1e-10)
        torch.testing.assert_close(layer.bias.grad, plain.bias.grad, rtol=0, atol=1e-10)
        layer.advance()  # from exact vectors power iteration comes back to them


def test_every_linear_layer_of_every_head_is_normalised(folder):
    model = load(folder, passes.SPECS, r4f=NAMES)
    linear = [layer for layer in model.heads.modules() if isinstance(layer, nn.Linear)]
    assert linear == layers(model) and len(linear) == 7
    for layer in linear:
        assert norm(in_use(layer)) == pytest.approx(1.0, abs=1e-5)
    assert not layers(load(folder, passes.SPECS))


def test_heads_stay_below_one_while_the_weights_move(folder):
    model = load(folder, passes.SPECS, dropout=0.0, r4f=NAMES).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    start = {name: p.clone() for name, p in model.heads.named_parameters()}
    for step in range(20):
        model.begin_step()
        losses = model.losses([*passes.everything(), ("three", passes.slot(4, step))], R4F)
        sum(loss.mean() for loss, _ in losses).backward()
        optimizer.step()
        optimizer.zero_grad()
    model.begin_step()
    for layer in layers(model):
        assert norm(in_use(layer)) <= 1.02
    moved = [norm(p - start[n]) for n, p in model.heads.named_parameters() if n.endswith("weight")]
    assert min(moved) > 1e-3


def test_norms_move_once_a_step_whatever_is_run(folder):
    """So that workers with other slots, or none of a head, agree."""
    busy, idle = (load(folder, passes.SPECS, r4f=NAMES).train() for _ in range(2))
    for model in (busy, idle):
        with torch.no_grad():
            for layer in layers(model):
                layer.weight.add_(torch.ones_like(layer.weight) * 0.1)
        model.begin_step()
    for _ in range(3):
        busy.losses(passes.everything(), R4F)
    for one, other in zip(busy.heads.buffers(), idle.heads.buffers(), strict=True):
        assert torch.equal(one, other)


def test_a_resumed_model_goes_on_with_the_same_norms(folder):
    model = load(folder, passes.SPECS, r4f=NAMES)
    with torch.no_grad():
        for parameter in model.heads.parameters():
            parameter.add_(torch.randn_like(parameter))
    model.begin_step()
    resumed = load(folder, passes.SPECS, r4f=NAMES)
    resumed.load_state_dict(model.state_dict())
    for each in (model, resumed):
        each.begin_step()
    assert all(
        torch.equal(a, b)
        for a, b in zip(model.heads.buffers(), resumed.heads.buffers(), strict=True)
    )


@pytest.mark.parametrize("state_given", [False, True], ids=["own", "state"])
def test_a_saved_model_is_a_plain_one_that_says_the_same(folder, tmp_path, state_given):
    from safetensors.torch import load_file

    model = load(folder, passes.SPECS, r4f=NAMES).eval()
    with torch.no_grad():
        for parameter in model.heads.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    model.begin_step()
    if state_given:
        state = {name: value.clone() for name, value in model.state_dict().items()}
        load(folder, passes.SPECS, seed=9, r4f=NAMES).save(tmp_path, state)
    else:
        model.save(tmp_path)
    names = {name.rpartition(".")[2] for name in load_file(tmp_path / "heads.safetensors")}
    assert names == {"weight", "bias"}
    again = load(tmp_path, passes.SPECS).eval()
    for head, inputs in passes.everything():
        logits = [each.logits(head, inputs) for each in (model, again)]
        torch.testing.assert_close(*logits, rtol=0, atol=1e-6)


def test_heads_that_are_not_named_stay_plain(folder):
    plain, model = load(folder, passes.SPECS), load(folder, passes.SPECS, r4f=NAMES[:1])
    for name in NAMES:
        state, own = plain.heads[name].state_dict(), model.heads[name].state_dict()
        assert any(isinstance(x, SpectralLinear) for x in model.heads[name].modules()) == (
            name == NAMES[0]
        )
        assert all(torch.equal(value, own[key]) for key, value in state.items())
