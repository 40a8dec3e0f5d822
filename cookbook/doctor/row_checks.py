"""Rows in their order and their classes: D5 sorted by label, D4 imbalance.

What a row holds is checked in `content_checks`, what stands in two rows at once in
`duplicate_checks`, randomness in `randomness_checks`.
"""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np
from torch.utils.data import RandomSampler, SequentialSampler

from cookbook.doctor import row_keys
from cookbook.doctor.checks import Skip
from cookbook.doctor.findings import Finding
from cookbook.doctor.sampling import ROWS

ENTROPY, BATCHES = 0.5, 8  # a batch's label entropy against that of shuffled batches; batches
MAJORITY = 0.9  # share of the largest class from which on it is said
BINS = 8  # a number as label counts as one of so many quantiles


# -- D5 ------------------------------------------------------------------------------------------


def check_order_is_mixed(subject: Any) -> Iterable[Finding]:
    """D5: rows come in the file's order, and a batch holds far fewer labels than the data."""
    size = subject.train.batch_size * (getattr(subject.args, "gradient_accumulation_steps", 1) or 1)
    labels = _in_order(subject, max(2, size))
    if not labels:
        raise Skip("does not apply")
    flat, known = [x for part in labels for x in part], _known_labels(subject)
    # A stream sorted by label may show one label for long; the others are known from evaluation.
    everything = flat + (known if subject.train.iterable and len(set(flat)) == 1 else [])
    flat = _binned(everything)
    labels = _parts(flat[: sum(map(len, labels))], len(labels[0]))
    if len(set(flat)) < 2 or len(labels) < BATCHES:
        raise Skip("does not apply")
    observed = float(np.mean([_entropy(part) for part in labels]))
    shuffled = _shuffled(flat, len(labels[0]))
    if observed < ENTROPY * min(shuffled):
        yield Finding(
            "D5", "warn",
            f"rows come in their stored order, and the labels of a batch of {len(labels[0])} have "
            f"{observed / np.mean(shuffled):.0%} of the entropy that shuffled batches have (bound: "
            f"{ENTROPY:.0%})",
            measured={"entropy": observed, "shuffled_entropy": float(np.mean(shuffled))},
        )  # fmt: skip


def _in_order(subject: Any, size: int) -> list[list[Any]]:
    """Labels of batches in the order of training; none where that is drawn or not known."""
    names = getattr(subject.args, "label_names", None)
    if subject.train.iterable:
        if subject.train_dataset is None:
            return []
        rows = list(subject.train.front(ROWS))
        return _parts(_labels(rows, names), size)
    order = _order(subject)
    if not order:
        return []
    starts = range(0, max(1, len(order) - size + 1), size)
    chosen = [starts[i] for i in np.unique(np.linspace(0, len(starts) - 1, 64).astype(int))]
    places = [order[start : start + size] for start in chosen]
    if sum(map(len, places)) > 4 * ROWS:
        places = places[:: len(places) // 16 or 1]
    known = dict(zip(subject.train.indices, subject.train.rows, strict=False))
    return [
        found for part in places
        if (found := _labels([_row(subject, known, i) for i in part], names))
    ]  # fmt: skip


def _row(subject: Any, known: dict[int, Any], place: int) -> Any:
    return known[place] if place in known else subject.train.dataset[place]


def _order(subject: Any) -> list[int]:
    """Places in the order in which training reads them; empty where it is drawn or not known."""
    sampler = getattr(subject.train.loader, "sampler", None)
    if sampler is None and subject.trainer is not None:
        sampler = _sampler_of(subject.trainer)
    strategy = str(getattr(subject.args, "train_sampling_strategy", ""))
    if strategy.endswith("sequential") and subject.train.loader is None:
        return list(range(subject.train.total or 0))
    if sampler is None or isinstance(sampler, RandomSampler):
        return []
    if isinstance(sampler, SequentialSampler):
        return list(range(subject.train.total or 0))
    order = list(itertools.islice(iter(sampler), 50 * ROWS))  # a sampler of the reader's own
    return order if all(isinstance(i, int) for i in order) else []


def _sampler_of(trainer: Any) -> Any:
    """The sampler of a `Trainer`'s training loader, which is made only if the reader wrote it."""
    written = type(trainer).get_train_dataloader
    if written.__module__.startswith("transformers."):
        return trainer._get_train_sampler()
    return getattr(trainer.get_train_dataloader(), "sampler", None)


def _labels(rows: list[Any], names: Any) -> list[Any]:
    """The scalar labels of rows, whole or fractional; empty unless every row has one."""
    found = []
    for row in rows:
        label = row_keys.scalar_label(row, names)
        found.append(row_keys.number(row, names) if label is None else label)
    return [] if any(label is None for label in found) else found


def _known_labels(subject: Any) -> list[Any]:
    return _labels(subject.eval.rows, getattr(subject.args, "label_names", None))


def _binned(labels: list[Any]) -> list[Any]:
    """Labels as they are, or their quantile where they are many different numbers."""
    if len(set(labels)) <= max(20, len(labels) // 10) or isinstance(labels[0], str):
        return labels
    edges = np.quantile(np.asarray(labels, float), np.linspace(0, 1, BINS + 1)[1:-1])
    return np.searchsorted(edges, np.asarray(labels, float)).tolist()


def _parts(labels: list[Any], size: int) -> list[list[Any]]:
    parts = [labels[i : i + size] for i in range(0, len(labels), size)]
    return [part for part in parts if len(part) == size]


def _entropy(labels: list[Any]) -> float:
    shares = np.asarray(list(Counter(labels).values())) / len(labels)
    return float(-(shares * np.log(shares)).sum())


def _shuffled(labels: list[Any], size: int) -> list[float]:
    """Mean entropy of a batch, for 20 shuffles: small batches have little by chance as well."""
    drawn, draws = random.Random(0), []
    for _ in range(20):
        mixed = drawn.sample(labels, len(labels))
        draws.append(float(np.mean([_entropy(part) for part in _parts(mixed, size)])))
    return draws


# -- D4 ------------------------------------------------------------------------------------------


def check_classes_are_balanced(subject: Any) -> Iterable[Finding]:
    """D4 as advice only: one class holds nearly all rows."""
    labels = [row_keys.scalar_label(row, getattr(subject.args, "label_names", None))
              for row in subject.train.rows]  # fmt: skip
    labels = [label for label in labels if label is not None]
    if len(labels) < 20 or len(set(labels)) < 2:
        raise Skip("does not apply")
    share = Counter(labels).most_common(1)[0][1] / len(labels)
    if share >= MAJORITY:
        yield Finding(
            "D4", "info",
            f"{share:.0%} of the rows have the same label: predicting it always scores as much",
            measured={"majority": share},
        )  # fmt: skip


CHECKS = (check_order_is_mixed, check_classes_are_balanced)
