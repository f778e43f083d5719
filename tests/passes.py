"""Passes made on the spot: tiny models with weights that say something, and flat slots for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from muppet_dag.model.multitask import MultiTaskModel, load
from muppet_dag.model.spec import HeadSpec

VOCABULARY, HIDDEN, PAD = 40, 32, 1
SPECS = (
    HeadSpec("three", "classification", 3),
    HeadSpec("number", "regression"),
    HeadSpec("commonsense", "ranking"),
    HeadSpec("mrc", "span"),
)
GENERATION = HeadSpec("summarization", "generation")


def make(folder: Path, kind: str, **settings: Any) -> Path:
    """Write a model of two narrow layers of a type of ``transformers``; returns its folder."""
    import transformers

    config = tiny_config(kind, **settings)
    classes = {True: transformers.AutoModelForSeq2SeqLM, False: transformers.AutoModel}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = classes[bool(config.is_encoder_decoder)].from_config(config)
    model.save_pretrained(folder)
    return folder


def tiny_config(kind: str, **settings: Any) -> Any:
    """A configuration of any type: sizes go in under whichever names the type has for them."""
    import transformers

    own = transformers.AutoConfig.for_model(kind)
    names = {*own.to_dict(), *own.attribute_map}
    sizes = {
        VOCABULARY: ("vocab_size",),
        HIDDEN: ("hidden_size", "d_model", "dim", "emb_dim"),
        48: ("intermediate_size", "d_ff", "encoder_ffn_dim", "decoder_ffn_dim", "hidden_dim"),
        2: ("num_hidden_layers", "num_layers", "n_layers", "encoder_layers", "decoder_layers",
            "num_encoder_layers", "num_decoder_layers", "num_attention_heads", "num_heads",
            "n_heads", "encoder_attention_heads", "decoder_attention_heads",
            "num_encoder_attention_heads", "num_decoder_attention_heads"),
        16: ("d_kv", "embedding_size"),
        64: ("max_position_embeddings", "max_encoder_position_embeddings",
             "max_decoder_position_embeddings"),
    }  # fmt: skip
    values = {name: size for size, each in sizes.items() for name in each if name in names}
    values |= {"pad_token_id": PAD, "bos_token_id": 2, "eos_token_id": 3}
    if own.is_encoder_decoder:
        values |= {"decoder_start_token_id": 3, "forced_eos_token_id": 3}
    if "type_vocab_size" in names:
        values["type_vocab_size"] = 1 if "roberta" in kind else 2
    return transformers.AutoConfig.for_model(kind, **values | settings)


def model(folder: Path, *specs: HeadSpec, spread: float = 0.2, **settings) -> MultiTaskModel:
    """A model in float64 whose weights were moved away from where they start, without dropout."""
    model = load(folder, specs or SPECS, dropout=0.0, **settings).double()
    generator = torch.Generator().manual_seed(11)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator).double() * spread)
    return model.train()


def slot(rows: int, seed: int = 0, shortest: int = 4, longest: int = 20) -> dict[str, Tensor]:
    """Flat inputs of ``rows`` rows that any head but one of ranking takes, of any lengths."""
    return _slot(torch.ones(rows, dtype=torch.long), seed, shortest, longest)


def choices(rows: int, seed: int = 0) -> dict[str, Tensor]:
    """Rows of two to five candidates."""
    numbers = torch.randint(2, 6, (rows,), generator=torch.Generator().manual_seed(seed))
    return _slot(numbers, seed, 4, 12)


def _slot(sequences: Tensor, seed: int, shortest: int, longest: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def draw(low: int, high: int, *shape: int) -> Tensor:
        return torch.randint(low, high, shape, generator=generator)

    rows, total = len(sequences), int(sequences.sum())
    lengths, targets = draw(shortest, longest + 1, total), draw(2, 8, rows)
    first = lengths[:rows]
    start = torch.minimum(draw(1, 3, rows), first - 2)
    passage = torch.stack([start, first - draw(0, 2, rows)], 1)
    answered = draw(0, 2, rows)
    return {
        "input_ids": draw(4, VOCABULARY, int(lengths.sum())), "lengths": lengths,
        "second": lengths - draw(0, 3, total), "sequences": sequences,
        "labels": draw(0, 2, rows), "scores": torch.rand(rows, generator=generator),
        "span": torch.stack([start, start], 1) * answered[:, None], "passage": passage,
        "target": draw(4, VOCABULARY, int(targets.sum())), "target_lengths": targets,
    }  # fmt: skip


def everything(generates: bool = False) -> list[tuple[str, dict[str, Tensor]]]:
    """A pass of every kind of head, two slots of one head among them."""
    slots = [("three", slot(4, 1)), ("number", slot(3, 2)), ("commonsense", choices(3, 3)),
             ("mrc", slot(3, 4)), ("three", slot(2, 5, longest=30))]  # fmt: skip
    if generates:
        slots[2:2] = [(GENERATION.name, slot(3, 6))]
        slots.append((GENERATION.name, slot(2, 7, longest=9)))
    return slots


def gradients(model: MultiTaskModel, losses: list[tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
    """Gradients of the sum of the rows' losses, each slot weighted otherwise; none is left."""
    model.zero_grad()
    sum((i + 1) * loss.sum() for i, (loss, _) in enumerate(losses)).backward()
    grads = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return grads


def same(one: dict[str, Tensor], other: dict[str, Tensor], atol: float = 1e-10) -> None:
    """Both have the same gradients, and not all of them zero."""
    assert one.keys() == other.keys()
    torch.testing.assert_close(one, other, rtol=atol, atol=atol)
    assert max(value.abs().max() for value in one.values()) > 1e-3
