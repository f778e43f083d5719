"""The tracker: W&B when it is there, silence when it is not.

A run must never fail or wait because of its tracker. So every call into wandb is guarded: the
first failure is logged once as a warning and the run goes quiet. Nothing is read back from W&B:
offline it has no URL, no artifact versions and no resume, so lineage lives in the manifests.
"""

# No `from __future__ import annotations` here: Dagster reads the fields' real annotations.

import logging
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import dagster as dg

from resources.redact import clean, number

log = logging.getLogger(__name__)

PROJECT = "muppet-dag"
#: Values of WANDB_DISABLED that leave W&B on.
_NO = ("", "0", "false", "no", "off")
_LONGEST_TAG = 64  # characters that W&B takes


class Run:
    """One tracked run; does nothing once W&B has failed or when it is disabled."""

    def __init__(self, run: Any = None, *, online: bool = False, patience: float = 300) -> None:
        self._run, self._online, self._quiet = run, online, run is None
        self._patience = patience
        self._step = -1
        self.id: str | None = self._of(lambda: run.id)
        self.url: str | None = self._of(lambda: run.url) if online else None
        #: Folder of the run's files, the one that ``wandb sync`` takes.
        self.path: Path | None = self._of(lambda: Path(run.dir).parent)

    @property
    def place(self) -> str | None:
        """Where it can be looked at: its page, or its folder on disk; None if it is off."""
        return self.url or (str(self.path) if self.path else None)

    def log(self, step: int, values: Mapping[str, Any]) -> None:
        """Record numbers at a step. Steps only rise: an older one, as every resumed trainer
        repeats, is skipped. Values that are not finite are left out."""
        numbers = _numbers(values)
        if numbers and int(step) >= self._step:
            self._step = int(step)
            self._of(lambda: self._run.log(numbers, step=self._step))

    def summary(self, values: Mapping[str, Any]) -> None:
        """Set the run's final numbers (and words); values that are not finite are left out."""
        texts = {k: v for k, v in values.items() if isinstance(v, str)}
        self._of(lambda: self._run.summary.update({**_numbers(values), **clean(texts)}))

    def artifact(
        self,
        name: str,
        type: str,
        paths: str | Path | Sequence[str | Path],
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        """Upload a folder or files that never change as an artifact; waits for it to arrive.

        Online only: offline it would be one more copy of what the artefact store keeps.
        """
        if self._online:
            several = [paths] if isinstance(paths, str | Path) else list(paths)
            self._of(lambda: self._upload(_safe(name), type, several, clean(metadata or {})))

    def _upload(self, name: str, type: str, paths: Sequence[str | Path], metadata: dict) -> None:
        import wandb

        artifact = wandb.Artifact(name, type=type, metadata=metadata)
        for path in map(Path, paths):
            add = artifact.add_dir if path.is_dir() else artifact.add_file
            add(str(path), policy="immutable", skip_cache=True)  # no copies of gigabytes
        self._run.log_artifact(artifact).wait(timeout=math.ceil(self._patience))

    def finish(self, failed: bool = False) -> None:
        """Close the run; waits for uploads no longer than the tracker's timeout."""
        run, quiet = self._run, self._quiet
        self._run, self._quiet = None, True
        try:
            if run is not None:  # also closes a run that went quiet
                run.finish(exit_code=int(failed))
        except Exception as problem:
            if not quiet:
                log.warning("W&B could not close the run: %s", _text(problem))

    def _of(self, call: Callable[[], Any]) -> Any:
        if self._quiet:
            return None
        try:
            return call()
        except Exception as problem:
            self._quiet = True
            log.warning("W&B failed, this run is tracked no further: %s", _text(problem))
            return None


class Tracker(dg.ConfigurableResource):
    """Where runs are tracked.

    ``mode``: "auto" is what WANDB_DISABLED or WANDB_MODE say, and where they say nothing, online
    when WANDB_API_KEY is set, else offline. ``project``: else WANDB_PROJECT, else "muppet-dag".
    ``directory``: the folder in which wandb makes its own ``wandb/`` with one folder per run;
    upload offline runs with ``wandb sync``. ``timeout``: the longest wait for the server at either
    end of a run, seconds; ``upload_timeout``: the longest wait for an artifact.
    ``system_metrics``: also record what processors, memory and GPUs do.

    WANDB_ENTITY, WANDB_BASE_URL and WANDB_TAGS are W&B's own and count as there.
    """

    project: str | None = None
    mode: Literal["auto", "online", "offline", "disabled"] = "auto"
    directory: str = "."
    timeout: float = 30.0
    upload_timeout: float = 300.0
    system_metrics: bool = False

    @contextmanager
    def run(
        self,
        *,
        name: str,
        group: str | None = None,
        config: Mapping[str, Any] | None = None,
        job_type: str | None = None,
        id: str | None = None,
        tags: Sequence[str] = (),
    ) -> Iterator[Run]:
        """Track what happens inside; never raises on its own account.

        ``config`` is stored without secrets (see `clean`). ``id`` names the run across resumes:
        online W&B continues it, offline each start makes one more folder of the same id.
        """
        kwargs = {"name": name, "group": group, "job_type": job_type, "id": id and _safe(id)}
        kwargs["tags"] = _tags(tags)
        run = self._start(config=clean(config or {}), **kwargs)
        try:
            yield run
        except BaseException:
            run.finish(failed=True)
            raise
        run.finish()

    def _start(self, **kwargs: Any) -> Run:
        mode = _mode() if self.mode == "auto" else self.mode
        if mode == "disabled":
            return Run()
        try:
            return self._init(mode, kwargs)
        except Exception as problem:
            log.warning("W&B did not start (%s): %s", mode or "online", _text(problem))
            return Run() if mode == "offline" else self._offline(kwargs)

    def _offline(self, kwargs: dict[str, Any]) -> Run:
        """The server is away: keep the run on disk, under an id that wandb has not in use."""
        kwargs["id"] = kwargs["id"] and f"{kwargs['id']}-offline"
        try:
            return self._init("offline", kwargs)
        except Exception:
            return Run()  # the first failure has been logged

    def _init(self, mode: str | None, kwargs: Mapping[str, Any]) -> Run:
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # no crash reports to its makers
        os.environ.setdefault("WANDB_SILENT", "true")  # it would ask at a terminal for a key
        import wandb

        Path(self.directory).mkdir(parents=True, exist_ok=True)
        known = type(wandb.Settings()).model_fields  # older versions lack some
        wanted = _settings(self.timeout, self.system_metrics)
        run = wandb.init(
            project=self.project or os.environ.get("WANDB_PROJECT") or PROJECT,
            mode=mode,
            dir=self.directory,
            # Offline there is nothing to go on with, and wandb says so at length.
            resume="allow" if mode not in ("offline", "dryrun") and kwargs["id"] else None,
            reinit="create_new",  # assets may run side by side in one process
            settings=wandb.Settings(**{k: v for k, v in wanted.items() if k in known}),
            **kwargs,
        )
        online = not (run.offline or run.disabled)
        return Run(run, online=online, patience=self.upload_timeout)


def _mode() -> str | None:
    """What the environment asks of W&B; None leaves it to W&B's own settings files, where the
    command ``wandb offline`` writes."""
    if os.environ.get("WANDB_DISABLED", "").strip().lower() not in _NO:
        return "disabled"
    if asked := os.environ.get("WANDB_MODE"):
        return asked  # what is no mode W&B refuses, and nothing is tracked
    return None if os.environ.get("WANDB_API_KEY") else "offline"


def _tags(tags: Sequence[str]) -> list[str]:
    """The tags, and those of the environment, which W&B forgets where it is given any."""
    own = os.environ.get("WANDB_TAGS", "").split(",")
    return list(dict.fromkeys(tag[:_LONGEST_TAG] for tag in (*tags, *own) if tag))


def _settings(timeout: float, system_metrics: bool) -> dict[str, Any]:
    """Quiet, bounded waits, and nothing about the code or the installed packages; of the machine
    only how busy it is, where that is asked for."""
    off = ("git", "code", "job_creation")
    machine = ("x_disable_machine_info", "x_disable_stats")  # the first switches off both
    return {
        "silent": True,
        "console": "off",
        "host": "",
        "x_save_requirements": False,
        "init_timeout": timeout,
        "login_timeout": timeout,
        "finish_timeout": timeout,
        **{f"disable_{word}": True for word in off},
        "x_disable_meta": True,
        **dict.fromkeys(machine, not system_metrics),
    }


def _text(problem: Exception) -> str:
    return clean({"problem": f"{type(problem).__name__}: {problem}"})["problem"]


def _safe(name: str) -> str:
    """A name that W&B takes as an id and that stays one folder: letters, digits and ``-_.``"""
    return re.sub(r"[^\w.-]+", "-", name, flags=re.ASCII).strip(".-")[:120] or "run"


def _numbers(values: Mapping[str, Any]) -> dict[str, int | float]:
    return {str(k): n for k, v in values.items() if (n := number(v)) is not None}
