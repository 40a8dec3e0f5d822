"""Numbers in 8 bits, by hand: a weight matrix as integers with one scale a row.

Does: symmetric per-channel quantisation and back, its error bound, a linear map computed in
integers. Does not: fast kernels (`finetuning.quantization` uses torch's). Used by chapter 16.
"""

from __future__ import annotations

import torch
from torch import Tensor

LEVELS = 127  # of one sign: -128 is left out, so that the range is symmetric


def quantize(weight: Tensor) -> tuple[Tensor, Tensor]:
    """The nearest integers and their scales: (rows, columns) -> int8 of that shape, (rows,).

        s_r = max_c |w_rc| / 127,    q_rc = round(w_rc / s_r)

    A row of its own scale, because rows differ in size and one outlier would spend the levels of
    all. A row of zeros has scale 1. Equal to `torch.quantize_per_channel` with these scales.
    Source: Jacob et al. 2018, arXiv:1712.05877, with a symmetric range.

    >>> q, scale = quantize(torch.tensor([[1.0, -0.5], [0.0, 0.0]]))
    >>> q.tolist(), [round(float(s), 4) for s in scale]
    ([[127, -64], [0, 0]], [0.0079, 1.0])
    """
    largest = weight.abs().amax(1)
    scale = torch.where(largest > 0, largest / LEVELS, torch.ones_like(largest))
    return (weight / scale[:, None]).round().clamp(-LEVELS, LEVELS).to(torch.int8), scale


def dequantize(integers: Tensor, scale: Tensor) -> Tensor:
    """Back to real numbers, q s: off by at most half a step, s / 2, in each entry.

    >>> w = torch.tensor([[0.3, -1.2, 0.7]])
    >>> q, s = quantize(w)
    >>> bool(((dequantize(q, s) - w).abs() <= s / 2 + 1e-7).all())
    True
    """
    return integers.to(scale.dtype) * scale[:, None]


def int8_linear(x: Tensor, integers: Tensor, scale: Tensor, bias: Tensor | None = None) -> Tensor:
    """`x W^T + b` with both factors in 8 bits and the sum in 32: (..., columns) -> (..., rows).

    The activations get one scale a row at run time ("dynamic"), so the product of two integers is
    summed exactly and only scaled at the end: y = s_x s_w (q_x . q_w).
    """
    flat = x.reshape(-1, x.shape[-1])
    q, s = quantize(flat)
    exact = q.to(torch.int32) @ integers.to(torch.int32).T
    y = exact.to(x.dtype) * s[:, None] * scale
    return (y if bias is None else y + bias).reshape(*x.shape[:-1], -1)
