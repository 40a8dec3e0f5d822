"""Convolution by hand: one small filter looks at every place of an image.

Does: two-dimensional convolution as networks mean it (without turning the filter), and the number
of its weights and products. Does not: stride, groups or dilation, which the library has.
Chapter 14 uses it. Source: LeCun et al. 1998, "Gradient-based learning applied to document
recognition".
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, padding: int = 0) -> Tensor:
    """x (batch, i, h, w), weight (o, i, u, v) -> (batch, o, h + 2p - u + 1, w + 2p - v + 1).

        y[o, r, c] = b[o] + sum over i, u, v of  weight[o, i, u, v] * x[i, r + u, c + v]

    `padding` puts zeros around the image. One shifted copy of the image for each weight of the
    filter: u * v products of matrices, and no loop over places. Equal to `torch`'s conv2d.

    >>> line = torch.tensor([[[[0.0, 0.0, 5.0, 5.0]]]])
    >>> convolve(line, torch.tensor([[[[-1.0, 1.0]]]])).flatten().tolist()  # finds the edge
    [0.0, 5.0, 0.0]
    """
    x = F.pad(x, (padding,) * 4)
    tall, wide = weight.shape[2:]
    height, width = x.shape[2] - tall + 1, x.shape[3] - wide + 1
    total = 0
    for u in range(tall):
        for v in range(wide):
            window = x[:, :, u : u + height, v : v + width]
            total = total + torch.einsum("oi,nirc->norc", weight[:, :, u, v], window)
    return total if bias is None else total + bias[:, None, None]


def weights(inside: int, outside: int, size: int) -> int:
    """Weights and biases of a convolution: they do not grow with the image.

    >>> weights(1, 8, 3), (8 * 8 + 1) * 8 * 8 * 8  # beside a full layer from 8 x 8 to 8 x 8 x 8
    (80, 33280)
    """
    return outside * (inside * size**2 + 1)
