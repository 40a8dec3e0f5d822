"""LogME equals the evidence of its regression by brute force; k-NN equals scikit-learn's."""

import numpy as np
import pytest
from scipy import optimize, stats
from sklearn.model_selection import LeaveOneOut, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier

from cookbook.finetuning import transferability
from cookbook.finetuning.transferability import (
    evidence,
    knn_accuracy,
    logme,
    probe_accuracy,
    scores,
)


@pytest.fixture
def drawn():
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 3, 60)
    features = generator.normal(size=(60, 7)) + 0.8 * np.eye(7)[labels]
    return features, labels


def brute(features, y, alpha, beta):
    """ln N(y; 0, F Fᵀ/α + 1/β), with the covariance written out."""
    covariance = features @ features.T / alpha + np.eye(len(y)) / beta
    return stats.multivariate_normal.logpdf(y, np.zeros(len(y)), covariance)


def spectral(features, y, alpha, beta):
    u, s, _ = np.linalg.svd(features, full_matrices=False)
    return evidence(u.T @ y, s**2, y @ y, len(y), features.shape[1], alpha, beta)


@pytest.mark.parametrize("hidden", [7, 90])  # fewer and more features than rows
def test_the_evidence_is_that_of_the_gaussian_written_out(hidden):
    generator = np.random.default_rng(1)
    features, y = generator.normal(size=(40, hidden)), generator.integers(0, 2, 40).astype(float)
    for alpha, beta in ((1.0, 1.0), (0.2, 5.0), (30.0, 0.7)):
        assert spectral(features, y, alpha, beta) == pytest.approx(
            brute(features, y, alpha, beta), abs=1e-9
        )


def test_logme_is_the_highest_evidence(drawn):
    features, labels = drawn
    best = []
    for c in range(3):
        y = (labels == c).astype(float)
        found = optimize.minimize(
            lambda logs, y=y: -brute(features, y, *np.exp(logs)), [0.0, 0.0], method="Nelder-Mead",
            options={"xatol": 1e-8, "fatol": 1e-10},
        )  # fmt: skip
        best.append(-found.fun / len(y))
    assert logme(features, labels) == pytest.approx(np.mean(best), abs=1e-6)


def test_logme_prefers_features_that_know_the_labels_and_is_not_won_by_width(drawn):
    features, labels = drawn
    generator = np.random.default_rng(2)
    assert logme(features, labels) > logme(generator.permutation(features), labels)
    noise = generator.normal(size=(60, 200))
    assert logme(np.hstack([features, noise]), labels) < logme(features, labels)


def test_a_class_that_no_row_has_does_not_count(drawn):
    features, labels = drawn
    assert logme(features, labels * 2) == pytest.approx(logme(features, labels))


def test_neighbours_are_those_of_scikit_learn(drawn):
    features, labels = drawn
    for k in (1, 5):
        judge = KNeighborsClassifier(k, metric="cosine", algorithm="brute")
        reference = cross_val_predict(judge, features, labels, cv=LeaveOneOut())
        assert knn_accuracy(features, labels, neighbours=k) == (reference == labels).mean()


def test_no_row_is_its_own_neighbour():
    """Two rows of different classes: each has only the other to ask."""
    assert knn_accuracy(np.eye(2), np.array([0, 1])) == 0.0


def test_the_probe_judges_rows_it_has_not_seen():
    """Labels drawn at random: as many features as rows fit them by heart, and predict nothing."""
    generator = np.random.default_rng(3)
    labels = generator.integers(0, 2, 200)
    assert 0.35 < probe_accuracy(generator.normal(size=(200, 200)), labels) < 0.65
    assert probe_accuracy(labels[:, None] + 0.1 * generator.normal(size=(200, 3)), labels) > 0.95


def test_scores_know_how_sure_they_are(drawn):
    found = scores(*drawn)
    assert found.rows == 60
    assert found.error == pytest.approx(np.sqrt(found.probe * (1 - found.probe) / 60))
    assert transferability.Scores(0.0, 0.0, 1.0, 100).error < 1e-6
