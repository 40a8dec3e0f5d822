"""Sets made of docstrings: every docstring is accounted for, no held-out text was trained on."""

import pytest
from datasets import Dataset, DatasetDict, Features, Value

from cookbook.data import docstring_tasks as tasks
from cookbook.data import embedded, splits

BODY = "It walks through the list once, keeps what it has seen, and gives back what is left of it."


def corpus(**texts):
    """A corpus with the given docstrings in each split; missing splits are empty."""
    columns = ("text", "library", "module", "name", "signature")
    features = Features({name: Value("string") for name in columns})
    parts = {}
    for side in splits.NAMES:
        found = texts.get(side, [])
        filled = {"text": found, "module": [side] * len(found)}
        made = {name: filled.get(name, [""] * len(found)) for name in columns}
        parts[side] = Dataset.from_dict(made, features=features)
    return DatasetDict(parts)


def docstring(subject="things", body=BODY):
    return f"Remove repeated {subject}.\n\n{body} Both {subject} and others are kept in order."


def test_a_row_has_the_body_and_the_first_line():
    made, ledger = tasks.summaries(corpus(train=[docstring()], validation=[], test=[]))
    (row,) = made["train"]
    assert list(row) == ["text", "summary", "library", "module", "name"]
    assert row["summary"] == "Remove repeated things." and row["text"].startswith("It walks")
    assert row["module"] == "train" and str(ledger) == "1 rows in = 1 kept"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Remove repeated things.", "no body"),
        ("Remove repeated things.\n\nQuickly.", "body too short"),
        (f"Remove it.\n\n{BODY} {BODY}", "first line too short or too long"),
        (f"the list of things, without copies\n\n{BODY} {BODY}", "first line is no sentence"),
        (f"Remove repeated things.\n\nRemove repeated things.\n{BODY} {BODY}",
         "body repeats the first line"),
    ],
)  # fmt: skip
def test_why_a_docstring_has_no_summary(text, reason):
    _, ledger = tasks.summaries(corpus(train=[text, docstring()]))
    assert ledger.dropped == {reason: 1} and ledger.fate(0) == reason


def test_a_first_line_may_be_wrapped():
    made, _ = tasks.summaries(corpus(train=[docstring().replace("Remove ", "Remove\n    ")]))
    assert made["train"]["summary"][:] == ["Remove repeated things."]


def test_the_held_out_side_loses_what_training_has():
    other = docstring("colours", BODY.replace("list", "palette of a picture, from left to right,"))
    long = docstring(body=" ".join(f"Clause {i} says what happens to item {i}." for i in range(40)))
    nearly = long.replace("item 3.", "thing 3.")
    made, ledger = tasks.summaries(
        corpus(train=[long, long], validation=[long, other], test=[nearly])
    )
    assert {side: len(part) for side, part in made.items()} == {
        "train": 1, "validation": 1, "test": 0,
    }  # fmt: skip
    assert ledger.dropped == {"repetition": 2, "nearly a text of another split": 1}
    assert [ledger.fate(i) for i in range(5)] == [
        "", "repetition", "repetition", "", "nearly a text of another split",
    ]  # fmt: skip
    assert ledger.rows_in == 5


def test_several_rows_of_one_docstring_are_counted_each():
    def two(row):
        return [{"line": row["text"], "reason": ""}, {"line": "x", "reason": "an x"}]

    features = Features(line=Value("string"))
    made, ledger = tasks.derive(
        corpus(train=["a"], test=["b"]), two, same=("line",), leak="line", features=features
    )
    assert ledger.rows_in == 4 and ledger.dropped == {"an x": 2}
    assert made["train"]["line"][:] == ["a"] and made["test"]["line"][:] == ["b"]


@pytest.mark.parametrize("name", ["docstring-summaries", "docstring-qa", "docstring-mentions"])
def test_the_embedded_set_comes_with_its_ledger(name, monkeypatch, tmp_path):
    monkeypatch.setenv("COOKBOOK_CACHE_DIR", str(tmp_path))
    text = (
        docstring() + "\n\nParameters\n----------\naxis : int\n    Which axis to look along."
        "\n\nThe result of :func:`unique` is a list of the *axis* that it was given."
    )
    # an empty split cannot be read back from disk; other words, or it would be a leak
    other = {side: [text.replace("the", side).replace("is", side)] for side in splits.NAMES}
    monkeypatch.setitem(embedded._BUILDERS, "docstrings", lambda: corpus(**other))
    made = embedded.build(name)
    assert len(made["train"]) >= 1
    rows = embedded.ledger(name)
    assert rows[0]["rows_in"] >= rows[-1]["rows_out"] == sum(made.num_rows.values())
