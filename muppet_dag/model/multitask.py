"""The model: a pretrained backbone and a head for every task or family."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from muppet_dag.errors import MuppetError
from muppet_dag.model import losses
from muppet_dag.model.heads import make_head
from muppet_dag.model.spec import HeadSpec

HEADS, HEAD_SPECS = "heads.safetensors", "heads.json"
_TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")


class MultiTaskModel(nn.Module):
    """Backbone plus heads. ``inputs`` are the arrays of a batch as tensors, by name."""

    def __init__(
        self,
        backbone: nn.Module,
        heads: Mapping[str, nn.Module],
        specs: Mapping[str, HeadSpec],
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.heads = nn.ModuleDict(heads)
        self.specs = dict(specs)
        config = backbone.config
        self.generates = bool(config.is_encoder_decoder)
        self.typed = getattr(config, "type_vocab_size", 0) > 1
        self.pad_id = config.pad_token_id if config.pad_token_id is not None else 0

    def states(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Last hidden states, (S, L, hidden).

        An encoder-decoder reads the same sequence on both sides, as BART is fine-tuned for
        understanding (Lewis et al. 2019, 3); its states are the decoder's.
        """
        given = {name: inputs[name] for name in ("input_ids", "attention_mask")}
        if self.generates:
            return self.backbone.base_model(**given, use_cache=False).last_hidden_state
        if self.typed:
            given["token_type_ids"] = inputs["token_type_ids"]
        return self.backbone(**given).last_hidden_state

    def sentence(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """One state per sequence, (S, hidden): the first token's, or the last for a decoder."""
        states = self.states(inputs)
        if not self.generates:
            return states[:, 0]
        last = inputs["attention_mask"].sum(1) - 1
        return states[torch.arange(len(states), device=states.device), last]

    def logits(self, head: str, inputs: Mapping[str, Tensor]) -> Tensor:
        """What a head says: (R, C) classes, (R,) numbers, (S,) candidates, (R, L, 2) spans."""
        kind = self.specs[head].kind
        if kind == "span":
            return self.heads[head](self.states(inputs))
        out = self.heads[head](self.sentence(inputs))
        return out if kind == "classification" else out.squeeze(-1)

    def loss(
        self, head: str, inputs: Mapping[str, Tensor], smoothing: float
    ) -> tuple[Tensor, Tensor]:
        """Loss of each row and the n it is scaled by: (R,), (R,)."""
        kind = self.specs[head].kind
        if kind == "generation":
            return self._generation_loss(inputs, smoothing)
        logits = self.logits(head, inputs)
        if kind == "classification":
            return losses.classification(logits, inputs["labels"])
        if kind == "regression":
            return losses.regression(logits, inputs["scores"])
        if kind == "ranking":
            return losses.ranking(logits, inputs["labels"], inputs["sequences"])
        return losses.span(logits, inputs["span"], inputs["passage"])

    def _generation_loss(
        self, inputs: Mapping[str, Tensor], smoothing: float
    ) -> tuple[Tensor, Tensor]:
        target, mask = inputs["target"], inputs["target_mask"]
        start = self.backbone.config.decoder_start_token_id
        shifted = torch.cat([torch.full_like(target[:, :1], start), target[:, :-1]], dim=1)
        logits = self.backbone(
            input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"],
            decoder_input_ids=shifted, use_cache=False,
        ).logits  # fmt: skip
        return losses.generation(logits, target, mask, smoothing)

    def save(self, folder: Path) -> None:
        """Write the backbone as ``transformers`` reads it, and the heads beside it."""
        folder = Path(folder)
        self.backbone.save_pretrained(folder)
        heads = {k: v.detach().cpu().contiguous() for k, v in self.heads.state_dict().items()}
        save_file(heads, folder / HEADS)
        specs = [vars(spec) for spec in self.specs.values()]
        (folder / HEAD_SPECS).write_text(json.dumps(specs, indent=1))


def load(
    folder: Path, specs: Iterable[HeadSpec], *, dropout: float = 0.1, seed: int = 0
) -> MultiTaskModel:
    """Load a backbone in float32; heads saved beside it are re-used where name and size agree.

    Other heads are made fresh, from ``seed`` and their own name, so that adding a task does not
    change the initial weights of another. Raises MuppetError if a weight of the backbone is
    missing from the file.
    """
    folder, specs = Path(folder), list(specs)
    generates = any(spec.kind == "generation" for spec in specs)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # of weights that the file lacks, such as an unused pooler's
        backbone = _load_backbone(folder, generates, dropout)
    saved = _saved_specs(folder)
    tensors = load_file(folder / HEADS) if saved else {}
    heads: dict[str, nn.Module] = {}
    for spec in specs:
        if spec.kind == "generation":
            continue
        generator = torch.Generator().manual_seed(_seed(seed, spec.name))
        heads[spec.name] = make_head(spec, backbone.config.hidden_size, dropout, generator)
        if saved.get(spec.name) == spec:
            prefix = f"{spec.name}."
            state = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
            heads[spec.name].load_state_dict(state)
    return MultiTaskModel(backbone, heads, {spec.name: spec for spec in specs})


def saved_heads(folder: Path) -> list[HeadSpec]:
    """The heads saved beside a backbone, none for a plain pretrained model."""
    return list(_saved_specs(Path(folder)).values())


def copy_tokenizer(source: Path, folder: Path) -> None:
    """Copy the tokenizer's files, so that a saved model is complete on its own."""
    for name in _TOKENIZER:
        if (Path(source) / name).is_file():
            shutil.copyfile(Path(source) / name, Path(folder) / name)


def _load_backbone(folder: Path, generates: bool, dropout: float) -> nn.Module:
    import transformers

    transformers.utils.logging.disable_progress_bar()
    config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False)
    if generates and not config.is_encoder_decoder:
        raise MuppetError(f"{folder}: {config.model_type} cannot generate; use an encoder-decoder")
    for name in ("hidden_dropout_prob", "attention_probs_dropout_prob", "dropout"):
        if hasattr(config, name):
            setattr(config, name, dropout)
    for name in ("attention_dropout", "activation_dropout"):  # published as 0 more often than not
        if hasattr(config, name):
            setattr(config, name, min(getattr(config, name), dropout))
    kind = (
        transformers.AutoModelForSeq2SeqLM if config.is_encoder_decoder else transformers.AutoModel
    )
    model, info = kind.from_pretrained(
        folder, config=config, dtype=torch.float32, use_safetensors=True,
        trust_remote_code=False, output_loading_info=True,
    )  # fmt: skip
    absent = [key for key in info["missing_keys"] if not key.startswith("pooler.")]
    if absent:
        raise MuppetError(f"{folder}: weights {absent[:5]} are missing from model.safetensors")
    return model


def _saved_specs(folder: Path) -> dict[str, HeadSpec]:
    path = folder / HEAD_SPECS
    said: list[dict[str, Any]] = json.loads(path.read_text()) if path.is_file() else []
    return {spec["name"]: HeadSpec(**spec) for spec in said}


def _seed(seed: int, name: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:7], "big")
