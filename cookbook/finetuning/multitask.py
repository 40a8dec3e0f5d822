"""The strategy with two tasks: labels, and masked words of the same texts, through one encoder.

A batch is of one task; how many of each there are follows the sizes of the tasks. The second task
needs no labels, so it serves any data set. Used by `strategies`, chapter 07.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from cookbook.finetuning import jobs
from cookbook.finetuning.encoding import collator
from cookbook.finetuning.jobs import Job, Trained
from cookbook.training.objectives import MaskedLMCollator


class SharedEncoder(nn.Module):
    """A classifier and a masked language model whose encoder is one and the same module."""

    accepts_loss_kwargs = False  # what transformers' Trainer asks a model

    def __init__(self, classifier: nn.Module, language_model: nn.Module) -> None:
        super().__init__()
        setattr(language_model, language_model.base_model_prefix, classifier.base_model)
        language_model.tie_weights()
        self.classifier, self.language_model = classifier, language_model
        self.config, self.missing_keys = classifier.config, classifier.missing_keys

    def forward(self, **batch: torch.Tensor) -> dict[str, Any]:
        """Labels (batch,) ask the classifier, labels (batch, length) the language model."""
        labels = batch.get("labels")
        if labels is None or labels.ndim == 1:
            return self.classifier(**batch)
        from cookbook.training.trainer import masked_lm_loss

        loss, logits = masked_lm_loss(self.language_model, batch)
        return {"loss": loss, "logits": logits}


def multitask(job: Job, limit: float = 0.5) -> Trained:
    """Train on the labels and, in between, on masked words of the training texts.

    The share of the second task is proportional to its rows, of which at most `limit` times those
    of the first count (Raffel et al. 2020, arXiv:1910.10683, section 3.5.2). The first sees as many
    steps as every other strategy gives it.
    """
    model = SharedEncoder(jobs.classifier(job), jobs.load(job, "masked-lm"))
    labelled = job.rows["train"]
    unlabelled = [{k: v for k, v in row.items() if k != "labels"} for row in labelled]
    share = mixing_shares([len(labelled), len(unlabelled)], limit=round(limit * len(labelled)) or 1)
    batches = Mixed([labelled, unlabelled], share, job.batch_size, seed=job.seed)
    one_a_row = {"batch_size": 1, "max_steps": round(job.max_steps / share[0])}
    pad, mask = collator(job.tokenizer), MaskedLMCollator(job.tokenizer, seed=job.seed)

    def collate(drawn: Sequence[dict]) -> Any:
        task, rows = drawn[0]
        if task:
            return mask(rows)
        return pad([{k: v for k, v in row.items() if k not in ("epoch", "row")} for row in rows])

    trained = jobs.train(
        dataclasses.replace(job, **one_a_row), model, rows=batches, collate=collate
    )
    return trained._replace(model=model.classifier)


class Mixed:
    """Batches of several tasks as a data set of `(task, rows)`, for a loader with batch size 1.

    An epoch is one pass through the first task's rows, in batches of `batch_size`, with batches of
    the others in between, in random order and as many as `shares` ask for. What comes next depends
    on `seed` and not on the number that is asked for.

    >>> rows = [[{"row": i} for i in range(8)], [{"other": i} for i in range(3)]]
    >>> epoch = Mixed(rows, [0.5, 0.5], batch_size=4)
    >>> len(epoch), sorted(epoch[i][0] for i in range(4))
    (4, [0, 0, 1, 1])
    """

    def __init__(
        self,
        rows: Sequence[Sequence[dict]],
        shares: Sequence[float],
        batch_size: int,
        seed: int = 0,
    ) -> None:
        first = math.ceil(len(rows[0]) / batch_size)
        self.counts = [first, *(round(first * share / shares[0]) for share in shares[1:])]
        self._rng = np.random.default_rng(seed)
        self._streams = [_passes(own, batch_size, self._rng) for own in rows]
        self._tasks: list[int] = []

    def __len__(self) -> int:
        return sum(self.counts)

    def __getitem__(self, _: int) -> tuple[int, list[dict]]:
        if not self._tasks:
            order = np.repeat(np.arange(len(self.counts)), self.counts)
            self._tasks = self._rng.permutation(order).tolist()
        task = self._tasks.pop()
        return task, next(self._streams[task])


def _passes(rows: Sequence[dict], size: int, rng: np.random.Generator) -> Iterator[list[dict]]:
    """Batches of `rows`, shuffled anew for each pass; a row says which pass and which row."""
    for epoch in range(10**9):
        order = rng.permutation(len(rows)).tolist()
        for start in range(0, len(order), size):
            yield [{**rows[i], "epoch": epoch, "row": i} for i in order[start : start + size]]


def mixing_shares(sizes: Sequence[int], *, limit: int) -> list[float]:
    """Each task's share of the batches: proportional to its rows, where no more than `limit` count.

    The first task has no limit: it is the one that is wanted.

    >>> mixing_shares([100, 900], limit=50)
    [0.6666666666666666, 0.3333333333333333]
    """
    counted = [sizes[0], *(min(size, limit) for size in sizes[1:])]
    return [count / sum(counted) for count in counted]
