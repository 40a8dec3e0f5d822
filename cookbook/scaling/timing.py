"""How long a run will take, from a few steps of it: `probe`, then `StepTimes.total`.

A step's time depends on how far its batch is padded, so the probe takes short, middling and long
batches, and the total sums over the batches that the run will draw. It foresees no other load on
the machine. Chapters 06 and 10 use it, and `finetuning.selection`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from cookbook.training.loop import autocast, to_device


class StepTimes(NamedTuple):
    """Seconds of one step, for batches of `sizes` elements (tokens, padding included)."""

    sizes: tuple[int, ...]
    seconds: tuple[float, ...]

    def of(self, sizes: Sequence[int] | np.ndarray) -> np.ndarray:
        """Seconds of steps of these sizes: straight lines between those measured, and beyond.

        Where only one size was measured, time is taken to be proportional to size.

        >>> StepTimes((100, 200), (1.0, 2.0)).of([100, 150, 300]).tolist()
        [1.0, 1.5, 3.0]
        """
        known, taken = np.array(self.sizes, float), np.array(self.seconds)
        asked = np.asarray(sizes, float)
        if len(known) == 1:
            return asked * taken[0] / known[0]
        found = np.interp(asked, known, taken)
        for inside, end, outside in ((1, 0, asked < known[0]), (-2, -1, asked > known[-1])):
            slope = (taken[end] - taken[inside]) / (known[end] - known[inside])
            found[outside] = taken[end] + slope * (asked[outside] - known[end])
        return np.maximum(found, 0.0)

    def total(self, sizes: Sequence[int] | np.ndarray) -> float:
        """Seconds of all steps together."""
        return float(self.of(sizes).sum())


def probe(
    step: Callable[[Mapping[str, Any]], object],
    batches: Sequence[Mapping[str, Any]],
    *,
    rounds: int = 3,
    clock: Callable[[], float] = time.perf_counter,
) -> StepTimes:
    """Time `step` on each batch, in `rounds` turns after one to warm up; medians are kept.

    The size of a batch is the number of elements of its first tensor. `clock=time.process_time`
    leaves out what other processes take on a CPU; on a GPU let `step` wait for its result.

    >>> ticks = iter(range(100))
    >>> probe(len, [{"x": torch.zeros(2, 3)}], clock=lambda: next(ticks)).seconds
    (1.0,)
    """
    order = sorted(batches, key=batch_size_of)
    step(order[-1])
    taken = np.zeros((rounds, len(order)))
    for round_ in range(rounds):
        for number, batch in enumerate(order):
            began = clock()
            step(batch)
            taken[round_, number] = clock() - began
    by_size: dict[int, list[float]] = {}
    for number, batch in enumerate(order):
        by_size.setdefault(batch_size_of(batch), []).extend(taken[:, number])
    return StepTimes(tuple(by_size), tuple(float(np.median(t)) for t in by_size.values()))


def training_step(
    model: torch.nn.Module, *, precision: str = "fp32", learning_rate: float = 1e-5
) -> Callable[[Mapping[str, Any]], None]:
    """A step as the `Trainer` takes it, for `probe`: loss, gradient, clipping, AdamW.

    It trains `model` a little: use one made for the purpose. Raises ValueError if nothing is to be
    trained.
    """
    device = next(model.parameters()).device
    trained = [p for p in model.parameters() if p.requires_grad]
    if not trained:
        raise ValueError("no weight of the model is to be trained: time forward_step instead")
    optimizer = torch.optim.AdamW(trained, lr=learning_rate, fused=True)
    model.train()

    def step(batch: Mapping[str, Any]) -> None:
        with autocast(device, precision):
            loss = model(**to_device(dict(batch), device))["loss"]
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        loss.item()  # waits for a GPU

    return step


def forward_step(
    model: torch.nn.Module, *, precision: str = "fp32"
) -> Callable[[Mapping[str, Any]], None]:
    """A forward pass without gradients, as in evaluation and for features, for `probe`."""
    device = next(model.parameters()).device

    @torch.no_grad()
    def step(batch: Mapping[str, Any]) -> None:
        model.eval()
        with autocast(device, precision):
            out = model(**to_device(dict(batch), device))
        out[next(iter(out))].float().sum().item()  # waits for a GPU

    return step


def padded_sizes(
    lengths: Sequence[int], batch_size: int, *, epochs: int = 1, seed: int | None = 0
) -> np.ndarray:
    """Elements of each batch when rows of `lengths` are padded to the longest of their batch.

    Rows are drawn anew for each epoch; with `seed=None` they go by length, as in evaluation.

    >>> padded_sizes([3, 1, 2, 5], 2, seed=None).tolist()
    [4, 10]
    """
    lengths, sizes = np.asarray(lengths), []
    generator = np.random.default_rng(seed)
    for _ in range(epochs):
        order = np.sort(lengths) if seed is None else generator.permutation(lengths)
        parts = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
        sizes += [len(part) * part.max() for part in parts]
    return np.array(sizes, dtype=np.int64)


def batch_size_of(batch: Mapping[str, Any]) -> int:
    """Elements of the first tensor of a batch: tokens, padding included."""
    return next(iter(batch.values())).numel()
