"""Kinds by the spelling of names; rows of the libraries that were asked for, splits kept."""

import pytest
from datasets import Dataset, DatasetDict

from cookbook.data.errors import DataError
from cookbook.data.object_kinds import KINDS, object_kinds

ROWS = [
    ("One.", "a", "a.core", "Solver"),
    ("Two.", "a", "a.core", "Solver.solve"),
    ("Three.", "b", "b", "solve"),
    ("A module.", "a", "a.core", "a.core"),
    ("Four.", "a", "a.core", "solve"),
]


@pytest.fixture
def corpus():
    names = ("text", "library", "module", "name")
    return DatasetDict(train=Dataset.from_list([dict(zip(names, r, strict=True)) for r in ROWS]))


def test_rows_by_hand(corpus):
    part = object_kinds(corpus, ["a"])["train"]
    assert part["text"] == ["One.", "Two.", "Four."]
    assert [KINDS[label] for label in part["label"]] == ["class", "method", "function"]
    assert part.features["label"].names == list(KINDS)
    assert object_kinds(corpus, ["a", "b"])["train"]["library"] == ["a", "a", "b", "a"]


def test_a_library_that_is_not_there(corpus):
    with pytest.raises(DataError, match="the train split has no rows of numpy"):
        object_kinds(corpus, ["numpy"])
