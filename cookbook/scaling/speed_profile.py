"""Where the time of a training step goes: data, forward, backward, optimizer; and which operators.

`profile_step` runs a few steps under torch.profiler, with the four parts marked, and adds up what
the profiler saw in each. It changes no setting (`autotune` does), and since profiling itself costs
time, shares are to be read and not seconds. Chapter 10.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch

from cookbook.training.loop import autocast, to_device

PARTS = ("data", "forward", "backward", "optimizer")


@dataclass(frozen=True)
class Profile:
    """Seconds of `steps` steps by part, and by operator within each part."""

    steps: int
    seconds: dict[str, float]
    operators: dict[str, dict[str, float]] = field(repr=False)

    @property
    def shares(self) -> dict[str, float]:
        """Each part's share of the whole.

        >>> Profile(1, {"data": 1.0, "forward": 3.0}, {}).shares
        {'data': 0.25, 'forward': 0.75}
        """
        whole = sum(self.seconds.values())
        return {part: taken / whole for part, taken in self.seconds.items()}

    def top(self, count: int = 3) -> list[dict[str, Any]]:
        """The `count` most expensive operators of each part, as rows of a table.

        >>> found = Profile(1, {"data": 2.0}, {"data": {"aten::sort": 1.5, "aten::add": 0.5}})
        >>> found.top(1)
        [{'part': 'data', 'operator': 'aten::sort', 'seconds': 1.5, 'share': 0.75}]
        """
        whole = sum(self.seconds.values())
        return [
            {"part": part, "operator": name, "seconds": taken, "share": taken / whole}
            for part, found in self.operators.items()
            for name, taken in sorted(found.items(), key=lambda item: -item[1])[:count]
        ]


def profile_step(
    model: torch.nn.Module,
    batches: Iterable[dict],
    *,
    optimizer: torch.optim.Optimizer | None = None,
    loss_of: Callable[[torch.nn.Module, dict], torch.Tensor] | None = None,
    precision: str = "fp32",
    steps: int = 3,
    warmup: int = 1,
) -> Profile:
    """Profile `steps` training steps of `model`, after `warmup` steps that are not looked at.

    `batches` is anything that yields batches (at least `warmup + steps`): what it takes to make
    one is the part "data", with the way to the device. `loss_of(model, batch)` is the loss
    (default: the model's own), `optimizer` defaults to fused AdamW; clipping counts as optimizer.
    The model is trained by these steps, so profile one that you can spare. An operator's seconds
    are its own, without those it calls; on a GPU they are the GPU's. Raises ValueError where the
    batches run out.
    """
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # or the profiler says that it starts and stops
    device = next(model.parameters()).device
    optimizer = optimizer or torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
    source, cuda = iter(batches), device.type == "cuda"
    kinds = [torch.profiler.ProfilerActivity.CPU]
    kinds += [torch.profiler.ProfilerActivity.CUDA] if cuda else []
    step = _Step(model, optimizer, loss_of or (lambda m, b: m(**b)["loss"]), precision, device)
    model.train()
    for _ in range(warmup):
        step(source)
    with torch.profiler.profile(activities=kinds) as profiler:
        for _ in range(steps):
            step(source)
    return _summed(profiler.events(), steps, cuda)


class _Step:
    """One training step whose parts carry their names."""

    def __init__(self, model: Any, optimizer: Any, loss_of: Callable, precision: str, device: Any):
        self.model, self.optimizer, self.loss_of = model, optimizer, loss_of
        self.precision, self.device = precision, device

    def __call__(self, source: Any) -> None:
        with self._part("data"):
            batch = next(source, None)
            if batch is None:
                raise ValueError("the batches ran out: give as many as warmup and steps together")
            batch = to_device(dict(batch), self.device)
        with self._part("forward"), autocast(self.device, self.precision):
            loss = self.loss_of(self.model, batch)
        with self._part("backward"):
            loss.backward()
        with self._part("optimizer"):
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimizer.step()
            self.optimizer.zero_grad()

    def _part(self, name: str) -> Any:
        if self.device.type == "cuda":
            torch.cuda.synchronize()  # what the part before has queued belongs to it
        return torch.profiler.record_function(f"part:{name}")


def _summed(events: Any, steps: int, cuda: bool) -> Profile:
    """Add events up by the part in whose time they began."""
    spans = sorted(
        (e.time_range.start, e.time_range.end, e.name.removeprefix("part:"))
        for e in events if e.name.startswith("part:") and e.device_type.name == "CPU"
    )  # fmt: skip
    seconds = dict.fromkeys(PARTS, 0.0)
    operators: dict[str, dict[str, float]] = {part: {} for part in PARTS}
    for (start, end, part), following in itertools.zip_longest(spans, spans[1:]):
        # On a GPU a part ends where the next begins: there it was waited for.
        seconds[part] += ((following[0] if cuda and following else end) - start) / 1e6
    starts = [start for start, _, _ in spans]
    for event in events:
        if event.name.startswith("aten::"):
            place = _last_before(starts, event.time_range.start)
            if place is not None and event.time_range.start <= spans[place][1]:
                part, own = spans[place][2], _own(event, cuda) / 1e6
                operators[part][event.name] = operators[part].get(event.name, 0.0) + own
    return Profile(steps, seconds, operators)


def _own(event: Any, cuda: bool) -> float:
    """Microseconds of an operator without those of the operators that it calls."""
    return event.self_device_time_total if cuda else event.self_cpu_time_total


def _last_before(starts: list[float], time: float) -> int | None:
    import bisect

    place = bisect.bisect_right(starts, time) - 1
    return place if place >= 0 else None
