"""Multi-task training as people write it on ``transformers.Trainer``: an encoder, a head a task."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
import transformers
from torch import Tensor, nn

from benchmarks.rows import Rows
from muppet_dag.recipes import TrainingSection

BATCH = 32


class Counter:
    """Counts useful tokens, computed tokens and rows of steps, until the time is up."""

    def __init__(self, seconds: float, least: int = 1) -> None:
        self.budget, self.least = seconds, least
        self.start()

    def start(self) -> None:
        """Begin anew."""
        self.tokens = self.computed = self.rows = self.steps = 0
        self.started = time.perf_counter()
        self.seconds = 0.0

    def add(self, tokens: int, computed: int, rows: int) -> bool:
        """Count a finished step; whether enough were counted."""
        self.tokens, self.computed = self.tokens + tokens, self.computed + computed
        self.rows, self.steps = self.rows + rows, self.steps + 1
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.seconds = time.perf_counter() - self.started
        return self.seconds >= self.budget and self.steps % self.least == 0

    def metrics(self) -> dict[str, float]:
        """What was counted, and useful tokens a second as ``speed``."""
        return {
            "speed": self.tokens / self.seconds, "share": self.tokens / self.computed,
            "rows": self.rows, "steps": self.steps, "seconds": self.seconds,
        }  # fmt: skip


class Mixed(nn.Module):
    """An encoder with a linear head a task, for batches of rows of any tasks."""

    #: The loss is a mean over rows, whatever the Trainer does about accumulation.
    accepts_loss_kwargs = False

    def __init__(self, rows: Rows) -> None:
        super().__init__()
        self.encoder = transformers.AutoModel.from_pretrained(rows.model, dtype=torch.float32)
        hidden = self.encoder.config.hidden_size
        self.heads = nn.ModuleList(nn.Linear(hidden, t.head.classes) for t in rows.tasks)
        self.batch = (0, 0, 0)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, task: Tensor, labels: Tensor
    ) -> dict[str, Tensor]:
        """Loss of a batch: the mean over rows of cross-entropy / log n."""
        self.batch = (int(attention_mask.sum()), input_ids.numel(), len(input_ids))
        first = self.encoder(input_ids, attention_mask=attention_mask).last_hidden_state[:, 0]
        total = first.new_zeros(())
        for number in task.unique().tolist():
            mine, head = task == number, self.heads[number]
            loss = F.cross_entropy(head(first[mine]), labels[mine], reduction="sum")
            total = total + loss / math.log(head.out_features)
        return {"loss": total / len(task)}


def train(folder: Path, rows: Rows, seconds: float, order: str, seed: int) -> dict[str, float]:
    """Train in an order: ``random``, ``group_by_length`` or ``one_task``; what was counted."""
    transformers.set_seed(seed)
    dataset, model = rows.dataset().shuffle(seed), Mixed(rows)
    # Batches of like length come from sorted parts, the longest first: a part counts as a whole.
    part = min(len(dataset) // (BATCH * 4), 50) if order == "group_by_length" else 1
    counter, same = Counter(seconds, least=part), TrainingSection()
    known = {} if order == "one_task" else {"train_sampling_strategy": order}
    arguments = transformers.TrainingArguments(
        output_dir=str(folder), per_device_train_batch_size=BATCH, num_train_epochs=1, seed=seed,
        learning_rate=same.learning_rate, adam_beta1=same.betas[0], adam_beta2=same.betas[1],
        weight_decay=same.weight_decay, max_grad_norm=0, optim="adamw_torch_fused",
        bf16=torch.cuda.is_available(), report_to="none", save_strategy="no",
        logging_strategy="no", disable_tqdm=True, remove_unused_columns=False, **known,
    )  # fmt: skip
    collator = transformers.DataCollatorWithPadding(
        transformers.AutoTokenizer.from_pretrained(rows.model)
    )
    kind = OneTask if order == "one_task" else transformers.Trainer
    trainer = kind(model=model, args=arguments, train_dataset=dataset, data_collator=collator)
    trainer.add_callback(Counting(counter, model))
    trainer.train()
    return counter.metrics()


class Counting(transformers.TrainerCallback):
    """Feeds a counter after each step. The first step is a warm-up and is not counted."""

    def __init__(self, counter: Counter, model: Mixed) -> None:
        self.counter, self.model = counter, model

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == 1 and self.counter.least == 1:
            self.counter.start()
        elif self.counter.add(*self.model.batch):
            control.should_training_stop = True


class OneTask(transformers.Trainer):
    """Batches of one task, in random order."""

    def get_train_dataloader(self) -> torch.utils.data.DataLoader:
        task = np.asarray(self.train_dataset["task"])
        return torch.utils.data.DataLoader(
            self.train_dataset, collate_fn=self.data_collator,
            batch_sampler=_one_task(task, np.random.default_rng(self.args.seed)),
        )  # fmt: skip


def _one_task(task: np.ndarray, draw: np.random.Generator) -> list[list[int]]:
    batches: list[list[int]] = []
    for number in np.unique(task):
        rows = draw.permutation(np.flatnonzero(task == number))
        batches += [rows[at : at + BATCH].tolist() for at in range(0, len(rows), BATCH)]
    return [batches[i] for i in draw.permutation(len(batches))]
