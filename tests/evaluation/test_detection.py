"""Mean average precision: equal to pycocotools on random cases, and by hand."""

import contextlib
import io

import numpy as np
import pytest
from pycocotools.coco import COCO as Annotations
from pycocotools.cocoeval import COCOeval

from cookbook.evaluation import detection
from cookbook.evaluation.detection import (
    average_precision,
    class_precisions,
    hits,
    mean_average_precision,
    overlaps,
)

CLASSES = 3


def drawn(rng):
    """A random case of three images; boxes on a coarse grid and few scores: there are ties."""
    found, truth = [], []
    for _ in range(3):
        parts = []
        for most in (6, 4):
            n = int(rng.integers(0, most + 1))
            corner, size = rng.integers(0, 4, (n, 2)), rng.integers(2, 5, (n, 2))
            boxes = np.concatenate([corner, corner + size], 1).astype(float)
            parts.append({"boxes": boxes, "labels": rng.integers(0, CLASSES, n)})
        found.append(parts[0] | {"scores": rng.integers(1, 9, len(parts[0]["labels"])) / 10})
        truth.append(parts[1])
    return found, truth


def by_pycocotools(found, truth, thresholds):
    """Its precision averaged over recalls: (thresholds, classes), nan where there is nothing."""
    boxes, answers = [], []
    for image, (guess, true) in enumerate(zip(found, truth, strict=True)):
        for box, label in zip(true["boxes"], true["labels"], strict=True):
            place = _placed(image, box, label)
            boxes.append(
                place | {"id": len(boxes) + 1, "area": place["bbox"][2] * place["bbox"][3]}
            )
        for box, label, score in zip(*map(guess.get, ("boxes", "labels", "scores")), strict=True):
            answers.append(_placed(image, box, label) | {"score": score})
    given = Annotations()
    given.dataset = {
        "images": [{"id": image} for image in range(len(truth))],
        "categories": [{"id": label} for label in range(CLASSES)],
        "annotations": boxes,
        "info": {},
    }
    given.createIndex()
    judge = COCOeval(given, given.loadRes(answers), "bbox")
    judge.params.iouThrs, judge.params.areaRng = np.array(thresholds), [[0, 1e10]]
    judge.params.areaRngLbl, judge.params.maxDets = ["all"], [100]
    judge.evaluate()
    judge.accumulate()
    precision = judge.eval["precision"][:, :, :, 0, 0]
    return np.where((precision == -1).all(1), np.nan, precision.mean(1))


def _placed(image, box, label):
    width, height = box[2:] - box[:2]
    return {"image_id": image, "category_id": int(label), "iscrowd": 0,
            "bbox": [*box[:2], width, height]}  # fmt: skip


def test_equal_to_pycocotools_on_1000_random_cases():
    rng, compared, thresholds = np.random.default_rng(0), 0, (0.5, 0.75)
    for _ in range(1000):
        found, truth = drawn(rng)
        if sum(len(one["labels"]) for one in found) and sum(len(one["labels"]) for one in truth):
            with contextlib.redirect_stdout(io.StringIO()):
                theirs = by_pycocotools(found, truth, thresholds)
            ours = [class_precisions(found, truth, CLASSES, threshold) for threshold in thresholds]
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-10)
            compared += 1
    assert compared > 950


def test_overlap_of_boxes():
    first, second = np.array([[0.0, 0, 2, 2], [5, 5, 6, 6]]), np.array([[0.0, 1, 2, 3]])
    np.testing.assert_allclose(overlaps(first, second), [[1 / 3], [0]])


def test_the_surest_chooses_first_and_an_object_is_found_once():
    overlap = np.array([[0.6, 0.9], [0.8, 0.7], [0.9, 0.0]])
    # the surest takes object 1; the next would like 0 and gets it; the last finds nothing left
    assert hits(np.array([0.5, 0.9, 0.4]), overlap[[1, 0, 2]], 0.5).tolist() == [True, True, False]
    assert not hits(np.array([0.5]), np.array([[0.49]]), 0.5).any()
    assert not hits(np.array([0.5]), np.zeros((1, 0)), 0.5).any()


def test_average_precision_by_hand():
    scores, right = np.array([0.9, 0.8, 0.7]), np.array([True, False, True])
    # to recall 1/2: 51 points at precision 1, beyond: 50 points at 2/3
    assert average_precision(scores, right, 2) == pytest.approx((51 + 50 * 2 / 3) / 101)
    assert average_precision(scores, right, 4) == pytest.approx((26 + 25 * 2 / 3) / 101)
    assert np.isnan(average_precision(scores, right, 0))
    assert average_precision(np.zeros(0), np.zeros(0, bool), 3) == 0


def test_a_guess_twice_and_a_loose_box_cost_precision():
    truth = [{"boxes": np.array([[0.0, 0, 8, 8]]), "labels": np.array([2])}]

    def score(*boxes):
        found = {"boxes": np.array(boxes), "labels": np.full(len(boxes), 2)}
        found["scores"] = np.linspace(0.9, 0.5, len(boxes))
        return mean_average_precision([found], truth, 3)

    exact, loose = [0.0, 0, 8, 8], [0.0, 0, 8, 6]
    assert score(exact) == score(exact, exact) == 1.0  # the second stands behind full recall
    assert score([20.0, 20, 28, 28], exact) == pytest.approx(0.5)
    assert score(loose) == pytest.approx(0.6)  # overlap 0.75: right at six of ten thresholds


def test_as_many_images_on_both_sides():
    with pytest.raises(ValueError, match="detections of 1 images, objects of 2"):
        class_precisions([{}], [{}, {}], 2)
    assert detection.COCO[0] == 0.5 and len(detection.COCO) == 10
