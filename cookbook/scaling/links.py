"""What lies between the devices: its bandwidth and latency, measured or looked up.

`measured` times all-reduces of growing size between the ranks that are there; `fitted` reads the
two numbers off. `KINDS` are nominal figures of links that one can rent. `devices.plan` computes
with them. Chapter 11 uses it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import distributed

from cookbook.scaling.world import World


class Link(NamedTuple):
    """Bytes a second of each device in one direction, and seconds of one message."""

    bandwidth: float
    latency: float


# Nominal, in one direction: Ethernet and InfiniBand by their names in bits a second, PCIe by its
# standard (16 lanes of 16 GT/s), NVLink 4 from the data sheet of the H100 (900 GB/s both ways).
KINDS = {
    "Ethernet 10 Gbit/s": Link(10e9 / 8, 50e-6),
    "PCIe 4 x16": Link(16 * 16e9 / 8, 10e-6),
    "InfiniBand NDR": Link(400e9 / 8, 5e-6),
    "NVLink 4": Link(900e9 / 2, 5e-6),
}


def ring_seconds(size: float, ranks: int, link: Link) -> float:
    """Seconds of an all-reduce of `size` bytes on a ring: 2 (n-1) (size / n / bandwidth + latency).

    >>> round(ring_seconds(1e9, 4, Link(1e9, 0.0)), 3)
    1.5
    """
    return 2 * (ranks - 1) * (size / ranks / link.bandwidth + link.latency)


def fitted(sizes: Sequence[float], seconds: Sequence[float], ranks: int) -> Link:
    """Bandwidth and latency for which `ring_seconds` comes closest, in relative terms.

    >>> link = Link(2e9, 1e-4)
    >>> sizes = [1e3, 1e6, 1e8]
    >>> found = fitted(sizes, [ring_seconds(s, 2, link) for s in sizes], 2)
    >>> round(found.bandwidth / 1e9, 6), round(found.latency * 1e4, 6)
    (2.0, 1.0)
    """
    turns, taken = 2 * (ranks - 1), np.asarray(seconds, float)
    terms = np.stack([turns / ranks * np.asarray(sizes, float), np.full(len(taken), turns)], 1)
    # Divided by what was measured: else only the largest size would count.
    slope, latency = np.linalg.lstsq(terms / taken[:, None], np.ones(len(taken)), rcond=None)[0]
    return Link(float(1 / max(slope, 1e-15)), float(max(latency, 0.0)))


def measured(
    world: World,
    sizes: Sequence[int] = (4_000, 400_000, 4_000_000, 20_000_000),
    *,
    rounds: int = 7,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[list[float], Link]:
    """Least seconds of an all-reduce of each of `sizes` bytes, and the link that explains them.

    The least of `rounds`, because whatever else runs on the machine only adds. All ranks call it.
    Raises ValueError for one rank, which sends nothing.
    """
    if world.size < 2:
        raise ValueError("one rank sends nothing: measure a link with at least two")
    least = []
    for size in sizes:
        values, times = torch.zeros(size // 4, device=world.device), []
        for _ in range(rounds):
            distributed.barrier()
            began = clock()
            distributed.all_reduce(values)
            values.sum().item()  # waits for a GPU
            times.append(clock() - began)
        least.append(min(times))
    return least, fitted(sizes, least, world.size)
