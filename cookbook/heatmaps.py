"""Many small heat maps side by side: masks, or the heads of a layer, on one scale of colour.

Does: draw plain matrices in the style of `plots`, which has the single large heat map. Does not:
compute what is drawn, save files, import any wing of the package.
Used by chapter 02.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from cookbook.canvas import GREY, STYLE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIDE = 1.55  # inches of one map


def panels(
    matrices: Mapping[str, Sequence[Sequence[float]]],
    *,
    columns: int = 4,
    limits: tuple[float, float] = (0.0, 1.0),
    x_label: str = "",
    y_label: str = "",
    bar: str = "",
    title: str = "",
    axes: Sequence[Axes] | None = None,
) -> list[Axes]:
    """One small map per `{name: matrix}`, row by row, all with the same `limits` of colour.

    The first map carries the labels of its axes. `axes` are drawn on where they are given, one for
    each matrix; returns them.

    >>> [ax.get_title("left") for ax in panels({"all": [[1, 1]], "causal": [[1, 0]]}, columns=2)]
    ['all', 'causal']
    """
    import matplotlib.pyplot as plt

    with plt.rc_context(STYLE):
        axes = _fresh(len(matrices), columns, title) if axes is None else list(axes)
        for ax, (name, matrix) in zip(axes, matrices.items(), strict=True):
            values = np.asarray(matrix, dtype=float)
            image = ax.imshow(values, cmap="Blues", vmin=limits[0], vmax=limits[1])
            ax.set_title(name, fontsize=9, pad=4)
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set(visible=True, color=GREY, linewidth=0.6)
        if axes:
            axes[0].set_xlabel(x_label, fontsize=9)
            axes[0].set_ylabel(y_label, fontsize=9)
        if bar and axes:
            axes[0].figure.colorbar(image, ax=axes, fraction=0.03, pad=0.02, label=bar)
        return axes


def _fresh(count: int, columns: int, title: str) -> list[Axes]:
    import matplotlib.pyplot as plt

    columns = max(1, min(columns, count))
    rows = max(1, -(-count // columns))
    size = (SIDE * columns + 0.8, (SIDE + 0.25) * rows + 0.3 * bool(title))
    figure, grid = plt.subplots(rows, columns, figsize=size, layout="constrained", squeeze=False)
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    for ax in grid.flat[count:]:
        ax.remove()
    return list(grid.flat[:count])
