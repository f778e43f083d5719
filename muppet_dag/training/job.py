"""Job: the one file that a training process reads.

It holds paths and settings only, so the same command runs by hand, under torchrun on one machine
or many, or in a pod: ``torchrun --nproc-per-node 8 -m muppet_dag.training job.json``.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from muppet_dag.errors import MuppetError
from muppet_dag.evaluation.predictions import TaskFiles
from muppet_dag.files import write_atomic
from muppet_dag.model.spec import HeadSpec
from muppet_dag.recipes import GenerationSection, TrainingSection
from muppet_dag.store import digest


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What to predict with the finished model, loaded back from disk."""

    task: str
    split: str
    rows: int
    generation: GenerationSection = field(default_factory=GenerationSection)


@dataclass(frozen=True, kw_only=True)
class Job:
    """One training run: from ``init`` over the steps of ``mixture`` to ``output/model``.

    ``init`` is a model folder (with heads to re-use, or without), ``mixture`` a mixture folder and
    ``mixture_hash`` its content hash. ``output`` holds checkpoints and logs while the job runs.
    """

    name: str
    init: str
    init_hash: str
    mixture: str
    mixture_hash: str
    tasks: tuple[TaskFiles, ...]
    training: TrainingSection
    seed: int
    output: str
    predict: Prediction | None = None

    @property
    def fingerprint(self) -> str:
        """Hash of what decides the weights; a checkpoint of another job refuses to load."""
        fields = asdict(self)
        decides = {key: fields[key] for key in ("init_hash", "mixture_hash", "seed")}
        heads = [asdict(task.head) for task in self.tasks]
        return digest({**decides, "training": self.training.decides, "heads": heads})

    def write(self, path: Path) -> None:
        """Write as JSON."""
        write_atomic(Path(path), json.dumps(asdict(self), indent=1))

    @classmethod
    def read(cls, path: Path) -> Job:
        """Read what ``write`` wrote. Raises MuppetError if it is something else."""
        try:
            fields = json.loads(Path(path).read_text(encoding="utf-8"))
            fields["tasks"] = tuple(_task_files(task) for task in fields["tasks"])
            betas = tuple(fields["training"]["betas"])  # JSON knows no tuples
            fields["training"] = TrainingSection(**{**fields["training"], "betas": betas})
            fields["predict"] = _prediction(fields["predict"]) if fields["predict"] else None
            return cls(**fields)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise MuppetError(f"{path}: not a job file ({error}); write it again") from error


def _prediction(fields: dict) -> Prediction:
    return Prediction(**{**fields, "generation": GenerationSection(**fields["generation"])})


def _task_files(fields: dict) -> TaskFiles:
    return TaskFiles(
        **{**fields, "head": HeadSpec(**fields["head"]), "metrics": tuple(fields["metrics"])}
    )
