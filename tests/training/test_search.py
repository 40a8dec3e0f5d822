"""Search finds by words and by meaning, is made once, and says in one line what it cannot do."""

import numpy as np
import pytest
from datasets import Dataset, DatasetDict

from cookbook import cli
from cookbook.training import search

VERBS = {"Reverse": "flip", "Sort": "sort", "Transpose": "swap", "Normalize": "scale"}


def corpus():
    rows = [
        {
            "text": f"{verb} the order of a tensor.\n\nReturns a copy, which is the {name} of it.",
            "library": "numpy" if number % 2 else "python", "module": "arrays",
            "name": name, "signature": "(m, axis=None)",
        }
        for number, (verb, name) in enumerate(VERBS.items())
    ]  # fmt: skip
    hidden = rows[0] | {"name": "Matrix._flip"}
    without = rows[0] | {"signature": ""}
    inherited = rows[0] | {"name": "Child.flip"}
    return DatasetDict(train=Dataset.from_list([*rows, hidden, without, inherited]))


def pairs():
    first = [f"{verb} the order of a tensor" for verb in VERBS]
    return Dataset.from_dict(
        {"summary": first, "text_pair": ["Returns a copy"] * 4, "name": list(VERBS.values())}
    )


@pytest.fixture
def made(tiny_bert, tokenizer, tmp_path):
    """The folder of an index that was trained for two steps."""
    checkpoint = tmp_path / "model"
    tiny_bert("BertModel", hidden_dropout_prob=0.1).save_pretrained(checkpoint)
    tokenizer.save_pretrained(checkpoint)
    rows = search.functions(corpus())
    search.make(
        tmp_path / "index", search.training_pairs(pairs()), rows, model=str(checkpoint), steps=2
    )
    return tmp_path / "index"


def test_public_functions_once_with_the_address_that_one_types():
    rows = search.functions(corpus())
    assert [row["function"] for row in rows] == [
        "arrays.flip(m, axis=None)", "numpy.sort(m, axis=None)",
        "arrays.swap(m, axis=None)", "numpy.scale(m, axis=None)",
    ]  # fmt: skip
    assert rows[0]["summary"] == "Reverse the order of a tensor."
    assert rows[0]["document"].startswith("flip Reverse")


def test_a_first_line_that_is_the_signature_is_no_summary():
    rows = [{"text": "flip(m, /)\n\nReverse it.\nMore", "name": "flip", "signature": "(m, /)",
             "library": "numpy", "module": "core"}]  # fmt: skip
    (row,) = search.functions(DatasetDict(train=Dataset.from_list(rows)))
    assert row["summary"] == "Reverse it." and row["document"] == "flip Reverse it.\nMore"


def test_what_was_written_is_found_again(made):
    index = search.load(made)
    assert index.vectors.shape == (4, 32) and index.vectors.dtype == np.float16
    hits = index.find("how do I reverse a tensor?", top=2)
    assert hits[0].function == "arrays.flip(m, axis=None)" and len(hits) == 2
    assert 1 >= hits[0].score >= hits[1].score >= 0
    only = index.find("reverse", library="numpy")
    assert {hit.function.split(".")[0] for hit in only} == {"numpy"} and len(only) == 2
    assert [p.name for p in made.parent.iterdir() if "index." in p.name] == []


def test_meaning_breaks_the_tie_of_words(made):
    """No word of the query stands in a document: the cosine alone decides, and still answers."""
    hits = search.load(made).find("gradients")
    assert len(hits) == 4 and hits[0].score > hits[-1].score


@pytest.mark.parametrize(
    ("asked", "left"),
    [("How can I sort by length", "sort by length"), ("function that merges two tables",
      "merges two tables"), ("to", "to"), ("what is the median of a list", "median of a list")],
)  # fmt: skip
def test_the_way_of_asking_is_left_out(asked, left):
    assert search.question(asked) == left


def test_the_first_call_makes_the_index_and_the_second_reads_it(made, tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(search, "cache_folder", lambda: tmp_path / "cache" / "search-1-x")
    monkeypatch.setattr("cookbook.data.embedded.build", lambda name: {
        "docstrings": corpus(), "docstring-pairs": {"train": pairs()}
    }[name])  # fmt: skip

    def make(folder, given, rows, seconds):
        calls.append((len(given), len(rows), seconds))
        made.rename(folder)

    monkeypatch.setattr(search, "make", make)
    assert search.ready(seconds=3).libraries() == ["numpy", "python"]
    assert search.ready().libraries() == ["numpy", "python"]
    assert calls == [(4, 4, 3)]


def test_the_key_names_recipe_versions_and_weights(monkeypatch):
    folder = search.cache_folder()
    assert folder.name.startswith(f"search-{search.RECIPE}-") and folder == search.cache_folder()
    monkeypatch.setattr("cookbook.data.embedded.versions", lambda: {"numpy": "0.1"})
    assert search.cache_folder().parent != folder.parent


def test_the_command_line(made, monkeypatch, capsys):
    monkeypatch.setattr(search, "ready", lambda: search.load(made))
    assert cli.main(["search", "reverse", "a tensor", "--top", "1"]) == 0
    line, first = capsys.readouterr().out.splitlines()
    assert line.endswith("  arrays.flip(m, axis=None)") and 0 <= float(line.split()[0]) <= 1
    assert first.strip() == "Reverse the order of a tensor."
    for arguments, words in (([" ? "], "query is empty"), (["x", "--library", "nump"], "numpy")):
        assert cli.main(["search", *arguments]) == 2
        told = capsys.readouterr()
        assert told.out == "" and len(told.err.splitlines()) == 1 and words in told.err
