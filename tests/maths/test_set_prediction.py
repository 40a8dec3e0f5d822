"""DETR's loss: equal to transformers', and blind to the order of the objects."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.loss.loss_for_object_detection import HungarianMatcher, ImageLoss

from cookbook.maths.set_prediction import NOTHING, cheapest, match, matching_cost, set_loss

COSTS = st.integers(1, 4).flatmap(
    lambda objects: st.lists(
        st.lists(st.floats(-5, 5, width=32), min_size=objects, max_size=objects),
        min_size=objects, max_size=5,
    )
)  # fmt: skip


def batch(dtype=torch.float64, objects=(2, 0, 3), queries=6, classes=4, seed=0):
    """Guesses and objects: logits, boxes, labels, targets."""
    generator = torch.Generator().manual_seed(seed)
    n, most = len(objects), max(1, *objects)

    def draw(*shape):
        return torch.rand(*shape, generator=generator, dtype=dtype)

    labels = torch.full((n, most), -1)
    for row, count in enumerate(objects):
        labels[row, :count] = torch.randint(classes, (count,), generator=generator)
    boxes, targets = (0.2 + 0.4 * draw(n, size, 4) for size in (queries, most))
    return 4 * draw(n, queries, classes + 1) - 2, boxes, labels, targets


@settings(max_examples=40, deadline=None)
@given(COSTS)
def test_the_assignment_is_the_cheapest_of_all(costs):
    cost = torch.tensor(costs)
    rows, columns = match(cost)
    assert len(set(rows.tolist())) == cost.shape[1] == len(set(columns.tolist()))
    assert float(cost[rows, columns].sum()) == pytest.approx(cheapest(cost), abs=1e-4)


def test_more_objects_than_guesses_are_refused():
    with pytest.raises(ValueError, match="3 objects for 2 guesses"):
        match(torch.zeros(2, 3))


@pytest.mark.parametrize("seed", range(5))
def test_the_loss_is_transformers(seed):
    logits, boxes, labels, targets = batch(seed=seed)
    matcher = HungarianMatcher(class_cost=1, bbox_cost=5, giou_cost=2)
    theirs = ImageLoss(matcher, 4, NOTHING, ["labels", "boxes"]).double()
    theirs.empty_weight[-1] = NOTHING  # it was rounded to fp32
    truth = [
        {"class_labels": names[names >= 0], "boxes": places[names >= 0]}
        for names, places in zip(labels, targets, strict=True)
    ]
    parts = theirs({"logits": logits, "pred_boxes": boxes}, truth)
    total, ours = set_loss(logits, boxes, labels, targets)
    named = {"class": "loss_ce", "distance": "loss_bbox", "overlap": "loss_giou"}
    for name, library in named.items():
        torch.testing.assert_close(ours[name], parts[library], rtol=0, atol=1e-10)
    expected = parts["loss_ce"] + 5 * parts["loss_bbox"] + 2 * parts["loss_giou"]
    torch.testing.assert_close(total, expected, rtol=0, atol=1e-10)
    indices = matcher({"logits": logits, "pred_boxes": boxes}, truth)
    for row in (0, 2):
        here = labels[row] >= 0
        cost = matching_cost(logits[row], boxes[row], labels[row][here], targets[row][here])
        assert [index.tolist() for index in match(cost)] == [i.tolist() for i in indices[row]]


def test_the_order_of_the_objects_does_not_matter():
    logits, boxes, labels, targets = batch()
    loss = set_loss(logits, boxes, labels, targets)[0]
    swapped = set_loss(logits, boxes, labels.flip(1), targets.flip(1))[0]
    torch.testing.assert_close(loss, swapped)


def test_perfect_guesses_cost_next_to_nothing():
    _, _, labels, targets = batch(objects=(3, 3), queries=3)
    logits = 30 * torch.nn.functional.one_hot(labels, 5).double()
    loss, parts = set_loss(logits, targets, labels, targets)
    assert float(loss) < 1e-10 and float(parts["distance"]) == 0


def test_without_any_object_every_guess_learns_to_say_nothing():
    logits, boxes, labels, targets = batch(objects=(0, 0))
    boxes.requires_grad_()
    loss, parts = set_loss(logits.requires_grad_(), boxes, labels, targets)
    loss.backward()
    assert parts["distance"].item() == parts["overlap"].item() == 0
    assert (logits.grad[..., -1] < 0).all() and not boxes.grad.any()
