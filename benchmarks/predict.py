"""Answers from the logits of a reading model, against transformers' own post-processing.

``python -m benchmarks.predict [--peer utils_qa.py]``. Made-up logits of as many windows as SQuAD's
validation split gives (10,570 questions), 384 tokens each, the same for both. The peer is
``postprocess_qa_predictions``, which lies in transformers' examples and not in the package: name
the file ``examples/pytorch/question-answering/utils_qa.py`` of a clone. Without it, it is
``decode_spans`` of the package's pipelines, which looks for the best span of one window.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch

from benchmarks.table import show
from muppet_dag.evaluation import predict

WINDOWS, LENGTH, QUESTION, BATCH = 10_570, 384, 16, 32
Logits = tuple[np.ndarray, np.ndarray]


def main() -> None:
    """Time both, print a table and a JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", type=Path, help="transformers' utils_qa.py")
    parser.add_argument("--windows", type=int, default=WINDOWS)
    args = parser.parse_args()
    draw = np.random.default_rng(1)
    logits = draw.normal(size=(args.windows, LENGTH, 2)).astype(np.float32)
    logits[:, 0] -= 10  # every question has an answer
    text = "".join(f"{word:>3} " for word in range(LENGTH - QUESTION))
    offsets = [(4 * at, 4 * at + 3) for at in range(LENGTH - QUESTION)]
    started = time.perf_counter()
    answers = ours(logits, text, offsets)
    seconds = time.perf_counter() - started
    started = time.perf_counter()
    peer = (
        examples(args.peer, logits, text, offsets) if args.peer else pipeline(logits, text, offsets)
    )
    peer_seconds = time.perf_counter() - started
    same = sum(a == b for a, b in zip(answers, peer, strict=True)) / len(answers)
    show(
        ("", "seconds", "windows/s"),
        [
            ("ours", f"{seconds:.2f}", f"{args.windows / seconds:,.0f}"),
            ("transformers", f"{peer_seconds:.2f}", f"{args.windows / peer_seconds:,.0f}"),
            ("ratio", f"{peer_seconds / seconds:.1f} x", f"{same:.1%} of the answers equal"),
        ],
    )
    print(json.dumps({"seconds": seconds, "peer_seconds": peer_seconds, "equal": same}))


def ours(logits: np.ndarray, text: str, offsets: list[tuple[int, int]]) -> list[str]:
    """What ``predict`` does with a reading model's logits."""
    flat = np.array(offsets).ravel()

    class Run(SimpleNamespace):
        """A run whose logits are known."""

        def logits(self, batch: SimpleNamespace) -> torch.Tensor:
            return torch.from_numpy(logits[batch.rows])

        def take(self, rows: np.ndarray) -> SimpleNamespace:
            lists = np.tile(flat, len(rows)), np.full(len(rows), len(flat))
            return SimpleNamespace(lists=lambda _: lists)

    texts = dict.fromkeys(range(len(logits)), text)
    run = Run(task=SimpleNamespace(unanswerable=False), gold=SimpleNamespace(texts=texts))
    run.tokens = run
    rows = np.arange(len(logits))
    batches = (
        SimpleNamespace(rows=r, examples=r, passage=np.tile([QUESTION, LENGTH], (len(r), 1)))
        for r in np.split(rows, range(BATCH, len(rows), BATCH))
    )
    answers = predict._spans(run, batches)
    return [answers[row] for row in rows.tolist()]


def pipeline(logits: np.ndarray, text: str, offsets: list[tuple[int, int]]) -> list[str]:
    """``decode_spans`` of the package, window by window, on probabilities as its pipelines do."""
    from transformers.pipelines.document_question_answering import decode_spans

    wanted = np.arange(LENGTH) >= QUESTION
    answers = []
    for each in logits:
        masked = np.where(wanted[:, None], each, -1e4)
        start, end = np.exp(masked - masked.max(0)).T
        starts, ends, _ = decode_spans(start, end, 1, predict.LONGEST_ANSWER, wanted)
        answers.append(text[offsets[starts[0] - QUESTION][0] : offsets[ends[0] - QUESTION][1]])
    return answers


def examples(
    path: Path, logits: np.ndarray, text: str, offsets: list[tuple[int, int]]
) -> list[str]:
    """``postprocess_qa_predictions`` from a file of transformers' examples."""
    spec = importlib.util.spec_from_file_location("utils_qa", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    ids = [str(number) for number in range(len(logits))]
    rows = [{"id": each, "context": text} for each in ids]
    mapping = [None] * QUESTION + offsets
    features = [{"example_id": each, "offset_mapping": mapping} for each in ids]

    class Examples(list):
        """Rows that can be asked for a column too."""

        def __getitem__(self, key: object) -> object:
            return [row[key] for row in self] if isinstance(key, str) else super().__getitem__(key)

    answers = module.postprocess_qa_predictions(
        Examples(rows), features, (logits[..., 0], logits[..., 1])
    )
    return [answers[each] for each in ids]


if __name__ == "__main__":
    main()
