"""Rows by themselves and in their order: D9 not finite or empty, D5 sorted by label, D4 imbalance.

What stands in two rows at once is checked in `duplicate_checks`, randomness in `worker_checks`.
"""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch.utils.data import RandomSampler, SequentialSampler

from cookbook.doctor import row_keys, trial
from cookbook.doctor.checks import Skip
from cookbook.doctor.findings import Finding
from cookbook.doctor.sampling import ROWS

BLANKS = 4  # pieces in which a row of spaces may come
EMPTY = 0.01  # share of empty texts that is still normal
ENTROPY, BATCHES = 0.5, 8  # a batch's label entropy against that of shuffled batches; batches
MAJORITY = 0.9  # share of the largest class from which on it is said
BINS = 8  # a number as label counts as one of so many quantiles
NOT_INPUT = ("mask", "bias", "observed")  # floats that may well be infinite


# -- D9 ------------------------------------------------------------------------------------------


def check_rows_hold_something(subject: Any) -> Iterable[Finding]:
    """D9: NaN or infinity in inputs or labels, rows without attention, empty texts."""
    rows = subject.train.rows
    if not rows and not subject.eval.rows:
        raise Skip("does not apply")
    for name, sample in (("training", subject.train), ("evaluation", subject.eval)):
        if sample.rows:
            yield from _not_finite(subject, sample, name)
            yield from _unattended(sample, name)
            yield from _empty(sample, name)


def _not_finite(subject: Any, sample: Any, name: str) -> Iterable[Finding]:
    wrong = [place for place, row in enumerate(sample.rows) if not _finite(row)]
    if not wrong or _harmless(subject, sample, wrong[:4]):
        return
    yield Finding(
        "D9", "error",
        f"{len(wrong):,} of {len(sample.rows):,} {name} rows hold NaN or infinity (bound: none), "
        f"the first is row {_place(sample, wrong[0])}",
        measured={"rows_not_finite": len(wrong), "rows": len(sample.rows)},
    )  # fmt: skip


def _place(sample: Any, place: int) -> int:
    return sample.indices[place] if sample.indices else place


def _finite(row: Any) -> bool:
    if isinstance(row, Mapping):
        parts = [v for k, v in row.items() if not any(word in k for word in NOT_INPUT)]
    else:
        parts = row if isinstance(row, list | tuple) else [row]
    return all(_finite_part(part) for part in parts)


def _finite_part(value: Any) -> bool:
    if isinstance(value, torch.Tensor):
        return not value.is_floating_point() or bool(torch.isfinite(value).all())
    if isinstance(value, list) and value and not isinstance(value[0], float | list):
        return True
    if isinstance(value, float | list | np.ndarray | np.floating):
        array = np.asarray(value) if not isinstance(value, list) else _array(value)
        return array.dtype.kind != "f" or bool(np.isfinite(array).all())
    return True


def _array(value: list[Any]) -> np.ndarray:
    try:
        return np.asarray(value)
    except ValueError:  # ragged lists
        return np.zeros(1)


def _harmless(subject: Any, sample: Any, places: list[int]) -> bool:
    """Whether model and loss take such rows: missing values can be meant, and then handled."""
    if subject.model is None:
        return False
    try:
        with trial.quiet(subject):
            batch = sample.collate([sample.rows[place] for place in places])
            loss = subject.loss(batch)
        return loss is not None and bool(torch.isfinite(torch.as_tensor(loss)).all())
    except Exception:
        return False


def _unattended(sample: Any, name: str) -> Iterable[Finding]:
    masks = [row.get("attention_mask") for row in sample.rows if isinstance(row, Mapping)]
    sums = [np.asarray(mask).sum() for mask in masks if mask is not None]
    batches = [b.get("attention_mask") for b in sample.batches if isinstance(b, Mapping)]
    collated = [m for m in batches if isinstance(m, torch.Tensor) and m.dim() == 2]
    for read, told in ((sums, "rows"), ([s for m in collated for s in m.sum(1)], "collated rows")):
        nothing = sum(int(s) == 0 for s in read)
        if nothing:
            yield Finding(
                "D9", "error",
                f"{nothing:,} of {len(read):,} {name} {told} have an attention mask of zeros only "
                "(bound: none)",
                measured={"rows_unattended": nothing, "rows": len(read)},
            )  # fmt: skip
            return


def _empty(sample: Any, name: str) -> Iterable[Finding]:
    rows = [row for row in sample.rows if isinstance(row, Mapping)]
    known = [_holds_nothing(row, sample.processing_class) for row in rows]
    known = [found for found in known if found is not None]
    empty, count = sum(known), len(known)
    if empty > max(1, EMPTY * count):
        yield Finding(
            "D9", "warn",
            f"{empty / count:.1%} of {count:,} {name} rows are empty (bound: {EMPTY:.0%})",
            measured={"rows_empty": empty, "rows": count},
        )  # fmt: skip


def _holds_nothing(row: Mapping[str, Any], tokenizer: Any) -> bool | None:
    """Whether a row's text, or what a tokenizer left of it, is empty; None where it has neither.

    Ids decide where they stand: a row may keep its target or its name beside an empty input.
    """
    text, ids = row_keys.text_of(row), row.get("input_ids")
    if text is not None and not text.strip():
        return True
    if ids is None or any(name in row for name in row_keys.PIXELS):  # a picture to be described
        return None if text is None else False
    special = set(getattr(tokenizer, "all_special_ids", None) or ())
    plain = [i for i in np.asarray(ids).reshape(-1).tolist() if i not in special]
    if plain and len(plain) <= BLANKS and hasattr(tokenizer, "decode"):  # pieces of white space
        return not tokenizer.decode(plain).strip()
    return not plain


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


CHECKS = (check_rows_hold_something, check_order_is_mixed, check_classes_are_balanced)
