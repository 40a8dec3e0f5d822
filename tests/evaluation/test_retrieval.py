"""Ranks against brute force, recall and MRR against scikit-learn's metrics."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import label_ranking_average_precision_score, top_k_accuracy_score

from cookbook.evaluation import retrieval


def scores(n=30, m=40, seed=0):
    return np.random.default_rng(seed).normal(size=(n, m))


def test_recall_and_mrr_equal_scikit_learn():
    drawn, targets = scores(), np.random.default_rng(1).integers(0, 40, 30)
    found = retrieval.ranks(drawn, targets)
    theirs = top_k_accuracy_score(targets, drawn, k=10, labels=np.arange(40))
    assert retrieval.recall_at(found, 10) == theirs
    theirs = label_ranking_average_precision_score(np.eye(40)[targets], drawn)
    assert retrieval.mean_reciprocal_rank(found) == pytest.approx(theirs, abs=1e-12)


@given(st.integers(1, 8), st.integers(0, 9), st.integers(1, 4))
def test_a_rank_is_the_mean_place_over_all_orders_of_equals(n, seed, levels):
    drawn = np.random.default_rng(seed).integers(0, levels, (n, n)).astype(float)
    for row, rank in enumerate(retrieval.ranks(drawn)):
        order = sorted(-drawn[row])
        places = [i + 1 for i, value in enumerate(order) if value == -drawn[row, row]]
        assert rank == np.mean(places)


def test_a_model_that_says_the_same_of_everything_is_at_chance():
    found = retrieval.ranks(np.ones((21, 21)))
    assert found.tolist() == [11.0] * 21
    assert retrieval.recall_at(found, 10) == 0
    assert retrieval.ranks(np.full((3, 3), np.nan)).tolist() == [2.0] * 3


def test_blocks_change_nothing(monkeypatch):
    vectors = scores(7, 5), scores(7, 5, seed=1)
    whole = retrieval.ranks(vectors[0] @ vectors[1].T)
    monkeypatch.setattr(retrieval, "BLOCK", 3)
    assert np.array_equal(retrieval.ranks_by_cosine(*vectors), whole)
    assert len(retrieval.ranks_by_cosine(np.zeros((0, 5)), vectors[1])) == 0


def test_a_summary_by_hand():
    assert retrieval.summary(np.array([1, 2, 20])) == {
        "recall@1": 1 / 3,
        "recall@10": 2 / 3,
        "MRR": pytest.approx((1 + 1 / 2 + 1 / 20) / 3),
    }


def test_a_blend_by_hand_and_over_rows():
    first, second = np.array([9.0, 5.0, 1.0]), np.array([0.2, 0.3, 0.1])
    expected = [(1 + 0.5) / 2, (0.5 + 1) / 2, 0]
    assert retrieval.blend(first, second) == pytest.approx(expected)
    both = retrieval.blend(np.stack([first, second]), np.stack([second, first]))
    assert both[0] == pytest.approx(expected) and both[1] == pytest.approx(expected)
    drawn = scores()
    assert np.array_equal(retrieval.ranks(retrieval.blend(drawn)), retrieval.ranks(drawn))


def test_who_knows_nothing_has_no_vote():
    first = np.array([9.0, 5.0, 1.0])
    assert retrieval.blend(first, np.zeros(3)).argsort().tolist() == first.argsort().tolist()


def test_targets_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="one target a row"):
        retrieval.ranks(scores(3, 4), [0, 1])
    with pytest.raises(ValueError, match="one target a row"):
        retrieval.ranks(scores(4, 3))
