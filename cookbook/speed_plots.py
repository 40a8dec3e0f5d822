"""Figures about speed: the rungs of a ladder, where a step's time goes, how large gradients are.

Does: tokens a second and bytes side by side, rung by rung; parts of a whole on one bar; a histogram
over powers of two with the limits of number formats. Does not: measure anything; `scaling.speed`
does. Imports no wing. Used by chapter 10.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np

from cookbook.canvas import BLUE, INK, PALE, PALETTE, canvas, finish, finish_rows, level

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def rungs(
    speeds: Mapping[str, Sequence[float]],
    peaks: Mapping[str, float | None],
    *,
    aside: int = 0,
    title: str = "",
    axes: tuple[Axes, Axes] | None = None,
) -> tuple[Axes, Axes]:
    """Median speed of each rung, a whisker from its slowest to its fastest round, and its peak.

    `peaks` in bytes; None is written as not measured. The last `aside` rungs each stand on the one
    before them all, and are drawn paler. Returns both axes.

    >>> left, right = rungs({"padded": [900.0, 1000.0]}, {"padded": 2e8})
    >>> right.get_xlabel()
    'most live bytes of an update (MB)'
    """
    names = list(speeds)
    middles = np.array([np.median(values) for values in speeds.values()])
    spans = [(m - min(v), max(v) - m) for m, v in zip(middles, speeds.values(), strict=True)]
    with canvas(None, (9, 1 + 0.34 * len(names))) as first:
        left, right = axes or _two(first)
        colors = [PALETTE[5] if y >= len(names) - aside else BLUE for y in range(len(names))]
        left.barh(range(len(names)), middles, color=colors, height=0.66)
        left.errorbar(
            middles, range(len(names)), xerr=np.array(spans).T, fmt="none", ecolor=INK, linewidth=1
        )
        for y, (middle, (_, above)) in enumerate(zip(middles, spans, strict=True)):
            _write(left, middle + above, y, f"{middle:,.0f}")
        top = max(m + above for m, (_, above) in zip(middles, spans, strict=True))
        finish_rows(left, names, title, "useful tokens a second", (0, 1.2 * top))
        left.locator_params(axis="x", nbins=5)
        sizes = [(peaks[name] or 0) / 1e6 for name in names]
        right.barh(range(len(names)), sizes, color=PALE, height=0.66)
        for y, size in enumerate(sizes):
            _write(right, size, y, f"{size:,.0f}" if size else "not measured")
        label = "most live bytes of an update (MB)"
        finish_rows(right, [""] * len(names), "", label, (0, 1.25 * max(sizes)))
        return left, right


def _two(ax: Axes) -> tuple[Axes, Axes]:
    """A wide and a narrow pair of axes in place of one."""
    figure = ax.figure
    ax.remove()
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    return left, right


def _write(ax: Axes, x: float, y: float, text: str) -> None:
    ax.annotate(
        text, (x, y), xytext=(4, 0), textcoords="offset points", va="center", fontsize=9
    )  # fmt: skip


def shares(
    steps: Mapping[str, Mapping[str, float]], *, title: str = "", ax: Axes | None = None
) -> Axes:
    """A bar of length 1 for each of `steps`, made of its parts; the legend names the parts.

    >>> ax = shares({"fast": {"data": 0.25, "forward": 0.75}})
    >>> [round(float(bar.get_width()), 2) for bar in ax.patches]
    [0.25, 0.75]
    """
    with canvas(ax, (7, 1.3 + 0.4 * len(steps))) as ax:
        parts = list(dict.fromkeys(part for found in steps.values() for part in found))
        for part, color in zip(parts, cycle(PALETTE), strict=False):
            starts = [_before(found, part) for found in steps.values()]
            widths = [found.get(part, 0.0) for found in steps.values()]
            ax.barh(range(len(steps)), widths, left=starts, color=color, height=0.6, label=part)
            for y, (start, width) in enumerate(zip(starts, widths, strict=True)):
                if width > 0.05:
                    ax.text(start + width / 2, y, f"{width:.0%}", ha="center", va="center",
                            color="white", fontsize=9)  # fmt: skip
        ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
        return finish_rows(ax, list(steps), title, "share of a step's time", (0, 1))


def _before(found: Mapping[str, float], part: str) -> float:
    names = list(found)
    return sum(found[name] for name in names[: names.index(part)]) if part in found else 0.0


def magnitudes(
    values: Any,
    limits: Mapping[str, float],
    *,
    x_label: str = "",
    title: str = "",
    ax: Axes | None = None,
) -> Axes:
    """How many of `values` lie near each power of two, on a logarithmic scale, zeros left out.

    `values` is an array; `limits` are drawn as named lines, such as the least number of a format.

    >>> magnitudes(np.array([1e-9, 1e-3, 0.0]), {"fp16": 6e-8}).get_xscale()
    'log'
    """
    found = np.abs(np.asarray(values, dtype=float).ravel())
    exponents = np.floor(np.log2(found[found > 0])).astype(int)
    edges = 2.0 ** np.arange(exponents.min(), exponents.max() + 2)
    with canvas(ax, (7, 3)) as ax:
        ax.hist(found[found > 0], bins=edges, color=BLUE, alpha=0.8)
        ax.set_xscale("log", base=2)
        for name, limit in limits.items():
            level(ax, limit, name)
        return finish(ax, title, x_label, "numbers", grid="y")
