"""Embeddings to look at: a map of points by class, and a run on the alignment-uniformity plane.

Does: draw plain numbers in the style of `plots`. Does not: compute the map (scikit-learn's PCA and
t-SNE do), save files, import any wing of the package. Used by chapter 05.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cookbook.canvas import GREY, INK, PALE, PALETTE, canvas, finish

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NAMED = len(PALETTE)  # classes with a colour of their own; the others are grey, without a name


def scatter(
    points: Sequence[Sequence[float]],
    labels: Sequence[Any],
    *,
    title: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Points (n, 2), coloured by label; the seven largest classes are named at their medians.

    The axes of PCA and t-SNE have no unit, so they carry no numbers. Raises ValueError unless there
    is one label a point.

    >>> scatter([[0, 0], [1, 1], [9, 9]], ["a", "a", "b"]).texts[0].get_text()
    'a'
    """
    points, labels = np.asarray(points, dtype=float), np.asarray([str(x) for x in labels])
    if points.ndim != 2 or points.shape[1] != 2 or len(points) != len(labels):
        raise ValueError(f"points {points.shape} must be (n, 2) with n labels, got {len(labels)}")
    names, counts = np.unique(labels, return_counts=True)
    largest = names[np.argsort(-counts, kind="stable")][:NAMED]
    with canvas(ax, (5.2, 4.4)) as ax:
        rest = ~np.isin(labels, largest)
        ax.scatter(*points[rest].T, s=6, color=PALE, linewidths=0)
        for color, name in zip(PALETTE, largest, strict=False):
            ax.scatter(*points[labels == name].T, s=7, color=color, alpha=0.65, linewidths=0)
        for color, name in zip(PALETTE, largest, strict=False):  # names above all points
            _name(ax, np.median(points[labels == name], axis=0), name, color)
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
        return finish(ax, title, "", "", grid="")


def plane(
    paths: Mapping[str, Sequence[tuple[float, float]]], *, title: str = "", ax: Axes | None = None
) -> Axes:
    """Runs on Wang and Isola's plane: `{name: [(uniformity, alignment), …]}`, in order of time.

    A ring marks the start and a dot the end, where the name stands. Lower is better on both axes.

    >>> plane({"SimCSE": [(-1.0, 0.1), (-3.0, 0.2)]}).get_xlabel()
    'uniformity (left: spread evenly)'
    """
    with canvas(ax, (5.2, 4.0)) as ax:
        for color, (name, path) in zip(PALETTE * len(paths), paths.items(), strict=False):
            x, y = np.asarray(path, dtype=float).reshape(-1, 2).T
            ax.plot(x, y, color=color, linewidth=1.5, alpha=0.8)
            ax.plot(x[:1], y[:1], "o", color=color, markerfacecolor="white", markersize=7)
            ax.plot(x[-1:], y[-1:], "o", color=color, markersize=7)
            if len(x):
                place = {"xytext": (8, 6), "textcoords": "offset points", "fontsize": 9}
                ax.annotate(name, (x[-1], y[-1]), color=color, **place)
        ax.margins(0.14)
        ax.grid(axis="x")
        return finish(
            ax, title, "uniformity (left: spread evenly)", "alignment (down: pairs close)", grid="y"
        )


def _name(ax: Axes, place: np.ndarray, name: str, color: str) -> None:
    box = {"boxstyle": "round,pad=0.2", "facecolor": "white", "edgecolor": color, "alpha": 0.85}
    middle = {"ha": "center", "va": "center", "fontsize": 8, "bbox": box}
    ax.text(*place, name, color=INK if color == GREY else color, **middle)
