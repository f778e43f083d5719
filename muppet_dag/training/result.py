"""What a job has finished, by hash: work is skipped only if its result is still what was written.

``result.json`` lies beside the model. It is written when all of the files have come to the disk and
before the model gets its name, so that neither a kill nor a power cut leaves a model that looks
finished and is not.
"""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

from muppet_dag.errors import MuppetError
from muppet_dag.files import file_hash, make_durable, read_json, rename, sync, write_atomic
from muppet_dag.training.report import FACTS, METRICS

log = logging.getLogger(__name__)
MODEL, PREDICTIONS, RESULT = "model", "predictions.arrow", "result.json"


class Result:
    """The finished files of the job with that ``fingerprint`` in its output folder."""

    def __init__(self, output: Path, fingerprint: str) -> None:
        self.output, self.fingerprint = Path(output), fingerprint
        self.model, self.predictions = self.output / MODEL, self.output / PREDICTIONS

    def has_model(self) -> bool:
        """Whether the model is finished, with all that its run says of itself.

        Raises MuppetError if it is another job's.
        """
        if not self.model.is_dir():
            return False
        owner = (read_json(self.output / RESULT) or {}).get("fingerprint")
        if isinstance(owner, str) and owner != self.fingerprint:
            raise MuppetError(
                f"{self.model} is the model of another job (mixture, initial model, seed or "
                f"settings differ: {owner}, not {self.fingerprint}). Delete {self.output} or let "
                "this job have another output."
            )
        return self._stands(MODEL)

    def has_predictions(self) -> bool:
        """Whether predictions of this model are finished."""
        return self.predictions.is_file() and self._stands(PREDICTIONS)

    def keep_model(self, scratch: Path) -> None:
        """Give a model that was written to ``scratch`` its place, for good."""
        make_durable(scratch)
        files = {f"{MODEL}/{p.name}": p for p in sorted(scratch.iterdir())}
        beside = [self.output / name for name in (FACTS, METRICS)]
        files |= {path.name: path for path in beside if path.is_file()}
        self._write({MODEL: {name: file_hash(path) for name, path in files.items()}})
        shutil.rmtree(self.model, ignore_errors=True)
        rename(scratch, self.model)

    def keep_predictions(self, scratch: Path) -> None:
        """The same for predictions."""
        sync(scratch)
        hashes = {PREDICTIONS: {PREDICTIONS: file_hash(scratch)}}
        self._write({**self._parts(), **hashes})
        rename(scratch, self.predictions)

    def _write(self, parts: dict[str, dict[str, str]]) -> None:
        content = {"fingerprint": self.fingerprint, "files": parts}
        write_atomic(self.output / RESULT, json.dumps(content, indent=1))

    def _parts(self) -> dict[str, dict[str, str]]:
        parts = (read_json(self.output / RESULT) or {}).get("files")
        return parts if isinstance(parts, dict) else {}

    def _stands(self, part: str) -> bool:
        files = self._parts().get(part)
        for name, sha256 in files.items() if isinstance(files, dict) else ():
            path = self.output / name
            if not path.is_file() or file_hash(path) != sha256:
                log.warning("%s is not what was written; it is made again", path)
                return False
        return bool(files)
