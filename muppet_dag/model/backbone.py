"""The backbone: a pretrained model of ``transformers``, and how flat sequences pass through it."""

from __future__ import annotations

from inspect import signature
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
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
        takes = signature(type(backbone).forward).parameters
        self._typed = getattr(config, "type_vocab_size", 0) > 1 and "token_type_ids" in takes
        self._global = not self.decodes and "global_attention_mask" in takes
        encoder = backbone.get_encoder() if self.decodes else backbone
        self._embeddings = _with_mixin(encoder.get_input_embeddings(), _NoisyEmbedding)

    def hidden_states(self, text: Text, noise: Tensor | None = None) -> Tensor:
        """Last hidden state of each token, (T, hidden); ``noise`` (T, width) goes on embeddings.

        An encoder-decoder reads the same sequence on both sides, in its decoder moved on by one,
        as BART is fine-tuned for understanding (Lewis et al. 2019, 3); its states are the
        decoder's. The decoder's embeddings stay without noise, as in fairseq's R3F, whose noised
        embeddings go to the encoder alone.
        """
        if self.packed:
            outputs = self._forward(self._in_one_row(text), None if noise is None else noise[None])
            return outputs.last_hidden_state[0]
        kwargs = text.padded(self.pad_id)
        if not self._typed:
            del kwargs["token_type_ids"]
        if self._global:  # else a first token would know its own window only (Beltagy et al. 2020)
            kwargs["global_attention_mask"] = torch.zeros_like(kwargs["input_ids"])
            kwargs["global_attention_mask"][:, 0] = 1
        if self.decodes:
            kwargs |= self._decoder_kwargs(kwargs["input_ids"]) | {"states_only": True}
        outputs = self._forward(kwargs, self._padded(noise, text.layout))
        return text.layout.flat(outputs.last_hidden_state)

    def lm_logits(
        self, text: Text, target: Tensor, layout: Layout, noise: Tensor | None = None
    ) -> Tensor:
        """Logits of each target word given those before it, (R, T, vocabulary).

        ``target`` is flat, ``layout`` its layout; ``noise`` is on what the encoder reads.
        """
        kwargs = text.padded(self.pad_id)
        del kwargs["token_type_ids"]
        kwargs |= self._decoder_kwargs(layout.pad(target, self.pad_id))
        return self._forward(kwargs, self._padded(noise, text.layout)).logits

    def _decoder_kwargs(self, padded: Tensor) -> dict[str, Any]:
        """What a decoder reads where it is to give ``padded`` (R, L): each word's predecessor."""
        start = torch.full_like(padded[:, :1], self.backbone.config.decoder_start_token_id)
        return {"decoder_input_ids": torch.cat([start, padded[:, :-1]], 1), "use_cache": False}

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
    """Token embeddings that add ``noise``, if any, to what is looked up, before positions are.

    Where embeddings are scaled (mBART), the noise is scaled with them, as in fairseq's R3F; rows
    that a model made longer inside (Longformer) have none there.

    Not a forward hook: compilation takes tensors that hang on a module of torch's own for
    constants, and would start anew for every shape of the noise.
    """

    noise: Tensor | None = None

    def forward(self, ids: Tensor) -> Tensor:
        embedded = super().forward(ids)
        if self.noise is None:
            return embedded
        noise = F.pad(self.noise, (0, 0, 0, ids.shape[1] - self.noise.shape[1]))
        return embedded + noise * getattr(self, "embed_scale", 1.0)


class _StatesOrLogits:
    """An encoder-decoder that gives its decoder's states if asked to, sparing the output layer."""

    def forward(self, *args: Any, states_only: bool = False, **kwargs: Any) -> Any:
        return self._states(**kwargs) if states_only else super().forward(*args, **kwargs)

    def _states(self, input_ids: Tensor, attention_mask: Tensor, decoder_input_ids: Tensor,
                use_cache: bool) -> Any:  # fmt: skip
        # What every base model does; not every one can be reached from the model above it (T5).
        encoded = self.get_encoder()(input_ids=input_ids, attention_mask=attention_mask)
        return self.get_decoder()(
            input_ids=decoder_input_ids, encoder_hidden_states=encoded.last_hidden_state,
            encoder_attention_mask=attention_mask, use_cache=use_cache,
        )  # fmt: skip


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
    if not config.is_encoder_decoder:
        return model
    _set_start(model, folder)
    return _with_mixin(model, _StatesOrLogits)


#: Dropout of hidden states, by the names it has in configurations. Any other kind (attention,
#: activations, classifiers) is published as 0 more often than not, and is never raised.
_HIDDEN_DROPOUT = (
    "hidden_dropout_prob", "attention_probs_dropout_prob", "hidden_dropout", "dropout",
    "dropout_rate", "dropout_prob", "embd_pdrop", "resid_pdrop",
)  # fmt: skip


def _set_dropout(config: Any, dropout: float) -> None:
    for name, rate in config.to_dict().items():
        if isinstance(rate, bool) or not isinstance(rate, int | float):
            continue
        if name in _HIDDEN_DROPOUT:
            setattr(config, name, dropout)
        elif name.endswith("layerdrop"):  # workers would not agree on which layers there are
            setattr(config, name, 0.0)
        elif "dropout" in name or name.endswith("pdrop"):
            setattr(config, name, min(rate, dropout))


def _set_start(model: nn.Module, folder: Path) -> None:
    """See that it is known what a decoder begins with, in training and in generation.

    Where a model's configuration leaves it open, it is what its tokenizer ends a text with if that
    is the code of a language (mBART), else the padding token (T5).
    """
    config, generation = model.config, model.generation_config
    start = getattr(config, "decoder_start_token_id", None)
    if start is None:
        start = generation.decoder_start_token_id
    if start is None:
        last = _last_special(folder)
        start = config.pad_token_id if last in (None, config.eos_token_id) else last
    config.decoder_start_token_id = start
    if generation.decoder_start_token_id is None:
        generation.decoder_start_token_id = start


def _last_special(folder: Path) -> int | None:
    """The token that the tokenizer ends every text with."""
    from tokenizers import Tokenizer

    path = folder / "tokenizer.json"
    ids = Tokenizer.from_file(str(path)).encode("").ids if path.is_file() else []
    return ids[-1] if ids else None
