"""Words that stand in the same places point the same way; a run repeats itself."""

import math

import pytest
import torch

from cookbook.training.word_vectors import _pairs, train_word_vectors, words_of

# "cat" and "dog" have the same neighbours, "road" and "street" others.
TEXTS = [
    f"{a} {b} {c}"
    for a, c in (("furry", "purrs"), ("hungry", "sleeps"))
    for b in ("cat", "dog")
    for _ in range(30)
] + [f"long {b} ends" for b in ("road", "street") for _ in range(60)]
SETTINGS = {"width": 16, "window": 1, "batch_size": 256, "learning_rate": 0.05, "frequent": 1.0}


def test_words_with_the_same_neighbours_are_neighbours():
    found = train_word_vectors(TEXTS, steps=150, **SETTINGS)
    assert found.neighbours("cat", 1) == ["dog"] and found.neighbours("road", 1) == ["street"]
    assert math.isclose(found.curve[0][1], 6 * math.log(2), rel_tol=1e-5)  # contexts start at zero
    assert found.curve[-1][1] < found.curve[0][1] / 2


def test_a_run_repeats_itself():
    one, again = (train_word_vectors(TEXTS, steps=3, **SETTINGS) for _ in range(2))
    assert one.words == again.words and one.curve == again.curve
    assert torch.equal(one.model.centres.weight, again.model.centres.weight)


def test_words_are_lower_case_and_without_punctuation():
    assert words_of("Returns_x = f(x1); 不覺!") == ["returns", "x", "f", "x1", "不", "覺"]


def test_only_the_most_frequent_have_a_vector():
    found = train_word_vectors(TEXTS, vocab_size=3, steps=1, **SETTINGS)
    assert len(found.words) == 3 and len(found.neighbours("long", 9)) == 2
    with pytest.raises(ValueError, match="not among the 3"):
        found.neighbours("street")


def test_no_pair_is_refused():
    with pytest.raises(ValueError, match="side by side"):
        train_word_vectors(["alone", ""])


@pytest.mark.parametrize(("frequent", "share"), [(1.0, 1.0), (0.125, 0.5)])
def test_frequent_words_are_left_out_by_their_share(frequent, share):
    """A word of share 1/2 stays with probability sqrt(frequent / (1/2))."""
    ids = torch.tensor([0, 1] * 3000)
    kept = torch.full((2,), (frequent / 0.5) ** 0.5).clamp(max=1)
    centres, _ = _pairs([ids], kept, 1, torch.Generator().manual_seed(0))
    assert abs(len(centres) / 12_000 - share) < 0.03
