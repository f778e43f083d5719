"""The pretrained model that training starts from: fetched whole, pinned, and free of code.

Safetensors and JSON only. Pickled weights and repositories that bring their own Python are refused.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from fnmatch import fnmatchcase
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from muppet_dag import connection, hub
from muppet_dag.errors import BadConfig, SourceError
from muppet_dag.files import file_hash, regular

if TYPE_CHECKING:
    from huggingface_hub.hf_api import RepoSibling

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
TOKENIZER = "tokenizer.json"
VOCABULARY = ("vocab.*", "merges.txt", "*.model")
OTHERS = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
          "generation_config.json")  # fmt: skip
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")

_INSTEAD = "a local folder as base model"


def base_version(
    base: str, revision: str = "main", *, endpoint: str | None = None
) -> tuple[str, str]:
    """Where a base model comes from and its version now, without fetching it.

    ``("hub:FacebookAI/roberta-base", <commit>)`` or ``("directory:<folder name>", "sha256-…")``,
    the hash being over the files that ``fetch_base`` would take. Errors as there.
    """
    if folder := _folder(base):
        return f"directory:{folder.name}", _content_hash(_local_files(folder))
    return f"hub:{base}", _model_info(base, revision, endpoint).sha


def fetch_base(
    base: str, directory: Path, *, revision: str = "main", endpoint: str | None = None
) -> dict[str, str | bool | int | None]:
    """Put a pretrained model, a local folder or a Hub id, into ``directory`` (there, and empty).

    ``AutoModel.from_pretrained(directory)`` and ``tokenizers.Tokenizer.from_file`` of its
    ``tokenizer.json`` load afterwards. On an error the directory may hold a part.
    Returns ``source`` and ``version`` as ``base_version`` does, ``model_type``,
    ``encoder_decoder``, and the positions it has (``suitable.positions``).

    BadConfig: no such name, only pickled weights, a model that needs its own code, or one that
    training cannot start from (``suitable``).
    SourceError: not reachable, not allowed, incomplete or broken.
    """
    from muppet_dag.model import suitable  # brings torch along

    directory = Path(directory)
    if not directory.is_dir() or any(directory.iterdir()):
        raise BadConfig(f"directory {directory}: expected an empty folder for the base model")
    if folder := _folder(base):
        source, version = f"directory:{folder.name}", _copy(folder, directory)
    else:
        source, version = f"hub:{base}", _download(base, revision, endpoint, directory)
    kind = _check_config(directory, source)
    _check_weights(directory, source)
    _check_tokenizer(directory, source)
    return {"source": source, "version": version, **kind, **suitable.check(directory, source)}


def _folder(base: str) -> Path | None:
    folder = Path(base).expanduser()
    if base and folder.is_dir():
        return folder.resolve()
    if not hub.is_repository(base):
        raise BadConfig(
            f"base model {base!r}: neither a folder nor the name of a Hub model such as "
            "FacebookAI/roberta-base"
        )
    return None


def _local_files(folder: Path) -> dict[str, Path]:
    """The files to take, each of which may be opened. SourceError."""
    names = [path.name for path in folder.iterdir() if not path.is_dir()]
    files = {name: folder / name for name in _files_to_take(names, f"directory:{folder.name}")}
    for path in files.values():
        _require_regular(path)
    return files


def _require_regular(path: Path) -> None:
    try:
        regular(path)
    except OSError as error:
        raise SourceError(f"cannot read {path}: {error.strerror}") from error


def _files_to_take(names: list[str], where: str) -> list[str]:
    """The files to take: configuration, one form of the weights, tokenizer. No folders."""
    if CONFIG not in names:
        raise SourceError(f"{where}: no {CONFIG}, so this is not a transformers model")
    shards = [name for name in names if fnmatchcase(name, "model-?????-of-?????.safetensors")]
    weights = [WEIGHTS] if WEIGHTS in names else [INDEX, *shards] if INDEX in names else []
    if not weights:
        pickled = [name for name in names if any(fnmatchcase(name, kind) for kind in PICKLES)]
        raise BadConfig(
            f"{where}: no {WEIGHTS}. "
            + (f"Pickled weights ({', '.join(pickled[:3])}) are never loaded. " if pickled else "")
            + "On the Hub a pull request may hold the safetensors: look at the model's Community "
            "tab and name it as revision refs/pr/N"
        )
    kinds = (TOKENIZER, *VOCABULARY, *OTHERS)
    vocabulary = [name for name in names if any(fnmatchcase(name, kind) for kind in kinds)]
    return sorted({CONFIG, *weights, *(name for name in vocabulary if "/" not in name)})


def _copy(folder: Path, directory: Path) -> str:
    if CONFIG in (path.name for path in folder.iterdir()):
        _require_regular(folder / CONFIG)
        _check_config(folder, f"directory:{folder.name}")
    files = _local_files(folder)
    for name, path in files.items():
        shutil.copyfile(path, directory / name)
    # Hashed after the copy, so that the version is that of the copy even if the folder changed.
    return _content_hash({name: directory / name for name in files})


def _content_hash(files: dict[str, Path]) -> str:
    total = hashlib.sha256()
    for name, path in files.items():
        total.update(f"{name}\0{file_hash(path)}\n".encode())
    return f"sha256-{total.hexdigest()[:32]}"


def _model_info(base: str, revision: str, endpoint: str | None):
    """The commit and file list of a model now."""
    try:
        return hub.info("model", base, revision, endpoint, files_metadata=True)
    except hub.troubles() as error:
        raise _explained(error, base, revision, endpoint) from None


def _download(base: str, revision: str, endpoint: str | None, directory: Path) -> str:
    info = _model_info(base, revision, endpoint)
    sizes = {file.rfilename: file for file in info.siblings or []}
    files = _files_to_take(list(sizes), f"hub:{base} at {info.sha}")
    # The configuration goes first: a model that needs its own code is refused for a few bytes.
    for names in ([CONFIG], files):
        try:
            home = connection.api(endpoint).snapshot_download(
                base, revision=info.sha, allow_patterns=names
            )
        except hub.troubles() as error:
            raise _explained(error, base, revision, endpoint) from None
        for name in names:
            _take(Path(home, name), directory / name, sizes[name], f"hub:{base} at {info.sha}")
        _check_config(directory, f"hub:{base} at {info.sha}")
    return info.sha


def _explained(error: Exception, base: str, revision: str, endpoint: str | None) -> SourceError:
    # Raised without its cause, whose text may hold a signed address: causes are logged.
    page = f"{connection.api(endpoint).endpoint}/{base}"
    return hub.explained(error, page, f"hub:{base}, revision {revision}", _INSTEAD)


def _take(cached: Path, target: Path, listed: RepoSibling, where: str) -> None:
    """Copy a file out of the Hub's cache if it is what the Hub lists, else remove it there."""
    shutil.copyfile(cached, target)
    if wrong := hub.broken(target, listed):
        hub.forget(cached)
        text = f"{where}: broken copy of {target.name}, {wrong}; removed, try again"
        raise SourceError(text, retry=True)


