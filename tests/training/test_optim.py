"""Clipping, optimizers, schedules, averages: each against its formula, and what it leaves alone."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from muppet_dag.recipes import TrainingSection
from muppet_dag.training.optim import Ema, clip, make_optimizer, make_schedule

OPTIMIZERS = ("adamw", "adamax", "sgd")


def model() -> nn.ModuleDict:
    """Two "heads", of which a step may use one, with a weight, a bias and a norm each."""
    torch.manual_seed(3)
    return nn.ModuleDict({n: nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4)) for n in ("a", "b")})


def learn(
    network: nn.ModuleDict, optimizer: torch.optim.Optimizer, head: str, seed: int = 0
) -> None:
    x = torch.randn(8, 4, generator=torch.Generator().manual_seed(seed))
    (network[head](x) - x).square().mean().backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def values(network: nn.Module) -> list[torch.Tensor]:
    return [p.detach().clone() for p in network.parameters()]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_head_without_a_gradient_is_left_alone(name):
    network = model()
    optimizer = make_optimizer(
        network, TrainingSection(optimizer=name, learning_rate=0.1, weight_decay=0.1)
    )
    learn(network, optimizer, "a")
    learn(network, optimizer, "b")
    before, moved = values(network["a"]), values(network["b"])
    for seed in range(3):
        learn(network, optimizer, "b", seed)
    assert all(map(torch.equal, before, values(network["a"])))  # nor momentum nor decay
    assert not any(map(torch.equal, moved, values(network["b"])))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_it_learns(name):
    network, x = model(), torch.randn(8, 4)
    optimizer = make_optimizer(network, TrainingSection(optimizer=name, learning_rate=0.03))

    def loss() -> float:
        return float((network["a"](x) - x).square().mean())

    before = loss()
    for seed in range(50):
        learn(network, optimizer, "a", seed)
    assert loss() < 0.7 * before


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_biases_and_norms_do_not_decay(name):
    """A gradient of zero leaves only the decay."""
    network = model()["a"]
    optimizer = make_optimizer(
        network, TrainingSection(optimizer=name, learning_rate=0.1, weight_decay=0.5)
    )
    with torch.no_grad():
        network[0].bias.fill_(1.0)
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    for p in network.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    moved = {name for name, p in network.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {"0.weight"}


class Formula:
    """One weight's updates in float64 by hand, with betas 0.8 and 0.9, momentum 0.7, eps 1e-3."""

    def __init__(self) -> None:
        self.step, self.m, self.v = 0, 0.0, torch.zeros(())

    def adamw(self, g: torch.Tensor) -> torch.Tensor:
        """Loshchilov and Hutter 2017, algorithm 2."""
        self.m, self.v = 0.8 * self.m + 0.2 * g, 0.9 * self.v + 0.1 * g**2
        mean, square = self.m / (1 - 0.8**self.step), self.v / (1 - 0.9**self.step)
        return mean / (square.sqrt() + 1e-3)

    def adamax(self, g: torch.Tensor) -> torch.Tensor:
        """Kingma and Ba 2014, algorithm 2, with eps in the maximum (as torch has it)."""
        self.m, self.v = 0.8 * self.m + 0.2 * g, torch.maximum(0.9 * self.v, g.abs() + 1e-3)
        return self.m / (1 - 0.8**self.step) / self.v

    def sgd(self, g: torch.Tensor) -> torch.Tensor:
        self.m = 0.7 * self.m + g
        return self.m


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_is_the_formula_with_weight_decay_apart(name):
    network = nn.Linear(3, 3, bias=False)
    section = TrainingSection(
        optimizer=name,
        learning_rate=0.1,
        betas=(0.8, 0.9),
        eps=1e-3,
        momentum=0.7,
        weight_decay=0.2,
    )
    optimizer, formula = make_optimizer(network, section), Formula()
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
    weight = network.weight.detach().double()
    for step in range(1, 6):
        gradient = torch.randn(3, 3, generator=torch.Generator().manual_seed(step))
        network.weight.grad = gradient.clone()
        optimizer.step()
        schedule.step()
        formula.step, rate = step, 0.1 / step
        weight = weight * (1 - rate * 0.2) - rate * getattr(formula, name)(gradient.double())
    torch.testing.assert_close(network.weight.detach().double(), weight, rtol=0, atol=1e-6)


