"""Boxes: equal to the library's, and what must hold for any of them."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.loss.loss_for_object_detection import box_iou, generalized_box_iou

from cookbook.maths.boxes import area, generalized_iou, iou, to_centres, to_corners

EDGES = st.tuples(*[st.floats(0, 10) for _ in range(2)], *[st.floats(0.01, 5) for _ in range(2)])
SETS = st.lists(EDGES, min_size=1, max_size=4)


def corners(edges):
    """(x, y, width, height) from the upper left, as corners in fp64."""
    return torch.tensor([(x, y, x + w, y + h) for x, y, w, h in edges], dtype=torch.float64)


@settings(max_examples=40, deadline=None)
@given(SETS, SETS)
def test_equal_to_the_librarys(first, second):
    first, second = corners(first), corners(second)
    torch.testing.assert_close(iou(first, second), box_iou(first, second)[0], rtol=0, atol=1e-10)
    both = generalized_iou(first, second), generalized_box_iou(first, second)
    torch.testing.assert_close(*both, rtol=0, atol=1e-10)


@settings(max_examples=40, deadline=None)
@given(SETS)
def test_a_box_is_itself_and_comes_back(edges):
    boxes = corners(edges)
    torch.testing.assert_close(iou(boxes, boxes).diagonal(), torch.ones(len(boxes)).double())
    torch.testing.assert_close(to_corners(to_centres(boxes)), boxes)


def test_by_hand():
    first, second = torch.tensor([[0.0, 0, 2, 2]]), torch.tensor([[1.0, 1, 3, 3], [2, 0, 4, 2]])
    assert area(second).tolist() == [4, 4]
    assert iou(first, second).tolist() == [[pytest.approx(1 / 7), 0]]  # they share an edge only
    # 9 around both, 7 filled; 8 around both, all of it filled
    assert generalized_iou(first, second).tolist() == [[pytest.approx(1 / 7 - 2 / 9), 0]]


def test_apart_the_generalised_one_still_has_a_gradient():
    guess = torch.tensor([[6.0, 0, 7, 1]], requires_grad=True)
    target = torch.tensor([[0.0, 0, 1, 1]])
    assert (
        torch.autograd.grad(iou(guess, target).sum(), guess, retain_graph=True)[0].abs().sum() == 0
    )
    generalized_iou(guess, target).sum().backward()
    assert guess.grad[0, 0] < 0  # further left is better
