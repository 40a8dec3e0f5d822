"""Joining a group of processes: who am I, on which device, and what do all of us have together.

`joined` is the one place that talks to the launcher: it reads what `torchrun` has put into the
environment, and without a launcher makes a world of one, so that the same code runs in a notebook.
It starts no processes (`launching` does) and trains nothing. Chapter 11 uses it.
"""

from __future__ import annotations

import contextlib
import datetime
import itertools
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import distributed

_meetings = itertools.count()
_ended: list[Any] = []  # groups that were left, kept until the process ends


class RanksError(RuntimeError):
    """Processes that should work together cannot; one line, what to do included."""


@dataclass(frozen=True)
class World:
    """This process among `size` others; `attempt` counts how often the launcher has restarted."""

    rank: int
    size: int
    device: torch.device
    attempt: int = 0

    def sum(self, *numbers: float) -> list[float]:
        """The sums over all ranks, in one message.

        >>> with joined() as world:
        ...     world.sum(1.0, 2.0)
        [1.0, 2.0]
        """
        # float64, where a count of labels is exact; few devices other than CPU and CUDA have it.
        found = torch.tensor(numbers, dtype=torch.float64, device=self.device)
        distributed.all_reduce(found)
        return found.tolist()

    def everyone(self, thing: Any) -> list:
        """What each rank has given, in the order of ranks; anything that can be pickled."""
        found: list[Any] = [None] * self.size
        distributed.all_gather_object(found, thing)
        return found

    def from_first(self, thing: Any) -> Any:
        """What rank 0 has given, on every rank."""
        found = [thing]
        distributed.broadcast_object_list(found, src=0)
        return found[0]

    def together(self, problem: str = "") -> None:
        """Wait for all; raises RanksError everywhere if any rank has come with a problem."""
        found = [text for text in self.everyone(problem) if text]
        if found:
            raise RanksError(found[0])


@contextlib.contextmanager
def joined(expected: int = 0, device: str = "") -> Iterator[World]:
    """Join the processes that the launcher has started; alone without one.

    `expected` is the number of ranks that were asked for (0: any). NCCL where there is a GPU for
    each rank of this machine and `device` is not "cpu", else gloo. Raises RanksError if another
    number has come: `accelerate launch --cpu --num_processes 2` starts a single process and says
    nothing.

    >>> with joined() as world:
    ...     world.rank, world.size
    (0, 1)
    """
    place = _device(device)
    gpu = place.type == "cuda"
    if gpu:
        torch.cuda.set_device(place)
    store, rank, size, attempt = _meeting_place()
    if expected and size != expected:
        raise RanksError(
            f"{expected} ranks were asked for and {size} came: start them with "
            f"`torchrun --standalone --nproc-per-node {expected}`"
        )
    distributed.init_process_group(
        "nccl" if gpu else "gloo", store=store, rank=rank, world_size=size,
        timeout=datetime.timedelta(minutes=10),
    )  # fmt: skip
    try:
        yield World(rank, size, place, attempt)
    finally:
        # A group must not be freed here: gloo's destructor waits for its threads while it holds the
        # interpreter's lock, and one of them may need that lock to let go of the last message.
        _ended.extend(distributed.distributed_c10d._world.pg_map)
        distributed.destroy_process_group()


def _device(wanted: str) -> torch.device:
    """A GPU of its own for each rank of this machine, or none for any: they could not be mixed."""
    here, local = (
        int(os.environ.get(f"LOCAL_{w}", d)) for w, d in (("WORLD_SIZE", 1), ("RANK", 0))
    )
    enough = torch.cuda.is_available() and torch.cuda.device_count() >= here
    return torch.device("cuda", local) if enough and wanted != "cpu" else torch.device("cpu")


def _meeting_place() -> tuple[distributed.Store, int, int, int]:
    """The launcher's store, and who I am in it."""
    if "RANK" not in os.environ:
        return distributed.HashStore(), 0, 1, 0
    store, rank, size = next(distributed.rendezvous("env://"))
    attempt = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0))
    # torch 2.13 restarts ranks on the same store, where the addresses of the dead ones still lie:
    # whoever comes first calls them up, and waits. Each attempt gets pages of its own, and so does
    # a program that joins a second time.
    pages = distributed.PrefixStore(f"attempt-{attempt}-{next(_meetings)}", store)
    return pages, rank, size, attempt


def in_order(
    world: World, rows: Sequence[int], values: Sequence | np.ndarray, total: int
) -> np.ndarray:
    """The values of all ranks as one array, (total, ...), row by row; the same on every rank.

    `rows` say which rows of the evaluation set this rank's `values` belong to. A metric of the
    result is that of one process; the mean of the ranks' metrics is not, nor is one over rows that
    a sampler has repeated to give all ranks the same number. Raises RanksError for a row that is
    missing or came twice.

    >>> with joined() as world:
    ...     in_order(world, [2, 0, 1], [0.2, 0.0, 0.1], total=3).tolist()
    [0.0, 0.1, 0.2]
    """
    parts = world.everyone((np.asarray(rows, np.int64), np.asarray(values)))
    numbers = np.concatenate([part[0] for part in parts])
    counts = np.bincount(numbers, minlength=total)
    if len(counts) != total or (counts != 1).any():
        twice, missing = int((counts > 1).sum()), int((counts == 0).sum())
        beyond = f"; the highest was row {len(counts) - 1}" if len(counts) > total else ""
        raise RanksError(
            f"of {total} rows {twice} came more than once and {missing} not at all{beyond}"
        )
    # A rank without rows does not know the shape of a value.
    filled = [part[1] for part in parts if len(part[0])]
    return np.concatenate(filled)[np.argsort(numbers)] if filled else np.zeros(0)
