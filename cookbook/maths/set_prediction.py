"""The loss of DETR by hand: a set of guesses is compared with a set of objects, in no order.

Does: the cost of taking a guess for an object, the cheapest one-to-one assignment, and the loss
that follows. Does not: predict anything (`models.detection` does). Chapter 14 uses it.
Source: Carion et al. 2020, arXiv:2005.12872, sections 3.1 and A.2.
"""

from __future__ import annotations

from itertools import permutations

import torch
import torch.nn.functional as F
from torch import Tensor

from cookbook.maths.boxes import generalized_iou, to_corners

# How much a unit counts: probability of the class, distance of boxes (L1), generalised IoU.
CLASS, DISTANCE, OVERLAP = 1.0, 5.0, 2.0
NOTHING = 0.1  # weight of a guess that should say "nothing": most of them should


def matching_cost(logits: Tensor, boxes: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    """What it costs to take guess q for object t: (..., queries, objects).

        cost[q, t] = -p_q(label_t) + 5 |b_q - b_t|_1 - 2 GIoU(b_q, b_t)

    `logits` (..., queries, classes + 1), the last one "nothing"; `boxes` (..., queries, 4) and
    `targets` (..., objects, 4) as middle x, middle y, width, height in shares of the image;
    `labels` (..., objects).
    A probability and not its logarithm, so that all three terms are of one size.
    """
    probability = logits.softmax(-1).take_along_dim(labels[..., None, :], dim=-1)
    distance = (boxes[..., :, None, :] - targets[..., None, :, :]).abs().sum(-1)
    overlap = generalized_iou(to_corners(boxes), to_corners(targets))
    return DISTANCE * distance - CLASS * probability - OVERLAP * overlap


def match(cost: Tensor) -> tuple[Tensor, Tensor]:
    """The cheapest assignment of objects to different guesses: rows and columns, (objects,) each.

    The Hungarian algorithm as `scipy` has it. Raises ValueError for more objects than guesses.

    >>> rows, columns = match(torch.tensor([[4.0, 1.0], [2.0, 0.0], [3.0, 9.0]]))
    >>> rows.tolist(), columns.tolist()  # 1 + 2, not the greedy 0 + 3
    ([0, 1], [1, 0])
    """
    from scipy.optimize import linear_sum_assignment

    if cost.shape[0] < cost.shape[1]:
        raise ValueError(f"{cost.shape[1]} objects for {cost.shape[0]} guesses: use more queries")
    rows, columns = linear_sum_assignment(cost.detach().cpu().numpy())
    return torch.as_tensor(rows), torch.as_tensor(columns)


def cheapest(cost: Tensor) -> float:
    """The same by trying all assignments: for tests and for small sets only.

    >>> cheapest(torch.tensor([[4.0, 1.0], [2.0, 0.0], [3.0, 9.0]]))
    3.0
    """
    guesses, objects = cost.shape
    places = permutations(range(guesses), objects)
    return min(sum(float(cost[q, t]) for t, q in enumerate(chosen)) for chosen in places)


def set_loss(
    logits: Tensor, boxes: Tensor, labels: Tensor, targets: Tensor
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of a batch, and its three parts as they stand before they are weighted.

        loss = CE(class or nothing) + (5 L1 + 2 (1 - GIoU)) / objects,   over matched pairs

    `logits` (batch, queries, classes + 1), `boxes` (batch, queries, 4); `labels` (batch, most) with
    -1 where there is no further object, `targets` (batch, most, 4). The cross-entropy is a weighted
    mean over all guesses in which "nothing" counts a tenth. A swap of objects changes nothing.
    """
    nothing = logits.shape[-1] - 1
    wanted = torch.full(logits.shape[:2], nothing, device=logits.device)
    found, true = [], []
    with torch.no_grad():  # all costs at once: one by one they take longer than the network
        costs = matching_cost(logits, boxes, labels.clamp(min=0), targets).cpu()
    for row, here in enumerate(labels >= 0):
        rows, columns = (i.to(logits.device) for i in match(costs[row][:, here.cpu()]))
        wanted[row, rows] = labels[row][here][columns]
        found.append(boxes[row, rows])
        true.append(targets[row][here][columns])
    guess, truth = torch.cat(found), torch.cat(true)
    weight = torch.ones(nothing + 1, device=logits.device, dtype=logits.dtype)
    weight[nothing] = NOTHING
    objects = max(1, len(truth))
    parts = {
        "class": F.cross_entropy(logits.transpose(1, 2), wanted, weight),
        "distance": (guess - truth).abs().sum() / objects,
        "overlap": (1 - _paired(guess, truth)).sum() / objects,
    }
    total = CLASS * parts["class"] + DISTANCE * parts["distance"] + OVERLAP * parts["overlap"]
    return total, parts


def _paired(guess: Tensor, truth: Tensor) -> Tensor:
    """GIoU of row i with row i."""
    return generalized_iou(to_corners(guess)[:, None], to_corners(truth)[:, None]).flatten()
