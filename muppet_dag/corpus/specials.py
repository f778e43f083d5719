"""A tokenizer for texts that anybody may have written: a special token's name is text in there.

"The user wrote [SEP] in a review" must not part a text in two. A string becomes a special token's
id in two ways: it is found as an added token, which ``encode_special_tokens`` ends, or the model's
own vocabulary holds it, as every SentencePiece vocabulary holds ``</s>``. So special tokens also
get names that no text contains. Their ids stay, and the post-processor puts them in by id.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tokenizers import Tokenizer

#: Noncharacters, which Unicode keeps for the inside of a program and bars from texts.
_OPEN, _CLOSE = "\ufdd0", "\ufdd1"


def load_tokenizer(model_folder: Path) -> Tokenizer:
    """The Rust tokenizer of a model folder (``tokenizer.json``), for encoding only.

    No padding, no truncation, and no text is read as a special token.
    """
    from tokenizers import Tokenizer

    layout = json.loads((Path(model_folder) / "tokenizer.json").read_text("utf-8"))
    tokenizer = Tokenizer.from_str(json.dumps(_hidden(layout), ensure_ascii=False))
    tokenizer.encode_special_tokens = True
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def _hidden(layout: dict[str, Any]) -> dict[str, Any]:
    """The same tokenizer with its special tokens under other names."""
    names = sorted(set(_special(layout)))
    new = {name: f"{_OPEN}{number}{_CLOSE}" for number, name in enumerate(names)}
    added = [
        {**token, "content": new.get(token["content"], token["content"])}
        for token in layout.get("added_tokens") or ()
    ]
    return {**layout, "added_tokens": added, "model": _renamed(layout["model"], new)}


def _special(layout: Mapping[str, Any]) -> Iterator[str]:
    """Names of the special tokens: those added as such, what stands for the unknown, and what the
    post-processor puts in."""
    added, model = layout.get("added_tokens") or (), layout["model"]
    yield from (token["content"] for token in added if token["special"])
    if model.get("unk_token"):
        yield model["unk_token"]
    if model.get("unk_id") is not None:
        yield model["vocab"][model["unk_id"]][0]
    yield from _processed(layout.get("post_processor") or {})


def _processed(processor: Mapping[str, Any]) -> Iterator[str]:
    for inner in processor.get("processors", ()):
        yield from _processed(inner)
    for token in processor.get("special_tokens", {}).values():  # TemplateProcessing
        yield from token["tokens"]
    for role in ("cls", "sep"):  # BertProcessing, RobertaProcessing: a name and an id
        yield from processor.get(role, ())[:1]


def _renamed(model: Mapping[str, Any], new: Mapping[str, str]) -> dict[str, Any]:
    """Vocabulary, unknown token and merges of any model (Unigram's vocabulary has scores)."""
    vocab = model["vocab"]
    if isinstance(vocab, dict):
        renamed: Any = {new.get(piece, piece): id for piece, id in vocab.items()}
    else:
        renamed = [[new.get(piece, piece), score] for piece, score in vocab]
    out = {**model, "vocab": renamed}
    if model.get("unk_token"):
        out["unk_token"] = new[model["unk_token"]]
    if "merges" in model:
        prefix = len(model.get("continuing_subword_prefix") or "")
        pairs = (each if isinstance(each, list) else each.split(" ") for each in model["merges"])
        out["merges"] = [
            [a, b] for a, b in pairs if not new.keys() & {a, b, a + b[prefix:]}
        ]  # fmt: skip
    return out
