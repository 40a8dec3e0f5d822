"""How far each update moves the weights, measured around an optimizer's own `step`.

It watches and changes nothing; chapter 08 shows warm-up with it, and what a layer's rate does.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import nn

from cookbook.training.groups import layer_depths


class Update(NamedTuple):
    """One step: the rate, the root mean square of all movements, and ‖Δw‖ / ‖w‖."""

    rate: float
    size: float
    relative: float

    @property
    def per_rate(self) -> float:
        """Movement of a typical weight, in units of the rate: 1 is Adam's very first step."""
        return self.size / self.rate if self.rate else 0.0


@contextlib.contextmanager
def measured(optimizer: torch.optim.Optimizer) -> Iterator[list[Update]]:
    """Within, each `optimizer.step()` appends an `Update`. It costs a copy of the weights a step.

    The rate is that of the first group. Weight decay counts as movement. Weights whose gradient is
    exactly 0 are left out (the rows of a word table that no text of the batch names): they would
    make the typical weight stand still.

    >>> x = nn.Parameter(torch.tensor([3.0, 4.0]))
    >>> x.grad = torch.tensor([1.0, -1.0])
    >>> optimizer = torch.optim.SGD([x], lr=0.5)
    >>> with measured(optimizer) as updates:
    ...     optimizer.step()
    >>> round(updates[0].size, 4), round(updates[0].relative, 4)
    (0.5, 0.1414)
    """
    updates: list[Update] = []
    before: list[tuple[nn.Parameter, torch.Tensor, torch.Tensor]] = []

    def remember(optimizer: torch.optim.Optimizer, *_: object) -> None:
        before[:] = [
            (x, touched := x.grad != 0, x.detach()[touched])
            for group in optimizer.param_groups
            for x in group["params"]
            if x.grad is not None
        ]

    def compare(optimizer: torch.optim.Optimizer, *_: object) -> None:
        moved = sum(float((x.detach()[m] - old).float().square().sum()) for x, m, old in before)
        length = sum(float(old.float().square().sum()) for *_, old in before)
        count = sum(old.numel() for *_, old in before)
        rate = float(optimizer.param_groups[0]["lr"])
        relative = (moved / length) ** 0.5 if length else 0.0
        updates.append(Update(rate, (moved / max(1, count)) ** 0.5, relative))
        before.clear()

    hooks = optimizer.register_step_pre_hook(remember), optimizer.register_step_post_hook(compare)
    try:
        yield updates
    finally:
        for hook in hooks:
            hook.remove()


def weights(model: nn.Module) -> dict[str, torch.Tensor]:
    """A copy of every parameter by name, on the CPU."""
    return {name: x.detach().to("cpu", copy=True) for name, x in model.named_parameters()}


def distance_by_depth(model: nn.Module, before: dict[str, torch.Tensor]) -> dict[int, float]:
    """How far each layer has moved since `before`, ‖w - w₀‖ / ‖w₀‖; depth 0 is the head.

    >>> model = nn.Linear(2, 2)
    >>> distance_by_depth(model, weights(model))
    {0: 0.0}
    """
    moved: dict[int, float] = {}
    length: dict[int, float] = {}
    depths = layer_depths(model)
    for name, x in model.named_parameters():
        old, depth = before[name].float(), depths[name]
        difference = x.detach().cpu().float() - old
        moved[depth] = moved.get(depth, 0.0) + float(difference.square().sum())
        length[depth] = length.get(depth, 0.0) + float(old.square().sum())
    return {d: (moved[d] / length[d]) ** 0.5 if length[d] else 0.0 for d in sorted(moved)}
