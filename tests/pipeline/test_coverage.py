"""A mixture that lacks too many of its tasks is not trained on, and the refusal says all."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muppet_dag.errors import MuppetError
from muppet_dag.pipeline.coverage import coverage, require_coverage
from muppet_dag.recipes import MixtureSection, Recipe, TasksSection
from muppet_dag.store import Artefact, Manifest


def mixture(held: int, missing: int, unusable: int) -> Artefact:
    tasks = [f"task{n}" for n in range(held + missing)]
    left_out = dict.fromkeys(tasks[held:], "no tokens")
    left_out |= {f"bad{n}": "its declaration" for n in range(unusable)}
    parameters = {"tasks": tasks} | ({"unusable": list(left_out)[missing:]} if unusable else {})
    facts = {"left_out": left_out}
    return Artefact(Path(), Manifest("mixture/x", "0", "1", {}, parameters, {}, facts))


def recipe(share: float) -> Recipe:
    tasks = TasksSection(least_share=share)
    return Recipe(name="x", tasks=tasks, mixture=MixtureSection(steps=1))


@given(
    held=st.integers(1, 60), missing=st.integers(0, 60), unusable=st.integers(0, 3),
    percent=st.integers(0, 100),
)  # fmt: skip
def test_less_than_the_stated_share_is_refused_with_the_numbers(held, missing, unusable, percent):
    drawn, selected = mixture(held, missing, unusable), held + missing + unusable
    assert coverage(drawn) == (held, selected)
    if held >= Fraction(percent, 100) * selected:
        require_coverage(drawn, recipe(percent / 100))
        return
    with pytest.raises(MuppetError, match=rf"'x'.* {held} of {selected} tasks") as caught:
        require_coverage(drawn, recipe(percent / 100))
    said = str(caught.value)
    assert f"tasks.least_share = {percent / 100:g}" in said
    listed = said.partition("Missing: ")[2].partition(";")[0].split(", ")
    named = len(set(listed) & set(drawn.facts["left_out"]))
    rest = missing + unusable - named
    assert listed[named:] == ([f"{rest} more"] if rest else [])
