"""Do the labels of the evaluation rows belong to them (fault D8)?

What a simple view of the training rows says of their labels must hold of the evaluation rows, as
long as these look alike. Where the view that tells a training row's class knows nothing at all of
the evaluation rows' labels, these belong to other rows: the training loss falls, and every score
of an evaluation is that of guessing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from cookbook.doctor import alignment_probes, simple_features
from cookbook.doctor.checks import Skip
from cookbook.doctor.findings import Finding
from cookbook.doctor.simple_features import Probe
from cookbook.doctor.subject import Subject

FEWEST, MOST = 60, 400  # labelled evaluation rows
KNOWS = 5.0  # deviations of the permuted twins, from which a view tells the training rows' labels
PROMISED = 6.0  # standard errors by which the evaluation rows should then beat permuted labels …
FARTHER = 4.0  # … and how many they may stay behind that
NOTHING = 2.5  # deviations that are chance, as in `alignment_probes`
ALIKE = 0.25  # deviations by which the columns' means may differ


def check_held_out_labels_belong(subject: Subject) -> Iterable[Finding]:
    """D8: simple views tell the labels of training rows, and nothing of evaluation rows."""
    if subject.kind != "classifier" or subject.model is None:
        raise Skip("does not apply")
    batch, numbers, held = _table(subject)
    failed: list[tuple[Probe, Probe]] = []
    for view, columns in simple_features.views(batch):
        if _shift(columns, held) > ALIKE:
            continue
        for name, kernel in simple_features.kernels(view, columns):
            own = simple_features.probe(name, kernel[np.ix_(~held, ~held)], numbers[~held])
            error = np.sqrt(own.accuracy * (1 - own.accuracy) / held.sum() + 1e-6)
            if own.distance < KNOWS or own.accuracy - own.permuted < PROMISED * error:
                continue
            told = simple_features.transfer(name, kernel, numbers, held)
            if told.distance > NOTHING or own.accuracy - told.accuracy < FARTHER * error:
                return
            failed.append((own, told))
    if failed:
        own, told = max(failed, key=lambda pair: pair[1].distance)
        yield Finding(
            "D8", "warn",
            f"the {own.view} tell {own.accuracy:.1%} of the training rows' labels, and of "
            f"{held.sum()} evaluation rows {told.accuracy:.1%}, where permuted labels give "
            f"{told.permuted:.1%}: {told.distance:.1f} deviations apart (bound: {NOTHING:g})",
            "join the evaluation rows and their labels by one key, and shuffle them together",
            {"accuracy": told.accuracy, "training": own.accuracy, "distance": told.distance},
        )  # fmt: skip


def _table(subject: Subject) -> tuple[Any, np.ndarray, np.ndarray]:
    """Training and evaluation rows as one batch, their classes, and which are evaluation rows."""
    train, evaluation = subject.train.rows, subject.eval.rows
    if len(train) < alignment_probes.FEWEST or len(evaluation) < FEWEST:
        raise Skip("does not apply")
    rows = train[:: max(1, len(train) // alignment_probes.MOST)][: alignment_probes.MOST]
    asked = evaluation[:: max(1, len(evaluation) // MOST)][:MOST]
    batch, numbers, kept = alignment_probes.labelled(subject, [*rows, *asked])
    held = (np.arange(len(kept)) >= len(rows))[kept]
    if held.sum() < FEWEST or (~held).sum() < alignment_probes.FEWEST:
        raise Skip("does not apply")
    return batch, numbers, held


def _shift(columns: np.ndarray, held: np.ndarray) -> float:
    """How far the columns' means lie apart, in their deviations, over the columns that vary."""
    spread = columns.std(0)
    apart = np.abs(columns[held].mean(0) - columns[~held].mean(0))
    return float((apart[spread > 1e-6] / spread[spread > 1e-6]).mean()) if spread.any() else 0.0


CHECKS = (check_held_out_labels_belong,)
