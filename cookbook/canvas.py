"""The style that every figure of `plots` shares: colours, axes, and where labels go.

Does: opens axes with the style on, finishes them, writes names beside lines, bars and levels
instead of into legends. Does not: know what is drawn; `plots` does. Imports no wing.
Used by `plots` and `heatmaps`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito (2008), without its yellow, which is too pale for lines on white
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#4D4D4D")
BLUE, RED = PALETTE[:2]
INK, GREY, PALE = "#222222", "#767676", "#D9D9D9"
DASHED = (0, (4, 3))
STYLE = {
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#999999",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "axes.axisbelow": True,
    "grid.color": "#E8E8E8",
    "grid.linewidth": 0.8,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.size": 3,
    "ytick.major.size": 0,
    "figure.dpi": 110,
}


@contextmanager
def canvas(ax: Axes | None, size: tuple[float, float]) -> Iterator[Axes]:
    """The given axes, or new ones of `size` (inches), with the style on while drawing.

    >>> with canvas(None, (4, 3)) as ax:
    ...     ax.figure.get_size_inches().tolist()
    [4.0, 3.0]
    """
    import matplotlib.pyplot as plt

    with plt.rc_context(STYLE):
        yield plt.subplots(figsize=size, layout="constrained")[1] if ax is None else ax


def finish(ax: Axes, title: str, x_label: str, y_label: str, *, grid: str) -> Axes:
    """Title, labels, and a grid across the axis that carries the numbers: "x", "y" or ""."""
    marked = any(text.get_gid() == "level" for text in ax.texts)  # its name needs the room
    ax.set_title(title, pad=22 if marked else 10)
    ax.set(xlabel=x_label, ylabel=y_label)
    if grid:
        ax.grid(axis=grid)
        axis = getattr(ax, f"{grid}axis")
        if max(map(abs, axis.get_view_interval())) >= 1000:
            axis.set_major_formatter("{x:,.0f}")
    return ax


def finish_rows(
    ax: Axes, names: Sequence[str], title: str, x_label: str, limits: tuple[float, float] | None
) -> Axes:
    """Finish a plot whose rows are named on the left, the first on top."""
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.4, -0.6)
    if limits:
        ax.set_xlim(*limits)
    ax.spines["left"].set_visible(False)
    return finish(ax, title, x_label, "", grid="x")


def beside(ax: Axes, x: float, y: float, text: str) -> None:
    """A number just right of a bar's end (left of a negative one), readable over any line."""
    side = -1 if x < 0 else 1
    ax.annotate(
        text, (x, y), xytext=(5 * side, 0), textcoords="offset points", va="center",
        ha="left" if side > 0 else "right", fontsize=9, zorder=5,
        bbox={"boxstyle": "square,pad=0.15", "facecolor": "white", "edgecolor": "none"},
    )  # fmt: skip


def level(ax: Axes, x: float, name: str, *, color: str = GREY) -> None:
    """A dashed vertical line with its name above the plot."""
    ax.axvline(x, color=color, linewidth=1.1, linestyle=DASHED)
    ax.annotate(
        name, (x, 1), xycoords=("data", "axes fraction"), xytext=(0, 3), gid="level",
        textcoords="offset points", ha="center", va="bottom", color=color, fontsize=9,
    )  # fmt: skip


def name_ends(ax: Axes, ends: Sequence[tuple[float, str, str]]) -> None:
    """Write `(y, name, color)` at the right edge, pushed apart where they would overlap.

    >>> with canvas(None, (4, 3)) as ax:
    ...     name_ends(ax, [(0.5, "a", BLUE), (0.5, "b", RED)])
    >>> bool(ax.texts[0].xy[1] < ax.texts[1].xy[1])
    True
    """
    low, high = ax.get_ylim()
    gap, free = 0.065 * (high - low), -np.inf
    for y, name, color in sorted(ends, key=lambda end: end[0]):
        free = max(y, free + gap)
        ax.annotate(
            name, (1.01, free), xycoords=("axes fraction", "data"), va="center", color=color,
            annotation_clip=False,
        )  # fmt: skip
