"""Curves equal scikit-learn's on a thousand random cases, ties included, and one by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cookbook.evaluation import curves


def random_cases(count):
    """Few rows, scores of few values, so that ties are common; both classes in each."""
    rng = np.random.default_rng(0)
    for _ in range(count):
        rows = rng.integers(2, 25)
        truth = rng.random(rows) < rng.uniform(0.1, 0.9)
        truth[:2] = True, False
        yield rng.integers(0, rng.integers(1, 12) + 1, rows) / 7, truth


def test_equal_to_scikit_learn_on_1000_random_cases():
    from sklearn import config_context
    from sklearn import metrics as theirs

    with config_context(assume_finite=True, skip_parameter_validation=True):
        for scores, truth in random_cases(1000):
            x, y, at = theirs.roc_curve(truth, scores, drop_intermediate=False)
            ours = curves.roc_curve(scores, truth)
            assert np.allclose(ours.x, x) and np.allclose(ours.y, y)
            assert np.array_equal(ours.thresholds, at)
            assert curves.roc_area(scores, truth) == pytest.approx(np.trapezoid(y, x), abs=1e-12)
            expected = theirs.average_precision_score(truth, scores)
            assert curves.average_precision(scores, truth) == pytest.approx(expected, abs=1e-12)
            precision, recall, at = theirs.precision_recall_curve(truth, scores)
            ours = curves.precision_recall_curve(scores, truth)
            assert np.allclose(ours.x, recall[-2::-1]) and np.allclose(ours.y, precision[-2::-1])
            assert np.array_equal(ours.thresholds, at[::-1])


def test_area_is_the_share_of_pairs_in_order():
    for scores, truth in random_cases(50):
        gaps = scores[truth][:, None] - scores[~truth]
        pairs = np.mean((gaps > 0) + (gaps == 0) / 2)
        assert curves.roc_area(scores, truth) == pytest.approx(pairs, abs=1e-12)


@given(st.integers(0, 10_000))
def test_the_best_threshold_is_no_worse_than_any_other(seed):
    scores, truth = next(random_cases_from(seed))
    best = curves.best_threshold(scores, truth)
    for value in set(scores):
        called = scores >= value
        f1 = 2 * (called & truth).sum() / (called.sum() + truth.sum())
        assert f1 <= best.score + 1e-12
        assert value != best.value or f1 == pytest.approx(best.score)


def random_cases_from(seed):
    rng = np.random.default_rng(seed)
    truth = rng.random(12) < 0.4
    truth[:2] = True, False
    yield rng.integers(0, 6, 12) / 5, truth


@pytest.mark.parametrize(
    ("scores", "truth", "words"),
    [
        ([0.1, 0.2], [True, True], "needs both"),
        ([0.1, 0.2], [False, False], "0 of 2 rows are positive"),
        ([0.1, np.nan], [True, False], "1 scores are not finite"),
        ([0.1], [True, False], "must be"),
    ],
)
def test_what_has_no_curve_says_why(scores, truth, words):
    with pytest.raises(ValueError, match=words):
        curves.roc_curve(scores, truth)
