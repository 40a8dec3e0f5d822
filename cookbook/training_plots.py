"""Figures about learning rates and settings, in the style of `plots`.

Does: the curve of a range test, scores by rate, scores by any setting of a search, lines on a
logarithmic scale. Each function takes `ax=None` (None makes a figure) and returns the `Axes`. Does
not: compute what is drawn, import any wing of the package. Used by chapter 08.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np

from cookbook.canvas import BLUE, DASHED, GREY, PALETTE, RED, canvas, finish

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def range_test(
    rates: Sequence[float],
    losses: Sequence[float],
    smooth: Sequence[float],
    *,
    marks: Mapping[str, float] | None = None,
    title: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Loss while the rate climbs: the raw steps faint, the smoothed line, `marks` at some rates.

    >>> range_test([1e-4, 1e-3, 1e-2], [2.0, 1.5, 9.0], [2.0, 1.8, 4.0]).get_xscale()
    'log'
    """
    with canvas(ax, (6.4, 3.4)) as ax:
        ax.plot(rates, losses, color=BLUE, alpha=0.25, linewidth=1)
        ax.plot(rates, smooth, color=BLUE, linewidth=1.8)
        ax.set_xscale("log")
        low, high = np.min(smooth), np.max(smooth)
        room = 0.12 * ((high - low) or 1)
        ax.set_ylim(low - 2 * room, high + room)
        for step, (name, rate) in enumerate((marks or {}).items()):
            _mark(ax, rate, name, PALETTE[1 + step % (len(PALETTE) - 1)])
        return finish(ax, title, "learning rate", "loss (nats)", grid="y")


def _mark(ax: Axes, x: float, name: str, color: str) -> None:
    """A dashed line with its name written upwards along it, where no other name can be."""
    ax.axvline(x, color=color, linewidth=1.2, linestyle=DASHED)
    ax.annotate(
        name, (x, 0.97), xycoords=("data", "axes fraction"), xytext=(-3, 0), rotation=90,
        textcoords="offset points", ha="right", va="top", color=color, fontsize=9,
    )  # fmt: skip


def by_rate(
    scores: Mapping[str, Sequence[tuple[float, float]]],
    *,
    reference: Mapping[str, float] | None = None,
    y_label: str = "validation accuracy",
    title: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Scores at the rates that were tried, `{name: [(rate, score)]}`; a ring marks each best.

    >>> ax = by_rate({"AdamW": [(1e-4, 0.6), (1e-3, 0.8)]}, reference={"majority": 0.2})
    >>> ax.get_xscale(), [text.get_text() for text in ax.get_legend().get_texts()]
    ('log', ['majority', 'AdamW'])
    """
    with canvas(ax, (7.2, 3.6)) as ax:
        for name, height in (reference or {}).items():
            ax.axhline(height, color=GREY, linewidth=1, linestyle=DASHED, label=name)
        for color, (name, points) in zip(cycle(PALETTE), scores.items(), strict=False):
            x, y = np.array(sorted(points), dtype=float).T
            ax.plot(x, y, "o-", color=color, linewidth=1.6, markersize=4, label=name)
            best = int(np.argmax(y))
            ax.plot(x[best], y[best], "o", color=color, markersize=10, fillstyle="none")
        ax.set_xscale("log")
        # The lines end at different rates: names at the edge would belong to none of them.
        ax.legend(
            loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False, labelcolor="linecolor"
        )
        return finish(ax, title, "learning rate", y_label, grid="y")


def by_setting(
    values: Sequence[Any],
    scores: Sequence[float],
    *,
    log: bool = False,
    x_label: str = "",
    y_label: str = "",
    title: str = "",
    ax: Axes | None = None,
) -> Axes:
    """A dot for each trial of a search: its score by one of its settings; the best is red.

    Values that are no numbers are drawn as names, evenly spaced. Scores that are no numbers are
    left out.

    >>> by_setting([8, 16, 8], [0.5, 0.7, 0.6], x_label="batch size").get_xlabel()
    'batch size'
    """
    y = np.asarray(scores, dtype=float)
    shown = np.isfinite(y)
    with canvas(ax, (2.6, 2.6)) as ax:
        numeric = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
        names = list(dict.fromkeys(sorted(map(str, values))))
        x = np.array(values if numeric else [names.index(str(v)) for v in values], dtype=float)
        ax.plot(x[shown], y[shown], "o", color=BLUE, alpha=0.7, markersize=5)
        if shown.any():
            best = int(np.nanargmax(y))
            ax.plot(x[best], y[best], "o", color=RED, markersize=7)
        if not numeric:
            ax.set_xticks(range(len(names)), names)
            ax.margins(x=0.2)
        if log:
            ax.set_xscale("log")
        return finish(ax, title, x_label, y_label, grid="y")


def log_lines(
    lines: Mapping[str, Sequence[tuple[float, float]]],
    *,
    reference: Mapping[str, float] | None = None,
    x_label: str = "step",
    y_label: str = "",
    title: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Lines of `(x, y)` with y > 0 on a logarithmic scale, named at their ends.

    >>> log_lines({"Adam": [(1, 1.0), (2, 0.1)]}).get_yscale()
    'log'
    """
    with canvas(ax, (6.4, 3.4)) as ax:
        ends = [(height, name, GREY) for name, height in (reference or {}).items()]
        for height, *_ in ends:
            ax.axhline(height, color=GREY, linewidth=1, linestyle=DASHED)
        for color, (name, points) in zip(cycle(PALETTE), lines.items(), strict=False):
            x, y = np.array([p for p in points if p[1] > 0], dtype=float).reshape(-1, 2).T
            ax.plot(x, y, color=color, linewidth=1.8)
            ends += [(float(y[-1]), name, color)] if len(y) else []
        ax.set_yscale("log")
        _name_log_ends(ax, ends)
        return finish(ax, title, x_label, y_label, grid="y")


def _name_log_ends(ax: Axes, ends: Sequence[tuple[float, str, str]]) -> None:
    """`canvas.name_ends` where heights are powers: names are kept apart by a factor."""
    low, high = ax.get_ylim()
    factor, free = (high / low) ** 0.075, 0.0
    for y, name, color in sorted(ends):
        free = max(y, free * factor)
        place = {"xycoords": ("axes fraction", "data"), "va": "center", "annotation_clip": False}
        ax.annotate(name, (1.01, free), color=color, **place)
