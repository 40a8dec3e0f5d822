"""In which order rows are seen, as a pure function of (seed, epoch, row).

A run that is killed and started again must see the rows, and draw the masks, that the
undisturbed run would have seen. So nothing here is drawn from the global random state: a
prefetching loader runs ahead of the training step by an unknown number of batches, and the
state it leaves behind says nothing about where training stood. The counter-based Philox
generator is set directly to the place that belongs to a key; resuming is arithmetic and there
is nothing to skip through.

It does not read data and does not know about devices or ranks. Used by `training.loop`,
`training.trainer` and the masking of `training.objectives`; chapters 03 and 11 explain it.
"""

import functools
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch

# The fourth word of the Philox counter says what is drawn, so that the order of an epoch and
# the masks of its rows come from streams that never meet, whatever seed, epoch and row are.
_ORDER, _ROW = 0, 1


def _generator(seed: int, epoch: int, row: int, purpose: int) -> np.random.Generator:
    if min(seed, epoch, row) < 0:
        raise ValueError(f"seed, epoch and row must be at least 0, got {(seed, epoch, row)}")
    # Word 0 counts blocks within a stream: 2**64 of them before it would run into its neighbour.
    # Both must be uint64 already: a Python int of 2**63 or more would pass through float64.
    counter = np.array([0, row, epoch, purpose], dtype=np.uint64)
    key = np.array([seed, 0], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(counter=counter, key=key))


def key_generator(seed: int, epoch: int, row: int) -> np.random.Generator:
    """The random stream that belongs to one row in one epoch, and to nothing else.

    Source: Philox-4x64-10, Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3".
    Raises ValueError for a negative seed, epoch or row.

    >>> a, b = key_generator(0, 2, 7), key_generator(0, 2, 7)
    >>> bool((a.random(5) == b.random(5)).all())
    True
    >>> key_generator(0, 3, 7).random() == key_generator(0, 2, 7).random()
    False
    """
    return _generator(int(seed), int(epoch), int(row), _ROW)


def order(n: int, seed: int, epoch: int) -> np.ndarray:
    """A permutation of `n` rows, shape (n,) int64: the order in which an epoch visits them.

    >>> sorted(order(5, seed=0, epoch=3).tolist())
    [0, 1, 2, 3, 4]
    >>> bool((order(100, seed=0, epoch=0) == order(100, seed=0, epoch=1)).all())
    False
    """
    return _generator(int(seed), int(epoch), 0, _ORDER).permutation(n)


class EpochSampler(torch.utils.data.Sampler):
    """Yields `(epoch, row)` pairs, in the order of the epoch that `set_epoch` named last.

    The pair, not the bare row, is the index, so that a worker process that fetches the row
    knows the epoch too: it cannot learn it from an attribute that the main process changed.
    Index a `Keyed` dataset with them.

    >>> sampler = EpochSampler(3, seed=0)
    >>> sampler.set_epoch(4)
    >>> [epoch for epoch, row in sampler]
    [4, 4, 4]
    """

    def __init__(self, n: int, seed: int = 0, epoch: int = 0) -> None:
        self.n, self.seed, self.epoch = n, seed, epoch

    def set_epoch(self, epoch: int) -> None:
        """Called by `accelerate` and by `Trainer` at the start of each epoch, resumed or not."""
        self.epoch = int(epoch)

    def __len__(self) -> int:
        return self.n

    def __iter__(self) -> Iterator[tuple[int, int]]:
        epoch = self.epoch
        return ((epoch, row) for row in order(self.n, self.seed, epoch).tolist())


class Keyed(torch.utils.data.Dataset):
    """A map-style dataset of dicts whose rows also say which epoch and row they are.

    `keyed[(epoch, row)]` is `{**dataset[row], "epoch": epoch, "row": row}`; a bare `keyed[row]`
    is taken as epoch 0, which is what evaluation needs: the same masks every time.

    >>> keyed = Keyed([{"x": 10}, {"x": 11}])
    >>> keyed[(2, 1)]
    {'x': 11, 'epoch': 2, 'row': 1}
    >>> keyed[1]
    {'x': 11, 'epoch': 0, 'row': 1}
    """

    def __init__(self, dataset: Sequence) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: tuple[int, int] | int) -> dict:
        return self.__getitems__([key])[0]

    def __getitems__(self, keys: list) -> list[dict]:
        """Called by the loader with the keys of a whole batch: one read instead of many."""
        keys = [key if isinstance(key, tuple | list) else (0, key) for key in keys]
        rows = [row for _, row in keys]
        read_many = getattr(self.dataset, "__getitems__", None)
        found = read_many(rows) if read_many else [self.dataset[row] for row in rows]
        return [
            {**values, "epoch": int(epoch), "row": int(row)}
            for values, (epoch, row) in zip(found, keys, strict=True)
        ]


def without_keys(rows: list[dict]) -> object:
    """Collate rows of `Keyed` for a model that has no use for their keys.

    >>> without_keys([{"x": 1, "epoch": 0, "row": 5}, {"x": 2, "epoch": 0, "row": 3}])
    {'x': tensor([1, 2])}
    """
    return torch.utils.data.default_collate(
        [{k: v for k, v in row.items() if k not in ("epoch", "row")} for row in rows]
    )


class Batches:
    """The k-th batch of a run that goes on for as many epochs as it is asked for.

    `batches[k]` is a function of k and of nothing else, so a resumed run asks for the batch it
    needs. The rows left over at the end of an epoch (fewer than a batch) sit that epoch out;
    each epoch leaves out others. `collate` turns a list of `Keyed` rows into a batch; one that
    draws masks reads their keys.

    >>> batches = Batches([{"x": i} for i in range(5)], batch_size=2, collate=list)
    >>> [row["epoch"] for row in batches[2]]  # two batches to an epoch, so this one is the next
    [1, 1]
    >>> batches[2] == batches[2]
    True
    """

    def __init__(
        self,
        dataset: Sequence,
        batch_size: int,
        *,
        seed: int = 0,
        collate: Callable[[list[dict]], object] = without_keys,
    ) -> None:
        self.keyed, self.batch_size, self.collate = Keyed(dataset), batch_size, collate
        self.per_epoch = len(dataset) // batch_size
        if self.per_epoch == 0:
            raise ValueError(
                f"{len(dataset)} rows do not fill one batch of {batch_size}: "
                f"use a batch size of at most {len(dataset)}"
            )
        # Two, because an accumulation window can straddle the end of an epoch.
        self._order = functools.lru_cache(maxsize=2)(functools.partial(order, len(dataset), seed))

    def keys(self, k: int) -> list[tuple[int, int]]:
        """The `(epoch, row)` pairs of batch k."""
        epoch, place = divmod(k, self.per_epoch)
        start = place * self.batch_size
        rows = self._order(epoch)[start : start + self.batch_size]
        return [(epoch, row) for row in rows.tolist()]

    def __getitem__(self, k: int) -> object:
        return self.collate(self.keyed.__getitems__(self.keys(k)))
