"""Randomness in rows: D6 in evaluation, where there should be none; D7 the same in every worker.

Rows are read several times and compared. Only where they differ and training uses two workers or
more are two workers started, for the same row, for two epochs; so it is with batches that a
collator makes of the same rows. Today's torch seeds Python's, NumPy's and its own global generators
in each worker; a generator that the data set or the collator holds is copied into every worker as
it stands, and a seed of one's own can undo what torch did.
"""

from __future__ import annotations

import copy
import math
import multiprocessing
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from cookbook.doctor import preserve
from cookbook.doctor.checks import Skip
from cookbook.doctor.findings import Finding

ROWS, READS = 16, 3  # rows that are read, and how often
DRAWS = 32  # readings of a row in each worker
CHANCE = 1e-6  # that workers agree though they draw by themselves
COLLATED = 4  # rows of a batch that two workers are given
TIMEOUT = 60  # seconds to wait for a worker
LIBRARY = ("transformers.", "trl.", "cookbook.")  # their loaders are made as the arguments say
SELF_SUPERVISED = ("masked-lm", "contrastive")


def check_evaluation_stays_the_same(subject: Any) -> Iterable[Finding]:
    """D6: the share of evaluation rows that change from one reading to the next."""
    sample = subject.eval
    if sample.dataset is None or sample.iterable or not sample.total:
        raise Skip("does not apply")
    if subject.kind in SELF_SUPERVISED or _denoises(sample.rows[:1]):
        raise Skip("does not apply")  # noise and masks are the task itself
    if subject.kind == "seq2seq" and _marked(subject, sample.rows):
        raise Skip("does not apply")
    places = _spread(sample.total)
    changed = [place for place in places if _varies(sample, place)]
    if changed:
        # A window drawn from a long text is how language models are often evaluated.
        yield Finding(
            "D6", "warn" if subject.kind == "causal-lm" else "error",
            f"{len(changed)} of {len(places)} evaluation rows change when they are read again "
            f"(bound: none), such as row {changed[0]}",
            measured={"changed": len(changed), "rows": len(places)},
        )  # fmt: skip


def _spread(total: int) -> list[int]:
    return sorted({int(i) for i in np.linspace(0, total - 1, ROWS)})


def _denoises(rows: list[Any]) -> bool:
    """Whether the target has the input's own shape, as in denoising and two views of an image."""
    pair = rows[0] if rows else None
    if isinstance(pair, Mapping):
        pair = [v for v in pair.values() if isinstance(v, torch.Tensor) and v.is_floating_point()]
    if not isinstance(pair, list | tuple) or len(pair) < 2:
        return False
    shapes = [getattr(part, "shape", None) for part in pair[:2]]
    return shapes[0] is not None and len(shapes[0]) > 1 and shapes[0] == shapes[1]


def _marked(subject: Any, rows: list[Any]) -> bool:
    """Whether inputs hold marks for what was taken out: T5's sentinels, or the mask token."""
    names = getattr(subject.tokenizer, "get_vocab", dict)()
    marks = {i for name, i in names.items() if name.startswith("<extra_id_")}
    marks |= {getattr(subject.tokenizer, "mask_token_id", None)}
    held = [row["input_ids"] for row in rows[:ROWS] if isinstance(row, Mapping) and
            isinstance(row.get("input_ids"), list)]  # fmt: skip
    return any(marks.intersection(ids) for ids in held) or len(held) < len(rows[:ROWS])


def _varies(sample: Any, place: int) -> bool:
    first = sample.columns(sample.dataset[place])
    return any(not _same(first, sample.columns(sample.dataset[place])) for _ in range(READS - 1))


