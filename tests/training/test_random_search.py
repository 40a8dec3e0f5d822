"""Draws are repeatable, a search goes on where it stopped, and what matters is found."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cookbook.training import random_search as search
from cookbook.training.random_search import (
    Choice,
    LogUniform,
    Trial,
    best,
    importance,
    random_search,
)

SPACE = {"rate": LogUniform(1e-5, 1e-1), "size": Choice((8, 16, 32)), "noise": LogUniform(1, 10)}


def score(settings):
    return -((math.log10(settings["rate"]) + 3) ** 2)


@given(st.floats(0, 1))
def test_place_undoes_at(share):
    assert LogUniform(1e-5, 1e-1).place(LogUniform(1e-5, 1e-1).at(share)) == pytest.approx(
        share, abs=1e-3
    )
    choice = Choice(("a", "b", "c"))
    assert choice.at(choice.place(choice.at(share))) == choice.at(share)


def test_every_factor_of_ten_is_drawn_as_often():
    rates = [search.draw(SPACE, number)["rate"] for number in range(400)]
    by_decade = [sum(10.0**k <= rate < 10.0 ** (k + 1) for rate in rates) for k in range(-5, -1)]
    assert sum(by_decade) == 400 and min(by_decade) > 70
    assert {search.draw(SPACE, number)["size"] for number in range(40)} == {8, 16, 32}


def test_a_trial_depends_on_its_number_and_the_seed_alone():
    assert search.draw(SPACE, 7) == search.draw(SPACE, 7)
    assert search.draw(SPACE, 7) != search.draw(SPACE, 7, seed=1)
    assert len({search.draw(SPACE, n)["rate"] for n in range(50)}) == 50


def test_goes_on_where_it_was_interrupted(tmp_path):
    file, asked = tmp_path / "trials.jsonl", []

    def interrupted(settings):
        asked.append(settings)
        if len(asked) == 4:
            raise KeyboardInterrupt
        return score(settings)

    with pytest.raises(KeyboardInterrupt):
        random_search(interrupted, SPACE, trials=6, file=file, fingerprint="a")
    with file.open("a") as lines:
        lines.write('{"settings": {"ra')  # the machine went down while it wrote
    again = []
    trials = random_search(
        lambda s: again.append(s) or score(s), SPACE, trials=6, file=file, fingerprint="a"
    )
    assert len(trials) == 6 and again == [search.draw(SPACE, n) for n in (3, 4, 5)]
    undisturbed = random_search(score, SPACE, trials=6)
    assert [t[:2] for t in trials] == [t[:2] for t in undisturbed]
    known = []
    random_search(known.append, SPACE, trials=6, file=file, fingerprint="a")
    assert known == []


def test_what_changes_a_score_changes_the_fingerprint_and_nothing_old_is_used(tmp_path):
    file, asked = tmp_path / "trials.jsonl", []
    random_search(score, SPACE, trials=2, file=file, fingerprint="a")
    random_search(lambda s: asked.append(s) or 0.0, SPACE, trials=2, file=file, fingerprint="b")
    assert len(asked) == 2
    assert [json.loads(line)["fingerprint"] for line in file.read_text().splitlines()] == list(
        "aabb"
    )


def test_no_trial_begins_after_the_budget():
    assert random_search(score, SPACE, trials=5, seconds=-1) == []


def test_broken_runs_are_kept_and_never_best(tmp_path):
    file = tmp_path / "trials.jsonl"
    breaks = lambda s: math.nan if s["rate"] > 1e-3 else s["rate"]  # noqa: E731
    random_search(breaks, SPACE, trials=12, file=file)
    trials = random_search(breaks, SPACE, trials=12, file=file)
    assert any(math.isnan(trial.score) for trial in trials)
    assert best(trials).settings["rate"] <= 1e-3
    with pytest.raises(ValueError, match="no trial has a score"):
        best([Trial({}, math.nan, 0.0)])


def test_importance_finds_what_the_score_is_made_of():
    trials = random_search(score, SPACE, trials=60)
    shares = importance(trials, SPACE, trees=50)
    assert list(shares)[0] == "rate" and shares["rate"] > 0.8
    assert shares["size"] < 0.1 and shares["noise"] < 0.1
    with pytest.raises(ValueError, match="3 trials say nothing"):
        importance(trials[:3], SPACE)


def test_importance_of_a_score_that_never_changes_is_0():
    trials = [Trial(search.draw(SPACE, n), 1.0, 0.0) for n in range(5)]
    assert set(importance(trials, SPACE, trees=10).values()) == {0.0}