def _check_config(directory: Path, where: str) -> dict[str, str | bool]:
    """Read the configuration; refuse what transformers can only load by running its code, and
    what training cannot start from."""
    from transformers import CONFIG_MAPPING, AutoConfig

    from muppet_dag.model import suitable

    try:
        content = json.loads((directory / CONFIG).read_text(encoding="utf-8"))
        kind = content.get("model_type")
        if kind in CONFIG_MAPPING:
            config = AutoConfig.from_pretrained(directory, trust_remote_code=False)
            suitable.check_kind(config, where)
            return {"model_type": kind, "encoder_decoder": bool(config.is_encoder_decoder)}
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise SourceError(f"{where}: {CONFIG} cannot be read ({error})") from error
    if "auto_map" in content:
        raise BadConfig(
            f"{where}: model type {kind!r} is remote code (auto_map in {CONFIG}), which never "
            "runs. Choose a model that transformers knows by itself"
        )
    raise BadConfig(f"{where}: this transformers does not know model type {kind!r}")


def _check_weights(directory: Path, where: str) -> None:
    from safetensors import SafetensorError, safe_open

    name = INDEX
    try:
        if (directory / INDEX).exists():
            needed = set(json.loads((directory / INDEX).read_text())["weight_map"].values())
        else:
            needed = {WEIGHTS}
        for name in sorted(needed):
            with safe_open(directory / name, framework="np"):
                pass  # opening checks the header and that the file is as long as it says
    except (OSError, ValueError, KeyError, AttributeError, SafetensorError) as error:
        raise SourceError(f"{where}: {name} is missing or broken ({error})") from error


def _check_tokenizer(directory: Path, where: str) -> None:
    """See that ``tokenizer.json`` loads; make it from the vocabulary files if there is none."""
    from tokenizers import Tokenizer

    path = directory / TOKENIZER
    if not path.exists():
        _make_tokenizer(directory, where)
    try:
        size = Tokenizer.from_file(str(path)).get_vocab_size()
    except Exception as error:  # the Rust side raises bare Exception
        raise SourceError(f"{where}: {TOKENIZER} cannot be read ({error})") from error
    if size < 2:
        raise SourceError(f"{where}: {TOKENIZER} holds no vocabulary")


def _make_tokenizer(directory: Path, where: str) -> None:
    from transformers import AutoTokenizer

    # Asked first: without any vocabulary transformers 5 builds an empty tokenizer, silently.
    names = [path.name for path in directory.iterdir()]
    if not any(fnmatchcase(name, kind) for name in names for kind in VOCABULARY):
        raise SourceError(f"{where}: neither {TOKENIZER} nor a vocabulary (vocab.*, *.model)")
    if any(name.endswith(".model") for name in names) and find_spec("sentencepiece") is None:
        raise BadConfig(
            f"{where}: no {TOKENIZER}, only a SentencePiece vocabulary, which takes one more "
            "package to read: pip install 'muppet-dag[sentencepiece]'"
        )
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            directory, use_fast=True, trust_remote_code=False, local_files_only=True
        )
        tokenizer.backend_tokenizer.save(str(directory / TOKENIZER))
    except Exception as error:  # many kinds: missing sentencepiece, unknown class, bad vocabulary
        raise SourceError(
            f"{where}: no {TOKENIZER}, and none can be made from the vocabulary ({error})"
        ) from error
