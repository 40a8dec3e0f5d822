"""Whole words and their numbers: there and back, padded, and refused where they do not fit."""

import pytest

from cookbook.data.template_words import SPECIAL, TemplateWords
from cookbook.models.text import END, MASK, PAD, START, UNKNOWN

TEXTS = ["is the 7 left of the 3 ?", "is there a 4 ?", "yes", "no"]


def test_texts_come_back():
    words = TemplateWords(TEXTS)
    assert [words.decode(ids) for ids in words.encode(TEXTS).tolist()] == TEXTS


def test_the_special_ids_are_those_of_the_models():
    assert [SPECIAL.index(f"[{name}]") for name in ("PAD", "UNK", "CLS", "SEP", "MASK")] == [
        PAD, UNKNOWN, START, END, MASK]  # fmt: skip
    ids = TemplateWords(TEXTS).encode(["yes [MASK]", "zebra"], 5).tolist()
    assert [row[0] for row in ids] == [START, START]
    assert ids[0][2:] == [MASK, END, PAD] and ids[1][1:] == [UNKNOWN, END, PAD, PAD]


def test_the_order_of_the_texts_does_not_matter():
    assert TemplateWords(TEXTS).words == TemplateWords(TEXTS[::-1]).words
    assert len(TemplateWords(TEXTS)) == len(SPECIAL) + len(set(" ".join(TEXTS).split()))


def test_a_text_that_is_too_long_is_refused():
    with pytest.raises(ValueError, match="takes 10 ids, more than 6"):
        TemplateWords(TEXTS).encode(TEXTS, 6)
