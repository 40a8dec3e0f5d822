"""What a noisy line of losses says: its level, its noise, how far it has risen above its best.

Pure functions of lists of numbers, for the detectors. Noise is estimated from neighbours, so that a
trend does not count as noise.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def noise(values: Sequence[float]) -> float:
    """Robust standard deviation of a line around its trend, from differences of neighbours.

    >>> noise([1.0, 2.0, 3.0, 4.0, 5.0])
    0.0
    """
    if len(values) < 3:
        return 0.0
    bends = np.diff(np.asarray(values, dtype=float), n=2)
    return float(1.4826 * np.median(np.abs(bends)) / np.sqrt(6.0))


def running_mean(values: Sequence[float], width: int) -> np.ndarray:
    """Means of each `width` neighbours, (len - width + 1,).

    >>> running_mean([1.0, 2.0, 3.0, 4.0], 2).tolist()
    [1.5, 2.5, 3.5]
    """
    total = np.concatenate([[0.0], np.cumsum(np.asarray(values, dtype=float))])
    return (total[width:] - total[:-width]) / width


def median(values: Sequence[float]) -> float:
    """The median, NaN of nothing.

    >>> median([3.0, 1.0, 2.0])
    2.0
    """
    return float(np.median(values)) if len(values) else float("nan")


def standard_error(values: Sequence[float], width: int) -> float:
    """Of a mean over `width` neighbours: from the noise, and from the scatter of such means."""
    return max(noise(values), 0.5 * spread_of_steps(values)) / max(1.0, width) ** 0.5


def spread_of_steps(values: Sequence[float]) -> float:
    """Standard deviation from differences of neighbours, outliers included."""
    if len(values) < 2:
        return 0.0
    return float(np.sqrt(np.mean(np.diff(np.asarray(values, dtype=float)) ** 2) / 2))


def change(values: Sequence[float], part: float = 0.25) -> tuple[float, float]:
    """Mean of the last part minus that of the first, and the standard error of the difference.

    >>> change([4.0, 4.0, 4.0, 4.0, 4.0, 4.0, 4.0, 4.0])
    (0.0, 0.0)
    """
    width = max(1, int(len(values) * part))
    ends = float(np.mean(values[-width:]) - np.mean(values[:width]))
    return ends, round(float(np.sqrt(2) * standard_error(values, width)), 12)
