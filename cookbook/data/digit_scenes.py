"""Scenes composed of real pictures, whose boxes are known exactly, and questions about them.

Does: paste small pictures (handwritten digits, say) onto a dark ground, so that no two overlap, and
ask in words where what stands, with the true answer. Does not: read data, nor encode words
(`template_words` does). Take training scenes from training pictures and test scenes from test
pictures: then no picture of the one is in the other. Chapter 14 uses it.
Sources: the idea of questions that are answered by construction is that of CLEVR, Johnson et al.
2017, arXiv:1612.06890; digits on a canvas are as old as Eslami et al. 2016, arXiv:1603.08575.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

NUMBERS = ("none", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
KINDS = ("left", "above", "there", "count", "leftmost")
TRIES = 100  # places that are tried for a picture before it is left out


class Scene(NamedTuple):
    """`image` (side, side) uint8; `boxes` (n, 4) float32, x0 y0 x1 y1 in pixels; `labels` (n,).

    A box goes from the left edge of the leftmost pixel with ink to the right edge of the rightmost
    one, and so down: its area is a number of whole pixels. Objects are in the order of x0, then y0.
    """

    image: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray


class Question(NamedTuple):
    """`kind` of KINDS, `text` in words separated by spaces, `answer` one word."""

    kind: str
    text: str
    answer: str


def compose(
    pictures: np.ndarray,
    labels: np.ndarray,
    rng: np.random.Generator,
    *,
    side: int = 32,
    count: tuple[int, int] = (1, 4),
    sizes: tuple[int, int] = (8, 12),
    cell: int = 0,
    distinct: bool = False,
) -> Scene:
    """One scene of `count` (least, most) of the `pictures` (n, h, w) uint8 with light ink on 0.

    Each is scaled so that it is `sizes` (least, most) pixels wide, and put where no box overlaps
    another. With `cell` pixels to the cell they stand on a board instead, one to a cell, as large
    as it. `distinct` takes no two of the same label. Raises ValueError where a picture would not
    fit, or where there are not enough cells or labels.

    >>> ink = np.full((3, 4, 4), 200, np.uint8)
    >>> scene = compose(ink, np.array([0, 1, 2]), np.random.default_rng(0), count=(2, 2), cell=8)
    >>> (scene.boxes % 8).any(), (scene.boxes[:, 2:] - scene.boxes[:, :2]).tolist()
    (np.False_, [[8.0, 8.0], [8.0, 8.0]])
    """
    least, most = (cell, cell) if cell else sizes
    cells = [(x, y) for y in range(0, side - cell + 1, cell or side)
             for x in range(0, side - cell + 1, cell or side)]  # fmt: skip
    kinds = len(np.unique(labels)) if distinct else count[1]
    if most > side or count[1] > kinds or (cell and count[1] > len(cells)):
        raise ValueError(
            f"{count[1]} objects of {most} pixels do not fit into {side} x {side} "
            f"({len(cells) if cell else 'any'} places, {kinds} labels to choose from)"
        )
    image, boxes, found = np.zeros((side, side), np.uint8), [], []
    places = rng.permutation(len(cells))
    for number, row in enumerate(_chosen(labels, rng, count, distinct)):
        stamp = _scaled(pictures[row], int(rng.integers(least, most + 1)))
        spot = [cells[places[number]]] if cell else rng.integers(
            0, side - len(stamp) + 1, (TRIES, 2)
        )  # fmt: skip
        box = _put(image, stamp, spot, boxes)
        if box is not None:
            boxes.append(box)
            found.append(labels[row])
    return _sorted(image, boxes, found)


def scenes(
    pictures: np.ndarray, labels: np.ndarray, n: int, *, seed: int = 0, **how: object
) -> list[Scene]:
    """`n` scenes; scene i is a function of (seed, i), `how` is passed to `compose`."""
    return [compose(pictures, labels, np.random.default_rng([seed, i]), **how) for i in range(n)]


def ask(
    scene: Scene, names: Sequence[str], rng: np.random.Generator, kind: str = "left"
) -> Question | None:
    """One question of a kind and its answer; None where the scene does not allow it.

    Yes and no are equally likely where the kind has them, whatever the scene. The objects must be
    of distinct labels. "left" compares middles of boxes, "above" too; "leftmost" needs one object
    whose box begins left of all others. Raises ValueError for an unknown kind.

    >>> boxes = np.array([[0, 0, 8, 8], [16, 8, 24, 16]], np.float32)
    >>> scene = Scene(np.zeros((32, 32), np.uint8), boxes, np.array([7, 3]))
    >>> ask(scene, "0123456789", np.random.default_rng(0), "leftmost")
    Question(kind='leftmost', text='which one is leftmost ?', answer='7')
    """
    if kind == "left":
        return _compared(scene, names, rng, 0, kind, "left of")
    if kind == "above":
        return _compared(scene, names, rng, 1, kind, "above")
    if kind == "there":
        here = [name in scene.labels for name in range(len(names))]
        yes = bool(rng.random() < 0.5)
        of_them = np.flatnonzero(np.array(here) == yes)
        label = int(rng.choice(of_them)) if len(of_them) else int(rng.integers(len(names)))
        return Question(kind, f"is there a {names[label]} ?", _yes(here[label]))
    if kind == "count":
        return Question(kind, "how many are there ?", NUMBERS[len(scene.labels)])
    if kind == "leftmost":
        lefts = scene.boxes[:, 0]
        alone = (lefts == lefts.min()).sum() == 1
        answer = names[scene.labels[lefts.argmin()]]
        return Question(kind, "which one is leftmost ?", answer) if alone else None
    raise ValueError(f"unknown kind {kind!r}: choose one of {', '.join(KINDS)}")


def questions(
    found: Sequence[Scene],
    names: Sequence[str],
    *,
    kinds: Sequence[str] = KINDS,
    seed: int = 0,
) -> list[tuple[int, Question]]:
    """For each scene one question of each kind that it allows: (number of the scene, question)."""
    asked = [
        (number, ask(scene, names, np.random.default_rng([seed, number, place]), kind))
        for number, scene in enumerate(found)
        for place, kind in enumerate(kinds)
    ]
    return [(number, question) for number, question in asked if question is not None]


def shrunk(pictures: Sequence, side: int = 8) -> np.ndarray:
    """PIL images as (n, side, side) uint8, grey; for pictures larger than an object may be.

    >>> from PIL import Image
    >>> shrunk([Image.new("L", (28, 28), 255)]).shape
    (1, 8, 8)
    """
    from PIL import Image

    grey = [picture.convert("L") for picture in pictures]
    resized = [
        picture if picture.size == (side, side)
        else picture.resize((side, side), Image.Resampling.BOX)
        for picture in grey
    ]  # fmt: skip
    return np.stack([np.asarray(picture) for picture in resized])


def _chosen(
    labels: np.ndarray, rng: np.random.Generator, count: tuple[int, int], distinct: bool
) -> list[int]:
    number = int(rng.integers(count[0], count[1] + 1))
    if not distinct:
        return rng.integers(0, len(labels), number).tolist()
    kinds = rng.choice(np.unique(labels), number, replace=False)
    return [int(rng.choice(np.flatnonzero(labels == kind))) for kind in kinds]


def _scaled(picture: np.ndarray, size: int) -> np.ndarray:
    from PIL import Image

    if picture.shape == (size, size):
        return picture
    resized = Image.fromarray(picture).resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(resized)


def _put(image: np.ndarray, stamp: np.ndarray, spots: Sequence, boxes: list) -> list | None:
    """Paste at the first spot (x, y) where its box is free; the box, None if there is none."""
    rows, columns = np.flatnonzero(stamp.any(1)), np.flatnonzero(stamp.any(0))
    if not len(rows):
        return None  # a picture without ink has no box
    for x, y in spots:
        box = [x + columns[0], y + rows[0], x + columns[-1] + 1, y + rows[-1] + 1]
        if not any(_touch(box, other) for other in boxes):
            window = image[y : y + len(stamp), x : x + len(stamp)]
            np.maximum(window, stamp, out=window)
            return box
    return None


def _touch(a: Sequence[float], b: Sequence[float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _sorted(image: np.ndarray, boxes: list, labels: list) -> Scene:
    where = np.array(boxes, np.float32).reshape(-1, 4)
    order = np.lexsort((where[:, 1], where[:, 0]))
    return Scene(image, where[order], np.array(labels, np.int64)[order])


def _compared(
    scene: Scene, names: Sequence[str], rng: np.random.Generator, axis: int, kind: str, words: str
) -> Question | None:
    middles = scene.boxes[:, axis] + scene.boxes[:, axis + 2]
    pairs = [(i, j) for i, a in enumerate(middles) for j, b in enumerate(middles) if a < b]
    if not pairs:
        return None
    first, second = pairs[int(rng.integers(len(pairs)))]
    yes = bool(rng.random() < 0.5)
    if not yes:
        first, second = second, first
    a, b = names[scene.labels[first]], names[scene.labels[second]]
    return Question(kind, f"is the {a} {words} the {b} ?", _yes(yes))


def _yes(condition: bool) -> str:
    return "yes" if condition else "no"
