"""New versions of a training picture: rotate, flip, crop; and mixup, which blends two.

Pictures are arrays (h, w) or (h, w, channels), 8-bit; every random function takes its own
generator, so that a picture and a seed give one result. It knows no labels: whether an edit keeps
the meaning is for the reader to judge (a mirrored b is a d, a turned 6 is a 9). Augment the
training split only. Used by chapters 09 and 14.
Sources: Krizhevsky et al. 2012, "ImageNet Classification with Deep Convolutional Neural Networks"
(flip, crop); Szegedy et al. 2015, arXiv:1409.4842 (crops of any size); Zhang et al. 2018,
arXiv:1710.09412 (mixup).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cookbook.data.errors import DataError

if TYPE_CHECKING:
    from datasets import Dataset

DEGREES = 15.0  # a hand leans this far; beyond, many digits and letters change their meaning
SHARE = 0.8  # of either side: the smallest crop


def rotate(image: np.ndarray, degrees: float, *, fill: int = 0) -> np.ndarray:
    """Turned against the clock about its middle, the size kept; `fill` where nothing was.

    Quarter turns of a square are exact, others are interpolated between the four nearest pixels.

    >>> rotate(np.array([[1, 2], [3, 4]], np.uint8), 90).tolist()
    [[2, 4], [1, 3]]
    """
    quarters, rest = divmod(degrees, 90)
    if rest == 0 and (image.shape[0] == image.shape[1] or quarters % 2 == 0):
        return np.rot90(image, int(quarters) % 4).copy()
    from PIL import Image

    color = fill if image.ndim == 2 else (fill,) * image.shape[2]
    turned = Image.fromarray(image).rotate(degrees, Image.Resampling.BILINEAR, fillcolor=color)
    return np.asarray(turned)


def flip(image: np.ndarray, *, vertical: bool = False) -> np.ndarray:
    """Mirrored, left for right, or upside down.

    >>> flip(np.array([[1, 2, 3]], np.uint8)).tolist()
    [[3, 2, 1]]
    """
    return np.flip(image, 0 if vertical else 1).copy()


def crop(image: np.ndarray, top: int, left: int, height: int, width: int) -> np.ndarray:
    """The window of `height` x `width` pixels at (`top`, `left`); ValueError if it sticks out.

    >>> crop(np.arange(9, dtype=np.uint8).reshape(3, 3), 1, 0, 2, 2).tolist()
    [[3, 4], [6, 7]]
    """
    inside = 0 <= top and 0 <= left and height > 0 and width > 0
    if not inside or top + height > image.shape[0] or left + width > image.shape[1]:
        raise ValueError(
            f"a window of {height} x {width} at ({top}, {left}) is not inside a picture of "
            f"{image.shape[0]} x {image.shape[1]}"
        )
    return image[top : top + height, left : left + width].copy()


def random_rotate(
    image: np.ndarray, rng: np.random.Generator, *, degrees: float = DEGREES, fill: int = 0
) -> np.ndarray:
    """Turned by an angle drawn evenly from -`degrees` to `degrees`."""
    return rotate(image, float(rng.uniform(-degrees, degrees)), fill=fill)


def random_flip(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Mirrored, left for right, in one half of the cases."""
    return flip(image) if rng.random() < 0.5 else image


def random_crop(image: np.ndarray, rng: np.random.Generator, *, share: float = SHARE) -> np.ndarray:
    """A window of `share` of each side or more, from anywhere, stretched to the size of the whole.

    One share is drawn for both sides, so shapes are not squeezed.
    """
    from PIL import Image

    drawn = rng.uniform(share, 1)
    height, width = (max(1, round(drawn * side)) for side in image.shape[:2])
    top, left = (int(rng.integers(0, whole - part + 1))
                 for whole, part in zip(image.shape[:2], (height, width), strict=True))  # fmt: skip
    window = Image.fromarray(crop(image, top, left, height, width))
    return np.asarray(window.resize(image.shape[1::-1], Image.Resampling.BILINEAR))


def mixup(
    images: np.ndarray,
    labels: np.ndarray,
    classes: int,
    rng: np.random.Generator,
    *,
    alpha: float = 0.2,
) -> tuple[np.ndarray, np.ndarray]:
    """Each picture blended with another of the batch, and the targets in the same measure.

    `images` (n, ...), `labels` (n,) int. Returns pictures (n, ...) float32 and targets
    (n, classes) float32: w of the own and 1 - w of the other, w drawn from Beta(alpha, alpha) for
    each row. `alpha` 0 changes nothing. Train on the targets by cross-entropy with shares.

    >>> images, labels = np.array([[0.0], [1.0]]), np.array([0, 1])
    >>> mixed, targets = mixup(images, labels, 2, np.random.default_rng(0))
    >>> bool(np.allclose(mixed[:, 0], targets[:, 1]) and np.allclose(targets.sum(1), 1))
    True
    """
    if alpha < 0:
        raise ValueError(f"alpha {alpha} must be at least 0")
    n = len(images)
    weight = rng.beta(alpha, alpha, n).astype(np.float32) if alpha else np.ones(n, np.float32)
    other, own = rng.permutation(n), np.eye(classes, dtype=np.float32)[np.asarray(labels)]
    across = weight.reshape(n, *[1] * (images.ndim - 1))
    images = images.astype(np.float32)
    mixed = across * images + (1 - across) * images[other]
    return mixed, weight[:, None] * own + (1 - weight[:, None]) * own[other]


OPERATIONS: dict[str, Callable[..., np.ndarray]] = {
    "rotate": random_rotate,
    "flip": random_flip,
    "crop": random_crop,
}


def augment_images(
    dataset: Dataset,
    *,
    operations: Sequence[str] = ("rotate", "crop"),
    copies: int = 1,
    seed: int = 0,
    fill: int = 0,
    image_column: str = "image",
) -> Dataset:
    """The dataset and, after it, `copies` edited versions of each row, an operation each.

    `fill` is the grey of the ground, 0 for black. A copy that no edit changed is left out: it would
    only be a duplicate. Rows keep their other columns. Raises DataError for an unknown operation
    or column.
    """
    from datasets import Dataset, concatenate_datasets

    if unknown := set(operations) - set(OPERATIONS):
        names = ", ".join(OPERATIONS)
        raise DataError(f"{sorted(unknown)[0]!r} is no operation: choose from {names}")
    if image_column not in dataset.column_names:
        raise DataError(
            f"there is no column {image_column!r}: the columns are "
            f"{', '.join(dataset.column_names)}"
        )
    others = dataset.remove_columns(image_column)
    parts = [dataset]
    for copy in range(copies):
        made = [
            _edit(image, operations, np.random.default_rng([seed, copy, row]), fill)
            for row, image in enumerate(dataset[image_column])
        ]
        rows = [row for row, image in enumerate(made) if image is not None]
        columns = {image_column: [made[row] for row in rows]} | others.select(rows).to_dict()
        parts.append(Dataset.from_dict(columns, features=_order(dataset.features, columns)))
    return concatenate_datasets(parts)


def _order(features: Any, columns: dict) -> Any:
    from datasets import Features

    return Features({name: features[name] for name in columns})


def _edit(image: Any, operations: Sequence[str], rng: np.random.Generator, fill: int) -> Any | None:
    """The picture after one operation, or None where that changed nothing."""
    from PIL import Image

    name = str(rng.choice(list(operations)))
    pixels = np.asarray(image)
    more = {"fill": fill} if name == "rotate" else {}
    edited = OPERATIONS[name](pixels, rng, **more)
    return None if np.array_equal(edited, pixels) else Image.fromarray(edited)
