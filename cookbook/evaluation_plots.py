"""Figures of chapter 12: reliability diagrams, curves over a threshold, text coloured by scores.

Does: draw plain arrays in the style of `plots`; each function takes `ax=None` and returns the
`Axes`. Does not: compute what is drawn, save files, import any wing of the package.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import TYPE_CHECKING

import numpy as np

from cookbook.canvas import BLUE, DASHED, GREY, INK, PALETTE, canvas, finish

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def reliability(
    bins: Mapping[str, tuple[Sequence[float], Sequence[float], Sequence[int]]],
    *,
    title: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Confidence against accuracy, `{name: (confidence, accuracy, rows)}`, one dot a bin.

    The area of a dot grows with its rows; below the diagonal a model is too sure.

    >>> reliability({"docbert": ([0.9], [0.7], [100])}).get_ylabel()
    'share that is right'
    """
    with canvas(ax, (5.0, 4.2)) as ax:
        ax.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=DASHED)
        ax.annotate("calibrated", (0.05, 0.09), color=GREY, fontsize=9, rotation=38)
        for color, (name, (x, y, rows)) in zip(cycle(PALETTE), bins.items(), strict=False):
            size = 12 + 260 * np.asarray(rows) / max(1, np.sum(rows))
            ax.plot(x, y, color=color, linewidth=1.2, alpha=0.6)
            ax.scatter(x, y, s=size, color=color, label=name, zorder=3)
        ax.legend(frameon=False, loc="upper left")
        ax.set(xlim=(0, 1.02), ylim=(0, 1.02))
        return finish(ax, title, "confidence of the answer", "share that is right", grid="y")


def threshold_curves(
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    *,
    x_label: str,
    y_label: str,
    level: float | None = None,
    diagonal: bool = False,
    title: str = "",
    ax: Axes | None = None,
) -> Axes:
    """ROC or precision-recall curves as steps, `{name: (x, y)}`, both axes from 0 to 1.

    `diagonal` draws the coin's ROC, `level` (a share of positives) the coin's precision.

    >>> threshold_curves({"a": ([0, 1], [1, 1])}, x_label="recall", y_label="").get_xlabel()
    'recall'
    """
    with canvas(ax, (4.6, 3.8)) as ax:
        if diagonal:
            ax.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=DASHED)
        if level is not None:
            ax.axhline(level, color=GREY, linewidth=1, linestyle=DASHED)
        for color, (name, (x, y)) in zip(cycle(PALETTE), curves.items(), strict=False):
            ax.plot(x, y, color=color, linewidth=1.8, label=name)
        ax.legend(frameon=False, loc="lower right" if diagonal else "best", fontsize=9)
        ax.set(xlim=(-0.01, 1.01), ylim=(0, 1.02))
        return finish(ax, title, x_label, y_label, grid="y")


def tokens(
    rows: Mapping[str, tuple[Sequence[str], Sequence[float]]],
    *,
    per_line: int = 14,
    title: str = "",
    ax: Axes | None = None,
) -> Axes:
    """One text coloured in several ways, `{method: (tokens, scores)}`: blue for, red against.

    Each method has its own scale, its largest size. At most `2 * per_line` tokens are drawn.

    >>> len(tokens({"gradient": (["a", "b"], [1.0, -0.5])}).texts)
    3
    """
    shown = {
        name: (list(t)[: 2 * per_line], np.asarray(s)[: 2 * per_line])
        for name, (t, s) in rows.items()
    }
    lines = sum(-(-len(words) // per_line) for words, _ in shown.values())
    with canvas(ax, (9.2, 0.5 + 0.36 * lines + 0.22 * len(shown))) as ax:
        y = 0.0
        for name, (words, scores) in shown.items():
            ax.text(-0.1, y, name, ha="right", va="center", color=INK, fontsize=9)
            largest = float(np.abs(scores).max(initial=0)) or 1.0
            for start in range(0, len(words), per_line):
                for place, word in enumerate(words[start : start + per_line]):
                    _box(ax, place, y, word, float(scores[start + place]) / largest)
                y += 1.0
            y += 0.5
        ax.set(xlim=(-2.2, per_line), ylim=(y - 0.5, -0.9))
        ax.axis("off")
        return finish(ax, title, "", "", grid="")


def _box(ax: Axes, x: int, y: float, word: str, score: float) -> None:
    color = BLUE if score > 0 else PALETTE[1]
    ax.add_patch(_rectangle((x + 0.02, y - 0.42), color, min(1.0, abs(score))))
    strong = abs(score) > 0.65
    text = word if len(word) < 10 else word[:8] + "…"
    ax.text(
        x + 0.5, y, text, ha="center", va="center", fontsize=7.5, color="white" if strong else INK
    )


def _rectangle(corner: tuple[float, float], color: str, alpha: float) -> object:
    from matplotlib.patches import Rectangle

    return Rectangle(corner, 0.96, 0.84, facecolor=color, alpha=alpha, edgecolor="none")
