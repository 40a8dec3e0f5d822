"""Each published rule drops its own case and no neighbour."""

from dataclasses import replace

import pytest

from cookbook.data.filters import DOCUMENTS, LABELLED, language, quality

PROSE = (
    "The tokenizer reads the whole corpus once and counts how often every pair of symbols stands "
    "side by side. It then joins the pair that it saw most, and goes on with what it has until "
    "the vocabulary is full, so that frequent words end as one symbol and rare ones as several. "
    "Nothing of this depends on a language, as long as its words are parted by spaces."
)


def test_prose_passes_every_rule():
    assert len(PROSE.split()) >= DOCUMENTS.ratios_from
    assert quality(PROSE) == ""


@pytest.mark.parametrize(
    ("reason", "text"),
    [
        ("too few words", "123 456"),
        ("odd word length", " ".join(f"{word}.{word}.{word}.{word}" for word in PROSE.split())),
        ("odd word length", " ".join(PROSE.replace(" ", "").replace(".", ""))),
        ("too many symbols", PROSE.replace(" ", " # ")),
        ("too many symbols", PROSE.replace(" ", "... ")),
        ("too few letters", PROSE + " 1234" * 20),
        ("no stop words", " ".join(f"noun{i}" for i in range(60))),
        ("boilerplate", PROSE + "\nLorem ipsum dolor sit amet."),
        ("list of bullets", "- " + PROSE.replace(". ", ".\n- ").replace(", ", ",\n- ")),
        ("unfinished lines", PROSE.replace(" and ", " and ...\n", 3)),
        ("repeated lines", "\n".join([PROSE, *PROSE.split(". "), *PROSE.split(". ")])),
        ("repeated words", PROSE[:150] + " click here to win" * 12),
    ],
)
def test_each_rule_names_its_case(reason, text):
    assert quality(text) == reason
    assert quality(text, LABELLED) == ""


def test_a_rule_can_be_set():
    assert quality("too short a page", replace(DOCUMENTS, min_words=50)) == "too few words"
    assert quality(PROSE, replace(DOCUMENTS, max_words=50)) == "too many words"


def test_short_rows_are_not_judged_by_shares():
    assert quality("= = Gameplay = =") == ""
    assert quality("1999 2000 2001 2002 goals") == ""


def test_stop_words_are_asked_of_english_only():
    text = " ".join(f"wort{chr(97 + i % 26)}{chr(97 + i // 26)}" for i in range(60))
    assert quality(text, language="de") == ""
    assert quality(text, language="en") == "no stop words"


def test_chinese_is_not_judged_by_spaces():
    text = "送餐速度很快味道也特别好包装完整骑士态度非常热情下次还会再来点这家的外卖" * 2
    assert quality(text) == ""
    assert quality("!!!") == "too few words"


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("en", PROSE),
        ("zh", "这家餐厅的味道非常好，送餐的速度也很快，下次还会再来。"),
        ("fr", "Le vocabulaire est plein quand il n'y a plus de paires à joindre dans le texte."),
        ("", "x = f(y)"),
        ("", ""),
    ],
)
def test_languages(code, text):
    assert language(text) == code
