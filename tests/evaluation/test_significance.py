"""Intervals cover what they promise; tests equal scipy's, and worked cases come out by hand."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cookbook.evaluation import metrics, significance
from cookbook.evaluation.significance import (
    bootstrap_interval,
    mcnemar,
    paired_bootstrap,
    permutation_test,
)


def test_interval_of_a_share_is_near_the_normal_one():
    right = np.arange(400) < 300
    interval = bootstrap_interval(right, resamples=4000)
    margin = 1.96 * math.sqrt(0.75 * 0.25 / 400)
    assert interval.estimate == 0.75
    assert interval.low == pytest.approx(0.75 - margin, abs=0.005)
    assert interval.high == pytest.approx(0.75 + margin, abs=0.005)
    narrower = bootstrap_interval(right, confidence=0.5)
    assert narrower.high - narrower.low == pytest.approx(margin * 2 * 0.674 / 1.96, abs=0.006)


def test_interval_equals_scipy():
    from scipy.stats import bootstrap

    values = np.random.default_rng(0).gamma(2.0, 1.0, 80)
    theirs = bootstrap(
        (values,), np.mean, n_resamples=5000, method="percentile", rng=np.random.default_rng(0)
    ).confidence_interval
    ours = bootstrap_interval(values, resamples=5000)
    spread = values.std() / math.sqrt(80)
    assert abs(ours.low - theirs.low) < 0.1 * spread
    assert abs(ours.high - theirs.high) < 0.1 * spread


def test_metric_form_equals_mean_form_for_accuracy():
    rng = np.random.default_rng(0)
    predicted, actual = rng.integers(0, 3, (2, 3, 60)), rng.integers(0, 3, 60)
    predicted = np.where(rng.random((3, 60)) < 0.6, actual, predicted[0])
    by_metric = bootstrap_interval(predicted, actual, metric=metrics.accuracy, resamples=200)
    by_mean = bootstrap_interval(predicted == actual, resamples=200)
    assert by_metric == pytest.approx(by_mean)
    macro = bootstrap_interval(predicted, actual, metric=metrics.f1, resamples=50)
    assert macro.estimate == pytest.approx(np.mean([metrics.f1(p, actual) for p in predicted]))


def covered(truth, draw, repeats=80):
    hits = 0
    for repeat in range(repeats):
        interval = bootstrap_interval(draw(repeat), resamples=200, seed=repeat)
        hits += interval.low <= truth <= interval.high
    return hits / repeats


def test_95_percent_intervals_cover_95_percent_of_the_time():
    def draw(repeat):
        return np.random.default_rng(repeat).random(150) < 0.7

    assert 0.90 <= covered(0.7, draw) <= 0.985


def test_seeds_count_as_a_source_of_chance():
    def draw(repeat):
        rng = np.random.default_rng(repeat)
        skill = 0.7 + rng.normal(0, 0.06, (8, 1))  # training runs differ by more than rows do
        return rng.random((8, 300)) < skill

    assert covered(0.7, draw) >= 0.85
    assert covered(0.7, lambda repeat: draw(repeat).mean(0)) < 0.75  # seeds taken as fixed
    assert covered(0.7, lambda repeat: draw(repeat)[0]) < 0.75  # one run only


def test_rows_are_shared_between_seeds():
    # eight seeds with the same predictions carry no more information than one
    row = np.arange(100) < 70
    one, eight = bootstrap_interval(row), bootstrap_interval(np.tile(row, (8, 1)))
    assert eight.high - eight.low == pytest.approx(one.high - one.low, abs=0.015)


@given(st.lists(st.booleans(), min_size=1, max_size=30), st.integers(0, 100))
@settings(max_examples=25, deadline=None)
def test_interval_holds_the_estimate_and_repeats(right, seed):
    interval = bootstrap_interval(right, resamples=100, seed=seed)
    assert 0 <= interval.low <= interval.high <= 1
    assert interval.low - 0.2 <= interval.estimate <= interval.high + 0.2
    assert interval == bootstrap_interval(right, resamples=100, seed=seed)
    if len(set(right)) == 1:
        assert interval.low == interval.high == interval.estimate


def test_pairing_sees_what_two_intervals_do_not():
    rng = np.random.default_rng(0)
    worse = rng.random(500) < 0.7
    better = worse | (rng.random(500) < 0.06)
    a, b = bootstrap_interval(better), bootstrap_interval(worse)
    assert a.low < b.high  # the intervals overlap
    result = paired_bootstrap(better, worse)
    assert result.low > 0
    assert result.p_value < 0.01
    assert result.estimate == pytest.approx(better.mean() - worse.mean())
    mirrored = paired_bootstrap(worse, better)
    assert mirrored.low == pytest.approx(-result.high)


def test_no_difference_gives_p_of_1():
    right = np.arange(50) < 30
    assert paired_bootstrap(right, right) == (0.0, 0.0, 0.0, 1.0)
    assert permutation_test(right, right) == 1.0
    assert mcnemar(right, right).p_value == 1.0


def test_paired_bootstrap_rarely_cries_wolf():
    alarms = 0
    for repeat in range(100):
        rng = np.random.default_rng(repeat)
        first, second = rng.random((2, 120)) < 0.7
        alarms += paired_bootstrap(first, second, resamples=200, seed=repeat).p_value < 0.05
    assert alarms <= 13


def test_paired_bootstrap_with_a_metric_and_seeds():
    rng = np.random.default_rng(0)
    actual = rng.integers(0, 3, 200)
    good = np.where(rng.random((3, 200)) < 0.8, actual, 0)
    poor = np.where(rng.random((3, 200)) < 0.5, actual, 0)
    result = paired_bootstrap(good, poor, actual, metric=metrics.f1, resamples=100)
    gap = np.mean(
        [metrics.f1(g, actual) - metrics.f1(p, actual) for g, p in zip(good, poor, strict=True)]
    )
    assert result.estimate == pytest.approx(gap)
    assert 0 < result.low < gap < result.high


def test_paired_seeds_are_drawn_together():
    level = np.array([[0.2], [0.5], [0.8]])  # seeds differ much, the gap between models does not
    result = paired_bootstrap(np.tile(level + 0.1, 20), np.tile(level, 20))
    assert result.low == pytest.approx(0.1)
    assert result.high == pytest.approx(0.1)


@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 5))
@settings(max_examples=40, deadline=None)
def test_mcnemar_equals_scipy(only_first, only_second, both):
    from scipy.stats import binomtest

    first = [1] * only_first + [0] * only_second + [1] * (both + 1)
    second = [0] * only_first + [1] * only_second + [1] * (both + 1)
    result = mcnemar(first, second)
    assert result[:2] == (only_first, only_second)
    flips = only_first + only_second
    expected = binomtest(only_first, flips).pvalue if flips else 1.0
    assert result.p_value == pytest.approx(expected)


def test_mcnemar_with_many_rows():
    from scipy.stats import binomtest

    first = np.arange(9000) < 4600
    expected = binomtest(4600, 9000).pvalue
    assert mcnemar(first, ~first).p_value == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("rows", [3, 8])
def test_permutation_equals_scipy_where_all_flips_are_counted(rows):
    from scipy.stats import permutation_test as theirs

    rng = np.random.default_rng(rows)
    first, second = rng.random((2, rows)) + [[0.2], [0.0]]
    expected = theirs(
        (first, second),
        lambda x, y, axis: np.mean(x - y, axis=axis),
        permutation_type="samples",
        n_resamples=np.inf,
        vectorized=True,
    ).pvalue
    assert permutation_test(first, second) == pytest.approx(expected)


def test_sampled_flips_agree_with_all_flips():
    first, second = np.random.default_rng(1).random((2, 12)) + [[0.2], [0.0]]
    exact = permutation_test(first, second)
    sampled = permutation_test(first, second, resamples=2**12 - 1)
    assert sampled == pytest.approx(exact, abs=0.03)
    assert sampled != exact  # it did sample


def test_the_three_tests_agree_in_both_directions():
    rng = np.random.default_rng(0)
    first, second = rng.random(300) < 0.75, rng.random(300) < 0.7
    p_value = mcnemar(first, second).p_value
    assert 0.3 < p_value < 0.7
    for pair in ((first, second), (second, first)):
        assert permutation_test(*pair) == pytest.approx(p_value, abs=0.02)
        assert paired_bootstrap(*pair).p_value == pytest.approx(p_value, abs=0.05)


def test_portions_cover_all_resamples():
    assert sum(significance._portions(9999, 300_000)) == 9999
    assert max(significance._portions(9999, 300_000)) <= 4


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: bootstrap_interval([]), r"values \(1, 0\) must be \(rows,\) or \(seeds, rows\)"),
        (lambda: bootstrap_interval([1, 0], [1, 0]), "give both references and metric"),
        (lambda: bootstrap_interval([1, 0], confidence=95), "confidence 95 must lie between"),
        (
            lambda: bootstrap_interval([1, 0], [1], metric=metrics.accuracy),
            r"found rows \(2,\) and \(1,\)",
        ),
        (lambda: paired_bootstrap([1, 0], [1]), r"first \(1, 2\) and second \(1, 1\)"),
        (lambda: mcnemar([1, 0], [1]), r"found rows \(2,\) and \(1,\)"),
        (lambda: permutation_test([], []), r"found rows \(0,\) and \(0,\)"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
