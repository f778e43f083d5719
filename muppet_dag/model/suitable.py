"""Whether training can start from a pretrained model: asked before any data is touched.

First its configuration is looked at, so that a refusal can say what to choose instead. Then short
texts are passed through it, which finds what no list of model types knows: a state that knows
nothing of the rest of its text, padding that is read, embeddings that noise cannot be put on.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from muppet_dag.errors import BadConfig, MuppetError
from muppet_dag.model.backbone import Reader, load_backbone
from muppet_dag.model.layout import Layout, Text

if TYPE_CHECKING:
    from transformers import PretrainedConfig

_CHOOSE = (
    "Choose an encoder, such as FacebookAI/roberta-base or answerdotai/ModernBERT-base, or an "
    "encoder-decoder, such as facebook/bart-base or google-t5/t5-base"
)
#: Up to this much of the largest number, two results are the same.
_SAME = 1e-3


def check(folder: Path, where: str) -> dict[str, int | None]:
    """Refuse a model of a fit kind that cannot be trained from; returns what ``positions`` does.

    BadConfig: nothing can be passed through it, or not what was passed through comes out.
    MuppetError: weights are missing.
    """
    kind = json.loads((folder / "config.json").read_text(encoding="utf-8"))["model_type"]
    try:
        backbone = load_backbone(folder, generates=False, dropout=0.0, packed=False).eval()
        _check_vocabulary(backbone, folder, where)
        _try_out(backbone, where)
    except MuppetError:
        raise
    except Exception as error:  # whatever a model of a kind that nobody tried may raise
        raise BadConfig(
            f"{where}: {kind} models do not work here, a first text cannot be passed "
            f"through ({type(error).__name__}: {error}). {_CHOOSE}"
        ) from error
    return positions(backbone)


def positions(backbone: nn.Module) -> dict[str, int | None]:
    """How many tokens it can place, under ``positions`` and (of a decoder) ``decoder_positions``.

    None where positions are relative and nothing limits them (T5, DeBERTa-v3).
    """
    if not backbone.config.is_encoder_decoder:
        return {"positions": _positions(backbone, backbone.config)}
    sides = {"positions": backbone.get_encoder(), "decoder_positions": backbone.get_decoder()}
    return {name: _positions(side, backbone.config) for name, side in sides.items()}


def _positions(module: nn.Module, config: PretrainedConfig) -> int | None:
    """Rows of the position table that texts get at: RoBERTa and its like count from behind the
    padding token's, BART leaves two free. Rotary models are limited to what they were made for."""
    tables = [
        table.num_embeddings
        - (getattr(table, "offset", 0) if table.padding_idx is None else table.padding_idx + 1)
        for name, table in module.named_modules()
        if isinstance(table, nn.Embedding) and "position" in name.rpartition(".")[2]
    ]
    rotary = getattr(config, "rope_parameters", None) is not None
    named = getattr(config, "max_position_embeddings", None) if tables or rotary else None
    return min([*tables, *([named] if named else [])], default=None)


def check_kind(config: PretrainedConfig, where: str) -> None:
    """Refuse all but encoders of text and encoder-decoders that write text (BadConfig), as
    ``transformers`` sorts them. No weights are needed for it."""
    from transformers.models.auto import modeling_auto as auto

    kind, made = config.model_type, type(config)
    masked = made in auto.MODEL_FOR_MASKED_LM_MAPPING
    if config.is_encoder_decoder and made in auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING:
        return
    decoder = getattr(config, "is_decoder", False)
    if masked and not decoder and not config.is_encoder_decoder:
        return
    if not config.is_encoder_decoder and (decoder or made in auto.MODEL_FOR_CAUSAL_LM_MAPPING):
        raise BadConfig(
            f"{where}: {kind} models are made to continue a text (causal language models): each "
            f"token knows what stands before it, nothing of what follows. {_CHOOSE}"
        )
    raise BadConfig(
        f"{where}: {kind} models are neither encoders of text nor encoder-decoders that read and "
        f"write text. {_CHOOSE}"
    )


def _check_vocabulary(backbone: nn.Module, folder: Path, where: str) -> None:
    from tokenizers import Tokenizer

    vocabulary = Tokenizer.from_file(str(folder / "tokenizer.json")).get_vocab()
    rows = backbone.get_input_embeddings().num_embeddings
    token, last = max(vocabulary.items(), key=lambda each: each[1])
    if last >= rows:
        raise BadConfig(
            f"{where}: the tokenizer knows token {last} ({token!r}), the model has embeddings for "
            f"{rows} only: they do not belong together. Take the tokenizer the model was trained "
            "with, or save the model after resize_token_embeddings(len(tokenizer))"
        )


@torch.inference_mode()
def _try_out(backbone: nn.Module, where: str) -> None:
    kind, reader = backbone.config.model_type, Reader(backbone)
    ids = [i for i in range(backbone.get_input_embeddings().num_embeddings) if i != reader.pad_id]
    first, last = ids[-1], ids[-2]
    text = [first, *ids[:4], last]
    states = reader.hidden_states(_text(text))
    if states.shape != (len(text), backbone.config.hidden_size) or not states.isfinite().all():
        raise BadConfig(f"{where}: {kind} models give no finite state for each token. {_CHOOSE}")
    # A sentence's state is its first token's, or a decoder's last: it must know the other end.
    changed = [ids[0], *text[1:]] if reader.decodes else [*text[:-1], ids[0]]
    read = -1 if reader.decodes else 0
    if torch.equal(reader.hidden_states(_text(changed))[read], states[read]):
        raise BadConfig(
            f"{where}: the state that heads read knows nothing of the other end of its text, as in "
            f"models that continue texts. {_CHOOSE}"
        )
    beside = reader.hidden_states(_text(text, [*text, *text]))[: len(text)]
    if (beside - states).abs().max() > _SAME * states.abs().max():
        raise BadConfig(
            f"{where}: {kind} models read padding as if it were text, so that a text's states "
            f"depend on what lies beside it. {_CHOOSE}"
        )
    noise = torch.ones(len(text), backbone.get_input_embeddings().embedding_dim)
    if torch.equal(reader.hidden_states(_text(text), noise), states):
        raise BadConfig(f"{where}: {kind} models have no embeddings to put noise on. {_CHOOSE}")
    if reader.decodes:
        target = torch.tensor(text)
        reader.lm_logits(_text(text), target, Layout.of(torch.tensor([len(text)]), target))


def _text(*sequences: list[int]) -> Text:
    lengths = torch.tensor([len(each) for each in sequences])
    ids: Tensor = torch.tensor([i for each in sequences for i in each])
    return Text(ids, lengths, Layout.of(lengths, ids))
