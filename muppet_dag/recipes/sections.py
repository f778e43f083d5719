"""The tables of a recipe.

Plain dataclasses, so that a training machine reads them from a job file without any validation
library; ``load`` (in the package) checks a TOML file against them with pydantic.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Literal

from muppet_dag.recipes.section import Section, bounded


def stride_problem(max_length: int, stride: int) -> str | None:
    """What is wrong with a stride: a question may take half of a window, and what is left for the
    passage must be more than the next window repeats."""
    if stride <= max_length // 3:
        return None
    return (
        f"stride {stride}: at most {max_length // 3}, a third of max_length {max_length}; "
        "lower model.stride or raise model.max_length"
    )


@dataclass(frozen=True, kw_only=True)
class ModelSection(Section):
    """The pretrained model and how long its inputs may get, in tokens.

    ``base`` is a Hub id, a folder, or one of the tiny models made on the spot; without it the
    deployment's base model is used. ``stride`` is what neighbouring windows of a long passage
    share, at most a third of ``max_length``; unless given it is 128, or a quarter of a shorter
    ``max_length``.
    """

    base: str | None = None
    revision: str = "main"
    architecture: Literal["encoder", "encoder-decoder"] = "encoder"
    max_length: int = 512
    stride: int | None = None
    max_target_length: int = 128
    positive = ("max_length", "stride", "max_target_length")
    filled = ("base", "revision")

    def problems(self) -> Iterator[str]:
        """As of any section; a stride that leaves long questions no window to go on to."""
        yield from super().problems()
        if self.stride and (problem := stride_problem(self.max_length, self.stride)):
            yield problem

    @property
    def lengths(self) -> tuple[int, int, int]:
        """``max_length``, the stride that windows have, and ``max_target_length``."""
        stride = self.stride or min(128, self.max_length // 4)
        return self.max_length, stride, self.max_target_length


@dataclass(frozen=True, kw_only=True)
class TasksSection(Section):
    """Which tasks are mixed: whole families, plus ``include``, minus ``exclude``.

    Tasks that the catalogue holds out for evaluation belong to no family here. A mixture goes on
    without a task whose dataset failed; nothing is trained on one that lacks so many that less than
    ``least_share`` of them is left (1: every task must be there, 0: any will do).
    """

    families: tuple[Literal["classification", "commonsense", "mrc", "summarization"], ...] = (
        "classification",
        "commonsense",
        "mrc",
    )
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    least_share: float = 0.5
    unique = ("families", "include", "exclude")

    def problems(self) -> Iterator[str]:
        """As of any section; lists that leave no task, or contradict each other."""
        yield from super().problems()
        if not 0 <= self.least_share <= 1:
            yield f"least_share must be at least 0 and at most 1, not {self.least_share}"
        if not self.families and not self.include:
            yield "families and include are empty: there is nothing to train on"
        if both := [name for name in self.include if name in self.exclude]:
            yield f"include and exclude both name {', '.join(dict.fromkeys(both))}"


Strategy = Literal["natural", "equal", "proportional", "temperature", "weights"]
Batching = Literal["heterogeneous", "homogeneous", "sequential"]
#: The strategies that read a key; with any other the key would do nothing.
READ_BY: Mapping[str, tuple[Strategy, ...]] = {
    "limit": ("proportional", "temperature"),
    "temperature": ("temperature",),
    "weights": ("weights",),
}


@dataclass(frozen=True, kw_only=True)
class MixtureSection(Section):
    """How rows become slots and steps.

    A slot is a micro-batch of one task: at most ``slot_rows`` rows and at most ``slot_tokens``
    tokens, padding included. A step is one update over ``slots_per_step`` slots. Rows are sorted
    by length inside windows of about ``bucket_slots`` slots. The budget is ``steps`` or ``epochs``.

    ``strategy`` says how often a task is drawn (Raffel et al. 2019, 3.5.2; e is a task's size):
    ``natural`` each row of every task once an epoch (Muppet 3.4: no up- or down-sampling),
    ``equal`` all tasks alike, ``proportional`` to min(e, limit), ``temperature`` to
    min(e, limit) ^ (1 / temperature), ``weights`` to the numbers given by task. No row comes
    again before all rows of its task were used. ``cap`` (``caps`` by task) is the most rows of a
    task that are in the pool at all.

    ``weight_unit`` says what sizes, limit, weights and so shares count: ``rows`` (as in T5),
    ``tokens``, or ``slots``. An update averages over slots, not over rows, and a slot holds the
    more rows the shorter they are. So a task's share of the rows is not its share of the gradient,
    of which tasks of long rows have more; its share of the slots is.

    ``batching`` says which slots share a step: ``heterogeneous`` any (Muppet 3.2), ``homogeneous``
    those of one task (MT-DNN), ``sequential`` those of one task, the tasks one after the other.
    ``decontaminate`` leaves out training rows that are, exactly or nearly, rows of an evaluation
    split of any task; it needs the overlap report to be there.
    """

    strategy: Strategy = "natural"
    limit: int | None = None
    temperature: float | None = None
    weights: Mapping[str, float] = field(default_factory=dict)
    weight_unit: Literal["rows", "tokens", "slots"] = "rows"
    cap: int | None = None
    caps: Mapping[str, int] = field(default_factory=dict)
    batching: Batching = "heterogeneous"
    slot_tokens: int = 4096
    slot_rows: int = 64
    slots_per_step: int = 64
    bucket_slots: int = 64
    steps: int | None = None
    epochs: int | None = None
    decontaminate: bool = True
    positive = (
        "limit",
        "temperature",
        "cap",
        "slot_tokens",
        "slot_rows",
        "slots_per_step",
        "bucket_slots",
        "steps",
        "epochs",
    )

    def problems(self) -> Iterator[str]:
        """A budget that is none or two, and keys that the strategy lacks or does not read."""
        yield from super().problems()
        if (self.steps is None) == (self.epochs is None):
            yield "the budget is either steps or epochs"
        if self.batching == "sequential" and self.epochs is None:
            yield "sequential batching goes through whole tasks: give epochs, not steps"
        for key, strategies in READ_BY.items():
            if getattr(self, key) and self.strategy not in strategies:
                yield f"{key} does nothing with strategy {self.strategy!r}; remove it"
        needed = {"proportional": "limit"}.get(self.strategy, self.strategy)
        if needed in READ_BY and not getattr(self, needed):
            yield f"strategy {self.strategy!r} needs {needed}"
        for name in ("weights", "caps"):
            for task, value in getattr(self, name).items():
                yield from bounded(f"{name}.{task}", value, least=0, more=True)


@dataclass(frozen=True, kw_only=True)
class TrainingSection(Section):
    """Objective, optimizer and schedule of one training run, and how it is carried out.

    Objective: ``loss_scaling`` divides each loss by log n (Muppet 3.2). ``regularizer`` adds
    ``r3f_lambda`` times the symmetric KL divergence between predictions with and without noise of
    size ``r3f_epsilon`` on the word embeddings (Aghajanyan et al. 2020); ``r4f`` also normalises
    the heads' weights by their spectral norm. ``fuse_noised`` makes both passes one, which is
    faster and takes twice the memory.

    Optimizer: ``weight_decay`` is apart from the gradient, whichever optimizer it is (weight *= 1 -
    rate * weight_decay before each update). ``warmup`` is a share of all steps. ``clip_norm`` 0
    means no clipping. ``ema`` above 0 keeps an exponential moving average of the weights, which is
    what is validated and saved.

    Engine: ``precision`` auto is bfloat16 autocast on a GPU that has it, float32 elsewhere.
    ``slots_per_pass`` slots of a step share one forward pass. ``packing`` auto puts sequences one
    after the other without padding on a GPU. ``sharding`` fsdp spreads weights, gradients and
    optimizer state over the workers. A loss or gradient that is not finite stops the run, or skips
    the step, at most ``max_skipped`` times in a row.

    Every ``checkpoint_every`` steps state is saved; the last ``keep`` checkpoints stay, and every
    one at a multiple of ``keep_every`` steps. ``patience`` above 0 ends the run after so many
    validations without a better mean; ``select`` best makes the best validated state the model.
    """

    loss_scaling: bool = True
    label_smoothing: float = 0.1
    regularizer: Literal["none", "r3f", "r4f"] = "none"
    r3f_lambda: float = 1.0
    r3f_epsilon: float = 1e-5
    r3f_noise: Literal["uniform", "normal"] = "uniform"
    fuse_noised: bool = True
    optimizer: Literal["adamw", "adamax", "sgd"] = "adamw"
    learning_rate: float = 1e-5
    betas: tuple[float, float] = (0.9, 0.98)
    eps: float = 1e-6
    momentum: float = 0.9
    weight_decay: float = 0.01
    clip_norm: float = 0.0
    schedule: Literal["polynomial", "linear", "constant"] = "polynomial"
    warmup: float = 0.06
    ema: float = 0.0
    dropout: float = 0.1
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    slots_per_pass: int = 1
    packing: Literal["auto", "on", "off"] = "auto"
    compile: bool = False
    sharding: Literal["none", "fsdp"] = "none"
    on_nonfinite: Literal["stop", "skip"] = "stop"
    max_skipped: int = 10
    checkpoint_every: int = 1000
    keep: int = 2
    keep_every: int | None = None
    async_checkpoints: bool = False
    validate_every: int = 1000
    validation_rows: int = 500
    patience: int = 0
    select: Literal["last", "best"] = "last"
    log_every: int = 10
    timeout_minutes: float = 30.0
    positive = (
        "r3f_epsilon",
        "learning_rate",
        "eps",
        "slots_per_pass",
        "max_skipped",
        "checkpoint_every",
        "keep",
        "keep_every",
        "validate_every",
        "validation_rows",
        "log_every",
        "timeout_minutes",
    )
    not_negative = ("r3f_lambda", "clip_norm", "patience")
    fraction = ("label_smoothing", "warmup", "dropout", "weight_decay", "momentum", "ema")
    #: What is done on the side: with another value the weights come out the same.
    aside: ClassVar[tuple[str, ...]] = (
        "sharding",
        "checkpoint_every",
        "keep",
        "keep_every",
        "async_checkpoints",
        "log_every",
        "timeout_minutes",
    )

    def problems(self) -> Iterator[str]:
        """As of any section; Adam's two betas besides."""
        yield from super().problems()
        if not all(0 <= beta < 1 for beta in self.betas):
            yield f"betas must be at least 0 and below 1, not {list(self.betas)}"

    @property
    def decides(self) -> dict[str, Any]:
        """The fields that decide the weights, as plain values."""
        return {key: value for key, value in asdict(self).items() if key not in self.aside}
