"""Floating-point operations of a step: by formula for a transformer, and counted for any model.

Multiply and add are two operations; only matrix products count, which is nearly all. How many a
machine does in a second is for `timing` and `speed` to measure. Chapters 06 and 10 use it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import nn

from cookbook.scaling.calculator import shapes_only


class Operations(NamedTuple):
    """Floating-point operations of the forward and of the backward pass of one batch."""

    forward: int
    backward: int


def flops_per_token(
    parameters: int, *, layers: int, hidden: int, length: int, trained: int | None = None
) -> int:
    """Operations for each token of a training step of a transformer.

    Forward `2N + 4·layers·length·hidden`: each weight of a matrix multiplies once a token, and each
    token is compared with and mixed from `length` others. Backward the same for the gradient of
    what flows through, and again for the gradient of the weights, in `trained` of them (default:
    all; gradients are assumed to flow through every layer). `parameters` N are those of matrices in
    the layers, without embeddings. Kaplan et al. 2020 (arXiv:2001.08361, table 1), which counts
    6N + 6·layers·length·hidden for causal attention, half as much of it.

    >>> flops_per_token(100, layers=0, hidden=10, length=5)
    600
    """
    attention = 4 * layers * length * hidden
    trained = parameters if trained is None else trained
    # The two products of attention have no weights: both their backward products are "through".
    return 2 * (2 * parameters + attention) + (2 * trained + attention)


def counted(
    build: Callable[[], nn.Module],
    batch: Mapping[str, torch.Tensor],
    *,
    loss: Callable[[Any], torch.Tensor] | None = None,
) -> Operations:
    """Operations of one step of the model that `build()` makes, counted on shapes alone.

    Arguments as those of `calculator.training_memory`; a model without trained weights has no
    backward pass. Counted by torch's `FlopCounterMode`.

    >>> layer = lambda: nn.Sequential(nn.Linear(10, 20, bias=False))
    >>> counted(layer, {"input": torch.ones(3, 10)}, loss=torch.sum)
    Operations(forward=1200, backward=1200)
    """
    from torch.utils.flop_counter import FlopCounterMode

    with shapes_only(build, batch) as (model, given):
        model.train()
        with FlopCounterMode(display=False) as counter:
            out = model(**given)
            forward = counter.get_total_flops()
            value = loss(out) if loss else out["loss"]
            if value.requires_grad:
                value.backward()
        return Operations(forward, counter.get_total_flops() - forward)
