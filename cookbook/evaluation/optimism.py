"""How much too good a score looks when the same rows chose the run that it is quoted for.

A simulation over saved predictions: nothing is trained. Of the test rows some play the test set,
others the validation set, and the rest the world. Chapter 09 runs it over its own runs.
Source of the effect: Cawley and Talbot 2010, "On Over-fitting in Model Selection and Subsequent
Selection Bias in Performance Evaluation", JMLR 11.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pandas import DataFrame


def simulate(
    right: np.ndarray, *, size: int, choices: Sequence[int], draws: int = 1000, seed: int = 0
) -> DataFrame:
    """Choose one of k runs on rows A or on rows B; quote it on A; look how it does on all others.

    `right` (runs, rows) says where each run's answer was right. In each draw `size` rows become A
    (the test set), as many B (validation) and the rest the world; k runs are drawn at random. A row
    for each k of `choices`: `on test` and `on validation`, the mean of the quoted accuracy less
    that in the world, with the bounds within which 95 % of the draws lie (`low …`, `high …`). Ties
    go to a run at random. Raises ValueError where no row is left for the world.

    >>> simulate(np.eye(4, 40, dtype=bool), size=10, choices=[1])["on test"].abs().item() < 0.01
    True
    """
    import pandas as pd

    right = np.asarray(right, dtype=float)
    runs, rows = right.shape
    if 2 * size >= rows:
        raise ValueError(f"2 · {size} of {rows} rows leave none to play the world: take fewer")
    if not 0 < min(choices) <= max(choices) <= runs:
        raise ValueError(f"choices {list(choices)} must lie between 1 and the {runs} runs")
    rng, table = np.random.default_rng(seed), {}
    for k in choices:
        gaps = np.array([_one(right, size, k, rng) for _ in range(draws)])
        low, high = np.quantile(gaps, [0.025, 0.975], axis=0)
        found = zip(("on test", "on validation"), gaps.mean(0), low, high, strict=True)
        table[k] = {key: value for name, mean, lower, upper in found
                    for key, value in ((name, mean), (f"low {name}", lower),
                                       (f"high {name}", upper))}  # fmt: skip
    return pd.DataFrame(table).T.rename_axis("runs to choose from")


def _one(right: np.ndarray, size: int, k: int, rng: np.random.Generator) -> tuple[float, float]:
    """The optimism of one draw: chosen on the rows that are quoted, and chosen on others."""
    order = rng.permutation(right.shape[1])
    among = right[rng.permutation(len(right))[:k]]  # in random order: argmax breaks ties by it
    quoted, others, world = np.split(among[:, order], [size, 2 * size], axis=1)
    honest, test = others.mean(1), quoted.mean(1)
    gap = test - world.mean(1)
    return float(gap[test.argmax()]), float(gap[honest.argmax()])
