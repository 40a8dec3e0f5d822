"""Which rows a rank reads at which step: every row once an epoch, whatever the number of ranks.

torch's `DistributedSampler` gives all ranks the same number of rows: it repeats some, or drops
some. Here all epochs are one endless stream, cut into global batches; each rank takes its share of
every batch. A batch is then the same set of rows for one rank and for eight, so that a run may go
on with another number of ranks. Rows come as `(epoch, row)`, for `training.order.Keyed`.
Chapter 11 uses it.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator

import torch

from cookbook.training.order import order


class ShardedBatches(torch.utils.data.Sampler):
    """Yields this rank's `(epoch, row)` keys of the batches `start`, `start` + 1, … below `stop`.

    `batch_size` counts the rows of all ranks together. The stream crosses the end of an epoch
    inside a batch if it must, so none is left out. A batch sampler for `DataLoader`. Raises
    ValueError where a rank would get no row of a batch, or there are none.

    >>> [list(ShardedBatches(5, 4, rank=r, ranks=2, stop=2)) for r in (0, 1)]
    [[[(0, 4), (0, 2)], [(0, 3), (1, 0)]], [[(0, 1), (0, 0)], [(1, 2), (1, 3)]]]
    """

    def __init__(
        self,
        rows: int,
        batch_size: int,
        *,
        rank: int,
        ranks: int,
        seed: int = 0,
        start: int = 0,
        stop: int,
    ) -> None:
        if rows < 1:
            raise ValueError("there are no rows to read")
        if batch_size < ranks:
            raise ValueError(f"a batch of {batch_size} rows leaves some of {ranks} ranks without")
        self.rows, self.batch_size, self.rank, self.ranks = rows, batch_size, rank, ranks
        self.start, self.stop = start, stop
        self._order = functools.lru_cache(maxsize=2)(functools.partial(order, rows, seed))

    def keys(self, batch: int) -> list[tuple[int, int]]:
        """This rank's rows of a batch, given by its number."""
        first = batch * self.batch_size
        places = range(first + self.rank, first + self.batch_size, self.ranks)
        return [
            (epoch, int(self._order(epoch)[place]))
            for epoch, place in (divmod(p, self.rows) for p in places)
        ]

    def __len__(self) -> int:
        return max(0, self.stop - self.start)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        return (self.keys(batch) for batch in range(self.start, self.stop))


def share(rows: int, rank: int, ranks: int) -> range:
    """The rows that a rank evaluates: together all, none twice; some ranks have one more.

    >>> [list(share(5, rank, 3)) for rank in range(3)]
    [[0, 3], [1, 4], [2]]
    """
    return range(rank, rows, ranks)
