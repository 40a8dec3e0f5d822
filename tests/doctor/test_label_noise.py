import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict

from cookbook.doctor.label_noise import confident_joint, label_noise


def clouds(classes=4, rows=800, apart=3.0, seed=0):
    """Normal clouds in the plane around points of a circle; near ones overlap in both ways."""
    generator = np.random.default_rng(seed)
    y = generator.integers(0, classes, rows)
    angle = 2 * np.pi * y / classes
    centre = apart * np.stack([np.cos(angle), np.sin(angle)], 1)
    return centre + generator.normal(size=(rows, 2)), y


def out_of_sample(x, y):
    return cross_val_predict(LogisticRegression(max_iter=500), x, y, cv=5, method="predict_proba")


def one_way(y, rate, seed=1):
    """Some rows of class 0 were labelled 1."""
    wrong = (y == 0) & (np.random.default_rng(seed).random(len(y)) < rate)
    return np.where(wrong, 1, y)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("rate", [0.3, 0.4])
def test_labels_that_were_given_wrongly(rate, seed):
    x, y = clouds(seed=seed)
    noisy = one_way(y, rate)
    finding = label_noise(out_of_sample(x, noisy), noisy)
    assert finding.fault == "D3" and finding.severity == "warn"
    assert (finding.measured["label"], finding.measured["looks_like"]) == (1, 0)
    assert "labelled 1 look like 0" in finding.evidence


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("apart", [0.2, 0.7, 1.5, 3.0])
@pytest.mark.parametrize("classes", [2, 4, 8])
def test_classes_that_overlap_are_confused_both_ways(classes, apart, seed):
    x, y = clouds(classes, apart=apart, seed=seed)
    assert label_noise(out_of_sample(x, y), y) is None


@pytest.mark.parametrize("seed", range(3))
def test_an_imbalance_is_no_noise(seed):
    x, y = clouds(2, rows=1600, apart=1.0, seed=seed)
    kept = (y == 1) | (np.arange(len(y)) % 8 == 0)
    assert label_noise(out_of_sample(x[kept], y[kept]), y[kept]) is None


def test_the_joint_by_hand():
    p = np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.3, 0.7], [0.05, 0.95]])
    # Class 0 usually gets (0.9 + 0.8 + 0.05) / 3 = 0.58, class 1 (0.9 + 0.7) / 2 = 0.8.
    assert confident_joint(p, [0, 0, 1, 1, 0]).tolist() == [[2, 1], [0, 1]]
    assert confident_joint(p[:, [0, 1, 1]], [0, 0, 1, 1, 0])[:, 2].tolist() == [0, 0, 0]


def test_too_little_tells_nothing():
    assert label_noise(np.eye(2)[[0] * 20], [1] * 20) is None
    broken = np.full((200, 2), np.nan)
    assert label_noise(broken, [0, 1] * 100) is None
