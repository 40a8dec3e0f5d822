"""The harness for images: pixels as they are, runs that repeat themselves, rows as read."""

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, Image
from PIL import Image as Picture

from cookbook import models
from cookbook.data import DataError
from cookbook.training import image_runs


@pytest.fixture(scope="module")
def rows():
    """40 pictures of 8 x 8: class 0 is bright above, class 1 below."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 80, (40, 8, 8), np.uint8)
    labels = [n % 2 for n in range(40)]
    for picture, label in zip(pixels, labels, strict=True):
        picture[4 * label : 4 * label + 4] += 150
    features = Features(image=Image(), label=ClassLabel(names=["up", "down"]))
    columns = {"image": [Picture.fromarray(p) for p in pixels], "label": labels}
    return Dataset.from_dict(columns, features)


def test_pixels_become_minus_one_to_one(rows):
    tensors = image_runs.picture_tensors(rows)
    assert tensors["pixel_values"].shape == (40, 1, 8, 8)
    grey = np.array(rows[3]["image"])
    expected = torch.from_numpy(grey).float() / 127.5 - 1
    torch.testing.assert_close(tensors["pixel_values"][3, 0], expected)
    assert tensors["labels"].tolist() == rows["label"]


@pytest.mark.parametrize(
    ("size", "side"), [((8, 8), 8), ((28, 28), 28), ((5, 3), 8), ((90, 60), 32), ((30, 21), 32)]
)
def test_the_side_suits_patches_and_poolings(size, side):
    picture = Dataset.from_dict({"image": [Picture.new("L", size)]}, Features(image=Image()))
    assert image_runs.side_of(picture) == side
    assert image_runs.picture_tensors(picture)["pixel_values"].shape == (1, 1, side, side)


def test_a_table_without_images_is_refused_in_one_line():
    texts = Dataset.from_dict({"text": ["a"], "label": [0]})
    for function in (image_runs.picture_tensors, image_runs.side_of):
        with pytest.raises(DataError, match="the columns are text, label; name theirs with image"):
            function(texts)


def test_a_run_learns_repeats_itself_and_depends_on_its_seed(rows):
    tensors = image_runs.picture_tensors(rows)

    def run(seed):
        model = models.build("cnn", image_size=8, classes=2, seed=0)
        curve = image_runs.fit(
            model, tensors, steps=25, batch_size=8, learning_rate=1e-2, seed=seed
        )
        return model, [loss for _, loss in curve]

    (model, first), (_, again), (_, other) = run(0), run(0), run(1)
    assert first == again and first != other
    assert image_runs.right(model, tensors).mean() > 0.9


def test_what_is_frozen_stays(rows):
    model = models.build("cnn", image_size=8, classes=2)
    models.freeze(model.features)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    image_runs.fit(model, image_runs.picture_tensors(rows), steps=3, batch_size=64)
    moved = {name for name, weight in model.state_dict().items() if not weight.equal(before[name])}
    assert moved and all(name.startswith("head") for name in moved)


def test_logits_do_not_depend_on_the_batch_nor_on_dropout(rows):
    tensors = image_runs.picture_tensors(rows)
    model = models.build("cnn", image_size=8, classes=2, dropout=0.5).train()
    whole, parts = (image_runs.logits(model, tensors, batch_size=n) for n in (256, 7))
    torch.testing.assert_close(whole, parts)
    assert model.training and whole.shape == (40, 2)


def test_a_reader_of_training_rows_draws_anew_and_one_of_evaluation_rows_does_not(rows):
    steady = rows.with_transform(image_runs.reader(8))
    whole = image_runs.picture_tensors(rows)
    torch.testing.assert_close(steady[5]["pixel_values"], whole["pixel_values"][5])
    assert torch.equal(steady[5]["pixel_values"], steady[5]["pixel_values"])
    assert int(steady[5]["labels"]) == rows[5]["label"]
    drawn = rows.with_transform(image_runs.reader(8, operations=("rotate", "crop")))
    assert not torch.equal(drawn[5]["pixel_values"], drawn[5]["pixel_values"])
    assert drawn[5]["pixel_values"].shape == (1, 8, 8)


def test_tensors_of_different_length_are_refused():
    with pytest.raises(ValueError, match="differ in their number of rows"):
        image_runs.Rows({"a": torch.zeros(2), "b": torch.zeros(3)})


def test_few_rows_are_spread_over_the_classes(rows):
    some = image_runs.few(image_runs.picture_tensors(rows), 10, seed=1)
    assert some["labels"].bincount().tolist() == [5, 5] and some["pixel_values"].shape[0] == 10


@pytest.mark.parametrize("name", ["cnn", "vit", "resnet"])
def test_all_but_the_last_layer_is_carried_over(name):
    trained, model = models.build(name, classes=5, seed=1), models.build(name, classes=2, seed=2)
    image_runs.carry_over(model, trained, freeze=True)
    same = {n for n, w in model.state_dict().items() if w.equal(trained.state_dict().get(n, w + 1))}
    assert len(set(model.state_dict()) - same) == 2
    learning = [weight for weight in model.parameters() if weight.requires_grad]
    assert [weight.shape[0] for weight in learning] == [2, 2]
    equal = models.build(name, classes=5, seed=2)  # of the same shape, and still a new last layer
    image_runs.carry_over(equal, trained)
    ours, theirs = (list(net.parameters())[-2] for net in (equal, trained))
    assert not ours.equal(theirs) and all(weight.requires_grad for weight in equal.parameters())
