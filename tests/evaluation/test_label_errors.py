"""Confident learning equals cleanlab's, and finds the labels that were changed on purpose."""

import numpy as np
import pytest

from cookbook.evaluation import label_errors


def random_case(seed, rows=60, classes=3):
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(classes), rng.integers(0, classes, rows - classes)])
    given = rng.dirichlet(np.full(classes, 0.6), rows)
    return given, labels


def test_equal_to_cleanlab_on_random_cases():
    from cleanlab.count import get_confident_thresholds
    from cleanlab.filter import find_label_issues

    differ = 0
    for seed in range(60):
        given, labels = random_case(seed, classes=2 + seed % 4)
        ours = label_errors.suspects(given, labels)
        usual = get_confident_thresholds(labels, given)
        assert np.allclose(label_errors.thresholds(given, labels), usual)
        theirs = find_label_issues(
            labels, given, filter_by="confident_learning", n_jobs=1,
            return_indices_ranked_by="self_confidence", min_examples_per_class=0,
        )  # fmt: skip
        sure = given >= usual - 1e-6
        both = (sure.sum(1) > 1) & ~sure[np.arange(len(given)), given.argmax(1)]
        assert set(ours) ^ set(theirs) <= set(np.flatnonzero(both)), seed
        differ += len(set(ours) ^ set(theirs))
        own = given[np.arange(len(labels)), labels]
        assert (np.diff(own[ours]) >= 0).all()
    assert differ < 20  # of 3,600 rows


def test_changed_labels_are_found_and_no_other():
    rng = np.random.default_rng(0)
    labels = np.arange(200) % 2
    words = [["good", "fine", "nice"], ["bad", "poor", "ugly"]]
    texts = [" ".join(rng.choice(words[k], 4)) + f" film {i % 7}" for i, k in enumerate(labels)]
    wrong = rng.choice(200, 12, replace=False)
    given = labels.copy()
    given[wrong] = 1 - given[wrong]
    found = label_errors.suspects(label_errors.out_of_fold(texts, given), given)
    assert set(found) <= set(wrong) and len(found) >= 9  # and no right label among them


def test_what_cannot_be_done_says_why():
    with pytest.raises(ValueError, match="class 1 has no row"):
        label_errors.suspects(np.array([[0.5, 0.5]]), [0])
    with pytest.raises(ValueError, match="2 rows, fewer than 5 folds"):
        label_errors.out_of_fold(["a", "b", "c", "d"], [0, 0, 1, 1])
