"""What one worker does to one partition of rows, for `cluster`: pandas frames in, frames out.

A frame holds row (its number in all the data), text, pair (the second text of a row, or "") and
label. Every judgement is `cleaning`'s, `filters`' or `deduplication`'s; nothing is decided here,
and nothing here knows Dask. Used through `cluster` by the last section of chapter 01.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cookbook.data import cleaning, deduplication, filters
from cookbook.data.shingles import fingerprint, shingle_hashes

if TYPE_CHECKING:
    import pandas as pd
    from pandas import DataFrame

    from cookbook.data.filters import Rules

COPIES = {
    "row": "int64",
    "reason": "str",
    "twin": "int64",
    "label": "str",
    "conflict": "bool",
    "first": "int64",
}
PAIRS = {"left": "int64", "right": "int64"}
NO_LABEL = "(none)"  # as `sampling.value_names` writes it


def load(file: str, start: int, text_column: str, label_column: str) -> DataFrame:
    """The rows of one parquet file, the first of which has number `start`."""
    from pandas import DataFrame
    from pyarrow.parquet import read_table

    table = read_table(file)
    count = table.num_rows
    pair = table["text_pair"].to_pylist() if "text_pair" in table.column_names else [""] * count
    labels = [""] * count
    if label_column:
        names = _class_names(table.schema.metadata, label_column)
        labels = [_label(value, names) for value in table[label_column].to_pylist()]
    return DataFrame(
        {
            "row": np.arange(start, start + count),
            "text": _objects(table[text_column].to_pylist()),
            "pair": _objects(pair),
            "label": _objects(labels),
        }
    )


def _objects(values: list) -> pd.Series:
    from pandas import Series

    return Series(values, dtype=object)  # None stays None


def _class_names(metadata: dict | None, column: str) -> list[str] | None:
    described = json.loads((metadata or {}).get(b"huggingface", b"{}"))
    feature = described.get("info", {}).get("features", {}).get(column)
    return feature.get("names") if isinstance(feature, dict) else None


def _label(value: object, names: list[str] | None) -> str:
    if names is None:
        return str(value)
    return NO_LABEL if value is None or value < 0 else names[value]


def keys(frame: DataFrame) -> list[str]:
    """What two rows are compared by: the text, with the second text if there is one."""
    if not frame["pair"].any():
        return frame["text"].tolist()
    return [f"{a}\n{b}" for a, b in zip(frame["text"], frame["pair"], strict=True)]


def characters(frame: DataFrame) -> int:
    """Length of all texts together."""
    return sum(len(text or "") for text in frame["text"])


def normalise(frame: DataFrame, rules: Rules, mask: bool) -> DataFrame:
    """The texts in one format; `before` is the text as it came."""
    texts = [cleaning.normalise_text(text, rules, mask) for text in frame["text"]]
    pairs = [cleaning.normalise_text(text, rules, False) for text in frame["pair"]]
    return frame.assign(before=frame["text"], text=_objects(texts), pair=_objects(pairs))


def rewritten(frame: DataFrame) -> int:
    """How many texts the normalisation changed, those that it emptied aside."""
    return int(((frame["before"] != frame["text"]) & (frame["text"] != "")).sum())


def without_text(frame: DataFrame) -> DataFrame:
    """row, before, reason of the rows that hold no text."""
    return frame.loc[frame["text"] == "", ["row", "before"]].assign(reason="no text")


def language(frame: DataFrame) -> DataFrame:
    """row, code of the rows that are sure of their language."""
    codes = [filters.language(text) for text in frame["text"]]
    found = frame[["row"]].assign(code=_values(codes, frame))
    return found[found["code"] != ""]


def quality(frame: DataFrame, rules: Rules, code: str) -> DataFrame:
    """row, reason of the rows that the quality rules drop."""
    reasons = [filters.quality(text, rules, code) for text in frame["text"]]
    found = frame[["row"]].assign(reason=_values(reasons, frame))
    return found[found["reason"] != ""]


def _values(values: list[str], frame: DataFrame) -> pd.Series:
    from pandas import Series

    return Series(values, index=frame.index, dtype=object)


def keyed(frame: DataFrame) -> DataFrame:
    """row, label and a 64-bit key for the shuffle, with the fingerprint itself to be certain."""
    prints = [fingerprint(key) for key in keys(frame)]
    return frame[["row", "label"]].assign(key=_values(prints, frame))


def copies(frame: DataFrame) -> DataFrame:
    """Verdicts over all rows that share a key; every row of a key must be in this frame."""
    from pandas import DataFrame

    frame = frame[frame.duplicated("key", keep=False)].sort_values("row")
    found = []
    for _, group in frame.groupby("key", sort=False):
        rows, labels = group["row"].tolist(), group["label"].tolist()
        reasons, kept = cleaning.judge_copies(labels)
        conflict = len(set(labels)) > 1
        for row, reason, label in zip(rows, reasons, labels, strict=True):
            found.append((row, reason, rows[kept], label, conflict, rows[0]))
    return DataFrame(found, columns=list(COPIES)).astype(COPIES)


def buckets(frame: DataFrame, threshold: float) -> DataFrame:
    """(bucket, row) for every band of every row: rows that meet in a bucket are candidates."""
    from pandas import DataFrame

    flat, starts = shingle_hashes(frame["text"].tolist(), 5)
    full = np.flatnonzero(np.diff(starts) > 0)
    bands = deduplication.band_keys(flat, starts, threshold)[full]
    # One shuffle for all bands: the number of the band becomes part of the bucket's name.
    names = bands * np.uint64(31) + np.arange(bands.shape[1], dtype=np.uint64)
    rows = np.repeat(frame["row"].to_numpy()[full], bands.shape[1])
    return DataFrame({"bucket": names.ravel().view(np.int64), "row": rows})


def candidates(frame: DataFrame) -> DataFrame:
    """Pairs (left < right) of rows that meet in a bucket; whole buckets must be in this frame."""
    from pandas import DataFrame

    frame = frame.sort_values(["bucket", "row"])
    places = deduplication.neighbours(frame["bucket"].to_numpy())
    pairs = frame["row"].to_numpy()[places]
    return DataFrame(pairs, columns=list(PAIRS)).drop_duplicates()


def largest(frame: DataFrame) -> int:
    """Rows in the fullest bucket of this frame."""
    return int(frame["bucket"].value_counts().max()) if len(frame) else 0


def verified(frame: DataFrame, threshold: float) -> DataFrame:
    """Of pairs that come with both texts, those whose shingles have that Jaccard similarity."""
    flat, starts = shingle_hashes([*frame["text_left"], *frame["text_right"]], 5)
    places = np.arange(len(frame))
    pairs = np.stack([places, places + len(frame)], axis=1)
    alike = deduplication.jaccard_of_pairs(flat, starts, pairs) >= threshold
    return frame.loc[alike, list(PAIRS)]


def drop(frame: DataFrame, rows: np.ndarray) -> DataFrame:
    """The frame without these rows."""
    return frame[~frame["row"].isin(rows)].drop(columns="before", errors="ignore")


def select(frame: DataFrame, rows: np.ndarray) -> DataFrame:
    """Only these rows of the frame."""
    return frame[frame["row"].isin(rows)]


def compared(frame: DataFrame, rows: np.ndarray) -> DataFrame:
    """row and compared text of the frame, without these rows."""
    frame = drop(frame, rows)
    return frame[["row"]].assign(text=_values(keys(frame), frame))


def write(frame: DataFrame, source: str, start: int, text_column: str, target: str) -> int:
    """The rows of `frame` from the file `source`, texts as cleaned, into the file `target`."""
    import pyarrow as pa
    from pyarrow.parquet import read_table, write_table

    table = read_table(source).take(pa.array(frame["row"].to_numpy() - start))
    for name, column in ((text_column, "text"), ("text_pair", "pair")):
        if (place := table.schema.get_field_index(name)) >= 0:
            field = table.schema.field(place)
            table = table.set_column(place, field, pa.array(frame[column].tolist(), field.type))
    Path(target).parent.mkdir(parents=True, exist_ok=True)
    write_table(table, target)
    return len(frame)
