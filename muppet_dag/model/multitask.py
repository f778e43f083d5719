"""The model: a pretrained backbone and a head for every task or family."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import compress
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from muppet_dag.model import losses, smoothness, spectral
from muppet_dag.model.backbone import Reader, load_backbone
from muppet_dag.model.heads import Heads, make_head
from muppet_dag.model.layout import Layout, Text
from muppet_dag.model.spec import HeadSpec
from muppet_dag.recipes import TrainingSection

HEADS, HEAD_SPECS = "heads.safetensors", "heads.json"
_TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
#: Inputs that stay where they are: lengths on the CPU cost no wait for the device.
_LENGTHS = ("lengths", "sequences", "target_lengths")

Slot = tuple[str, Mapping[str, Tensor]]


class MultiTaskModel(nn.Module):
    """Backbone plus heads.

    ``inputs`` are a slot's tensors by name, flat (``mixture.batch.Batch.tensors``): ``input_ids``
    (T,), ``lengths`` and ``second`` (S,), ``sequences``, ``labels``, ``scores`` and
    ``target_lengths`` (R,), ``span`` and ``passage`` (R, 2), ``target`` (U,). They may lie on the
    CPU, best pinned: they are moved, and lengths are looked at before that.
    """

    def __init__(
        self,
        backbone: nn.Module,
        heads: Mapping[str, nn.Module],
        specs: Mapping[str, HeadSpec],
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.heads = Heads(heads)
        self.specs = dict(specs)
        self.reader = Reader(backbone)

    @property
    def generates(self) -> bool:
        """Whether the backbone is an encoder-decoder."""
        return self.reader.decodes

    @property
    def packed(self) -> bool:
        """Whether sequences are read one after the other, without padding."""
        return self.reader.packed

    @property
    def pad_id(self) -> int:
        return self.reader.pad_id

    def losses(
        self, slots: Sequence[Slot], training: TrainingSection
    ) -> list[tuple[Tensor, Tensor]]:
        """Per slot, given as (head, inputs): each row's loss and the n it is scaled by, both (R,).

        A loss is L_i + lambda KL_S (``smoothness``), not yet divided by log n. Slots that generate
        share one pass through the backbone, all others another one.
        """
        slots = [(head, self._to_device(inputs)) for head, inputs in slots]
        out: dict[int, tuple[Tensor, Tensor]] = {}
        for generation in (False, True):
            kinds = enumerate(self.specs[head].kind for head, _ in slots)
            chosen = [i for i, kind in kinds if (kind == "generation") == generation]
            if chosen:
                computed = self._pass_losses([slots[i] for i in chosen], training)
                out.update(zip(chosen, computed, strict=True))
        return [out[i] for i in range(len(slots))]

    def logits(self, head: str, inputs: Mapping[str, Tensor]) -> Tensor:
        """Logits of a head: (R, C) classes, (R,) numbers, (S,) candidates, (R, L, 2) spans.

        Of generation (R, T, vocabulary): each word of the target given those before it.
        """
        return self._logits([(head, self._to_device(inputs))])[0]

    def begin_step(self) -> None:
        """Once a step, before its passes, on every worker: R4F's norms follow the weights."""
        for layer in self.heads.modules():
            if isinstance(layer, spectral.SpectralLinear):
                layer.advance()

    def _pass_losses(
        self, slots: Sequence[Slot], training: TrainingSection
    ) -> list[tuple[Tensor, Tensor]]:
        """Losses of slots that share a pass. Noised are only those that have R3F's term."""
        kinds = [self.specs[head].kind for head, _ in slots]
        smooth = [self.training and smoothness.applies(kind, training) for kind in kinds]
        clean, noised = self._clean_and_noised(slots, list(compress(slots, smooth)), training)
        others, out = iter(noised), []
        for kind, (_, inputs), logits, both in zip(kinds, slots, clean, smooth, strict=True):
            loss, n = losses.of(kind, logits, inputs, training.label_smoothing)
            if both:
                term = smoothness.difference(kind, logits, next(others), inputs)
                loss = loss + training.r3f_lambda * term
            out.append((loss, n))
        return out

    def _clean_and_noised(
        self, slots: Sequence[Slot], noised: Sequence[Slot], training: TrainingSection
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Logits of all slots as they are and of some with noise, from one pass or from two."""
        if not noised:
            return self._logits(slots), []
        size = [sum(len(inputs["input_ids"]) for _, inputs in some) for some in (slots, noised)]
        width = self.backbone.get_input_embeddings().embedding_dim
        none = torch.zeros(size[0], width, device=self.backbone.device, dtype=self.backbone.dtype)
        noise = smoothness.noise(none.new_empty(size[1], width), training)
        if not training.fuse_noised:
            return self._logits(slots), self._logits(noised, noise)
        logits = self._logits([*slots, *noised], torch.cat([none, noise]))
        return logits[: len(slots)], logits[len(slots) :]

    def _logits(self, slots: Sequence[Slot], noise: Tensor | None = None) -> list[Tensor]:
        """Logits of slots that are all of generation or all of understanding, from one pass."""
        inputs = [each for _, each in slots]
        text = Text.of(inputs, self.backbone.device)
        if self.specs[slots[0][0]].kind == "generation":
            return self._lm_logits(inputs, text, noise)
        sizes = [len(each["input_ids"]) for each in inputs]
        states = self.reader.hidden_states(text, noise).split(sizes)
        return [
            self._head_logits(head, own, Layout.of(each["lengths"], own))
            for (head, each), own in zip(slots, states, strict=True)
        ]

    def _lm_logits(
        self, inputs: Sequence[Mapping[str, Tensor]], text: Text, noise: Tensor | None
    ) -> list[Tensor]:
        target = torch.cat([each["target"] for each in inputs])
        layout = Layout.of(torch.cat([each["target_lengths"] for each in inputs]), target)
        logits = self.reader.lm_logits(text, target, layout, noise)
        rows = logits.split([len(each["target_lengths"]) for each in inputs])
        longest = [int(each["target_lengths"].max()) for each in inputs]
        return [own[:, :length] for own, length in zip(rows, longest, strict=True)]

    def _head_logits(self, head: str, states: Tensor, layout: Layout) -> Tensor:
        """Logits of one head from the states (T, hidden) of its own sequences."""
        kind = self.specs[head].kind
        if kind == "span":
            return layout.pad(self.heads[head](states), 0.0)
        # A sentence's state is its first token's, or a decoder's last, which has seen the others.
        at = layout.ends - 1 if self.generates else layout.starts
        out = self.heads[head](states.index_select(0, at))
        return out if kind == "classification" else out.squeeze(-1)

    def _to_device(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        device = self.backbone.device
        return {
            name: each if name in _LENGTHS else each.to(device, non_blocking=True)
            for name, each in inputs.items()
        }

    def save(self, folder: Path, state: Mapping[str, Tensor] | None = None) -> None:
        """Write the backbone as ``transformers`` reads it, and the heads beside it.

        ``state`` is a whole state dict to write in place of the model's own, such as one gathered
        from all workers. Heads under spectral normalization are written as the plain heads they
        amount to.
        """
        folder = Path(folder)
        state = self._tied(self.state_dict() if state is None else state)
        self.backbone.save_pretrained(folder, state_dict=_under("backbone.", state))
        heads = spectral.folded(_under("heads.", state))
        save_file({k: v.cpu().contiguous() for k, v in heads.items()}, folder / HEADS)
        specs = [vars(spec) for spec in self.specs.values()]
        (folder / HEAD_SPECS).write_text(json.dumps(specs, indent=1))

    def _tied(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A state in which weights that are one are one tensor, which gathering may have copied."""
        first: dict[int, str] = {}
        names = self.named_parameters(remove_duplicate=False)
        main = {name: first.setdefault(id(parameter), name) for name, parameter in names}
        return {name: state.get(main.get(name), own).detach() for name, own in state.items()}


def load(
    folder: Path,
    specs: Iterable[HeadSpec],
    *,
    dropout: float = 0.1,
    seed: int = 0,
    packed: bool = False,
    r4f: Collection[str] = (),
) -> MultiTaskModel:
    """Load a backbone in float32; heads saved beside it are re-used where name and size agree.

    Other heads are made fresh, from ``seed`` and their own name, so that adding a task does not
    change the initial weights of another. ``packed`` models read sequences without padding; one
    that cannot be (``attention.PACKABLE``) stays padded and says so by its ``packed``. Heads
    named in ``r4f`` are spectrally normalised. Raises MuppetError if a weight of the backbone is
    missing from the file.
    """
    folder, specs = Path(folder), list(specs)
    generates = any(spec.kind == "generation" for spec in specs)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # of weights that the file lacks, such as an unused pooler's
        backbone = load_backbone(folder, generates=generates, dropout=dropout, packed=packed)
    saved = _saved_specs(folder)
    tensors = load_file(folder / HEADS) if saved else {}
    heads: dict[str, nn.Module] = {}
    for spec in specs:
        if spec.kind == "generation":
            continue
        generator = torch.Generator().manual_seed(_seed(seed, spec.name))
        head = make_head(spec, backbone.config.hidden_size, dropout, generator)
        if saved.get(spec.name) == spec:
            head.load_state_dict(_under(f"{spec.name}.", tensors))
        if spec.name in r4f:
            spectral.normalise(head)
        heads[spec.name] = head
    return MultiTaskModel(backbone, heads, {spec.name: spec for spec in specs})


def saved_heads(folder: Path) -> list[HeadSpec]:
    """The heads saved beside a backbone, none for a plain pretrained model."""
    return list(_saved_specs(Path(folder)).values())


def copy_tokenizer(source: Path, folder: Path) -> None:
    """Copy the tokenizer's files, so that a saved model is complete on its own."""
    for name in _TOKENIZER:
        if (Path(source) / name).is_file():
            shutil.copyfile(Path(source) / name, Path(folder) / name)


def _under(prefix: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}


def _saved_specs(folder: Path) -> dict[str, HeadSpec]:
    path = folder / HEAD_SPECS
    specs: list[dict[str, Any]] = json.loads(path.read_text()) if path.is_file() else []
    return {spec["name"]: HeadSpec(**spec) for spec in specs}


def _seed(seed: int, name: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:7], "big")
