"""Boxes by hand: corners and centres, overlap (IoU) and its generalised form.

Does: convert and compare boxes, every one of one set with every one of another. Does not: match
them (`set_prediction` does) nor score detections (`evaluation.detection`). Chapter 14 uses it.
Sources: Rezatofighi et al. 2019, arXiv:1902.09630 (generalised IoU).
"""

from __future__ import annotations

import torch
from torch import Tensor


def to_corners(boxes: Tensor) -> Tensor:
    """(..., 4) middle x, middle y, width, height -> x0, y0, x1, y1.

    >>> to_corners(torch.tensor([2.0, 3.0, 4.0, 2.0])).tolist()
    [0.0, 2.0, 4.0, 4.0]
    """
    middle, size = boxes[..., :2], boxes[..., 2:]
    return torch.cat((middle - size / 2, middle + size / 2), dim=-1)


def to_centres(boxes: Tensor) -> Tensor:
    """(..., 4) x0, y0, x1, y1 -> middle x, middle y, width, height; undoes `to_corners`.

    >>> to_centres(torch.tensor([0.0, 2.0, 4.0, 4.0])).tolist()
    [2.0, 3.0, 4.0, 2.0]
    """
    first, last = boxes[..., :2], boxes[..., 2:]
    return torch.cat(((first + last) / 2, last - first), dim=-1)


def area(boxes: Tensor) -> Tensor:
    """(..., 4) corners -> (...)."""
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def iou(first: Tensor, second: Tensor) -> Tensor:
    """Intersection over union of every pair, corners (..., n, 4), (..., m, 4) -> (..., n, m).

        IoU(A, B) = |A ∩ B| / |A ∪ B|

    >>> iou(torch.tensor([[0.0, 0, 2, 2]]), torch.tensor([[1.0, 0, 3, 2], [5, 5, 6, 6]]))
    tensor([[0.3333, 0.0000]])
    """
    return _overlap(first, second)[0]


def generalized_iou(first: Tensor, second: Tensor) -> Tensor:
    """IoU less the share of the smallest box around both that neither fills: (n, m), -1 to 1.

        GIoU(A, B) = IoU(A, B) - (|C| - |A ∪ B|) / |C|,   C the smallest box around A and B

    Boxes that do not touch have an IoU of 0 however far apart they are, and so no gradient; this
    one falls with the distance.

    >>> generalized_iou(torch.tensor([[0.0, 0, 1, 1]]), torch.tensor([[3.0, 0, 4, 1]]))
    tensor([[-0.5000]])
    """
    overlap, union = _overlap(first, second)
    first, second = first[..., :, None, :], second[..., None, :, :]
    low = torch.minimum(first[..., :2], second[..., :2])
    high = torch.maximum(first[..., 2:], second[..., 2:])
    around = (high - low).prod(-1)
    return overlap - (around - union) / around


def _overlap(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    first, second = first[..., :, None, :], second[..., None, :, :]
    low = torch.maximum(first[..., :2], second[..., :2])
    high = torch.minimum(first[..., 2:], second[..., 2:])
    shared = (high - low).clamp(min=0).prod(-1)
    union = area(first) + area(second) - shared
    return shared / union, union
