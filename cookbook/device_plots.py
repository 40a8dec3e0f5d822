"""Figures of many devices: what grows with their number, and who of them works when.

Draws plain numbers, in the style of `canvas`; computes nothing. Used by chapter 11.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import cycle
from typing import TYPE_CHECKING

from cookbook.canvas import BLUE, DASHED, GREY, PALETTE, RED, canvas, finish, finish_rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def by_devices(
    curves: Mapping[str, Sequence[tuple[int, float]]],
    *,
    reference: Mapping[str, float] | None = None,
    y_label: str = "",
    log: bool = True,
    title: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Lines of `(devices, value)`, devices doubling; each named at its end, `log` for the values.

    `reference` adds dashed levels, such as the memory of a device.

    >>> by_devices({"NVLink": [(1, 8.0), (2, 4.1), (4, 2.1)]}, y_label="hours").get_xscale()
    'log'
    """
    from matplotlib.ticker import FixedLocator, NullLocator

    with canvas(ax, (5.6, 3.6)) as ax:
        most = max(x for points in curves.values() for x, _ in points)
        for name, height in (reference or {}).items():
            ax.axhline(height, color=GREY, linewidth=1, linestyle=DASHED)
            ax.text(most, height, name, color=GREY, ha="right", va="bottom", fontsize=9)
        for color, (name, points) in zip(cycle(PALETTE), curves.items(), strict=False):
            x, y = zip(*points, strict=True)
            ax.plot(x, y, color=color, linewidth=1.8, marker="o", markersize=3, label=name)
        ax.set_xscale("log", base=2)
        ax.set_yscale("log" if log else "linear")
        places = sorted({x for points in curves.values() for x, _ in points})
        ax.xaxis.set_major_locator(FixedLocator(places[:: 1 + len(places) // 8]))
        ax.xaxis.set_minor_locator(NullLocator())
        ax.xaxis.set_major_formatter("{x:.0f}")
        if log:
            ax.yaxis.set_major_formatter("{x:g}")
        ax.legend(frameon=False, fontsize=9)
        return finish(ax, title, "devices", y_label, grid="y")


def restarts(
    tracks: Mapping[str, Sequence[int]], *, title: str = "", ax: Axes | None = None
) -> Axes:
    """Which step of the run was done first, second, third …: `{name: steps}`; each fall a restart.

    Lines are drawn a little above each other, or those that agree would hide one another.

    >>> restarts({"killed": [1, 2, 3, 2, 3, 4]}).get_ylabel()
    'step of the run'
    """
    with canvas(ax, (6.4, 3.6)) as ax:
        for number, (color, (name, steps)) in enumerate(
            zip(cycle(PALETTE), tracks.items(), strict=False)
        ):
            shifted = [step + 0.15 * number for step in steps]
            ax.plot(range(1, len(steps) + 1), shifted, color=color, linewidth=1.8, marker="o",
                    markersize=3, label=name)  # fmt: skip
        ax.legend(frameon=False, fontsize=9, loc="lower right")
        return finish(ax, title, "steps done, one after the other", "step of the run", grid="y")


def belt(
    slots: Iterable[tuple[int, int, bool, float, float]], *, title: str = "", ax: Axes | None = None
) -> Axes:
    """Who works when in a pipeline: `(stage, micro-batch, backward, start, end)`, numbered boxes.

    >>> float(belt([(0, 0, False, 0.0, 1.0), (0, 0, True, 1.0, 3.0)]).get_xlim()[1])
    3.0
    """
    slots = list(slots)
    stages, last = 1 + max(slot[0] for slot in slots), max(slot[4] for slot in slots)
    with canvas(ax, (7.2, 0.9 + 0.4 * stages)) as ax:
        for stage, microbatch, backward, start, end in slots:
            color = RED if backward else BLUE
            ax.barh(stage, end - start, left=start, height=0.8, color=color, edgecolor="white")
            ax.text((start + end) / 2, stage, str(microbatch + 1), color="white", ha="center",
                    va="center", fontsize=8)  # fmt: skip
        names = [f"rank {stage}" for stage in range(stages)]
        return finish_rows(ax, names, title, "time, in forward passes", (0, last))
