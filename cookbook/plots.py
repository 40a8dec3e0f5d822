"""Every figure of the cookbook, in one style: clean, readable, safe for colour-blind readers.

Does: draw plain numbers (dicts, sequences, arrays). Each function takes `ax=None` (None makes a
figure) and returns the `Axes`, so that figures combine and can be changed afterwards. Does not:
compute what is drawn, save files (`Session.save` does), import any wing of the package.
Used by every chapter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np

from cookbook.canvas import (
    BLUE,
    DASHED,
    GREY,
    INK,
    PALE,
    PALETTE,
    RED,
    beside,
    canvas,
    finish,
    finish_rows,
    level,
    name_ends,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MANY_CELLS = 12  # a matrix with more rows or columns carries no numbers in its cells
MANY_NAMES = 26  # and beyond this, only some of its rows and columns are named
MANY_CLASSES = 20


def loss_curves(
    curves: Mapping[str, Sequence[tuple[float, float]]],
    *,
    reference: Mapping[str, float] | None = None,
    smooth: int = 1,
    x_label: str = "step",
    y_label: str = "loss (nats)",
    title: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Lines of `(x, y)` points, each named at its end; `reference` adds dashed levels (ln V).

    `smooth` draws a running mean over that many points, with the raw line faint behind it.

    >>> loss_curves({"docbert": [(0, 9.0), (10, 7.5)]}, reference={"ln V": 9.01}).get_xlabel()
    'step'
    """
    with canvas(ax, (6.4, 3.6)) as ax:
        ends = [(height, name, GREY) for name, height in (reference or {}).items()]
        for height, *_ in ends:
            ax.axhline(height, color=GREY, linewidth=1, linestyle=DASHED)
        for color, (name, points) in zip(cycle(PALETTE), curves.items(), strict=False):
            x, y = np.array(points, dtype=float).reshape(-1, 2).T
            if smooth > 1 and len(y) >= smooth:
                ax.plot(x, y, color=color, alpha=0.2, linewidth=1)
                x, y = x[smooth - 1 :], np.convolve(y, np.full(smooth, 1 / smooth), "valid")
            marker = "o" if len(x) <= MANY_CELLS else None
            ax.plot(x, y, color=color, linewidth=1.8, marker=marker, markersize=4, label=name)
            finite = y[np.isfinite(y)]  # a run that broke is named where it broke
            ends += [(finite[-1], name, color)] if len(finite) else []
        name_ends(ax, ends)
        if all(float(x).is_integer() for points in curves.values() for x, _ in points):
            ax.xaxis.get_major_locator().set_params(integer=True)  # there is no epoch 1.25
        return finish(ax, title, x_label, y_label, grid="y")


def schedule_curves(
    curves: Mapping[str, Sequence[float]], *, title: str = "", ax: Axes | None = None
) -> Axes:
    """Learning rates by step, `{name: rates}`, as multipliers of the peak.

    >>> schedule_curves({"linear": [0.0, 1.0, 0.5, 0.0]}).get_ylabel()
    'share of the peak rate'
    """
    points = {name: list(enumerate(rates)) for name, rates in curves.items()}
    return loss_curves(points, y_label="share of the peak rate", title=title, ax=ax)


def ledger_waterfall(ledger: Any, *, title: str = "", ax: Axes | None = None) -> Axes:
    """What cleaning dropped, from rows in (top) to rows kept (bottom), one bar per reason.

    `ledger.steps` lists `(step, rows_in, rows_out, {reason: count})`.

    >>> class Ledger: steps = [("empty", 10, 8, {"no text": 2}), ("exact", 8, 7, {"twin": 1})]
    >>> [text.get_text() for text in ledger_waterfall(Ledger).get_yticklabels()]
    ['rows in', 'no text', 'twin', 'kept']
    """
    left = total = ledger.steps[0][1] if ledger.steps else 0
    rows = [("rows in", 0, total, PALE)]
    for _, _, _, dropped in ledger.steps:
        for reason, count in dropped.items():
            if count:
                left -= count
                rows.append((reason, left, count, RED))
    rows.append(("kept", 0, left, BLUE))
    with canvas(ax, (6.4, 0.9 + 0.34 * len(rows))) as ax:
        for y, (_, start, width, color) in enumerate(rows):
            ax.barh(y, width, left=start, color=color, height=0.66)
            share = f"  {width / max(1, total):.1%}" if y else ""
            beside(ax, start + width, y, f"{'−' * (color == RED)}{width:,}{share}")
            if y:  # a thin line hands the count down from the bar above
                ax.plot([start + width] * 2, [y - 0.67, y - 0.33], color=GREY, linewidth=0.8)
        return finish_rows(ax, [row[0] for row in rows], title, "rows", (0, 1.22 * max(1, total)))


