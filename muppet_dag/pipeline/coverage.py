"""How many of its tasks a mixture holds, and whether that is enough to train on."""

from __future__ import annotations

import math

from muppet_dag.errors import MuppetError
from muppet_dag.recipes import Recipe
from muppet_dag.store import Artefact

#: How many of the missing tasks an error names.
NAMED = 8


def coverage(mixture: Artefact) -> tuple[int, int]:
    """Tasks that a mixture holds, and tasks that its recipe selects; those of the user's own that
    cannot be used are among the latter."""
    parameters = mixture.manifest.parameters
    selected = len(parameters["tasks"]) + len(parameters.get("unusable", ()))
    return selected - len(mixture.facts["left_out"]), selected


def require_coverage(mixture: Artefact, recipe: Recipe) -> None:
    """MuppetError if a mixture holds a smaller share of its tasks than ``tasks.least_share``."""
    (held, selected), share = coverage(mixture), recipe.tasks.least_share
    least = math.ceil(round(share * selected, 9))
    if held >= least:
        return
    left_out = sorted(mixture.facts["left_out"])
    rest = [f"{len(left_out) - NAMED} more"] if len(left_out) > NAMED else []
    raise MuppetError(
        f"recipe {recipe.name!r}: the mixture holds {held} of {selected} tasks, and training asks "
        f"for {least} at least (tasks.least_share = {share:g}). Missing: "
        f"{', '.join([*left_out[:NAMED], *rest])}; left_out of the mixture says why. Materialize "
        "their shards and tokens and draw the mixture again, or lower tasks.least_share in the "
        "recipe to train on fewer"
    )
