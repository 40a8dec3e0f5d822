"""Where a token stands: sinusoidal, learned and rotary positions, by hand.

Attention treats its input as a set; these three tell it the order. Does: tables that are added to
the embeddings, and the rotation of queries and keys. Does not: relative biases (T5, ALiBi), or the
stretching of rotary frequencies to longer texts.
Used by chapter 02, and by `attention` and `language_models`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def sinusoidal(length: int, width: int, *, base: float = 10_000.0) -> Tensor:
    """(length, width) table in fp32: sines in the even columns, cosines in the odd ones.

    Columns 2i and 2i + 1 hold `sin` and `cos` of `position / base ** (2i / width)`: a clock whose
    hands turn ever more slowly, with wavelengths from 2 pi to about 2 pi * base tokens. A shift by
    n tokens turns each hand by an angle that depends on n only. Raises ValueError for an odd width.
    Source: Vaswani et al., 2017, section 3.5.

    >>> sinusoidal(2, 4)[0].tolist()
    [0.0, 1.0, 0.0, 1.0]
    """
    angles = _angles(torch.arange(length), width, base)
    return torch.stack((angles.sin(), angles.cos()), -1).flatten(-2).float()


def rotate(x: Tensor, places: Tensor | None = None, *, base: float = 10_000.0) -> Tensor:
    """Rotary positions: turn the pair of columns (i, i + d/2) by `position * base ** (-2i / d)`.

    x (..., T, d), queries or keys of one head; `places` (T,) or (..., T), by default 0, 1, 2, ...
    Lengths stay, and the product of a query at m with a key at n depends on m - n only. Pairs lie
    half a head apart, as in Llama; the paper pairs neighbours, which is the same up to the order of
    columns. Raises ValueError for an odd d. Equal to `transformers`' `apply_rotary_pos_emb`; Su et
    al., 2021, "RoFormer", arXiv:2104.09864.

    >>> x, quarter = torch.tensor([[1.0, 0.0]]), torch.tensor([torch.pi / 2])  # a right angle
    >>> rotate(x, quarter).round(decimals=3).abs().tolist()
    [[0.0, 1.0]]
    """
    if places is None:
        places = torch.arange(x.shape[-2], device=x.device)
    angles = _angles(places, x.shape[-1], base)
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    first, second = x.chunk(2, -1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), -1)


class LearnedPositions(nn.Module):
    """A row of weights for every position, added to the embeddings: BERT's and GPT-2's way.

    It knows no position beyond its last row, hence the longest text a model can read. Rows start
    normal with standard deviation 0.02. Equal to `torch.nn.Embedding` looked up at 0, 1, 2, ...

    >>> table = LearnedPositions(4, 8)
    >>> x = torch.zeros(1, 3, 8)
    >>> torch.equal(table(x)[0], table.weight[:3])
    True
    """

    def __init__(self, length: int, width: int):
        super().__init__()
        self.weight = nn.Parameter(0.02 * torch.randn(length, width))

    def forward(self, x: Tensor) -> Tensor:
        """x (..., T, width) -> the same shape. Raises ValueError when the table is too short."""
        if x.shape[-2] > len(self.weight):
            raise ValueError(
                f"{x.shape[-2]} tokens, but only {len(self.weight)} positions were learned: "
                "cut the text, or train a longer table"
            )
        return x + self.weight[: x.shape[-2]]


def _angles(places: Tensor, width: int, base: float) -> Tensor:
    """(..., width / 2) angles in radians, in fp64: fp32 loses a digit at every tenfold position."""
    if width % 2:
        raise ValueError(f"positions need columns in pairs, found a width of {width}")
    turns = torch.arange(0, width, 2, dtype=torch.float64, device=places.device) / width
    return places.double().unsqueeze(-1) * base**-turns
