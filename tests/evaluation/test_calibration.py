"""Calibration by hand, against scikit-learn, and on a model whose temperature is known."""

import numpy as np
import pytest

from cookbook.evaluation import calibration


def random_cases(count):
    rng = np.random.default_rng(0)
    for _ in range(count):
        rows, classes = rng.integers(1, 30), rng.integers(2, 6)
        yield rng.dirichlet(np.full(classes, 0.7), rows), rng.integers(0, classes, rows)


def known_temperature(temperature, rows=20_000, classes=4, seed=0):
    """Labels drawn from softmax(z / T): T is what the fit has to find."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 3, (rows, classes))
    drawn = rng.random(rows)[:, None]
    labels = (calibration.softmax(logits, temperature).cumsum(1) < drawn).sum(1)
    return logits, labels.clip(0, classes - 1)


def test_equal_to_scikit_learn_on_1000_random_cases():
    from sklearn import config_context
    from sklearn.metrics import brier_score_loss, log_loss

    with config_context(assume_finite=True, skip_parameter_validation=True):
        for case, (given, labels) in enumerate(random_cases(1000)):
            names = range(given.shape[1])
            expected = log_loss(labels, given, labels=list(names))
            assert calibration.log_loss(given, labels) == pytest.approx(expected, abs=1e-9)
            if case % 4 == 0:
                expected = brier_score_loss(labels, given, labels=list(names), scale_by_half=False)
                assert calibration.brier(given, labels) == pytest.approx(expected, abs=1e-12)


def test_error_equals_the_definition_row_by_row():
    for given, labels in random_cases(100):
        total = 0.0
        for b in range(calibration.BINS):
            low, high = b / calibration.BINS, (b + 1) / calibration.BINS
            mine = (given.max(1) > low) & (given.max(1) <= high)
            if mine.any():
                right = (given.argmax(1) == labels)[mine].mean()
                total += mine.mean() * abs(right - given.max(1)[mine].mean())
        assert calibration.expected_calibration_error(given, labels) == pytest.approx(total)


def test_no_row_is_lost_between_the_bins():
    for given, labels in random_cases(100):
        assert calibration.reliability(given, labels).rows.sum() == len(labels)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_the_known_temperature_is_found_and_mends(temperature):
    logits, labels = known_temperature(temperature)
    found = calibration.fit_temperature(logits, labels)
    assert found == pytest.approx(temperature, rel=0.05)
    before = calibration.expected_calibration_error(calibration.softmax(logits), labels)
    mended = calibration.softmax(logits, found)
    after = calibration.expected_calibration_error(mended, labels)
    assert after < 0.02 and (temperature == 1 or before > 3 * after)
    assert (mended.argmax(1) == logits.argmax(1)).all()


def test_a_model_without_a_mistake_is_made_surer_within_the_bounds():
    assert 0.01 <= calibration.fit_temperature(np.eye(3) * 5, [0, 1, 2]) < 0.2


@pytest.mark.parametrize(
    ("given", "labels", "words"),
    [
        ([[2.0, 3.0]], [0], "are these logits"),
        ([[0.5, 0.5]], [2], "label 2 has no column"),
        ([[0.5, 0.5]], [0, 1], r"\(n, classes\)"),
    ],
)
def test_bad_input_says_what_it_is(given, labels, words):
    with pytest.raises(ValueError, match=words):
        calibration.brier(np.array(given), labels)
