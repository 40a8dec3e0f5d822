"""Shares of classes and sources, and the cap that levels them."""

import pytest
from datasets import ClassLabel, Dataset, Features, Value
from hypothesis import given, settings
from hypothesis import strategies as st

from cookbook.data.errors import DataError
from cookbook.data.sampling import balance, cap, class_balance, value_names


def rows(sources, labels=None):
    return Dataset.from_dict({"text": ["x" * len(s) for s in sources], "source": sources})


def test_shares_by_hand():
    table = balance(rows(["a", "a", "a", "bbb"]), "source", alpha=0.5)
    assert table.index.tolist() == ["a", "bbb"]
    assert table["share"].tolist() == [0.75, 0.25]
    assert table["share_of_characters"].tolist() == [0.5, 0.5]
    assert table["sampled"].tolist() == pytest.approx([3**0.5 / (3**0.5 + 1), 1 / (3**0.5 + 1)])


@settings(max_examples=30)
@given(st.lists(st.sampled_from("abc"), min_size=1), st.floats(0, 1))
def test_shares_add_up(sources, alpha):
    table = balance(rows(sources), "source", alpha=alpha)
    assert table["rows"].sum() == len(sources)
    assert table["share"].sum() == pytest.approx(1) and table["sampled"].sum() == pytest.approx(1)


def test_temperature_one_keeps_and_zero_levels():
    table = rows(["a", "a", "a", "b"])
    kept, level = (balance(table, "source", alpha=alpha)["sampled"].tolist() for alpha in (1, 0))
    assert kept == [0.75, 0.25] and level == [0.5, 0.5]


def test_classes_have_their_names_and_missing_ones_a_name_too():
    features = Features(text=Value("string"), label=ClassLabel(names=["ham", "spam"]))
    table = Dataset.from_dict({"text": list("abcd"), "label": [0, 1, None, 0]}, features)
    assert value_names(table, "label") == ["ham", "spam", "(none)", "ham"]
    assert class_balance(table)["ratio"].to_dict() == {"ham": 1.0, "spam": 2.0, "(none)": 2.0}


@settings(max_examples=30)
@given(st.lists(st.sampled_from("abc")), st.integers(1, 5), st.integers(0, 3))
def test_cap_bounds_every_value_and_loses_no_rare_one(sources, at_most, seed):
    capped = cap(rows(sources), "source", at_most, seed=seed)["source"][:]
    for value in "abc":
        assert capped.count(value) == min(sources.count(value), at_most)


def test_cap_is_seeded_and_keeps_the_order():
    table = Dataset.from_dict({"row": list(range(100)), "source": ["a"] * 100})
    first, again, other = (cap(table, "source", 10, seed=s)["row"][:] for s in (0, 0, 1))
    assert first == again == sorted(first) and first != other


def test_an_unknown_column():
    with pytest.raises(DataError, match="there is no column 'domain': the columns are text, s"):
        balance(rows(["a"]), "domain")
