"""BLEU and chrF by hand are sacrebleu's, on a thousand random corpora."""

import numpy as np
import pytest
import sacrebleu

from cookbook.evaluation import translation

WORDS = ["the", "a", "Cat", "sat", "mat-", "dog's", "1984", "über", "公里", "五"]


def corpora(count):
    rng = np.random.default_rng(0)
    for _ in range(count):
        size = rng.integers(1, 4)
        yield tuple(
            [" ".join(rng.choice(WORDS, rng.integers(0, 9))) for _ in range(size)] for _ in range(2)
        )


def test_bleu_equals_sacrebleu_on_1000_random_corpora():
    scores = []
    for found, wanted in corpora(1000):
        expected = sacrebleu.corpus_bleu(found, [wanted], tokenize="none", force=True).score
        scores.append(expected)
        assert translation.bleu_by_hand(found, wanted) == pytest.approx(expected, abs=1e-9)
    assert sum(score > 5 for score in scores) > 100  # and not because all are nothing


def test_chrf_equals_sacrebleu_on_1000_random_corpora():
    for found, wanted in corpora(1000):
        expected = sacrebleu.corpus_chrf(found, [wanted]).score
        assert translation.chrf_by_hand(found, wanted) == pytest.approx(expected, abs=1e-9)


def test_identity_scores_100_and_nothing_in_common_0():
    text = ["the cat sat on the mat"]
    for score in (translation.bleu_by_hand, translation.chrf_by_hand):
        assert score(text, text) == pytest.approx(100)
        assert score(text, ["xyz"]) == 0 and score([""], text) == 0


def test_a_short_candidate_pays_for_its_brevity():
    whole, half = "a b c d e f g h", "a b c d"
    assert translation.bleu_by_hand([half], [whole]) == pytest.approx(100 * np.exp(-1))
    assert translation.bleu_by_hand([whole + " i j k l"], [whole]) > 50
