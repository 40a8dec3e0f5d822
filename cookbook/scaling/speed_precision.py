"""What half precision does to a run: gradients that would vanish, weights that do not move.

It looks at gradients and takes a few steps with weights in one precision or another; the arithmetic
itself is shown in `maths.half_precision`. Chapter 10.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import nn

from cookbook.training import loop, updates
from cookbook.training.groups import hidden_matrices


class Moved(NamedTuple):
    """Share of the weights inside the layers that changed, and how far they went in all."""

    share: float
    distance: float


def gradients(model: nn.Module, batch: dict, *, precision: str = "fp32") -> torch.Tensor:
    """All gradients of the mean loss of one batch, flat, in fp32, on the CPU.

    Those of the model itself are left as they were; what gets no gradient is left out.
    """
    device = next(model.parameters()).device
    with loop.autocast(device, precision):
        loss, count = loop.summed_cross_entropy(model, loop.to_device(batch, device))
    trained = [x for x in model.parameters() if x.requires_grad]
    found = torch.autograd.grad(loss / max(count, 1), trained, allow_unused=True)
    return torch.cat([g.float().flatten().cpu() for g in found if g is not None])


def take_steps(
    model: nn.Module,
    batches: Sequence[dict],
    optimizer: Any,
    *,
    precision: str = "fp32",
    on_step: Callable[..., object] = lambda loss, batch: None,
) -> Moved:
    """Train on each batch once; how the matrices inside the layers moved.

    `optimizer` is anything with `step` and `zero_grad`, such as `half_precision.MasterWeights`.
    """
    device, names = next(model.parameters()).device, hidden_matrices(model)[0]
    before = updates.weights(model)
    model.train()
    for batch in batches:
        with loop.autocast(device, precision):
            loss, count = loop.summed_cross_entropy(model, loop.to_device(batch, device))
        loss = loss / max(count, 1)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        on_step(loss.detach(), batch=batch)
    after = updates.weights(model)
    steps = torch.cat([(after[n].double() - before[n].double()).flatten() for n in names])
    return Moved(float((steps != 0).double().mean()), float(steps.norm()))
