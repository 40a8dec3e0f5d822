"""Is a loader meant to draw its rows in another order each epoch, and when does an epoch begin?

Reads the samplers of a `DataLoader`, whatever wraps it; used for the fault of a shuffled order that
repeats (X3). Where nobody named the loader it is the one that is read when gradients follow. It
draws nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch

from cookbook.doctor import hooks

LISTED, FEW = 1024, 12  # places of a list that are read; steps from one to the next at least
DRAWN = 0.25  # of the steps go up, and of them go down, in a list that was drawn
SHUFFLES = {"shuffle", "randperm", "permutation", "permuted"}
OFF = (False, None, 0)  # what a stream that could shuffle holds where it must not
DEEP = 2  # methods that a stream's __iter__ calls, and those that they call


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
    written = (getattr(loader, "sampler", None), getattr(loader, "batch_sampler", None), inner)
    by_code = any(map(samples_by_itself, written))
    return by_code or drawn_once(loader) or draws(getattr(loader, "dataset", None))


def drawn_once(loader: Any) -> bool:
    """Whether the loader's order is a list, and one that looks drawn: up as often as down.

    >>> drawn_once(torch.utils.data.DataLoader(range(64), batch_sampler=[[3, 1], [0, 2]] * 16))
    True
    """
    for held in (getattr(loader, "batch_sampler", None), getattr(loader, "sampler", None)):
        if isinstance(held, list | tuple | torch.Tensor) and len(held):
            return _drawn_list(held)
    return False


def _drawn_list(held: Any) -> bool:
    """Whether this is a list of places, or of batches of them, that looks drawn."""
    if not isinstance(held, list | tuple | torch.Tensor | np.ndarray) or not len(held):
        return False
    try:
        listed = [list(part) if isinstance(part, list | tuple) else [part] for part in held]
        flat = [int(place) for part in listed for place in part][:LISTED]
    except (TypeError, ValueError):  # a list of something else
        return False
    return _looks_drawn(flat) or _looks_drawn([int(part[0]) for part in listed if part])


def _looks_drawn(places: list[int]) -> bool:
    steps = list(zip(places, places[1:], strict=False))
    up = sum(b > a for a, b in steps)
    return len(steps) >= FEW and DRAWN * len(steps) < up < (1 - DRAWN) * len(steps)


def draws(dataset: Any) -> bool:
    """Whether a stream shuffles by itself, as far as the names in its own `__iter__` tell."""
    if type(dataset).__name__ == "IterableDatasetShard":  # of the Trainer and of accelerate
        dataset = dataset.dataset
    if not isinstance(dataset, torch.utils.data.IterableDataset):
        return False
    if type(dataset).__module__.partition(".")[0] == "datasets":
        return any("Shuffled" in type(part).__name__ for part in _chain(dataset))
    held = getattr(dataset, "__dict__", {})
    return not _off(held) and _says_so(_names(type(dataset), "__iter__", DEEP))


def samples_by_itself(sampler: Any) -> bool:
    """Whether a sampler of one's own draws its order, in its `__iter__` or once in its `__init__`.

    >>> samples_by_itself(torch.utils.data.SequentialSampler([1, 2])), samples_by_itself(None)
    (False, False)
    """
    kind, held = type(sampler), getattr(sampler, "__dict__", {})
    if not isinstance(sampler, torch.utils.data.Sampler) and not callable(
        getattr(kind, "__iter__", None)
    ):
        return False
    if kind.__module__.partition(".")[0] in ("builtins", "torch", "numpy") or _off(held):
        return False
    names = _names(kind, "__iter__", DEEP)
    if _says_so(names):
        return True
    orders = [value for name, value in held.items() if name in names]
    return _says_so(_names(kind, "__init__", 0)) and any(map(_drawn_list, orders))


def _off(held: Mapping[str, Any]) -> bool:
    """Whether what could shuffle was told not to."""
    return any("shuffle" in name and any(value is n for n in OFF) for name, value in held.items())


def _says_so(names: set[str]) -> bool:
    """Whether code that uses these names draws an order."""
    return bool(names & SHUFFLES) or "sample" in names and any("rand" in n.lower() for n in names)


def _chain(dataset: Any) -> Iterator[Any]:
    """The steps of a stream of `datasets`, from the last backwards."""
    part = getattr(dataset, "_ex_iterable", None)
    while part is not None:
        yield part
        part = getattr(part, "ex_iterable", None)


def _names(kind: type, method: str, deep: int) -> set[str]:
    """Names that a method of a class uses, and those that the methods it calls use."""
    code = getattr(getattr(kind, method, None), "__code__", None)
    found, todo = set(), [code] if code is not None else []
    while todo:
        part = todo.pop()
        found |= set(part.co_names)
        todo += [inner for inner in part.co_consts if hasattr(inner, "co_names")]
    if deep:
        for name in list(found):
            if callable(getattr(kind, name, None)):
                found |= _names(kind, name, deep - 1)
    return found


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
        if length_of(loader) in (0, 1):  # a single batch has no order
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


def length_of(loader: Any) -> int | None:
    """The number of a loader's batches, None where it does not know."""
    try:
        return len(loader)
    except TypeError:
        return None
