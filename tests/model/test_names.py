"""Any name that a task may have is as good as any other: also those that modules use themselves."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import passes
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn
from workbench import SMALL, Workbench, weights

from muppet_dag import catalogue, pipeline
from muppet_dag.catalogue.task import FAMILIES
from muppet_dag.errors import Interrupted
from muppet_dag.model.heads import Heads
from muppet_dag.model.multitask import load, saved_heads
from muppet_dag.model.spec import HeadSpec
from muppet_dag.recipes import TrainingSection
from muppet_dag.training.__main__ import run
from muppet_dag.training.engine import Engine
from muppet_dag.training.group import Group
from muppet_dag.training.job import Job
from muppet_dag.training.trainer import Trainer

ALONE = Group(0, 1, torch.device("cpu"))
NAME = re.compile(r"[a-z0-9_]+")
#: Attributes of modules, of dictionaries and of what a model is made of, and a few odd names.
TAKEN = sorted(
    {name for each in (nn.ModuleDict(), {}, nn.Linear(1, 1)) for name in dir(each)
     if NAME.fullmatch(name)} | {"0", "_", "__", "u", "v", "backbone", "heads", "projection"}
)  # fmt: skip
NAMES = st.sampled_from(TAKEN) | st.from_regex(NAME, fullmatch=True).filter(lambda n: len(n) < 40)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return passes.make(tmp_path_factory.mktemp("names") / "bert", "bert")


def test_every_attribute_of_a_module_names_a_head(folder, tmp_path):
    assert len(TAKEN) > 100
    specs = [HeadSpec(name, "classification", 2) for name in TAKEN]
    model = load(folder, specs, dropout=0.0, r4f=TAKEN)
    model.begin_step()
    passes_of = [(name, passes.slot(1, i, longest=6)) for i, name in enumerate(TAKEN)]
    losses = model.train().losses(passes_of, TrainingSection())
    sum(loss.sum() for loss, _ in losses).backward()
    trained = {name for name, p in model.heads.named_parameters() if p.grad is not None}
    assert {name.split(".")[0] for name in trained} == set(TAKEN)
    model.save(tmp_path)
    assert saved_heads(tmp_path) == specs
    again = load(tmp_path, specs, seed=9)
    for name, inputs in passes_of[:: len(TAKEN) // 10]:
        logits = [each.eval().logits(name, inputs) for each in (model, again)]
        torch.testing.assert_close(*logits, rtol=1e-5, atol=1e-6)


@given(st.lists(NAMES, min_size=1, max_size=4, unique=True))
@example(["training", "type", "items"])
@settings(max_examples=50, deadline=None)
def test_heads_keep_the_weight_names_of_a_module_dict(names):
    heads = Heads({name: nn.Linear(2, 1) for name in names})
    plain = {f"{n}.{leaf}" for n in names for leaf in ("weight", "bias")}
    assert set(heads.state_dict()) == {name for name, _ in heads.named_parameters()} == plain
    other = Heads({name: nn.Linear(2, 1) for name in names})
    other.load_state_dict(heads.state_dict())
    assert all(torch.equal(heads[name].weight, other[name].weight) for name in names)
    assert not any(module.training for module in heads.eval().modules())


def job(bench: Workbench, output: Path, names: tuple[str, ...], **training) -> Job:
    """A job whose tasks are one task of the samples under several names."""
    from muppet_dag.mixture import index

    made, files = bench.job(output, "sst2", **training), bench.files("sst2")
    tasks = tuple(replace(files, name=name, head=replace(files.head, name=name)) for name in names)
    sizes = {task.name: index.Sizes.read(task.tokens) for task in tasks}
    index.build(sizes, replace(SMALL, steps=4), 1, output)
    return replace(made, tasks=tasks)


def test_a_run_of_any_names_trains_validates_and_resumes(bench, tmp_path, monkeypatch):
    names = ("type", "train", "training", "keys", "items", "half", "__", "0")
    settings = {"checkpoint_every": 1, "validate_every": 2, "regularizer": "r4f", "ema": 0.9}
    run(job(bench, tmp_path / "whole", names, **settings), ALONE)
    cut = job(bench, tmp_path / "cut", names, **settings)
    trainer, compute = Trainer(cut, ALONE), Engine.losses

    def stop_in_step_two(engine: Engine, step: int, slots):
        trainer.stop = step == 2
        return compute(engine, step, slots)

    monkeypatch.setattr(Engine, "losses", stop_in_step_two)
    with pytest.raises(Interrupted):
        trainer.run()
    monkeypatch.undo()
    run(cut, ALONE)
    model = tmp_path / "cut" / "model"
    assert weights(model) == weights(tmp_path / "whole" / "model")
    assert {head.name for head in saved_heads(model)} == set(names)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_classification_task_named_as_a_family_has_a_head_of_its_own(name, tmp_path, folder):
    task = replace(catalogue.get("sst2"), name=name)
    shared = {pipeline.head_spec(t) for t in catalogue.TASKS.values() if t.family == name}
    own = pipeline.head_spec(task)
    assert own.kind == "classification" and own.name not in {head.name for head in shared}
    assert not NAME.fullmatch(own.name) or own.name == name  # no other task can have it
    others = [head for head in passes.SPECS if head.name == name]
    model = load(folder, [own, *others])
    model.save(tmp_path)
    assert saved_heads(tmp_path) == [own, *others]
