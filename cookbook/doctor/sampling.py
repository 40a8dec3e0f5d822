"""Read a few rows and batches of a data set without moving it: what the data pass looks at.

Rows are read as training would see them: through the same collator, without the columns that the
forward pass does not take. Whatever goes wrong is kept as a reason, never raised. A `DataLoader`
may stand for a data set: its data, collator, batch size and order are used.
"""

from __future__ import annotations

import copy
import functools
import random
import time
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch.utils.data import DataLoader, RandomSampler, SequentialSampler

from cookbook.doctor import kinds

ROWS = 2000  # raw rows that are read at most
DEFAULT_BATCH = 8
SECONDS = 3.0  # of CPU time that reading more of a set than a sample may take
TOKEN_ROWS, SHORT = 256, 1024  # rows of tokens that are collated at most, and how long they may be


def _there(batch: Any) -> Any:
    """A batch without the entries that are None: a collator's word for labels it was not given."""
    if isinstance(batch, Mapping) and any(value is None for value in batch.values()):
        return {key: value for key, value in batch.items() if value is not None}
    return batch


class Sample:
    """Raw rows and collated batches of one split; `problem` says why there are none, or "".

    `rows` are what `dataset[i]` gave, `indices` their places (None each for an iterable set);
    `total` is the number of rows or None. `sequential` is True where the order is known to be that
    of the file, False where it is known to be drawn, None where nobody said.
    """

    def __init__(self, dataset: Any, *, batches: int, batch_size: int | None, collator: Any,
                 processing_class: Any, model: Any, keep_columns: bool = False,
                 in_order: bool = False) -> None:  # fmt: skip
        self.loader = dataset if isinstance(dataset, DataLoader) else None
        self.dataset = self.loader.dataset if self.loader is not None else dataset
        self.collator = collator if self.loader is None else self.loader.collate_fn
        self.batch_size = getattr(self.loader, "batch_size", None) or batch_size or DEFAULT_BATCH
        self.wanted, self.model, self.processing_class = batches, model, processing_class
        self.keep_columns, self.in_order, self.problem = keep_columns, in_order, ""
        self.unused = dict(getattr(self.collator, "__dict__", {}))  # of a collator not yet called

    @property
    def total(self) -> int | None:
        """The number of rows, None where the set does not know it."""
        try:
            return len(self.dataset)
        except (TypeError, NotImplementedError, AttributeError):
            return None

    @property
    def iterable(self) -> bool:
        """Whether rows can only be iterated over."""
        return not hasattr(self.dataset, "__getitem__") or self.total is None

    @property
    def sequential(self) -> bool | None:
        """Whether rows come in the file's order: known from a `DataLoader`, else None."""
        sampler = getattr(self.loader, "sampler", None)
        if isinstance(sampler, SequentialSampler):
            return True
        return False if isinstance(sampler, RandomSampler) else None

    @functools.cached_property
    def indices(self) -> list[int]:
        """Places of the rows that are read: all of a small set, else a fixed draw of `ROWS`."""
        if self.dataset is None or self.iterable:
            return []
        total = self.total
        chosen = range(total) if total <= ROWS else random.Random(0).sample(range(total), ROWS)
        return sorted(chosen)

    @functools.cached_property
    def rows(self) -> list[Any]:
        """At most `ROWS` raw rows."""
        if self.dataset is None:
            return []
        try:
            if self.iterable:
                return list(self.front(self.wanted * self.batch_size))
            return [self.dataset[i] for i in self.indices]
        except Exception as error:  # the reader's own code: its failure is a reason, not ours
            self.problem = self.problem or f"reading a row raised {_told(error)}"
            return []

    def front(self, count: int) -> Iterator[Any]:
        """The first rows of a stream, for at most `SECONDS`; the stream itself is not used up."""
        until = time.process_time() + SECONDS
        try:
            rows = _take(self.dataset, count)
        except TypeError:
            self.problem = self.problem or "reading a generator, which has no copy, would use it up"
            return
        for row in rows:
            yield row
            if time.process_time() > until:
                return

    @functools.cached_property
    def batches(self) -> list[Any]:
        """At most the wanted number of collated batches, on the CPU."""
        rows, size, found = self.rows, self.batch_size, []
        for places in self._places(len(rows), size):
            try:
                found.append(self.collate([rows[i] for i in places]))
            except Exception as error:
                self.problem = self.problem or f"collating a batch raised {_told(error)}"
                break
        return found

    @functools.cached_property
    def many(self) -> list[tuple[list[Any], Any]]:
        """(raw rows, their batch) for shares over tokens: up to `TOKEN_ROWS` rows of token ids.

        Rows that are not short lists of ids (images, features) cost more: as many as `batches`.
        """
        rows, size, found = self.rows, self.batch_size, []
        wanted = max(self.wanted, -(-TOKEN_ROWS // size)) if _short(rows) else self.wanted
        for places in self._places(len(rows), size, wanted):
            taken = [rows[i] for i in places]
            try:
                found.append((taken, self.collate(taken)))
            except Exception as error:
                self.problem = self.problem or f"collating a batch raised {_told(error)}"
                break
        return found

    def _places(self, count: int, size: int, wanted: int = 0) -> list[list[int]]:
        order = list(range(count))
        if not (self.in_order or self.iterable or self.sequential):
            random.Random(1).shuffle(order)
        parts = [order[i : i + size] for i in range(0, count, size)]
        parts = parts[: wanted or self.wanted]
        return [part for part in parts if len(part) == size] or parts

    def collate(self, rows: list[Any]) -> Any:
        """Rows as one batch, as training would make it."""
        kept = [self.columns(row) for row in rows]
        try:
            return _there(self.collate_fn(kept))
        except Exception:
            # A collator that needs what `Trainer` would remove is used with those columns kept.
            if all(one is row for one, row in zip(kept, rows, strict=True)):
                raise
            return _there(self.collate_fn(rows))

    def columns(self, row: Any) -> Any:
        """The row without the columns that `Trainer` would remove."""
        if self.keep_columns or self.loader is not None or not isinstance(row, Mapping):
            return row
        names, anything = kinds.accepts(self.model) if self.model is not None else (set(), True)
        if not names or (anything and len(names) < 3):
            return row
        kept = names | set(kinds.LABEL_KEYS)
        return {k: v for k, v in row.items() if k in kept}

    @functools.cached_property
    def collate_fn(self) -> Any:
        """The given collator, or the one that `Trainer` would take."""
        if self.collator is not None:
            return self.collator
        first = self.rows[0] if self.rows else None
        if isinstance(first, Mapping):
            from transformers import DataCollatorWithPadding, default_data_collator

            pads = hasattr(self.processing_class, "pad")
            return DataCollatorWithPadding(self.processing_class) if pads else default_data_collator
        return torch.utils.data.default_collate


def _short(rows: list[Any]) -> bool:
    ids = rows[0].get("input_ids") if rows and isinstance(rows[0], Mapping) else None
    return hasattr(ids, "__len__") and len(ids) <= SHORT


def _take(dataset: Any, count: int) -> Iterator[Any]:
    """The first rows of an iterable set, of a copy where iterating would use it up."""
    source = iter(dataset)
    if source is dataset or source is iter(dataset):
        source = iter(copy.deepcopy(dataset))
    return (row for _, row in zip(range(count), source, strict=False))


def first_rows(batch: Any, rows: int | None) -> Any:
    """A batch cut to its first rows: every tensor that has the batch's size in front."""
    if rows is None:
        return batch
    if isinstance(batch, Mapping):
        size = batch_size(batch)
        return {k: _cut(v, size, rows) for k, v in batch.items()}
    return type(batch)(_cut(v, batch_size(batch), rows) for v in batch)


def batch_size(batch: Any) -> int:
    """The rows of a batch: the first dimension of its first tensor."""
    parts = batch.values() if isinstance(batch, Mapping) else batch
    return next((len(v) for v in parts if isinstance(v, torch.Tensor) and v.dim()), 0)


def _cut(value: Any, size: int, rows: int) -> Any:
    whole = isinstance(value, torch.Tensor) and value.dim() and len(value) == size
    return value[:rows] if whole else value


def to_device(batch: Any, device: torch.device) -> Any:
    """The batch, dict or pair, with its tensors on `device`."""
    if isinstance(batch, torch.Tensor):
        return batch.to(device)
    if isinstance(batch, Mapping):
        return {
            k: to_device(v, device) if isinstance(v, torch.Tensor | dict) else v
            for k, v in batch.items()
        }
    if isinstance(batch, list | tuple):
        return type(batch)(
            to_device(v, device) if isinstance(v, torch.Tensor) else v for v in batch
        )
    return batch


def _told(error: Exception) -> str:
    words = " ".join(str(error).split())
    return f"{type(error).__name__}: {words[:160]}"
