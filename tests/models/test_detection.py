"""A set predictor: shapes, the loss it gives, and that a few scenes can be learned by heart."""

import pytest
import torch

from cookbook.maths.set_prediction import set_loss
from cookbook.models.detection import SetPredictor, detections
from cookbook.models.outputs import Output


def few_scenes():
    """Four images with one or two bright squares, and what they hold."""
    pixels, labels = -torch.ones(4, 1, 32, 32), torch.full((4, 2), -1)
    boxes = torch.zeros(4, 2, 4)
    for row, (x, y) in enumerate([(2, 3), (18, 4), (5, 20), (20, 18)]):
        pixels[row, :, y : y + 8, x : x + 8] = 1.0
        labels[row, 0], boxes[row, 0] = row % 2, torch.tensor([x + 4, y + 4, 8, 8]) / 32
    pixels[0, :, 20:30, 20:26] = 0.3
    labels[0, 1], boxes[0, 1] = 2, torch.tensor([23, 25, 6, 10]) / 32
    return {"pixel_values": pixels, "labels": labels, "boxes": boxes}


def test_an_untrained_guess_stands_in_the_middle_of_its_place():
    torch.manual_seed(0)
    model = SetPredictor(3, width=16)
    torch.nn.init.zeros_(model.box.weight)
    torch.nn.init.zeros_(model.box.bias)
    boxes = model(torch.zeros(1, 1, 32, 32)).extra["boxes"][0]
    torch.testing.assert_close(boxes[:5, :2] * 4, torch.tensor(
        [[0.5, 0.5], [1.5, 0.5], [2.5, 0.5], [3.5, 0.5], [0.5, 1.5]]))  # fmt: skip
    torch.testing.assert_close(boxes[:, 2:], torch.full((16, 2), 1 / 3))


def test_a_few_scenes_are_learned_by_heart():
    torch.manual_seed(0)
    model, batch = SetPredictor(3, width=32, layers=1), few_scenes()
    optimizer = torch.optim.Adam(model.parameters(), 4e-3)
    losses = []
    for _ in range(100):
        optimizer.zero_grad()
        losses.append(model(**batch).loss)
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < 0.2 * losses[0]
    found = detections(model.eval()(batch["pixel_values"]), 32)
    surest = [int(one["scores"].argmax()) for one in found]
    assert [int(one["labels"][i]) for one, i in zip(found, surest, strict=True)][1:] == [1, 0, 1]
    box = torch.tensor([20.0, 18, 28, 26])
    torch.testing.assert_close(found[3]["boxes"][surest[3]], box, rtol=0, atol=2)


def test_the_loss_is_that_of_the_set():
    torch.manual_seed(0)
    model, batch = SetPredictor(3, width=16), few_scenes()
    output = model(**batch)
    loss, _ = set_loss(output.logits, output.extra["boxes"], batch["labels"], batch["boxes"])
    assert torch.equal(output.loss, loss) and model(batch["pixel_values"]).loss is None


def test_detections_are_corners_in_pixels_and_the_likeliest_class():
    logits = torch.tensor([[[2.0, 0.0, 5.0], [0.0, 9.0, 0.0]]])
    output = Output(None, logits, {"boxes": torch.tensor([[[0.5, 0.5, 0.5, 0.25]] * 2])})
    (found,) = detections(output, 32)
    assert found["labels"].tolist() == [0, 1]  # "nothing" is likelier, but is no class
    assert found["boxes"][0].tolist() == [8, 12, 24, 20]
    torch.testing.assert_close(found["scores"], logits[0].softmax(-1)[[0, 1], [0, 1]])
    assert detections(output, 32, least=0.5)[0]["labels"].tolist() == [1]


def test_an_image_that_places_do_not_fill_is_refused():
    with pytest.raises(ValueError, match="30 pixels"):
        SetPredictor(3, image_size=30)
