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

__all__ = ["REDACTED", "Run", "Tracker", "clean"]

log = logging.getLogger(__name__)

REDACTED = "[redacted]"
#: Words of a key that mark a secret. "tokens" is not among them: recipes count tokens. A number
#: under the words of ``_COUNTED`` is a length or a budget.
_SECRET = {"token", "key", "apikey", "keys", "credential", "credentials", "auth"}
_SECRET |= {"secret", "secrets", "password", "passwords", "passwd"}
_COUNTED = {"token", "key", "keys"}
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
#: Values that are secrets whatever they are called: known prefixes, and a login inside a URL.
_TELLTALE = re.compile(
    r"\b(hf_|gh[pousr]_|github_pat_|wandb_v\d_|sk-|AKIA)[\w-]{12,}|(?<=://)[^/\s:@]+:[^/\s@]+(?=@)"
)


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

    ``mode``: "auto" is online when WANDB_API_KEY is set, else offline. ``directory``: the folder
    in which wandb makes its own ``wandb/`` with one folder per run; upload offline runs with
    ``wandb sync``. ``timeout``: the longest wait for the server at either end of a run, seconds;
    ``upload_timeout``: the longest wait for an artifact.
    """

    project: str = "muppet-dag"
    mode: Literal["auto", "online", "offline", "disabled"] = "auto"
    directory: str = "."
    timeout: float = 30.0
    upload_timeout: float = 300.0

    @contextmanager
    def run(
        self,
        *,
        name: str,
        group: str | None = None,
        config: Mapping[str, Any] | None = None,
        job_type: str | None = None,
        id: str | None = None,
    ) -> Iterator[Run]:
        """Track what happens inside; never raises on its own account.

        ``config`` is stored without secrets (see `clean`). ``id`` names the run across resumes:
        online W&B continues it, offline each start makes one more folder of the same id.
        """
        kwargs = {"name": name, "group": group, "job_type": job_type, "id": id and _safe(id)}
        run = self._start(config=clean(config or {}), **kwargs)
        try:
            yield run
        except BaseException:
            run.finish(failed=True)
            raise
        run.finish()

    def _start(self, **kwargs: Any) -> Run:
        auto = "online" if os.environ.get("WANDB_API_KEY") else "offline"
        mode = auto if self.mode == "auto" else self.mode
        if mode == "disabled":
            return Run()
        try:
            run = self._init(mode, kwargs)
            return Run(run, online=mode == "online", patience=self.upload_timeout)
        except Exception as problem:
            log.warning("W&B did not start (%s): %s", mode, _text(problem))
            return self._offline(kwargs) if mode == "online" else Run()

    def _offline(self, kwargs: dict[str, Any]) -> Run:
        """The server is away: keep the run on disk, under an id that wandb has not in use."""
        kwargs["id"] = kwargs["id"] and f"{kwargs['id']}-offline"
        try:
            return Run(self._init("offline", kwargs))
        except Exception:
            return Run()  # the first failure has been logged

    def _init(self, mode: str, kwargs: Mapping[str, Any]) -> Any:
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # no crash reports to its makers
        import wandb

        Path(self.directory).mkdir(parents=True, exist_ok=True)
        known = type(wandb.Settings()).model_fields  # older versions lack some
        settings = {k: v for k, v in _settings(self.timeout).items() if k in known}
        return wandb.init(
            project=self.project,
            mode=mode,
            dir=self.directory,
            resume="allow" if mode == "online" and kwargs["id"] else None,
            reinit="create_new",  # assets may run side by side in one process
            settings=wandb.Settings(**settings),
            **kwargs,
        )


def _settings(timeout: float) -> dict[str, Any]:
    """Quiet, bounded waits, and nothing about the code, the machine or the installed packages."""
    off = ("git", "code", "job_creation")
    hidden = ("x_disable_meta", "x_disable_machine_info", "x_disable_stats")
    return {
        "silent": True,
        "console": "off",
        "host": "",
        "x_save_requirements": False,
        "init_timeout": timeout,
        "login_timeout": timeout,
        "finish_timeout": timeout,
        **{f"disable_{word}": True for word in off},
        **dict.fromkeys(hidden, True),
    }


def clean(config: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of a config as JSON values, with secrets replaced by "[redacted]".

    A secret is what stands under a key with a word such as token, key, secret or password (but
    numbers of tokens or keys stay); text that looks like an access token or a URL's login; and
    the value, from 16 characters on, of any environment variable with such a name.
    """
    held = {v for k, v in os.environ.items() if _is_secret(k) and len(v) >= 16}
    return {str(k): _clean(str(k), v, held) for k, v in config.items()}


def _clean(key: str, value: Any, held: set[str]) -> Any:
    number = _number(value)
    if value is None or isinstance(value, bool):
        return value
    if _is_secret(key, _SECRET if _number(value) is None else _SECRET - _COUNTED):
        return REDACTED
    if (number := _number(value)) is not None:
        return number
    if isinstance(value, Mapping):
        return {str(k): _clean(str(k), v, held) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_clean(key, item, held) for item in value]
    text = _TELLTALE.sub(REDACTED, str(value))
    for secret in held:
        text = text.replace(secret, REDACTED)
    return text


def _is_secret(key: str, secret: set[str] = _SECRET) -> bool:
    return any(word.lower() in secret for word in _WORDS.findall(key))


def _text(problem: Exception) -> str:
    return clean({"problem": f"{type(problem).__name__}: {problem}"})["problem"]


def _safe(name: str) -> str:
    """A name that W&B takes as an id and that stays one folder: letters, digits and ``-_.``"""
    return re.sub(r"[^\w.-]+", "-", name, flags=re.ASCII).strip(".-")[:120] or "run"


def _numbers(values: Mapping[str, Any]) -> dict[str, int | float]:
    return {str(k): n for k, v in values.items() if (n := _number(v)) is not None}


def _number(value: Any) -> int | float | None:
    """A finite Python number, also from a numpy or torch scalar; else None."""
    try:
        value = value.item() if hasattr(value, "item") else value
    except (ValueError, RuntimeError, TypeError):
        return None  # an array of several values
    if isinstance(value, bool):
        return int(value)
    return value if isinstance(value, int | float) and math.isfinite(value) else None
