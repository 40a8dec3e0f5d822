"""One layer on several ranks: each holds some columns of the first matrix, some rows of the second.

With A = [A₁ A₂] by columns and B = [B₁; B₂] by rows, GeLU(xA)B = GeLU(xA₁)B₁ + GeLU(xA₂)B₂: nothing
is sent until the sum, once a layer forward and once backward. By hand (`feed_forward`) and by the
library (`cut`), which also gives each rank some of the heads. Shoeybi et al. 2019, Megatron-LM
(arXiv:1909.08053). Chapter 11 shows it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed, nn


class _Copy(torch.autograd.Function):
    """Forward nothing, backward the sum over ranks: x goes into every rank's columns."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        gradient = gradient.contiguous().clone()
        distributed.all_reduce(gradient)
        return gradient


class _Sum(torch.autograd.Function):
    """Forward the sum over ranks, backward nothing: every rank's summand counts once."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.contiguous().clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient


def feed_forward(x: Tensor, up: nn.Linear, down: nn.Linear, rank: int, ranks: int) -> Tensor:
    """GeLU(x Aᵀ + a) Bᵀ + b, (..., width) both ways, of which this rank computes a share.

    Equal to `down(gelu(up(x)))` in value and in the gradient of x; the gradient of this rank's rows
    of `up` and columns of `down` stays on this rank. The hidden width must be divisible by `ranks`.
    """
    a, bias = up.weight.chunk(ranks)[rank], up.bias.chunk(ranks)[rank]
    b = down.weight.chunk(ranks, dim=1)[rank]
    hidden = nn.functional.gelu(_Copy.apply(x) @ a.T + bias)
    return _Sum.apply(hidden @ b.T) + down.bias  # the bias once, not once for each rank


def cut(model: nn.Module, ranks: int, device: str = "cpu") -> nn.Module:
    """Spread the blocks of a `SmallLM` over `ranks`, in place, by torch's DTensor; returned.

    Queries, keys, values and `up` by columns, so that a rank has whole heads; `out` and `down` by
    rows. Embeddings and norms stay whole on every rank. Raises ValueError if heads do not divide.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor.parallel import (
        ColwiseParallel,
        RowwiseParallel,
        parallelize_module,
    )

    for block in model.blocks:
        heads = block.query.out_features // block.head
        if heads % ranks:
            raise ValueError(f"{heads} heads cannot be dealt to {ranks} ranks")
    mesh = init_device_mesh(device, (ranks,))
    for block in model.blocks:
        columns = {name: ColwiseParallel() for name in ("query", "key", "value", "up")}
        rows = {name: RowwiseParallel() for name in ("out", "down")}
        parallelize_module(block, mesh, columns | rows)
    return model
