"""Pictures with words beside them: contact sheets, captions and pictures found, boxes found.

Does: draw arrays of pixels and strings in the style of `plots`; each function takes `ax=None`
(None makes a figure) and returns the `Axes`. Does not: rank anything, read image files, import any
wing of the package. Used by chapters 05 and 14.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cookbook.canvas import BLUE, GREY, INK, PALE, RED, canvas, finish

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDE = 1.55  # inches of a column of a contact sheet, and so of its caption
LINE = 15  # characters that fit under a picture


def contact_sheet(
    pictures: Sequence[np.ndarray],
    captions: Sequence[str],
    *,
    columns: int = 6,
    title: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Pictures (h, w) or (h, w, 3), 8-bit, in rows of `columns`, each above its caption.

    Raises ValueError unless there is one caption a picture.

    >>> sheet = contact_sheet([np.zeros((8, 8), np.uint8)] * 3, ["a", "b", "c"], columns=2)
    >>> len(sheet.images), sheet.texts[2].get_text()
    (3, 'c')
    """
    if len(pictures) != len(captions):
        raise ValueError(f"{len(pictures)} pictures have {len(captions)} captions: one each")
    columns = max(1, min(columns, len(pictures)))
    rows = -(-len(pictures) // columns)
    with canvas(ax, (WIDE * columns, 1.5 * rows + 0.3)) as ax:
        for place, (picture, caption) in enumerate(zip(pictures, captions, strict=True)):
            row, column = divmod(place, columns)
            _picture(ax, picture, column, row, PALE)
            lines = textwrap.wrap(caption, LINE, max_lines=3, placeholder=" …")
            ax.text(column, row + 0.36, "\n".join(lines), ha="center", va="top", fontsize=7.5)
        return _bare(ax, (-0.5, columns - 0.5), (rows - 0.02, -0.4), title)


def captions_found(
    pictures: Sequence[np.ndarray],
    found: Sequence[Sequence[str]],
    right: Sequence[str],
    *,
    title: str = "",
    ax: Axes | None = None,
) -> Axes:
    """For each picture the captions found for it, best first; the right one blue, others grey.

    Where the right one is not among them it stands last, in red, behind a dash.

    >>> square = np.zeros((8, 8), np.uint8)
    >>> ax = captions_found([square], [["a dog", "a cat"]], ["a bird"])
    >>> [text.get_text() for text in ax.texts]
    ['1  a dog', '2  a cat', '–  a bird']
    """
    lines = max(map(len, found), default=1) + 1
    with canvas(ax, (6.4, 0.3 + 0.21 * lines * len(pictures))) as ax:
        for row, (picture, names, answer) in enumerate(zip(pictures, found, right, strict=True)):
            _picture(ax, picture, 0, row, PALE, side=0.4)
            said = [(f"{n}  {name}", BLUE if name == answer else GREY) for n, name in _count(names)]
            if answer not in names:
                said.append((f"–  {answer}", RED))
            for line, (words, color) in enumerate(said):
                height = row - 0.42 + 0.9 * (line + 0.5) / lines
                ax.text(0.6, height, words, color=color, va="center", fontsize=8.5)
        _bare(ax, (-0.5, 6.5), (len(pictures) - 0.5, -0.5), title)
        ax.set_aspect("auto")
        return ax


def pictures_found(
    captions: Sequence[str],
    found: Sequence[Sequence[np.ndarray]],
    right: Sequence[int],
    *,
    title: str = "",
    ax: Axes | None = None,
) -> Axes:
    """For each caption the pictures found for it, best first; a blue frame marks the right one.

    `right` gives its place among them, counted from 0, and -1 where it is not there: then the
    caption is red.

    >>> square = np.zeros((8, 8), np.uint8)
    >>> pictures_found(["a dog"], [[square, square]], [-1]).texts[0].get_color() == RED
    True
    """
    wide = max(map(len, found), default=1)
    with canvas(ax, (3.2 + 0.75 * wide, 0.3 + 0.75 * len(captions))) as ax:
        for row, (caption, pictures, place) in enumerate(zip(captions, found, right, strict=True)):
            words = "\n".join(textwrap.wrap(caption, 30)[:3])
            color = RED if place < 0 else INK
            ax.text(-0.7, row, words, ha="right", va="center", fontsize=8.5, color=color)
            for column, picture in enumerate(pictures):
                _picture(ax, picture, column, row, BLUE if column == place else PALE, side=0.42)
        return _bare(ax, (-4.8, wide - 0.5), (len(captions) - 0.5, -0.5), title)


def boxes_found(
    pictures: Sequence[np.ndarray],
    found: Sequence[Mapping[str, Any]],
    names: Sequence[str],
    *,
    columns: int = 4,
    title: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Pictures (h, w), 8-bit, with boxes around what was found, and its name and score.

    `found[i]` holds `boxes` (n, 4) corners in pixels, `labels` and, unless they are true ones,
    `scores` (n,); `right` (n,), where it is given, tells by colour: blue if true, red if not.

    >>> one = {"boxes": np.array([[1, 1, 5, 7]]), "labels": [0], "scores": [0.87]}
    >>> boxes_found([np.zeros((8, 8), np.uint8)], [one], ["seven"]).texts[0].get_text()
    'seven 87'
    """
    rows = -(-len(pictures) // max(1, columns))
    columns = min(columns, len(pictures))
    with canvas(ax, (2.1 * columns, 2.1 * rows + 0.3)) as ax:
        for place, (picture, one) in enumerate(zip(pictures, found, strict=True)):
            row, column = divmod(place, columns)
            _picture(ax, picture, column, row, PALE, side=0.45)
            _boxes(ax, np.asarray(picture).shape, one, names, column, row)
        return _bare(ax, (-0.5, columns - 0.5), (rows - 0.48, -0.52), title)


def _boxes(
    ax: Axes, shape: tuple, one: Mapping[str, Any], names: Sequence[str], column: int, row: int
) -> None:
    scores = one.get("scores", [None] * len(one["labels"]))
    right = one.get("right", [True] * len(one["labels"]))
    for place, label, score, good in zip(one["boxes"], one["labels"], scores, right, strict=True):
        scale, color = 0.9 / np.array([shape[1], shape[0]] * 2), BLUE if good else RED
        x0, y0, x1, y1 = np.array([column, row] * 2) - 0.45 + np.asarray(place) * scale
        ax.plot([x0, x1, x1, x0, x0], [y0, y0, y1, y1, y0], color, lw=1.4)
        words = names[int(label)] + ("" if score is None else f" {100 * float(score):.0f}")
        box = {"boxstyle": "square,pad=0.1", "facecolor": color, "edgecolor": "none"}
        ax.text(x0, y0, words, color="white", fontsize=7, va="bottom", bbox=box)


def _count(names: Sequence[str]) -> list[tuple[int, str]]:
    return list(enumerate(names, 1))


def _picture(
    ax: Axes, picture: np.ndarray, column: float, row: float, frame: str, side: float = 0.33
) -> None:
    """A picture of half-width `side` around (column, row), with a frame that says something."""
    edges = (column - side, column + side, row + side, row - side)
    ax.imshow(picture, cmap="gray", vmin=0, vmax=255, extent=edges, interpolation="nearest")
    left, right, bottom, top = edges
    width = 2.2 if frame == BLUE else 0.8
    ax.plot([left, right, right, left, left], [top, top, bottom, bottom, top], frame, lw=width)


def _bare(ax: Axes, across: tuple, down: tuple, title: str) -> Axes:
    """No ticks and no spines: pictures have no axes to read off. `imshow` has moved the limits."""
    ax.set(xlim=across, ylim=down, xticks=[], yticks=[])
    ax.set_aspect("equal")
    ax.spines[:].set_visible(False)
    return finish(ax, title, "", "", grid="")
