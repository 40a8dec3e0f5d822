"""Gains by hand, and words that say no more than the interval does."""

import numpy as np
import pytest

from cookbook.finetuning.courses import Course, gains, readable, right, said, scores

LABELS = np.arange(60) % 3


def course(name, seed, wrong, **changes):
    """A course whose answers are right with a margin of 2, but for the first `wrong` rows."""
    logits = 2.0 * np.eye(3)[np.where(np.arange(60) < wrong, (LABELS + 1) % 3, LABELS)]
    return Course(name, seed, changes, [(1, 1.0, 1.1, 0.5)], 1, 1.0, [], logits.tolist())


@pytest.fixture
def courses():
    return [
        *(course("plain", seed, 30 + seed) for seed in range(3)),
        *(course("better", seed, 6, dropout=0.3) for seed in range(3)),
        *(course("worse", seed, 50, edits=["swap", "mask"]) for seed in range(3)),
        *(course("same", seed, 30 + seed, smaller=True) for seed in range(3)),
    ]


def test_gains_by_hand(courses):
    table = gains(courses, LABELS, resamples=300)
    assert table["gain"].to_dict() == pytest.approx(
        {"plain": 0.0, "better": 25 / 60, "worse": -19 / 60, "same": 0.0}
    )
    assert table["verdict"].tolist() == ["", "helps", "hurts", "not seen"]
    assert table["on the loss"].tolist() == ["", "helps", "hurts", "not seen"]
    low, high = np.log(np.exp(2) + 2) - 2, np.log(np.exp(2) + 2)
    losses = {name: (row * high + (60 - row) * low) / 60 for name, row in
              {"plain": 31, "better": 6, "worse": 50, "same": 31}.items()}  # fmt: skip
    assert table["test loss"].to_dict() == pytest.approx(losses)
    assert table.loc["better", "loss"] == pytest.approx(losses["better"] - losses["plain"])
    inside = (table["low"] <= table["gain"]) & (table["gain"] <= table["high"])
    assert inside.all() and (table["loss low"] <= table["loss high"]).all()


def test_the_readable_table_says_the_same(courses):
    shown = readable(gains(courses, LABELS, resamples=300))
    assert shown.loc["better", "gain (points)"].startswith("+41.7 (+")
    assert shown["chosen"].tolist() == ["", "dropout 0.3", "edits swap+mask", "smaller"]
    assert shown.loc["worse", "change of loss"].startswith("+0.6")
    assert said("stop", "loss") == "stop loss"


def test_curves_and_hits(courses):
    assert courses[0].line("training") == [(1, 1.0)] and courses[0].line("accuracy") == [(1, 0.5)]
    assert right(courses, "plain", LABELS).sum(1).tolist() == [30, 29, 28]
    assert scores(courses[0].test, LABELS)[1] == 0.5
