"""Tiny models with random weights, made on the spot: the demo and the tests need no download."""

from __future__ import annotations

import json
import string
from pathlib import Path
from typing import TYPE_CHECKING, Any

from muppet_dag.samples.lexicon import WORDS

if TYPE_CHECKING:
    from transformers import PretrainedConfig

KINDS = ("tiny-bert", "tiny-bart")
#: Raise when the same kind would be made with other weights.
VERSION = "1"

_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_HIDDEN, _LAYERS, _HEADS, _POSITIONS = 64, 2, 4, 512


def make(kind: str, folder: Path) -> dict[str, Any]:
    """Write a tiny encoder or encoder-decoder with its tokenizer; returns what ``fetch_base`` does.

    Two layers, 64 wide. Words of the samples are single tokens, other text falls into characters.
    """
    import torch
    import transformers

    transformers.utils.logging.disable_progress_bar()
    vocabulary = _write_tokenizer(Path(folder))
    config = _config(kind, len(vocabulary))
    model_class = (
        transformers.BertModel if kind == "tiny-bert" else transformers.BartForConditionalGeneration
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(20210111)
        model = model_class(config)
    model.save_pretrained(folder)
    return {
        "source": f"made:{kind}", "version": VERSION, "model_type": config.model_type,
        "encoder_decoder": kind == "tiny-bart", "positions": _POSITIONS,
        **({"decoder_positions": _POSITIONS} if kind == "tiny-bart" else {}),
    }  # fmt: skip


def _config(kind: str, vocabulary: int) -> PretrainedConfig:
    import transformers

    if kind == "tiny-bert":
        return transformers.BertConfig(
            vocab_size=vocabulary, hidden_size=_HIDDEN, num_hidden_layers=_LAYERS,
            num_attention_heads=_HEADS, intermediate_size=2 * _HIDDEN, pad_token_id=0,
            max_position_embeddings=_POSITIONS,
        )  # fmt: skip
    return transformers.BartConfig(
        vocab_size=vocabulary, d_model=_HIDDEN, max_position_embeddings=_POSITIONS,
        encoder_layers=_LAYERS, decoder_layers=_LAYERS, encoder_ffn_dim=2 * _HIDDEN,
        decoder_ffn_dim=2 * _HIDDEN, encoder_attention_heads=_HEADS, decoder_attention_heads=_HEADS,
        pad_token_id=0, bos_token_id=2, eos_token_id=3, decoder_start_token_id=3,
        forced_eos_token_id=3,
    )  # fmt: skip


def _write_tokenizer(folder: Path) -> dict[str, int]:
    """A WordPiece tokenizer over the samples' words and single characters."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    characters = string.ascii_lowercase + string.digits + string.punctuation
    pieces = [*_SPECIAL, *characters, *(f"##{c}" for c in characters)]
    words = sorted({word.lower() for word in WORDS} - set(pieces))
    vocabulary = {piece: index for index, piece in enumerate([*pieces, *words])}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])],
    )  # fmt: skip
    tokenizer.add_special_tokens(list(_SPECIAL))
    tokenizer.save(str(folder / "tokenizer.json"))
    names = ("pad", "unk", "cls", "sep", "mask")
    settings = {f"{name}_token": token for name, token in zip(names, _SPECIAL, strict=True)}
    settings |= {"bos_token": "[CLS]", "eos_token": "[SEP]", "model_max_length": 512}
    settings["tokenizer_class"] = "PreTrainedTokenizerFast"
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=1))
    return vocabulary