def class_balance(
    counts: Mapping[Any, int], *, title: str = "", x_label: str = "rows", ax: Axes | None = None
) -> Axes:
    """Rows per class, the most frequent first, beside the level that a balanced set would have.

    Of more than 20 classes the 12 largest and the 5 smallest are drawn.

    >>> class_balance({"spam": 747, "ham": 4827}).get_yticklabels()[0].get_text()
    'ham'
    """
    ranked = sorted(((str(name), int(n)) for name, n in counts.items()), key=lambda row: -row[1])
    total, largest = max(1, sum(counts.values())), max(1, *counts.values(), 1)
    if len(ranked) > MANY_CLASSES:
        ranked = [*ranked[:12], (f"… {len(ranked) - 17} more classes", None), *ranked[-5:]]
    with canvas(ax, (6.4, 0.9 + 0.3 * len(ranked))) as ax:
        for y, (_, count) in enumerate(ranked):
            if count is not None:
                ax.barh(y, count, color=BLUE, height=0.66)
                beside(ax, count, y, f"{count:,}  {count / total:.1%}")
        level(ax, total / max(1, len(counts)), "even")
        return finish_rows(ax, [row[0] for row in ranked], title, x_label, (0, 1.22 * largest))


def intervals(
    estimates: Mapping[str, tuple[float, float, float]],
    *,
    reference: float | None = None,
    reference_label: str = "",
    form: str = "{:.3f}",
    x_label: str = "",
    title: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Dots with intervals, `{name: (estimate, low, high)}`, top to bottom in the given order.

    `reference` marks a level to compare with, such as the majority baseline.

    >>> intervals({"full": (0.81, 0.79, 0.83)}, reference=0.3, x_label="accuracy").get_xlabel()
    'accuracy'
    """
    with canvas(ax, (7.2, 1.1 + 0.4 * len(estimates))) as ax:
        for y, (mean, low, high) in enumerate(estimates.values()):
            ax.plot([low, high], [y, y], color=BLUE, alpha=0.35, linewidth=7, solid_capstyle="butt")
            ax.plot(mean, y, "o", color=BLUE, markersize=5)
            label = f"{form.format(mean)}  [{form.format(low)}, {form.format(high)}]"
            where = {"xycoords": ("axes fraction", "data"), "va": "center", "size": 9}
            ax.annotate(label, (1.02, y), **where)
        if reference is not None:
            level(ax, reference, reference_label)
        ax.margins(x=0.06)
        return finish_rows(ax, list(estimates), title, x_label, None)


def bars(
    values: Mapping[str, float],
    *,
    form: str = "{:,.3g}",
    reference: float | None = None,
    reference_label: str = "",
    x_label: str = "",
    title: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Horizontal bars from 0, `{name: value}`, each with its number.

    >>> bars({"padded": 900.0, "packed": 2100.0}, x_label="tokens per second").get_xlabel()
    'tokens per second'
    """
    low, high = min(0, *values.values(), 0), max(0, *values.values(), 0)
    room = 0.16 * ((high - low) or 1)
    with canvas(ax, (6.4, 0.9 + 0.36 * len(values))) as ax:
        for y, value in enumerate(values.values()):
            ax.barh(y, value, color=RED if value < 0 else BLUE, height=0.66)
            beside(ax, value, y, form.format(value))
        if reference is not None:
            level(ax, reference, reference_label)
        limits = (low - room * (low < 0), high + room)
        return finish_rows(ax, list(values), title, x_label, limits)


def lengths(
    sizes: Sequence[int],
    *,
    limit: int | None = None,
    x_label: str = "tokens per row",
    title: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Histogram of lengths; `limit` marks where rows are cut off, and says how many are.

    >>> lengths([3, 9, 200], limit=128).get_ylabel()
    'rows'
    """
    sizes = np.asarray(sizes)
    longest = int(sizes.max(initial=1))
    most = np.quantile(sizes, 0.99) if len(sizes) else 1  # one giant row must not squeeze the rest
    shown = max(most, 1.1 * (limit or 0), 2)
    width = max(1, round(shown / 60))  # a whole number of tokens, or the bars form a comb
    edges = np.arange(0, shown + width, width)
    with canvas(ax, (6.4, 3.2)) as ax:
        ax.hist(np.minimum(sizes, edges[-1]), bins=edges, color=BLUE)
        ax.set_xlim(0, edges[-1])
        if limit is not None:
            cut = float(np.mean(sizes > limit)) if len(sizes) else 0.0
            level(ax, limit, f"limit {limit}: {cut:.1%} of rows are longer", color=RED)
        if longest > edges[-1]:
            x_label += f" (last bar: all beyond {edges[-2]:.0f}, longest {longest:,})"
        return finish(ax, title, x_label, "rows", grid="y")


def confusion(
    matrix: Sequence[Sequence[int]],
    names: Sequence[str],
    *,
    title: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Confusion matrix, rows true and columns predicted; the share of each true class.

    >>> confusion([[8, 2], [1, 9]], ["ham", "spam"]).get_xlabel()
    'predicted'
    """
    counts = np.asarray(matrix)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    options = {"form": "{:.0%}", "limits": (0, 1), "bar": "share of the true class"}
    ax = heatmap(shares, names, names, title=title, ax=ax, **options)
    ax.set(xlabel="predicted", ylabel="true")
    return ax


def heatmap(
    matrix: Sequence[Sequence[float]],
    row_labels: Sequence[str],
    column_labels: Sequence[str],
    *,
    form: str = "{:.2f}",
    limits: tuple[float, float] | None = None,
    bar: str = "",
    title: str = "",
    ax: Axes | None = None,
) -> Axes:
    """A matrix as colours, light to dark; up to 12 rows and columns also as numbers.

    `limits` fixes the values of the lightest and darkest colour, `bar` names the colour scale.

    >>> heatmap([[0.1, 0.9]], ["query"], ["a", "b"]).get_yticklabels()[0].get_text()
    'query'
    """
    values = np.asarray(matrix, dtype=float)
    if values.shape != (len(row_labels), len(column_labels)):
        found = (len(row_labels), len(column_labels))
        raise ValueError(
            f"matrix {values.shape} needs as many row and column labels, found {found}"
        )
    low, high = limits or (np.nanmin(values), np.nanmax(values))
    height, width = (min(7.5, 1.5 + 0.42 * size) for size in values.shape)
    with canvas(ax, (width + 1.6, height)) as ax:
        image = ax.imshow(values, cmap="Blues", vmin=low, vmax=high, aspect="auto")
        ax.figure.colorbar(image, ax=ax, fraction=0.04, pad=0.03, label=bar).outline.set_visible(0)
        step = -(-max(values.shape) // MANY_NAMES)
        slanted = {"rotation": 40, "ha": "right", "rotation_mode": "anchor"}
        ax.set_xticks(range(values.shape[1])[::step], column_labels[::step], **slanted)
        ax.set_yticks(range(values.shape[0])[::step], row_labels[::step])
        for (row, column), value in np.ndenumerate(values):
            if max(values.shape) <= MANY_CELLS:
                color = "white" if value - low > 0.55 * (high - low) else INK
                place = {"ha": "center", "va": "center", "fontsize": 9}
                ax.text(column, row, form.format(value), color=color, **place)
        ax.spines[:].set_visible(False)
        ax.tick_params(length=0)
        return finish(ax, title, "", "", grid="")
