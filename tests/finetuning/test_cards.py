"""Licences: as the card names them, and plainly nothing where it does not."""

import pytest

from cookbook.finetuning.cards import in_words, licence


@pytest.mark.parametrize(
    ("card", "found"),
    [
        ("---\nlicense: mit\nlanguage: en\n---\n# a model", "mit"),
        ("---\nlicense: [mit, apache-2.0]\n---\n", "mit, apache-2.0"),
        ("---\nlanguage: en\n---\n", ""),
        ("# a card without front matter, licence: MIT, says the prose", ""),
        ("---\nlicense: [unclosed\n---\n", ""),
    ],
)
def test_what_the_front_matter_says(tmp_path, card, found):
    (tmp_path / "README.md").write_text(card)
    assert licence(str(tmp_path)) == found


def test_no_card_is_no_licence(tmp_path):
    assert licence(str(tmp_path)) == ""
    assert "no licence" in in_words("")


def test_a_hub_id_that_cannot_be_asked(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert licence("nobody/nothing") == ""
    assert licence("not a hub id at all") == ""


def test_conditions_are_pointed_out():
    assert in_words("mit") == "licence mit"
    assert "conditions" in in_words("cc-by-nc-4.0") and "conditions" in in_words("llama3")
