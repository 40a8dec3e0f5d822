"""What a network for images looks at: maps of its features, and attention followed through layers.

Does: catch the output of a layer, multiply attention through all layers (rollout), and turn either
into 8-bit pictures. Does not: draw (`image_plots` does) nor prove that what is looked at mattered;
chapter 12 tests such claims by deletion. Chapter 14 uses it.
Sources: Zeiler and Fergus 2014, arXiv:1311.2901 (feature maps); Abnar and Zuidema 2020,
arXiv:2005.00928 (rollout).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn


def feature_maps(model: nn.Module, layer: nn.Module, pixel_values: Tensor) -> Tensor:
    """The output of `layer` for images (batch, channels, h, w), such as (batch, filters, h', w').

    The model is left as it was, in the mode that it was in. Raises ValueError for a layer that the
    images do not pass.

    >>> first = nn.Conv2d(1, 4, 3, padding=1)
    >>> tuple(feature_maps(nn.Sequential(first, nn.ReLU()), first, torch.zeros(2, 1, 8, 8)).shape)
    (2, 4, 8, 8)
    """
    caught: list[Tensor] = []
    hook = layer.register_forward_hook(lambda _, __, output: caught.append(output))
    training = [module for module in model.modules() if module.training]
    try:
        model.eval()
        with torch.no_grad():
            model(pixel_values)
    finally:
        hook.remove()
        for module in training:
            module.training = True
    if not caught:
        raise ValueError(f"the images do not pass this {type(layer).__name__}")
    return caught[-1]


def attention_rollout(attentions: Sequence[Tensor]) -> Tensor:
    """How much of each input token is in each one of the last layer: (batch, n, n), rows sum to 1.

        R = Ā_L ··· Ā_2 Ā_1,    Ā = (mean over heads of A + I) / 2

    `attentions` holds (batch, heads, n, n) for each layer, first layer first. The identity stands
    for the residual connection. It treats the network as if it only averaged: what the values and
    the feed-forward layers do is left out.

    >>> even = torch.full((1, 2, 2, 2), 0.5)
    >>> attention_rollout([even, even])[0, 0].tolist()
    [0.625, 0.375]
    """
    result = None
    for layer in attentions:
        own = torch.eye(layer.shape[-1], dtype=layer.dtype, device=layer.device)
        mixed = (layer.mean(1) + own) / 2
        result = mixed if result is None else mixed @ result
    if result is None:
        raise ValueError("no attention came back: load the model with attention written out, eager")
    return result


def patch_map(shares: np.ndarray, side: int) -> np.ndarray:
    """Shares of patches (n,), row by row, as a square picture (side, side) uint8; the largest 255.

    >>> patch_map(np.array([0.0, 0.1, 0.2, 0.1]), 4)[0].tolist()
    [0, 0, 127, 127]
    """
    grid = round(len(shares) ** 0.5)
    return np.kron(to_8_bits(shares.reshape(grid, grid)), np.ones((side // grid,) * 2, np.uint8))


def to_8_bits(values: np.ndarray) -> np.ndarray:
    """Numbers as shades, the least 0 and the greatest 255; all 0 where there is no difference.

    >>> to_8_bits(np.array([-1.0, 0.0, 1.0])).tolist()
    [0, 127, 255]
    """
    spread = values.max() - values.min()
    scaled = (values - values.min()) / spread if spread > 0 else np.zeros_like(values)
    return (255 * scaled).astype(np.uint8)


def tinted(picture: np.ndarray, shades: np.ndarray) -> np.ndarray:
    """A grey picture (h, w) with `shades` (h, w) laid over it in red: (h, w, 3) uint8.

    >>> tinted(np.full((1, 1), 100, np.uint8), np.full((1, 1), 255, np.uint8)).tolist()
    [[[177, 50, 50]]]
    """
    share = 0.5 * shades[..., None].astype(np.float32) / 255
    red = np.array([255.0, 0.0, 0.0], np.float32)
    return (picture[..., None] * (1 - share) + share * red).astype(np.uint8)
