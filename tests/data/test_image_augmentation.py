"""Turns, mirrors, windows and blends: what is exact is exact, and nothing leaves the picture."""

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features, Image, Value
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Picture

from cookbook.data import image_augmentation as edits
from cookbook.data.errors import DataError

seeds = st.integers(0, 2**32 - 1)


def drawn(seed, *shape):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@given(seeds, st.integers(1, 9), st.sampled_from([(), (3,)]))
def test_four_quarter_turns_are_the_identity(seed, side, channels):
    image = drawn(seed, side, side, *channels)
    turned = image
    for _ in range(4):
        turned = edits.rotate(turned, 90)
    assert (turned == image).all()
    assert (edits.rotate(edits.rotate(image, 90), -90) == image).all()
    assert (edits.rotate(image, 0) == image).all()


@given(seeds, st.integers(1, 9), st.integers(1, 9))
def test_two_flips_are_the_identity_and_both_ways_make_half_a_turn(seed, height, width):
    image = drawn(seed, height, width)
    for vertical in (False, True):
        once = edits.flip(image, vertical=vertical)
        assert (edits.flip(once, vertical=vertical) == image).all()
    assert (edits.flip(edits.flip(image), vertical=True) == edits.rotate(image, 180)).all()


def test_a_turn_keeps_the_size_and_fills_the_corners():
    image = np.full((9, 9, 3), 200, np.uint8)
    turned = edits.rotate(image, 45, fill=7)
    assert turned.shape == image.shape and (turned[4, 4] == 200).all() and (turned[0, 0] == 7).all()
    wide = np.zeros((4, 8), np.uint8)
    assert edits.rotate(wide, 90).shape == wide.shape


@given(seeds, st.integers(2, 20), st.integers(2, 20), st.floats(0.3, 1))
def test_a_crop_stays_inside(seed, height, width, share):
    """Every value lies between the least and the greatest of the whole: none is invented."""
    image = drawn(seed, height, width) // 2 + 60
    made = edits.random_crop(image, np.random.default_rng(seed), share=share)
    assert made.shape == image.shape
    assert image.min() <= made.min() and made.max() <= image.max()


def test_a_window_is_cut_where_it_was_asked_for_and_never_outside():
    image = drawn(0, 6, 7)
    assert (edits.crop(image, 2, 3, 3, 4) == image[2:5, 3:7]).all()
    assert (edits.crop(image, 0, 0, 6, 7) == image).all()
    for window in [(4, 0, 3, 1), (0, 5, 1, 3), (-1, 0, 2, 2), (0, 0, 0, 2)]:
        with pytest.raises(ValueError, match="not inside a picture of 6 x 7"):
            edits.crop(image, *window)


@given(seeds, st.floats(0.05, 4))
def test_mixup_blends_pictures_and_targets_by_one_weight(seed, alpha):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, 8)
    images = np.eye(3)[labels] * 255  # a picture that is its own target
    mixed, targets = edits.mixup(images, labels, 3, np.random.default_rng(seed), alpha=alpha)
    np.testing.assert_allclose(mixed, 255 * targets, rtol=1e-5, atol=1e-3)
    np.testing.assert_allclose(targets.sum(1), 1, rtol=1e-5)
    assert targets.min() >= 0
    assert mixed.dtype == targets.dtype == np.float32


def test_mixup_at_the_ends():
    images, labels = drawn(1, 5, 4, 4), np.arange(5)
    mixed, targets = edits.mixup(images, labels, 5, np.random.default_rng(0), alpha=0)
    assert (mixed == images).all() and (targets == np.eye(5)).all()
    with pytest.raises(ValueError, match="at least 0"):
        edits.mixup(images, labels, 5, np.random.default_rng(0), alpha=-1)


def test_the_weights_of_mixup_are_those_of_beta():
    images, labels = np.zeros((4000, 1)), np.zeros(4000, int)
    images[:2000], labels[:2000] = 1, 1
    _, targets = edits.mixup(images, labels, 2, np.random.default_rng(0), alpha=1.0)
    crossed = targets[(targets > 0).all(1)]  # alpha 1: even; half meet the other class
    assert len(crossed) == pytest.approx(2000, abs=150)
    assert np.quantile(crossed[:, 0], [0.25, 0.5, 0.75]) == pytest.approx(
        [0.25, 0.5, 0.75], abs=0.05
    )


def rows():
    features = Features(label=ClassLabel(names=["a", "b"]), image=Image(), source=Value("string"))
    pictures = [Picture.fromarray(drawn(i, 8, 8)) for i in range(6)]
    pictures[5] = Picture.fromarray(np.full((8, 8), 9, np.uint8))  # no edit changes it
    made = {"label": [0, 1, 0, 1, 0, 1], "image": pictures, "source": list("uvwxyz")}
    return Dataset.from_dict(made, features=features)


def test_augmented_rows_follow_the_originals_and_keep_their_labels():
    made = edits.augment_images(rows(), operations=["flip", "crop"], copies=3, seed=1)
    assert made.features == rows().features
    for row in range(6):
        assert np.array_equal(np.asarray(made[row]["image"]), np.asarray(rows()[row]["image"]))
    known = dict(zip(rows()["source"], rows()["label"], strict=True))
    assert all(row["label"] == known[row["source"]] for row in made)
    copies = [row for row in made.select(range(6, len(made)))]
    assert 5 < len(copies) <= 15 and "z" not in {row["source"] for row in copies}
    assert all(row["image"].size == (8, 8) and row["image"].mode == "L" for row in copies)


def test_a_seed_repeats_itself_and_another_does_not():
    one, two, other = (
        [np.asarray(row["image"]).tobytes() for row in edits.augment_images(rows(), seed=seed)]
        for seed in (3, 3, 4)
    )
    assert one == two != other


@pytest.mark.parametrize(
    ("given", "words"),
    [({"operations": ["shear"]}, "'shear' is no operation: choose from rotate, flip, crop"),
     ({"image_column": "picture"}, "no column 'picture': the columns are label, image, source")],
)  # fmt: skip
def test_what_cannot_be_done_is_said(given, words):
    with pytest.raises(DataError, match=words):
        edits.augment_images(rows(), **given)
