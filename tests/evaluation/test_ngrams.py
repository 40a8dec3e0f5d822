"""Probabilities add up to 1, a hand-worked case, and counting finds the entropy of chance."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cookbook.evaluation.ngrams import END, CharacterNgrams

TEXTS = st.lists(st.text("abc ", max_size=12), min_size=1, max_size=5)


@given(TEXTS, st.integers(1, 4), st.text("abcz", max_size=5))
def test_probabilities_add_up_to_1(texts, order, history):
    model = CharacterNgrams(order).fit(texts)
    symbols = [*model.symbols, "?"]  # and one for everything never seen
    assert math.isclose(sum(model.probability(s, history) for s in symbols), 1, rel_tol=1e-9)


def test_a_hand_worked_case():
    """In "aab" + end: 4 symbols counted, 3 kinds, base 1/4; after a: a once, b once."""
    model = CharacterNgrams(2).fit(["aab"])
    unigram = (2 + 3 * 0.25) / (4 + 3)
    assert math.isclose(model.probability("a"), unigram)
    assert math.isclose(model.probability("a", "a"), (1 + 2 * unigram) / (2 + 2))
    assert math.isclose(model.probability(END, "b"), (1 + (1 + 0.75) / 7) / 2)
    assert math.isclose(model.probability("?"), 0.75 / 7)
    assert model.nats("aab").shape == (4,)


@given(TEXTS, st.integers(1, 3), st.text("abc", max_size=8))
def test_only_the_last_characters_count(texts, order, history):
    model = CharacterNgrams(order).fit(texts)
    tail = history[len(history) - order + 1 :] if order > 1 else ""
    assert model.probability("a", history) == model.probability("a", tail if history else "")


def test_even_chance_costs_its_entropy_and_a_pattern_nothing():
    rng = np.random.default_rng(0)
    chance = "".join(rng.choice(list("abcd"), 20_000))
    for order in (1, 3):
        bits = CharacterNgrams(order).fit([chance]).nats(chance[:2000]).mean() / math.log(2)
        assert abs(bits - 2) < 0.05
    pattern = "abcd" * 2000
    assert CharacterNgrams(1).fit([pattern]).nats(pattern).mean() / math.log(2) > 1.99
    assert CharacterNgrams(2).fit([pattern]).nats(pattern).mean() < 0.01


def test_order_0_is_refused():
    with pytest.raises(ValueError, match="shorter than nothing"):
        CharacterNgrams(0)
