"""What a run under a remedy left, and what that brought: paired with the plain run, with intervals.

It holds and counts; the runs are made in `remedies`. Chapter 09.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from cookbook.evaluation.significance import paired_bootstrap

if TYPE_CHECKING:
    from pandas import DataFrame


@dataclass
class Course:
    """One run: its `curve` of (step, training loss, validation loss, validation accuracy).

    `step` is where the weights come from that were scored; `fit` the accuracy on the training rows
    that the plain run has too. `validation` and `test` are logits, lists of (classes,).
    """

    name: str
    seed: int
    changes: dict[str, Any]
    curve: list[tuple[int, float, float, float]]
    step: int
    fit: float
    validation: list[list[float]] = field(repr=False)
    test: list[list[float]] = field(repr=False)
    seen: Any = field(default=None, repr=False)  # what `around` gave; not kept on disk

    def line(self, what: str) -> list[tuple[int, float]]:
        """A curve of its own: "training", "validation" (losses) or "accuracy"."""
        place = ("training", "validation", "accuracy").index(what) + 1
        return [(point[0], point[place]) for point in self.curve]


def scores(logits: Any, labels: np.ndarray) -> tuple[float, float]:
    """Mean cross-entropy (nats) and accuracy of logits (rows, classes).

    >>> scores([[0.0, 0.0], [9.0, 0.0]], np.array([0, 0]))[1]
    1.0
    """
    losses = row_losses(logits, labels)
    return float(losses.mean()), float((np.argmax(logits, -1) == labels).mean())


def row_losses(logits: Any, labels: np.ndarray) -> np.ndarray:
    """(rows,) cross-entropy of each row, in nats."""
    logits = torch.tensor(np.asarray(logits), dtype=torch.float64)
    return torch.nn.functional.cross_entropy(logits, torch.tensor(labels), reduction="none").numpy()


def lost(courses: Sequence[Course], name: str, labels: np.ndarray) -> np.ndarray:
    """(seeds, test rows) cross-entropy of each answer, in nats."""
    return np.stack([row_losses(course.test, labels) for course in courses if course.name == name])


def right(courses: Sequence[Course], name: str, labels: np.ndarray) -> np.ndarray:
    """(seeds, test rows) bool: where each seed's largest logit is at the label."""
    return np.stack([np.argmax(c.test, -1) == labels for c in courses if c.name == name])


def gains(
    courses: Sequence[Course], labels: np.ndarray, *, plain: str = "plain", resamples: int = 2000
) -> DataFrame:
    """What each remedy brought on the test rows, over the plain run of the same seed and rows.

    `gain` in accuracy and `loss` in nats, each with the bounds of its 95 % interval, drawn over
    seeds and rows. `verdict` and `on the loss` are "helps" or "hurts" where the interval leaves 0
    out, else "not seen". `fit` is the accuracy on the training rows, `chosen` the strength.
    """
    import pandas as pd

    names = dict.fromkeys(course.name for course in courses)
    losses = {name: lost(courses, name, labels) for name in names}
    table = {}
    for name in names:
        gain = paired_bootstrap(
            right(courses, name, labels), right(courses, plain, labels), resamples=resamples
        )
        loss = paired_bootstrap(losses[name], losses[plain], resamples=resamples)
        own = [course for course in courses if course.name == name]
        table[name] = {
            "chosen": ", ".join(said(*change) for change in own[0].changes.items()),
            "fit": float(np.mean([course.fit for course in own])),
            "accuracy": float(right(courses, name, labels).mean()),
            "gain": gain.estimate, "low": gain.low, "high": gain.high,
            "verdict": verdict(gain.low, gain.high) if name != plain else "",
            "test loss": float(losses[name].mean()),
            "loss": loss.estimate, "loss low": loss.low, "loss high": loss.high,
            "on the loss": verdict(-loss.high, -loss.low) if name != plain else "",
        }  # fmt: skip
    return pd.DataFrame.from_dict(table, orient="index")


def readable(table: DataFrame) -> DataFrame:
    """The same with intervals in one column each: gains in points, losses in nats."""
    points, nats = "{:+.1f} ({:+.1f} … {:+.1f})", "{:+.2f} ({:+.2f} … {:+.2f})"
    shown = table[["chosen", "fit", "accuracy"]].round(3)
    columns = zip(table["gain"], table["low"], table["high"], strict=True)
    shown["gain (points)"] = [points.format(*(100 * x for x in row)) for row in columns]
    shown["verdict"] = table["verdict"]
    columns = zip(table["loss"], table["loss low"], table["loss high"], strict=True)
    shown["change of loss"] = [nats.format(*row) for row in columns]
    shown["on the loss"] = table["on the loss"]
    return shown


def verdict(low: float, high: float) -> str:
    """What an interval of a gain allows to say.

    >>> verdict(0.01, 0.05), verdict(-0.02, 0.03), verdict(-0.2, -0.1)
    ('helps', 'not seen', 'hurts')
    """
    return "helps" if low > 0 else "hurts" if high < 0 else "not seen"


def said(name: str, value: Any) -> str:
    """A change in words.

    >>> said("dropout", 0.3), said("smaller", True), said("edits", ["swap", "mask"])
    ('dropout 0.3', 'smaller', 'edits swap+mask')
    """
    if value is True:
        return name
    shown = "+".join(value) if isinstance(value, list | tuple) else value
    return f"{name} {shown}"
