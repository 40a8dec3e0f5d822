"""Labels: classes or a measured number, the same over splits, and rows that have none."""

import datasets
import pytest
from datasets import Dataset

from cookbook.data.errors import DataError
from cookbook.data.labels import attach, kind


def made(values, name="label", **kwargs):
    parts, words = attach({"train": Dataset.from_dict({name: values})}, name, where="a", **kwargs)
    feature = parts["train"].features[name]
    return parts["train"][name][:], getattr(feature, "names", feature.dtype), words


@pytest.mark.parametrize(
    "values, ids, names",
    [
        (["spam", "ham", "spam"], [1, 0, 1], ["ham", "spam"]),
        ([" ham", "ham ", "spam"], [0, 0, 1], ["ham", "spam"]),
        ([5, 1, 5], [1, 0, 1], ["1", "5"]),
        (["10", "2", "10"], [1, 0, 1], ["2", "10"]),
        ([True, False, True], [1, 0, 1], ["false", "true"]),
        ([-1, 1, 0], [0, 2, 1], ["-1", "0", "1"]),
        ([1.0, 0.0, 1.0], [1, 0, 1], ["0", "1"]),
    ],
)
def test_classes(values, ids, names):
    assert made(values)[:2] == (ids, names)


def test_measured_numbers_stay_numbers():
    assert made([2.5, 3.75, 0.0]) == ([2.5, 3.75, 0.0], "float32", "a number from 0 to 3.75")
    assert made([3.0, 4.0, 3.0], "similarity_score")[1] == "float32"  # whole by chance
    assert made(list(range(3, 200)))[1] == "float32"  # 197 values: a price, not a class
    assert made([*range(60)] * 3)[2] == "60 classes"  # numbered from zero, and they repeat


def test_classes_are_the_same_over_splits_and_types():
    parts = {
        "train": Dataset.from_dict({"y": [1, 2, 1]}),
        "test": Dataset.from_dict({"y": ["none", "1", "2"]}),
    }
    parts, _ = attach(parts, "y", where="a")
    train, test = parts.values()
    assert train.features["y"].names == test.features["y"].names == ["1", "2", "none"]
    assert train["y"][:] == [0, 1, 0] and test["y"][:] == [2, 0, 1]


def test_known_classes_keep_their_numbers_and_minus_one_is_no_label(capsys):
    features = datasets.Features(y=datasets.ClassLabel(names=["z", "never", "a"]))
    part = Dataset.from_dict({"y": [2, -1, 0, 2]}, features=features)
    parts, words = attach({"train": part}, "y", where="set")
    assert parts["train"]["y"][:] == [2, 0, 2] and words == "3 classes"
    assert parts["train"].features == features
    assert capsys.readouterr().out == "set: 1 of 4 rows of train have no label, left out\n"


@pytest.mark.parametrize("missing", [None, " ", ""])
def test_rows_without_a_label_are_left_out_and_counted(missing, capsys):
    part = Dataset.from_dict({"text": list("abcd"), "y": ["p", missing, "q", "p"]})
    parts, _ = attach({"train": part}, "y", where="a.csv")
    assert parts["train"]["text"][:] == ["a", "c", "d"] and parts["train"]["y"][:] == [0, 1, 0]
    assert capsys.readouterr().out == "a.csv: 1 of 4 rows of train have no label, left out\n"


def test_nan_is_no_label():
    assert made([1.0, float("nan"), 0.0])[0] == [1, 0]


def test_a_split_without_labels_is_left_out(capsys):
    parts = {
        "train": Dataset.from_dict({"y": ["p", "q"]}),
        "validation": Dataset.from_dict({"y": [None, None]}),
        "test": Dataset.from_dict({"x": [1]}),
    }
    assert list(attach(parts, "y", where="set")[0]) == ["train"]
    assert capsys.readouterr().out == (
        "set: validation has no labels, so its 2 rows are left out\n"
        "set: test has no labels, so its 1 rows are left out\n"
    )


@pytest.mark.parametrize(
    "values, message",
    [
        (["ham"] * 4, "has one class only, 'ham', in all 4 rows: a classifier needs two"),
        ([None, ""] * 2, "is empty in all 4 rows: fill it in, or choose another"),
        (
            ["a", "b", "", "", None],
            "is empty in 3 of 5 rows: fill it in, or remove the rows without a label",
        ),
        ([[1], [2]], "holds lists, not one class or number a row: choose another (x)"),
        ([{"a": 1}] * 2, "holds objects, not one class or number a row: choose another (x)"),
        (
            [f"text {i}" for i in range(10)],
            "has 10 different values in 10 rows: a class repeats, so choose another column",
        ),
    ],
)
def test_refusals(values, message):
    part = Dataset.from_dict({"x": [0] * len(values), "y": values})
    with pytest.raises(DataError) as caught:
        attach({"train": part}, "y", where="a.csv")
    assert str(caught.value) == f"the label column 'y' of a.csv {message}"


def test_a_column_of_unique_numbers_is_no_label_unless_asked_for():
    with pytest.raises(DataError, match="3 different values in 3 rows"):
        made([7, 8, 9], certain=False)
    assert made([7, 8, 9])[2] == "3 classes"


def test_kinds():
    features = datasets.Features(
        a=datasets.Value("timestamp[s]"), b=datasets.Image(), c={"x": datasets.Value("int8")},
        d=datasets.Value("bool"), e=datasets.Value("null"), f=datasets.Array2D((2, 2), "int32"),
    )  # fmt: skip
    found = [kind(feature) for feature in features.values()]
    assert found == ["times", "images", "objects", "booleans", "nothing", "images"]
