"""Cleaning as a whole: what is kept, what is said, what is refused; on real data too."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value, load_dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from cookbook.data import filters
from cookbook.data.cleaning import DOCUMENTS, LABELLED, clean, judge_copies, judge_near
from cookbook.data.deduplication import exact_duplicates
from cookbook.data.errors import DataError

PROSE = (
    "The tokenizer reads the whole corpus once and counts how often every pair of symbols stands "
    "side by side. It then joins the pair that it saw most, and goes on with what it has until "
    "the vocabulary is full, so that frequent words end as one symbol and rare ones as several."
)


def table(texts, labels=None, **more):
    columns = {"text": texts} | ({} if labels is None else {"label": labels}) | more
    return Dataset.from_dict(columns)


WORDS = st.sampled_from(["a", "the", "of", "and", "<b>x</b>", "好", "a@b.org", "1", "\x00", "É"])
TEXTS = st.lists(WORDS, max_size=12).map(" ".join) | st.text(max_size=20) | st.none()
ROWS = st.lists(st.tuples(TEXTS, st.sampled_from(["x", "y"])), min_size=1, max_size=15)


@settings(max_examples=60)
@given(ROWS, st.sampled_from([DOCUMENTS, LABELLED]), st.booleans())
def test_the_ledger_balances_and_cleaning_twice_is_cleaning_once(rows, rules, labelled):
    texts, labels = map(list, zip(*rows, strict=True))
    source = table(texts, labels if labelled else None)
    try:
        kept, ledger = clean(source, rules=rules, language="en")
    except DataError as error:
        assert f"all {len(rows)} rows were dropped, most of them" in str(error)
        return
    ledger.check()
    assert len(rows) == len(kept) + sum(ledger.dropped.values())
    assert len(set(map(str.strip, kept["text"]))) == len(kept)
    again, second = clean(kept, rules=rules, language="en")
    assert second.dropped == {} and again["text"][:] == kept["text"][:]


def test_a_case_by_hand():
    rows = [
        (PROSE, "web"),
        ("<p>" + PROSE.upper() + "</p>", "web"),  # the same text
        (PROSE + " So it is.", "book"),  # nearly the same
        (" \n", "book"),
        (None, "book"),
        ("Schreiben Sie bitte an ann@example.org, denn wir lesen alles und antworten bald.", "web"),
        ("click here and win " * 20, "web"),
        ("A short line that the rules of pages let pass.", "book"),
    ]
    texts, sources = map(list, zip(*rows, strict=True))
    kept, ledger = clean(table(texts, source=sources), rules="documents", language="en")
    assert [ledger.fate(row) for row in range(len(rows))] == [
        "",
        "exact duplicate",
        "near duplicate",
        "no text",
        "no text",
        "other language",
        "no stop words",
        "",
    ]
    assert kept["text"][:] == [PROSE, rows[7][0]] and kept["source"][:] == ["web", "book"]
    assert ledger.examples["near duplicate"][0].twin == 0
    assert [step.step for step in ledger.steps] == [
        "normalise",
        "language",
        "quality",
        "exact duplicates",
        "near duplicates",
    ]


def test_private_details_are_masked_unless_told_otherwise():
    rows = table(["Ask ann@example.org today"], [0])
    assert clean(rows)[0]["text"][0] == "Ask [EMAIL] today"
    assert clean(rows, mask=False)[0]["text"][0] == "Ask ann@example.org today"


def test_other_columns_and_features_are_kept():
    features = Features(id=Value("int32"), text=Value("string"), label=ClassLabel(names=["n", "y"]))
    rows = Dataset.from_dict(
        {"id": [7, 8, 9], "text": ["a", " A", "b"], "label": [1, 1, 0]}, features
    )
    kept, _ = clean(rows)
    assert kept.features == features and kept[:] == {
        "id": [7, 9],
        "text": ["a", "b"],
        "label": [1, 0],
    }
    assert rows["text"][1] == " A"  # the source is not touched


def test_the_guess_is_printed(capsys):
    clean(table(["short"], [1]))
    clean(table(["short"]))
    _, ledger = clean(table([PROSE]))
    assert capsys.readouterr().out.splitlines() == [
        "rules: labelled (there is a column 'label'); other sets: rules='documents'",
        "rules: labelled (5 characters a row); other sets: rules='documents'",
        f"rules: documents ({len(PROSE)} characters a row); other sets: rules='labelled'",
    ]
    assert ledger.notes[0].startswith("rules: documents")


def test_length_and_stop_words_never_touch_labelled_rows():
    texts = [
        "ok",
        "!!",
        "😀",
        "99",
        "noun " * 60,
        "# " * 100,
        "Guten Tag, wie geht es Ihnen heute?",
    ]
    kept, ledger = clean(table(texts, list(range(len(texts)))))
    assert len(kept) == len(texts) and ledger.dropped == {}


def test_copies_that_disagree_on_their_label():
    texts = ["same text", "Same text!", "same  text", "torn", "torn", "one", "one"]
    kept, ledger = clean(table(texts, ["ham", "spam", "ham", "ham", "spam", "ham", "ham"]))
    assert kept["text"][:] == ["same text", "one"]
    assert ledger.dropped == {"conflicting label": 3, "exact duplicate": 2}
    assert ledger.conflicts == [
        {"text": "same text", "rows": [0, 1, 2], "labels": ["ham", "spam", "ham"]},
        {"text": "torn", "rows": [3, 4], "labels": ["ham", "spam"]},
    ]
    assert "texts under several labels: 2, such as 'same text'" in ledger.notes[-1]


def test_near_duplicates_under_another_label_stay():
    rows = table([PROSE, PROSE + " Yes.", PROSE + " No."], ["a", "a", "b"])
    kept, ledger = clean(rows)
    assert kept["label"][:] == ["a", "b"] and ledger.dropped == {"near duplicate": 1}
    assert "near-duplicates that stay, under another label: 1" in ledger.notes


def test_pairs_are_duplicates_only_as_pairs():
    rows = table(["q", "q", "q"], text_pair=["yes", "no", "<b>yes</b>"])
    kept, _ = clean(rows)
    assert kept["text_pair"][:] == ["yes", "no"]


def test_steps_can_be_left_out():
    rows = table([PROSE, PROSE + " Yes.", "Ceci n'est pas un texte anglais, mais il reste ici."])
    kept, ledger = clean(rows, rules="documents", near_threshold=None, language="")
    assert len(kept) == 3 and [s.step for s in ledger.steps][1:] == ["quality", "exact duplicates"]
    strict, _ = clean(rows, rules=replace(DOCUMENTS, min_words=50), near_threshold=None)
    assert len(strict) == 2


def test_the_language_of_the_corpus_is_guessed_and_a_mixture_left_alone():
    english = [f"{PROSE} This is number {i} of the rows and {i * i} to be sure." for i in range(8)]
    german = ["Das ist ein ganz gewöhnlicher Satz in deutscher Sprache, der hier nicht passt."]
    options = {"rules": "documents", "near_threshold": None}
    _, ledger = clean(table(english + german), **options)
    assert ledger.dropped == {"other language": 1}
    assert "language: en in 88.9% of 9 rows" in ledger.notes[-1]
    mixed = table(english[:1] + german)
    kept, ledger = clean(mixed, **options)
    assert len(kept) == 2 and "no row is dropped for its language" in ledger.notes[-1]


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        (table(["a"]), {"text_column": "body"}, "there is no column 'body': the columns are text;"),
        (table([1, 2]), {}, "column 'text' holds int, not text: pass text_column="),
        (table([]), {}, "there are no rows to clean: check the source"),
        (DatasetDict(train=table(["a"])), {}, "clean takes one table, and this holds train: pass"),
        (table(["a"]), {"rules": "strict"}, "rules='strict' is unknown: choose auto, documents"),
        (
            table(["", None, "12"]),
            {"rules": "documents"},
            r"all 3 rows were dropped, most of them \(2\) for 'no text': check that text_column",
        ),
        (
            table(["1", "2"]),
            {"rules": "documents"},
            r"all 2 rows were dropped, most of them \(2\) for 'too few words': pass rules='label",
        ),
        (
            table(["a", "A"], ["x", "y"]),
            {},
            r"all 2 rows were dropped, most of them \(2\) for 'conflicting label': no text has",
        ),
    ],
)
def test_what_is_refused(source, options, message):
    with pytest.raises(DataError, match=message) as raised:
        clean(source, **options)
    assert "\n" not in str(raised.value)


@given(st.lists(st.sampled_from("xyz"), min_size=1, max_size=9))
def test_of_copies_the_first_with_the_majority_stays_or_none(labels):
    reasons, kept = judge_copies(labels)
    counts = sorted((labels.count(label) for label in set(labels)), reverse=True)
    tie = len(counts) > 1 and counts[0] == counts[1]
    assert reasons.count("") == (0 if tie else 1)
    if not tie:
        assert labels.count(labels[kept]) == counts[0] and labels.index(labels[kept]) == kept


def test_clusters_are_judged_label_by_label():
    reasons, twins = judge_near(np.array([0, 0, 0, 3, 0]), ["a", "b", "a", "a", "b"])
    assert reasons == ["", "", "near duplicate", "", "near duplicate"]
    assert twins.tolist() == [0, 1, 0, 3, 1]


@pytest.mark.skipif("COOKBOOK_DATA_DIR" not in os.environ, reason="COOKBOOK_DATA_DIR is not set")
@pytest.mark.parametrize("name", ["sms_spam", "banking77", "wikitext2", "waimai_zh"])
def test_real_data_keeps_four_fifths_of_its_non_duplicates(name, tmp_path, monkeypatch):
    if name == "wikitext2":  # the model's part is tested above; here it would take half the time
        monkeypatch.setattr(filters, "language", lambda text: "en")
    folder = Path(os.environ["COOKBOOK_DATA_DIR"]) / name
    rows = load_dataset(str(folder), split="train", cache_dir=str(tmp_path))
    texts = [text or "" for text in rows["text"]]
    different = [row for row in np.unique(exact_duplicates(texts)) if texts[row].strip()]
    kept, ledger = clean(rows)
    assert len(kept) >= 0.8 * len(different)
    if name == "wikitext2":
        assert sum("<unk>" in text for text in kept["text"]) > 10_000
        assert sum(text.strip().startswith("= ") for text in kept["text"]) > 2_000
        assert ledger.dropped["no text"] > 12_000
    if name == "sms_spam":
        assert ledger.dropped["exact duplicate"] >= 403