def _same(one: Any, other: Any) -> bool:
    """Whether two readings of a row are equal; what cannot be compared is taken as equal."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_same(one[k], other[k]) for k in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        if len(one) != len(other):
            return False
        return all(_same(a, b) for a, b in zip(one, other, strict=True))
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return one.shape == other.shape and torch.equal(one.nan_to_num(), other.nan_to_num())
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return one.shape == other.shape and one.tobytes() == other.tobytes()
    if hasattr(one, "tobytes") and hasattr(other, "tobytes"):  # images
        return one.tobytes() == other.tobytes()
    if isinstance(one, str | int | float | bytes) and isinstance(other, str | int | float | bytes):
        return one == other or one != one
    return True


# -- D7 ------------------------------------------------------------------------------------------


def check_workers_draw_by_themselves(subject: Any) -> Iterable[Finding]:
    """D7: two workers read the same row; their random draws agree, or each epoch repeats them."""
    sample = subject.train
    if _workers(subject) < 2 or sample.dataset is None or sample.iterable or not sample.total:
        raise Skip("does not apply")
    place = next((p for p in _spread(sample.total) if _varies(sample, p)), None)
    if place is None:
        raise Skip("does not apply")  # rows are the same at every reading
    if "fork" not in multiprocessing.get_all_start_methods():
        raise Skip("workers are only tried where processes can be forked")
    first, second = (_draws(subject, place) for _ in range(2))
    if _by_chance(first[0]) > CHANCE:
        raise Skip("the rows vary too little to compare the workers' draws")
    if _same(first[0], first[1]):
        yield _found(subject, "both of two workers", "the number of workers")
    elif not _told_apart(subject) and _same(first[0], second[0]):
        yield _found(subject, "a worker in both of two epochs", "epochs")


def check_collators_draw_by_themselves(subject: Any) -> Iterable[Finding]:
    """D7: two workers collate the same rows, and what they blank, mask or drop agrees each time.

    That epochs repeat is no fault of a collator: it draws for other rows then.
    """
    sample = subject.train
    if _workers(subject) < 2 or sample.dataset is None or sample.iterable or not sample.rows:
        raise Skip("does not apply")
    rows = sample.rows[:COLLATED]
    first = _collated(sample, rows)
    if all(_same(first, _collated(sample, rows)) for _ in range(READS - 1)):
        raise Skip("does not apply")  # equal rows give equal batches
    if "fork" not in multiprocessing.get_all_start_methods():
        raise Skip("workers are only tried where processes can be forked")
    with preserve.attributes(sample.collator, sample.unused):
        one, other = _batches(subject, rows)
    if _by_chance(one) <= CHANCE and _same(one, other):
        yield Finding(
            "D7", "error",
            f"both of two workers drew the same {DRAWS} random batches of the same rows in the "
            "collator (bound: none): what it masks or drops repeats itself over the workers",
            "draw from torch's generator, or seed the collator's own by get_worker_info().seed",
            measured={"draws": DRAWS, "workers": _workers(subject)},
        )  # fmt: skip


def _collated(sample: Any, rows: list[Any]) -> Any:
    return sample.collate(copy.deepcopy(rows))


def _batches(subject: Any, rows: list[Any]) -> tuple[list[Any], list[Any]]:
    """`DRAWS` batches of these rows by each of two workers."""
    loader = DataLoader(
        [rows] * 2 * DRAWS, batch_size=None, num_workers=2, timeout=TIMEOUT,
        collate_fn=lambda same: _collated(subject.train, same), multiprocessing_context="fork",
        worker_init_fn=getattr(_loader(subject), "worker_init_fn", None),
    )  # fmt: skip
    found = list(loader)
    return found[::2], found[1::2]


def _workers(subject: Any) -> int:
    loader = getattr(_loader(subject), "num_workers", None)
    return (getattr(subject.args, "dataloader_num_workers", 0) or 0) if loader is None else loader


def _loader(subject: Any) -> Any:
    """The loader that was given, or that a `Trainer`'s own class makes; None where neither is."""
    method = getattr(type(subject.trainer), "get_train_dataloader", None)
    if subject.train.loader is not None or method is None or method.__module__.startswith(LIBRARY):
        return subject.train.loader
    if "own_loader" not in subject.__dict__:  # making one may be costly, and draw numbers
        subject.__dict__["own_loader"] = subject.trainer.get_train_dataloader()
    return subject.__dict__["own_loader"]


def _told_apart(subject: Any) -> bool:
    """Whether epochs differ anyhow: workers live on, rows know the epoch, or there is only one."""
    kept = getattr(_loader(subject), "persistent_workers", False)
    kept = kept or getattr(subject.args, "dataloader_persistent_workers", False)
    once = (getattr(subject.args, "num_train_epochs", None) or 2) <= 1
    return bool(kept) or once or hasattr(subject.train.dataset, "set_epoch")


def _draws(subject: Any, place: int) -> list[list[Any]]:
    """`DRAWS` readings of one row by each of two workers of a new epoch."""
    loader = DataLoader(
        subject.train.dataset, sampler=[place] * 2 * DRAWS, batch_size=DRAWS, num_workers=2,
        collate_fn=_as_they_are, timeout=TIMEOUT, multiprocessing_context="fork",
        worker_init_fn=getattr(_loader(subject), "worker_init_fn", None),
    )  # fmt: skip
    return list(loader)


def _as_they_are(rows: list[Any]) -> list[Any]:
    return rows


def _by_chance(readings: list[Any]) -> float:
    """How likely independent readings would all agree, from how often these agree in pairs."""
    pairs = [
        _same(one, other)
        for place, one in enumerate(readings) for other in readings[place + 1 :]
    ]  # fmt: skip
    return math.pow(max(np.mean(pairs), 1e-3), len(readings))


def _found(subject: Any, who: str, what: str) -> Finding:
    return Finding(
        "D7", "error",
        f"{who} drew the same {DRAWS} random versions of a row (bound: none): augmentation repeats "
        f"itself over {what}",
        measured={"draws": DRAWS, "workers": _workers(subject)},
    )  # fmt: skip


CHECKS = (
    check_evaluation_stays_the_same,
    check_workers_draw_by_themselves,
    check_collators_draw_by_themselves,
)
