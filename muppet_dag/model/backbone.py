"""The backbone: a pretrained model of ``transformers``, and how flat sequences pass through it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from muppet_dag.errors import MuppetError
from muppet_dag.model import attention
from muppet_dag.model.layout import Layout, Text


class Reader:
    """Passes sequences through a backbone, padded or packed, with or without noise on embeddings.

    All of it goes through ``backbone(...)`` itself, so that what wraps that call, such as
    compilation, holds for understanding and generation alike.
    """

    def __init__(self, backbone: nn.Module) -> None:
        config = backbone.config
        self.backbone = backbone
        self.decodes = bool(config.is_encoder_decoder)
        self.packed = config._attn_implementation == attention.PACKED
        self.pad_id = config.pad_token_id if config.pad_token_id is not None else 0
        self._typed = getattr(config, "type_vocab_size", 0) > 1
        encoder = backbone.get_encoder() if self.decodes else backbone
        self._embeddings = _with_mixin(encoder.get_input_embeddings(), _NoisyEmbedding)

    def hidden_states(self, text: Text, noise: Tensor | None = None) -> Tensor:
        """Last hidden state of each token, (T, hidden); ``noise`` (T, width) goes on embeddings.

        An encoder-decoder reads the same sequence on both sides, as BART is fine-tuned for
        understanding (Lewis et al. 2019, 3); its states are the decoder's. The decoder's embeddings
        stay without noise, as in fairseq's R3F, whose noised embeddings go to the encoder alone.
        """
        if self.packed:
            outputs = self._forward(self._in_one_row(text), None if noise is None else noise[None])
            return outputs.last_hidden_state[0]
        kwargs = text.padded(self.pad_id)
        if not self._typed:
            del kwargs["token_type_ids"]
        if self.decodes:
            kwargs |= {"states_only": True, "use_cache": False}
        outputs = self._forward(kwargs, self._padded(noise, text.layout))
        return text.layout.flat(outputs.last_hidden_state)

    def lm_logits(
        self, text: Text, target: Tensor, layout: Layout, noise: Tensor | None = None
    ) -> Tensor:
        """Logits of each target word given those before it, (R, T, vocabulary).

        ``target`` is flat, ``layout`` its layout; ``noise`` is on what the encoder reads.
        """
        padded = layout.pad(target, self.pad_id)
        start = torch.full_like(padded[:, :1], self.backbone.config.decoder_start_token_id)
        kwargs = text.padded(self.pad_id)
        del kwargs["token_type_ids"]
        kwargs |= {"decoder_input_ids": torch.cat([start, padded[:, :-1]], 1), "use_cache": False}
        return self._forward(kwargs, self._padded(noise, text.layout)).logits

    def _in_one_row(self, text: Text) -> dict[str, Any]:
        layout = text.layout
        counts_on = attention.PACKABLE[self.backbone.config.model_type]
        position = layout.position + (self.pad_id + 1 if counts_on else 0)
        kwargs = {"input_ids": text.ids[None], "position_ids": position[None],
                 "cu_seq_lens_q": layout.offsets, "max_length_q": layout.longest}  # fmt: skip
        return kwargs | ({"token_type_ids": text.types[None]} if self._typed else {})

    def _forward(self, kwargs: dict[str, Any], noise: Tensor | None) -> Any:
        self._embeddings.noise = noise
        try:
            return self.backbone(**kwargs)
        finally:
            self._embeddings.noise = None

    @staticmethod
    def _padded(noise: Tensor | None, layout: Layout) -> Tensor | None:
        return None if noise is None else layout.pad(noise, 0.0)


class _NoisyEmbedding:
    """Token embeddings that add ``noise``, if any, to what comes out, before positions are added.

    Not a forward hook: compilation takes tensors that hang on a module of torch's own for
    constants, and would start anew for every shape of the noise.
    """

    noise: Tensor | None = None

    def forward(self, ids: Tensor) -> Tensor:
        embedded = super().forward(ids)
        return embedded if self.noise is None else embedded + self.noise


class _StatesOrLogits:
    """An encoder-decoder that gives its decoder's states if asked to, sparing the output layer."""

    def forward(self, *args: Any, states_only: bool = False, **kwargs: Any) -> Any:
        return self.base_model(*args, **kwargs) if states_only else super().forward(*args, **kwargs)


def _with_mixin(module: nn.Module, mixin: type) -> nn.Module:
    """The module itself, with ``mixin`` before its class, whose name stays (it is saved)."""
    plain = type(module)
    module.__class__ = type(plain.__name__, (mixin, plain), {})
    return module


def load_backbone(folder: Path, *, generates: bool, dropout: float, packed: bool) -> nn.Module:
    """Load a pretrained model in float32, with ``dropout`` wherever it has any.

    Packed if asked for and possible (``attention.PACKABLE``), padded else. Raises MuppetError if
    a weight is missing from the file, or if an encoder is to generate.
    """
    import transformers

    transformers.utils.logging.disable_progress_bar()
    config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False)
    if generates and not config.is_encoder_decoder:
        raise MuppetError(f"{folder}: {config.model_type} cannot generate; use an encoder-decoder")
    _set_dropout(config, dropout)
    kind = (
        transformers.AutoModelForSeq2SeqLM if config.is_encoder_decoder else transformers.AutoModel
    )
    attention.register()
    packed = packed and config.model_type in attention.PACKABLE
    model, info = kind.from_pretrained(
        folder, config=config, dtype=torch.float32, use_safetensors=True, trust_remote_code=False,
        attn_implementation=attention.PACKED if packed else None, output_loading_info=True,
    )  # fmt: skip
    missing = [key for key in info["missing_keys"] if not key.startswith("pooler.")]
    if missing:
        raise MuppetError(f"{folder}: weights {missing[:5]} are missing from model.safetensors")
    # No head uses an encoder's pooler. Frozen, it stays as it is also where idle weights are given
    # gradients of zero (as compilation does), which an optimizer would take for a reason to decay.
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not name.startswith("pooler."))
    return _with_mixin(model, _StatesOrLogits) if config.is_encoder_decoder else model


def _set_dropout(config: Any, dropout: float) -> None:
    for name in ("hidden_dropout_prob", "attention_probs_dropout_prob", "dropout"):
        if hasattr(config, name):
            setattr(config, name, dropout)
    for name in ("attention_dropout", "activation_dropout"):  # published as 0 more often than not
        if hasattr(config, name):
            setattr(config, name, min(getattr(config, name), dropout))