@settings(deadline=None)  # the first call imports transformers
@given(
    st.sampled_from(["polynomial", "linear", "constant"]), st.integers(1, 40),
    st.floats(0, 0.9), st.integers(0, 40),
)  # fmt: skip
def test_a_schedule_is_a_function_of_the_step(kind, steps, warmup, start):
    """Started anywhere, the rates are those of the same steps from the beginning."""
    start = min(start, steps - 1)
    section = TrainingSection(schedule=kind, warmup=warmup, learning_rate=1.0)

    def rates(start: int) -> list[float]:
        optimizer = make_optimizer(nn.Linear(2, 2), section)
        schedule, seen = make_schedule(optimizer, section, steps, start), []
        for _ in range(start, steps):
            seen.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            schedule.step()
        assert {group["lr"] for group in optimizer.param_groups} == {schedule.get_last_lr()[0]}
        return [*seen, optimizer.param_groups[0]["lr"]]

    whole = rates(0)
    assert rates(start) == pytest.approx(whole[start:])
    warm = min(math.ceil(warmup * steps), steps - 1)
    assert whole[warm] == pytest.approx(1.0)
    assert whole[:warm] == pytest.approx([i / warm for i in range(warm)])
    after = [1.0] * (steps + 1 - warm) if kind == "constant" else [
        (steps - i) / (steps - warm) for i in range(warm, steps + 1)
    ]  # fmt: skip
    assert whole[warm:] == pytest.approx(after, abs=1e-12)


@settings(deadline=None)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=4), st.floats(0, 10), st.integers(0, 99))
def test_clipping_scales_to_the_limit_and_tells_the_norm(sizes, limit, seed):
    generator = torch.Generator().manual_seed(seed)
    parameters = [nn.Parameter(torch.zeros(size)) for size in sizes]
    for p in parameters:
        p.grad = torch.randn(p.shape, generator=generator)
    idle = nn.Parameter(torch.zeros(2))
    whole = torch.cat([p.grad for p in parameters])
    assert float(clip([*parameters, idle], limit)) == pytest.approx(float(whole.norm()), rel=1e-5)
    after = torch.cat([p.grad for p in parameters])
    least = min(1.0, limit / float(whole.norm())) if limit else 1.0
    torch.testing.assert_close(after, whole * least, rtol=1e-4, atol=1e-6)
    assert idle.grad is None


def test_without_any_gradient_the_norm_is_zero():
    assert float(clip([nn.Parameter(torch.zeros(2))], 1.0)) == 0


def test_the_average_follows_the_formula_and_is_swapped_in_and_out():
    network = model()
    optimizer = make_optimizer(network, TrainingSection(learning_rate=0.1))
    ema, expected = Ema(network, 0.8), values(network)
    for seed in range(5):
        learn(network, optimizer, "a", seed)
        ema.update()
        expected = [0.8 * a + 0.2 * w for a, w in zip(expected, values(network), strict=True)]
    weights = values(network)
    with ema.applied():
        for one, other in zip(values(network), expected, strict=True):
            torch.testing.assert_close(one, other)
    assert all(map(torch.equal, values(network), weights))
    before, after = (
        values(network["b"]),
        [ema.averages[f"b.{n}"] for n, _ in network["b"].named_parameters()],
    )
    assert all(map(torch.equal, before, after))  # an idle head's average is the head


def test_an_error_inside_puts_the_weights_back():
    network = model()
    ema, weights = Ema(network, 0.5), values(network)
    ema.averages["a.0.weight"].zero_()
    with pytest.raises(KeyError), ema.applied():
        raise KeyError
    assert all(map(torch.equal, values(network), weights))
