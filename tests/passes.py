"""Passes made on the spot: tiny models with weights that say something, and flat slots for them."""

from __future__ import annotations

from pathlib import Path

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


def make(folder: Path, kind: str) -> Path:
    """Write a model of two narrow layers of a type of ``transformers``; returns its folder."""
    import transformers

    shared = {"vocab_size": VOCABULARY, "pad_token_id": PAD, "max_position_embeddings": 64}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        if kind == "bart":
            model = transformers.BartForConditionalGeneration(transformers.BartConfig(
                d_model=HIDDEN, encoder_layers=2, decoder_layers=2, encoder_ffn_dim=48,
                decoder_ffn_dim=48, encoder_attention_heads=2, decoder_attention_heads=2,
                bos_token_id=2, eos_token_id=3, decoder_start_token_id=3, forced_eos_token_id=3,
                **shared,
            ))  # fmt: skip
        else:
            model = transformers.AutoModel.from_config(transformers.AutoConfig.for_model(
                kind, hidden_size=HIDDEN, num_hidden_layers=2, num_attention_heads=2,
                intermediate_size=48, type_vocab_size=1 if "roberta" in kind else 2, **shared,
            ))  # fmt: skip
    model.save_pretrained(folder)
    return folder


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
