"""What one fine-tuning run leaves, in one form for every strategy and every baseline.

It holds and scores; nothing is trained here. Chapters 00 and 07 tabulate and plot it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pandas import DataFrame


@dataclass
class Result:
    """One run: what was done, how well it did, and what it cost.

    `predictions` and `labels` are class numbers, (test rows,) int64. `learning_rate` is 0 where
    there is none. `seconds` counts training and the choice of the rate, not the test. A comparison
    adds `size`, bytes to keep on disk; `peak`, bytes of live tensors in a training step; and
    `remembers`, what the encoder still gets right of masked pretraining text.
    """

    name: str
    seed: int
    learning_rate: float
    validation: dict[str, float]
    test: dict[str, float]
    predictions: np.ndarray
    labels: np.ndarray
    seconds: float = 0.0
    parameters: int = 0
    trainable: int = 0
    history: list[tuple[int, float]] = field(default_factory=list)
    model: Any = None
    rates_tried: int = 1
    size: int = 0
    peak: int = 0
    remembers: float = math.nan

    @property
    def right(self) -> np.ndarray:
        """(test rows,) bool: where the prediction is the label."""
        return self.predictions == self.labels


def intervals(
    results: Sequence[Result], *, confidence: float = 0.95
) -> dict[str, tuple[float, float, float]]:
    """Name -> (mean accuracy, low, high): drawn again over seeds and test rows.

    >>> one = Result("a", 0, 0.0, {}, {}, np.array([1, 1]), np.array([1, 1]))
    >>> intervals([one])["a"][0]
    1.0
    """
    from cookbook.evaluation.significance import bootstrap_interval

    found = {}
    for name in dict.fromkeys(result.name for result in results):
        right = np.stack([result.right for result in results if result.name == name])
        interval = bootstrap_interval(right.astype(float), confidence=confidence)
        found[name] = (float(right.mean()), interval.low, interval.high)
    return found


def table(results: Sequence[Result]) -> DataFrame:
    """One row a name: accuracy with its interval, macro F1, seeds, seconds, trainable weights."""
    import pandas as pd

    rows = {}
    for name, (mean, low, high) in intervals(results).items():
        own = [result for result in results if result.name == name]
        rows[name] = {
            "accuracy": mean,
            "95 % interval": f"{low:.3f} – {high:.3f}",
            "macro F1": float(np.mean([result.test["f1"] for result in own])),
            "seeds": len(own),
            "seconds": float(np.mean([result.seconds for result in own])),
            "trainable": own[0].trainable,
        }
    return pd.DataFrame.from_dict(rows, orient="index").round(3)
