"""Mean average precision of detections by hand, as COCO counts it.

Does: overlap of boxes, which detection is right, average precision of a class over a threshold of
overlap, and the mean. Does not: crowds, areas and limits of COCO, of which these data have none.
Equal to `pycocotools`. Chapter 14 uses it.
Sources: Everingham et al. 2010, "The PASCAL visual object classes challenge"; Lin et al. 2014,
arXiv:1405.0312.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

COCO = tuple(np.linspace(0.5, 0.95, 10).tolist())
RECALLS = np.linspace(0, 1, 101)
Boxes = Mapping[str, Any]


def overlaps(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Intersection over union of every pair of boxes, corners (n, 4) and (m, 4) -> (n, m).

    >>> overlaps(np.array([[0.0, 0, 2, 2]]), np.array([[1.0, 0, 3, 2]])).round(3)
    array([[0.333]])
    """
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(-1)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(-1) for boxes in (first, second)]
    return shared / (areas[0][:, None] + areas[1][None] - shared)


def hits(scores: np.ndarray, overlap: np.ndarray, threshold: float) -> np.ndarray:
    """Whether each detection of one class in one image is right: (detections,) bool.

    The surest chooses first, the object that it overlaps most of those that are left; an overlap
    of less than `threshold` is none. So of two detections of one object, one is wrong.

    >>> hits(np.array([0.9, 0.8]), np.array([[0.7], [0.9]]), 0.5).tolist()
    [True, False]
    """
    right = np.zeros(len(scores), bool)
    free = np.ones(overlap.shape[1], bool)
    for place in np.argsort(-scores, kind="stable"):
        left = np.where(free, overlap[place], -1.0)
        # the last of equals, as pycocotools has it
        best = left.size - 1 - int(left[::-1].argmax()) if left.size else -1
        if best >= 0 and left[best] >= min(threshold, 1 - 1e-10):
            right[place], free[best] = True, False
    return right


def average_precision(scores: np.ndarray, right: np.ndarray, objects: int) -> float:
    """The mean over 101 recalls of the best precision that is reached at that recall or more.

    `scores` (n,) and `right` (n,) of all images in turn, `objects` how many there are to be found;
    nan where there is none.

    >>> round(average_precision(np.array([0.9, 0.8, 0.7]), np.array([True, False, True]), 2), 3)
    0.835
    """
    if not objects:
        return float("nan")
    found = np.cumsum(np.asarray(right)[np.argsort(-np.asarray(scores), kind="stable")])
    precision = found / np.arange(1, len(found) + 1)
    best = np.maximum.accumulate(precision[::-1])[::-1]  # never lower further to the left
    first = np.searchsorted(found / objects, RECALLS, side="left")
    return float(np.append(best, 0.0)[np.minimum(first, len(best))].mean())


def class_precisions(
    found: Sequence[Boxes], truth: Sequence[Boxes], classes: int, threshold: float = 0.5
) -> np.ndarray:
    """Average precision of each class, (classes,); nan for a class that is nowhere in `truth`.

    `found[i]` holds `boxes` (n, 4) corners, `labels` and `scores` (n,) of image i, `truth[i]` its
    `boxes` and `labels`. Raises ValueError unless there are as many images in both.
    """
    if len(found) != len(truth):
        raise ValueError(f"detections of {len(found)} images, objects of {len(truth)}")
    precisions = np.full(classes, np.nan)
    for label in range(classes):
        scores, right, objects = [], [], 0
        for guess, true in zip(found, truth, strict=True):
            mine = np.asarray(guess["labels"]) == label
            here = np.asarray(true["boxes"])[np.asarray(true["labels"]) == label]
            sure = np.asarray(guess["scores"])[mine]
            overlap = overlaps(np.asarray(guess["boxes"])[mine], here)
            order = np.argsort(-sure, kind="stable")  # ties between images stay in this order
            scores.append(sure[order])
            right.append(hits(sure, overlap, threshold)[order])
            objects += len(here)
        precisions[label] = average_precision(
            np.concatenate(scores), np.concatenate(right), objects
        )
    return precisions


def mean_average_precision(
    found: Sequence[Boxes],
    truth: Sequence[Boxes],
    classes: int,
    thresholds: Sequence[float] = COCO,
) -> float:
    """The mean over classes that occur and over thresholds; COCO's ten unless told otherwise.

    >>> one = {"boxes": np.array([[0.0, 0, 4, 4]]), "labels": np.array([1])}
    >>> mean_average_precision([one | {"scores": np.array([0.5])}], [one], 3)
    1.0
    """
    each = [class_precisions(found, truth, classes, threshold) for threshold in thresholds]
    return float(np.nanmean(each))
