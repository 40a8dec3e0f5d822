"""Figures for choosing a model: what memory is made of, and what a score foretold.

Does: draw plain numbers. Does not: compute them; `finetuning.selection` does. Chapter 06 uses it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from cookbook.canvas import GREY, INK, PALETTE, canvas, finish, finish_rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def stacks(
    parts: Mapping[str, Mapping[str, float]],
    marks: Mapping[str, float] | None = None,
    *,
    mark: str = "",
    x_label: str = "",
    title: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Horizontal bars, each made of named parts, `{bar: {part: value}}`; a diamond at `marks`.

    All bars have the same parts in the same order; `mark` is what the diamonds are.

    >>> ax = stacks({"full": {"weights": 1, "gradients": 2}}, {"full": 2.5}, mark="peak")
    >>> [text.get_text() for text in ax.get_legend().get_texts()]
    ['weights', 'gradients', 'peak']
    """
    with canvas(ax, (7.4, 1.5 + 0.36 * len(parts))) as ax:
        for row, (name, values) in enumerate(parts.items()):
            left = 0.0
            for number, (part, value) in enumerate(values.items()):
                label = part if row == 0 else "_"
                ax.barh(row, value, 0.62, left=left, color=PALETTE[number], label=label, alpha=0.85)
                left += value
            if marks and name in marks:
                ax.plot(
                    marks[name], row, "D", color=INK, markersize=7, markeredgecolor="white",
                    label=mark if row == 0 else "_", linestyle="",
                )  # fmt: skip
        finish_rows(ax, list(parts), title, x_label, None)
        bars, lines = ax.containers[: len(next(iter(parts.values())))], ax.lines[: 1 if mark else 0]
        ax.legend(
            handles=[*bars, *lines],
            loc="upper left", bbox_to_anchor=(0, -0.2 - 0.3 / len(parts)), ncols=6, frameon=False,
            fontsize=8.5, handlelength=1.1, columnspacing=1.2,
        )  # fmt: skip
        return ax


def foretold(
    points: Mapping[str, tuple[float, float]],
    *,
    x_label: str = "",
    y_label: str = "test accuracy after fine-tuning",
    title: str = "",
    ax: Axes | None = None,
) -> Axes:
    """A point for each `{name: (score before, accuracy after)}`, with its name.

    >>> foretold({"a": (0.2, 0.5), "b": (0.4, 0.7)}).texts[1].get_text()
    'b'
    """
    with canvas(ax, (5.6, 4.0)) as ax:
        for name, (score, accuracy) in points.items():
            up = _above(name, points)
            ax.plot(score, accuracy, "o", color=PALETTE[0], markersize=6)
            ax.annotate(
                name, (score, accuracy), xytext=(0, 8 if up else -8),
                textcoords="offset points", ha="center", va="bottom" if up else "top",
                fontsize=8.5, color=GREY,
            )  # fmt: skip
        ax.margins(x=0.2, y=0.18)
        return finish(ax, title, x_label, y_label, grid="y")


def _above(name: str, points: Mapping[str, tuple[float, float]]) -> bool:
    """Whether a name stands above its point: where its nearest neighbour is no higher."""
    spans = [max(values) - min(values) or 1.0 for values in zip(*points.values(), strict=True)]
    x, y = points[name]
    others = [
        (((x - u) / spans[0]) ** 2 + ((y - v) / spans[1]) ** 2, v)
        for other, (u, v) in points.items()
        if other != name
    ]
    return not others or y >= min(others)[1]
