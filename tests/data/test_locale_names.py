"""Names and numbers as locales write them: right, without overlap, and every row accounted for."""

import datetime

import pytest
from babel import Locale

from cookbook.data import embedded, locale_names, splits


@pytest.fixture(scope="module")
def built():
    return locale_names.build()


def test_a_row_is_a_pair_in_one_language(built):
    made, ledger = built
    assert made["train"].column_names == ["source", "target", "language", "kind"]
    rows = {(row["source"], row["language"]): row for part in made.values() for row in part}
    assert rows["Germany", "de"]["target"] == "Deutschland"
    assert rows["Germany", "zh"]["target"] == "德国"
    assert rows["Germany", "zh"]["kind"] == "territory"
    assert len(rows) == sum(map(len, made.values())) == len(ledger.kept)
    assert ledger.rows_in == len(rows) + sum(ledger.dropped.values())


def test_every_kind_is_on_every_side_in_both_languages(built):
    made, _ = built
    kinds = {"territory", "language", "script", "currency", "date", "number", "amount", "measure"}
    for part in made.values():
        found = set(zip(part["kind"], part["language"], strict=True))
        assert found == {(kind, language) for kind in kinds for language in ("de", "zh")}


def test_an_english_text_is_on_one_side_in_both_languages(built):
    made, _ = built
    assert splits.check_disjoint(made, text_column="source") > 3000
    sides = {}
    for side, part in made.items():
        for row in part:
            assert sides.setdefault(row["source"], side) == side


@pytest.mark.parametrize(
    ("kind", "value", "language", "text"),
    [
        ("date", (datetime.date(2026, 11, 24), "long"), "de", "24. November 2026"),
        ("date", (datetime.date(2026, 11, 24), "long"), "zh", "2026年11月24日"),
        ("number", 1234567.5, "de", "1.234.567,5"),
        ("amount", (2.5, "EUR"), "de", "2,50 Euro"),
        ("measure", ("mass-kilogram", 1), "en", "1 kilogram"),
        ("language", "sw", "zh", "斯瓦希里语"),
        ("script", "Kore", "de", "Koreanisch"),
        ("territory", "no such place", "de", ""),
    ],
)
def test_what_a_locale_writes(kind, value, language, text):
    assert locale_names.written(kind, value, Locale.parse(language)) == text


def test_a_missing_name_and_a_repeated_english_text_are_left_out(built):
    _, ledger = built
    assert set(ledger.dropped) == {"no name in the language", "English text of another row"}


def test_it_is_an_embedded_set_with_a_ledger(built, monkeypatch, tmp_path):
    monkeypatch.setenv("COOKBOOK_CACHE_DIR", str(tmp_path))
    monkeypatch.setitem(embedded._BUILDERS, "locale-names", lambda: built)
    assert embedded.build("locale-names").num_rows == {k: len(v) for k, v in built[0].items()}
    assert embedded.ledger("locale-names") == built[1].rows()
