"""Words, fingerprints and shingles: what counts as the same text."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cookbook.data.shingles import fingerprint, jaccard, shingle_hashes, shingles, words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("Don't  STOP -- now!", ["don", "t", "stop", "now"]),
        ("ﬁne ＡＢＣ", ["fine", "abc"]),
        ("味道很棒！送餐", ["味", "道", "很", "棒", "送", "餐"]),
        ("हिन्दी भाषा", ["हिन्दी", "भाषा"]),  # combining marks stay with their letters
        ("x\u00adray soft\u200bware", ["xray", "software"]),
        ("1+1=2 costs $5 🙂", ["1+1=2", "costs", "$5", "🙂"]),
        ("straße STRASSE", ["strasse", "strasse"]),
    ],
)
def test_words_by_hand(text, expected):
    assert words(text) == expected


@given(st.text())
def test_a_fingerprint_is_its_own_fingerprint(text):
    assert fingerprint(fingerprint(text)) == fingerprint(text)


@given(st.text(alphabet=st.characters(max_codepoint=127)))
def test_the_fast_path_for_ascii_cuts_as_the_pattern_does(text):
    # One accented word sends the same text down the path for Unicode.
    assert words(text + " é") == [*words(text), "é"]


def test_texts_without_a_word_differ_by_their_signs():
    assert fingerprint(":-)") != fingerprint(":-(")
    assert fingerprint(" !! ") == "!!"


def test_numbers_and_signs_that_carry_meaning_are_kept():
    assert fingerprint("1+1") != fingerprint("1-1")
    assert fingerprint("C++") != fingerprint("C")


def test_a_short_text_is_one_shingle():
    assert shingles("only three words") == {("only", "three", "words")}
    assert shingles("") == set()
    assert jaccard("", "") == 1.0 and jaccard("!", "?") == 0.0


@given(st.lists(st.text(alphabet="ab c", max_size=30), max_size=6), st.integers(1, 4))
def test_hashes_stand_for_the_shingles_of_each_text(texts, size):
    flat, starts = shingle_hashes(texts, size)
    found = [set(flat[a:b].tolist()) for a, b in zip(starts[:-1], starts[1:], strict=True)]
    expected = [shingles(text, size) for text in texts]
    assert [len(one) for one in found] == [len(one) for one in expected]
    for i in range(len(texts)):
        for j in range(i):
            assert len(found[i] & found[j]) == len(expected[i] & expected[j])


def test_hashes_do_not_depend_on_the_process():
    flat, starts = shingle_hashes(["the same in every process"], 5)
    assert starts.tolist() == [0, 1]
    assert flat.dtype == np.uint64
    assert flat.tolist() == [HASH]


# Written down from the first run: a cluster compares hashes that different machines made.
HASH = 17639888359572566934
