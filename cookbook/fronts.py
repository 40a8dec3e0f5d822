"""Quality against cost, one point a method, and the front of those that nothing beats at both.

Does: draw plain numbers on a logarithmic axis of cost, name every point without overlaps, join the
front. Does not: compute what is drawn. Chapter 07 uses it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from cookbook.canvas import BLUE, GREY, PALE, canvas, finish

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIZES = (7.6, 4.6)
STEPS = [0, *(sign * 0.25 * k for k in range(1, 60) for sign in (1, -1))]  # label heights


def front(points: Mapping[str, tuple[float, float]]) -> list[str]:
    """The names, cheapest first, for which no other costs at most as much and is at least as good.

    `points` are `{name: (cost, quality)}`; of equal points the first stays.

    >>> front({"a": (1, 0.5), "b": (2, 0.4), "c": (3, 0.9)})
    ['a', 'c']
    """
    best, kept = float("-inf"), []
    for name, (_, quality) in sorted(points.items(), key=lambda item: (item[1][0], -item[1][1])):
        if quality > best:
            best, kept = quality, [*kept, name]
    return kept


def pareto(
    points: Mapping[str, tuple[float, float, float, float]],
    *,
    x_label: str = "",
    y_label: str = "test accuracy, 95 % interval",
    title: str = "",
    ax: Axes | None = None,
) -> Axes:
    """`{name: (cost, quality, low, high)}` as points with intervals; the front stepped in blue.

    Costs must be above 0: the axis is logarithmic.

    >>> pareto({"a": (1, 0.5, 0.4, 0.6), "b": (9, 0.4, 0.3, 0.5)}).get_xscale()
    'log'
    """
    best = front({name: point[:2] for name, point in points.items()})
    with canvas(ax, SIZES) as ax:
        ax.set_xscale("log")
        for name, (cost, quality, low, high) in points.items():
            color = BLUE if name in best else GREY
            ax.plot([cost, cost], [low, high], color=PALE, linewidth=3, zorder=1)
            ax.plot(cost, quality, "o", color=color, markersize=6, zorder=3)
        steps = [points[name][:2] for name in best]
        ax.step(*zip(*steps, strict=True), where="post", color=BLUE, linewidth=1.2, zorder=2)
        ax.margins(x=0.16, y=0.06)
        finish(ax, title, x_label, y_label, grid="y")
        _name(ax, {name: point[:2] for name, point in points.items()}, set(best))
        return ax


def _name(ax: Axes, points: Mapping[str, tuple[float, float]], best: set[str]) -> None:
    """Write each name beside its point, moved up or down as far as it takes to cover nothing."""
    from matplotlib.text import Text

    ax.figure.draw_without_rendering()  # limits and scale are settled from here on
    dots = [(*at, *at) for at in map(ax.transData.transform, points.values())]
    taken: list[tuple[float, float, float, float]] = []
    for name, point in sorted(points.items(), key=lambda item: -item[1][1]):
        text = ax.annotate(
            name, point, xytext=(7, 0), textcoords="offset points", va="center", fontsize=8.5,
            color=BLUE if name in best else GREY, zorder=4,
            arrowprops={"arrowstyle": "-", "color": PALE, "linewidth": 0.7},
        )  # fmt: skip
        text.set_in_layout(False)
        for step in [0.75] * (name in best) + STEPS:  # the front's line is not to cross its names
            text.set_position((7, step * 11))
            text.update_positions(ax.figure.canvas.get_renderer())
            box = Text.get_window_extent(text).extents
            if not any(_meet(box, other) for other in [*taken, *dots]):
                break
        taken.append(box)


def _meet(a: Sequence[float], b: Sequence[float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
