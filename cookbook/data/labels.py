"""A label column as it stands in the file into classes, or into a number to predict.

Text, booleans and whole numbers of few values become `ClassLabel`, the same over all splits;
measured numbers (a similarity of 3.8) become float32. A row without a label is left out, and
counted. It does not choose the column: `roles` does. Used by `cookbook.data.load`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cookbook.data.errors import DataError
from cookbook.data.readers import replace_column

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset

FEW = 50  # whole numbers with at most so many values are classes: stars, years of school
# Part of a dtype -> what the column holds; the first that fits ("date" before "int").
_DTYPES = {
    "string": "text", "date": "dates", "time": "times", "duration": "times", "int": "whole numbers",
    "float": "numbers", "decimal": "numbers", "bool": "booleans", "binary": "bytes",
    "null": "nothing",
}  # fmt: skip
SCORES = ("score", "similarity", "relatedness", "regression")  # 3.0 is a measure in these


def kind(feature: object) -> str:
    """What a column holds, in one word that a message can use.

    >>> from datasets import List, Value
    >>> kind(Value("large_string")), kind(Value("int8")), kind(List(Value("string")))
    ('text', 'whole numbers', 'lists')
    """
    from datasets import Array2D, Array3D, ClassLabel, Image, LargeList, List, Value

    if isinstance(feature, Value):
        words = (word for part, word in _DTYPES.items() if part in feature.dtype)
        return next(words, feature.dtype)
    if isinstance(feature, dict):
        return "images" if set(feature) == {"bytes", "path"} else "objects"
    if isinstance(feature, ClassLabel):
        return "classes"
    if isinstance(feature, (Image, Array2D, Array3D)):
        return "images"
    return "lists" if isinstance(feature, (List, LargeList, list)) else type(feature).__name__


def attach(
    parts: dict[str, Dataset], name: str, *, where: str, certain: bool = True
) -> tuple[dict[str, Dataset], str]:
    """`parts` with column `name` as classes or float32, and what was made of it, in words.

    Splits in which no row has a label are left out, and said, so that they are made anew. Raises
    DataError for a column that cannot be a label; with `certain=False` (nothing but its type
    speaks for it) also where its values hardly repeat.

    >>> from datasets import Dataset
    >>> rows = Dataset.from_dict({"stars": [5, 1, 5, 3]})
    >>> parts, words = attach({"train": rows}, "stars", where="a.csv")
    >>> words, parts["train"]["stars"][:], parts["train"].features["stars"].names
    ('3 classes', [2, 0, 2, 1], ['1', '3', '5'])
    """
    having = {split: part for split, part in parts.items() if _has(part, name)}
    arrays = _one_type({split: _values(part, name, where) for split, part in having.items()})
    labelled = {split: np.asarray(array.is_valid()) for split, array in arrays.items()}
    labelled = {split: rows for split, rows in labelled.items() if rows.any()}
    _check_filled(arrays, labelled, name, where)
    values = _distinct([arrays[split] for split in labelled])
    rows = sum(int(found.sum()) for found in labelled.values())
    classes = _classes(parts, name, values, rows, where, certain)
    _say_left_out(parts, labelled, where)
    made = {}
    for split, found in labelled.items():
        array, feature = _encode(arrays[split], classes)
        made[split] = replace_column(parts[split], name, array, feature)
        if not found.all():
            made[split] = made[split].select(np.flatnonzero(found))
    low, high = (min(values), max(values)) if classes is None else (0, 0)
    return made, f"{len(classes)} classes" if classes else f"a number from {low:g} to {high:g}"


def _has(part: Dataset, name: str) -> bool:
    return name in part.column_names and kind(part.features[name]) != "nothing"


def _values(part: Dataset, name: str, where: str) -> pa.ChunkedArray:
    """The column as text, int64 or float64, null where there is no label."""
    import pyarrow as pa
    import pyarrow.compute as pc

    column, feature = part.data.column(name), part.features[name]
    what = kind(feature)
    if what == "classes":  # -1 is how GLUE and others mark a row without a label
        names = pa.array(feature.names)
        ids = pc.if_else(pc.less(column, 0), pa.scalar(None, column.type), column)
        return pa.chunked_array([names.take(chunk) for chunk in ids.chunks], pa.string())
    if what == "text":
        trimmed = pc.utf8_trim_whitespace(column.cast(pa.string()))
        return pc.if_else(pc.equal(trimmed, ""), pa.scalar(None, pa.string()), trimmed)
    if what == "booleans":
        return column.cast(pa.string())
    if what == "whole numbers":
        return column.cast(pa.int64())
    if what == "numbers":
        column = column.cast(pa.float64())
        return pc.if_else(pc.is_nan(column), pa.scalar(None, pa.float64()), column)
    raise DataError(
        f"the label column {name!r} of {where} holds {what}, not one class or number a row: "
        f"choose another ({', '.join(c for c in part.column_names if c != name)})"
    )


def _one_type(arrays: dict[str, pa.ChunkedArray]) -> dict[str, pa.ChunkedArray]:
    """One type over all splits: whole numbers of one split meet the text of another as text."""
    import pyarrow as pa

    kinds = {array.type for array in arrays.values()}
    if len(kinds) < 2:
        return arrays
    target = pa.string() if pa.string() in kinds else pa.float64()
    return {split: array.cast(target) for split, array in arrays.items()}


def _check_filled(arrays: dict, labelled: dict, name: str, where: str) -> None:
    if not labelled or ("train" in arrays and "train" not in labelled):
        rows = sum(len(array) for array in arrays.values())
        raise DataError(
            f"the label column {name!r} of {where} is empty in all {rows} rows: fill it in, or "
            "choose another"
        )
    rows = sum(len(found) for found in labelled.values())
    blank = rows - sum(int(found.sum()) for found in labelled.values())
    if blank > rows / 2:
        raise DataError(
            f"the label column {name!r} of {where} is empty in {blank} of {rows} rows: fill it "
            "in, or remove the rows without a label"
        )


def _distinct(arrays: list[pa.ChunkedArray]) -> list:
    values = {value for array in arrays for value in array.unique().to_pylist()} - {None}
    try:
        return sorted(values, key=float)  # "2" before "10"
    except ValueError:
        return sorted(values)


def _classes(
    parts: dict[str, Dataset], name: str, values: list, rows: int, where: str, certain: bool
) -> list[str] | None:
    """Names of the classes in the order of their numbers, or None for a measured number."""
    if len(values) < 2:
        raise DataError(
            f"the label column {name!r} of {where} has one class only, {str(values[0])!r}, in all "
            f"{rows} rows: a classifier needs two"
        )
    known = [part.features[name].names for part in parts.values()
             if _has(part, name) and kind(part.features[name]) == "classes"]  # fmt: skip
    if known and all(names == known[0] for names in known) and set(values) <= set(known[0]):
        return list(known[0])  # classes that no row has keep their number
    text = isinstance(values[0], str)
    if len(values) > rows / 2 and (rows >= 10 if certain and text else not certain):
        raise DataError(
            f"the label column {name!r} of {where} has {len(values)} different values in "
            f"{rows} rows: a class repeats, so choose another column"
        )
    if text:
        return values
    return [str(int(value)) for value in values] if _counts(name, values, rows) else None


def _counts(name: str, values: list, rows: int) -> bool:
    """Whether numbers are classes. 1.0 and 0.0 are: that is how pandas writes gaps in integers."""
    if any(value % 1 for value in values):
        return False
    if isinstance(values[0], float) and any(word in name.lower() for word in SCORES):
        return False
    numbered = values[0] in (0, 1) and values[-1] - values[0] + 1 == len(values)
    return len(values) <= FEW or (numbered and len(values) <= rows / 2)


def _encode(array: pa.ChunkedArray, classes: list[str] | None) -> tuple[pa.ChunkedArray, object]:
    import pyarrow as pa
    import pyarrow.compute as pc
    from datasets import ClassLabel, Value

    if classes is None:
        return array.cast(pa.float32(), safe=False), Value("float32")
    if array.type == pa.float64():
        array = array.cast(pa.int64())
    ids = pc.index_in(array.cast(pa.string()), value_set=pa.array(classes))
    return ids.cast(pa.int64()), ClassLabel(names=classes)


def _say_left_out(parts: dict, labelled: dict, where: str) -> None:
    for split, part in parts.items():
        if split not in labelled:
            print(f"{where}: {split} has no labels, so its {len(part)} rows are left out")
        elif not labelled[split].all():
            blank = int((~labelled[split]).sum())
            print(f"{where}: {blank} of {len(part)} rows of {split} have no label, left out")
