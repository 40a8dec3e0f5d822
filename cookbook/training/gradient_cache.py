"""Gradients of a contrastive batch of any size in the memory of a small one.

The loss of a contrastive batch does not split: every row is a negative of every other. But it
sees the rows only through their vectors, which are small. So: encode the batch in chunks without a
graph; compute the loss on all vectors, and its gradient by each vector; then encode the chunks once
more, now with a graph, and send each vector's gradient back through it. By the chain rule that is
the gradient of the whole batch. It costs a second forward pass. Source: Gao, Zhang, Han and Callan
2021, "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup", arXiv:2101.06983.

One process. Layers that look at other rows of the batch (batch normalisation) see the chunk only.
Chapter 05 uses it, `benchmarks/gradient_cache.py` measures it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from cookbook.training.loop import autocast

Batch = dict[str, Tensor]
RandomState = tuple[Tensor, Tensor | None]


def backward(
    model: nn.Module,
    batch: Batch,
    loss_fn: Callable[[tuple[Tensor, ...], Batch], Tensor],
    *,
    chunk: int,
    precision: str = "fp32",
) -> Tensor:
    """Add the gradient of the whole batch to the weights, `chunk` rows at a time; return the loss.

    `model(**part)` gives one matrix or a tuple of matrices, (rows, d) each; `loss_fn(sides, batch)`
    is a scalar of the sides of the whole batch. Parameters of the loss itself (a learnt
    temperature) get their gradient too. Dropout draws the same masks in both passes, because the
    random state of each chunk is kept; afterwards it stands where one pass would have left it.
    The loss comes back without a graph.
    """
    device = next(model.parameters()).device
    parts, states, found = split(batch, chunk), [], []
    with torch.no_grad():
        for part in parts:
            states.append(random_state(device))
            with autocast(device, precision):
                found.append(_sides(model(**part)))
    sides = tuple(torch.cat(side).float().requires_grad_() for side in zip(*found, strict=True))
    loss = loss_fn(sides, batch)
    loss.backward()  # as far as the vectors
    starts = range(0, len(sides[0]), chunk)
    for part, state, start in zip(parts, states, starts, strict=True):
        set_random_state(state, device)
        with autocast(device, precision):
            again = [side.float() for side in _sides(model(**part))]
        torch.autograd.backward(again, [side.grad[start : start + chunk] for side in sides])
    return loss.detach()


def split(batch: Batch, chunk: int) -> list[Batch]:
    """The batch in parts of `chunk` rows, the last one smaller; what has no rows is in each part.

    >>> [part["x"].tolist() for part in split({"x": torch.arange(5)}, 2)]
    [[0, 1], [2, 3], [4]]
    """
    if chunk < 1:
        raise ValueError(f"chunk is {chunk}: encode at least one row at a time")
    rows = max(len(value) for value in batch.values() if _has_rows(value))
    return [
        {k: v[i : i + chunk] if _has_rows(v) else v for k, v in batch.items()}
        for i in range(0, rows, chunk)
    ]


def random_state(device: torch.device) -> RandomState:
    """Where the random numbers of this device, and of the CPU, stand."""
    cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    return torch.get_rng_state(), cuda


def set_random_state(state: RandomState, device: torch.device) -> None:
    """Go back to a state that `random_state` returned."""
    torch.set_rng_state(state[0])
    if state[1] is not None:
        torch.cuda.set_rng_state(state[1], device)


def _has_rows(value: Any) -> bool:
    return isinstance(value, Tensor) and value.dim() > 0


def _sides(found: Any) -> tuple[Tensor, ...]:
    return (found,) if isinstance(found, Tensor) else tuple(found)
