"""The order of candidates, by hand."""

from cookbook.finetuning.assessment import Assessment, Recommendation, ranked
from cookbook.finetuning.transferability import Scores
from cookbook.scaling.calculator import Memory


def candidate(name, probe=None, seconds=60.0):
    scores = None if probe is None else Scores(-0.1, probe, probe, 400)
    return Assessment(name, scores=scores, strategy="full", seconds=seconds)


def names(found):
    return [each.model for each in ranked(found)]


def test_the_better_probe_is_first():
    assert names([candidate("a", 0.6), candidate("b", 0.8), candidate("c", 0.7)]) == ["b", "c", "a"]


def test_what_is_within_a_standard_error_of_the_best_is_told_so():
    """At 0.8 of 400 rows the standard error is 0.02."""
    best, close, behind = candidate("best", 0.8, 90), candidate("x", 0.79, 9), candidate("c", 0.7)
    assert names([behind, close, best]) == ["best", "x", "c"]
    assert close.reasons == ["within the noise of best"]
    assert not best.reasons and not behind.reasons


def test_without_a_score_time_decides_and_the_refused_are_last():
    refused = candidate("no", 0.9).refuse("it cannot read")
    assert refused.refused and refused.reasons == ["refused: it cannot read"]
    assert names([refused, candidate("x", None, 9), candidate("y", None, 3)]) == ["y", "x", "no"]


def test_a_recommendation_says_all_of_it():
    first, last = candidate("good", 0.8), candidate("bad").refuse("it is too large")
    first.memory = Memory(4, 4, 8, 10, 4, 10**8)
    found = Recommendation("classification", 0.25, [first, last])
    assert found.best is first
    assert "25.0%" in str(found) and " 1  good" in str(found)
    assert "refused: it is too large" in str(found)
    table = found.table()
    assert table.loc["good", "MB"] == 100 and table.loc["bad", "strategy"] == "refused"
    assert found.to_dict()["candidates"][0]["scores"][2] == 0.8
    assert Recommendation("classification", 0.0, [last]).best is None
