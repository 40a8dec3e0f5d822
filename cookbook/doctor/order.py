"""Is a loader meant to draw its rows in another order each epoch, and when does an epoch begin?

Reads the samplers of a `DataLoader`, whatever wraps it; used for the fault of a shuffled order that
repeats (X3). Where nobody named the loader it is the one that is read when gradients follow. It
draws nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from cookbook.doctor import hooks


def shuffles(loader: Any) -> bool:
    """Whether the loader's sampler shuffles; False where nobody knows.

    >>> shuffles(torch.utils.data.DataLoader([1, 2], shuffle=True)), shuffles(None)
    (True, False)
    """
    inner = getattr(getattr(loader, "batch_sampler", None), "sampler", None)
    for held in (getattr(loader, "sampler", None), inner):
        # What is told the epoch draws by it, as torch's DistributedSampler does.
        by_epoch = callable(getattr(held, "set_epoch", None)) and getattr(held, "shuffle", True)
        drawn = isinstance(held, torch.utils.data.RandomSampler) or by_epoch
        if drawn or getattr(held, "shuffle", False) is True or "Random" in type(held).__name__:
            return True
    return False


class Follower:
    """Told of every loader that is opened, it finds the training loader and marks its epochs.

    `seen` is a `batches.Seen`: it hashes the first batch after `new_epoch`. A loader is that of
    training if backward passes came between its opening and the next one's.
    """

    def __init__(self, seen: Any) -> None:
        self.seen, self.known, self.epoch = seen, None, 0
        self.open: tuple[Any, int] | None = None  # the last loader, the backward passes before it

    def opened(self, loader: Any) -> None:
        """A loader begins to be read."""
        if _length(loader) in (0, 1):  # a single batch has no order
            return
        run = self.seen.run
        if self.known is None and self.open is not None and run.backwards > self.open[1]:
            self.known = self.open[0]
        if self.known is None:
            self.open = loader, run.backwards
            run.facts["shuffles"] = shuffles(loader)
            self.seen.new_epoch(0)
        elif loader is self.known or _alike(loader, self.known):
            self.epoch += 1
            run.facts["shuffles"] = shuffles(loader)
            self.seen.new_epoch(self.epoch)


def follow(seen: Any, cost: hooks.Cost) -> Callable[[], None]:
    """Notice the loaders that are opened from now on; returns the function that stops it."""
    told = hooks.Hook(Follower(seen).opened, cost)
    return hooks.intercept_all(torch.utils.data.DataLoader, "__iter__", told)


def _alike(one: Any, other: Any) -> bool:
    """Whether two loaders read the same rows in batches of one size: one made anew each epoch."""
    return one.dataset is other.dataset and one.batch_size == other.batch_size


def _length(loader: Any) -> int | None:
    try:
        return len(loader)
    except TypeError:
        return None
