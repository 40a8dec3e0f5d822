"""Learning-rate range test: one short run whose rate climbs from far too low to far too high.

It finds the rates at which a model begins to learn and at which it breaks, and puts the model back.
It does not choose a rate for you: validation does, among few. Source: Smith 2017,
arXiv:1506.01186. Chapter 08 uses it.
"""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch

from cookbook.training import loop


class RangeTest(NamedTuple):
    """The rate and the loss of each step, and the smoothed loss, all (steps,)."""

    rates: np.ndarray
    losses: np.ndarray
    smooth: np.ndarray

    @property
    def lowest(self) -> float:
        """The rate at the lowest smoothed loss."""
        return float(self.rates[np.argmin(self.smooth)])

    @property
    def steepest(self) -> float:
        """The rate below the lowest loss at which the smoothed loss falls fastest per step."""
        edge = max(2, int(np.argmin(self.smooth)) + 1)
        slopes = np.gradient(self.smooth[:edge])
        return float(self.rates[np.argmin(slopes)])

    @property
    def breaks(self) -> float:
        """The highest rate at which the smoothed loss was not above its start (2 % are noise)."""
        start = float(np.median(self.losses[:5]))
        fine = np.flatnonzero(self.smooth <= 1.02 * start)
        return float(self.rates[fine[-1] if len(fine) else 0])

    @property
    def suggestion(self) -> float:
        """A tenth of where it breaks: a first guess for a peak, to validate around."""
        return self.breaks / 10


class _BrokeError(Exception):
    """The loss is far above its best: the test has seen enough."""


def range_test(
    model: torch.nn.Module,
    batches: Sequence[dict],
    optimizer: torch.optim.Optimizer,
    *,
    low: float = 1e-6,
    high: float = 1.0,
    steps: int = 60,
    smoothing: float = 0.8,
    stop: float = 2.0,
    clip: float = 1.0,
    precision: str = "fp32",
    loss_fn: Callable | None = None,
) -> RangeTest:
    """Train `steps` updates while the rate grows by one factor a step, from `low` to `high`.

    Ends early where the smoothed loss passes `stop` times its best, or is not finite. `batches[k]`,
    `clip`, `precision` and `loss_fn` are as in `training.loop.train`. Groups keep the ratios of
    their rates, and the first takes `low` to `high`. Weights, buffers, training flag, rates and the
    optimizer's state are afterwards as before. Raises ValueError for rates that do not climb.

    >>> from cookbook.training.order import Batches
    >>> torch.manual_seed(0).initial_seed()
    0
    >>> rows = [{"input": torch.eye(3)[i % 3], "labels": i % 3} for i in range(12)]
    >>> model = torch.nn.Linear(3, 3)
    >>> found = range_test(model, Batches(rows, 4), torch.optim.SGD(model.parameters(), lr=1.0),
    ...                    low=1e-3, high=1e3, steps=30)
    >>> 1e-3 <= found.steepest <= found.lowest <= found.breaks <= 1e3
    True
    """
    if not 0 < low < high or steps < 3:
        raise ValueError(f"rates must climb in at least 3 steps, got {low} to {high} in {steps}")
    losses: list[float] = []
    smooth: list[float] = []

    def on_step(step: int, loss: float) -> None:
        last = smooth[-1] if smooth else loss
        losses.append(loss)
        smooth.append(smoothing * last + (1 - smoothing) * loss)
        if not math.isfinite(loss) or smooth[-1] > stop * min(smooth):
            raise _BrokeError

    rates, first = np.geomspace(low, high, steps), optimizer.param_groups[0]["lr"]
    with put_back(model, optimizer), contextlib.suppress(_BrokeError):
        climb = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: rates[min(step, steps - 1)] / first
        )
        loop.train(
            model, batches, optimizer, climb, steps=steps, clip=clip, precision=precision,
            loss_fn=loss_fn, on_step=on_step,
        )  # fmt: skip
    finite = np.isfinite(smooth)
    return RangeTest(rates[: len(smooth)][finite], *(np.array(x)[finite] for x in (losses, smooth)))


@contextlib.contextmanager
def put_back(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """Afterwards, weights, buffers, training flag and the optimizer's state are as before.

    >>> model = torch.nn.Linear(2, 2)
    >>> before = model.weight.detach().clone()
    >>> with put_back(model, torch.optim.SGD(model.parameters(), lr=0.1)):
    ...     _ = torch.nn.init.zeros_(model.weight)
    >>> torch.equal(model.weight, before)
    True
    """
    weights, state = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
    training = model.training
    try:
        yield
    finally:
        model.load_state_dict(weights)
        optimizer.load_state_dict(state)
        optimizer.zero_grad()
        model.train(training)
