"""CSV and TSV into a table, by Python's own parser in strict mode, so that errors have a line.

The separator (`,` `;` tab `|`) is found from the first rows. All fields are read as text, then a
column that holds nothing but numbers becomes one; the words "NA" and "null" in a text stay what
they are (pandas would blank them). It repairs nothing. Chapter 01 uses it through
`cookbook.data.load`.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from cookbook.data.errors import DataError
from cookbook.data.readers import LONGEST, batches, lines, replace_column, store

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset

SEPARATORS = (",", ";", "\t", "|")
_NAMED = {",": "','", ";": "';'", "\t": "a tab", "|": "'|'"}
_INTEGER = r"^[+-]?(0|[1-9]\d{0,17})$"
_FLOAT = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
_CODE = r"^[+-]?(0\d|\d{19})"  # 007, or an id too long for 64 bits: text, lest digits be lost
_BLANK = ("", "NA", "N/A", "NaN", "nan", "null", "NULL", "None")  # in a column of numbers only


def read(path: Path) -> Dataset:
    """All rows of a `.csv` or `.tsv` file, under the names of its first line.

    Raises DataError, with the line, for a row of another length than the header, for a quote
    that is not closed, for a field of 10 MB, and for two columns of one name.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "reviews.csv"
    ...     _ = path.write_text("review;stars\\nNA;5\\n")
    ...     read(path)[0]
    {'review': 'NA', 'stars': 5}
    """
    separator = _separator(path)
    try:
        return _numbers(_table(path, separator, csv.QUOTE_MINIMAL))
    except DataError as error:
        # Many TSV files (GLUE's, for one) have no quoting: a quote is a character like another.
        if separator != "\t" or "UTF-8" in str(error):
            raise
        try:
            dataset = _numbers(_table(path, separator, csv.QUOTE_NONE))
        except DataError:
            raise error from None
    print(f"{path.name}: its quotes do not pair up, so they are read as plain characters")
    return dataset


def _separator(path: Path) -> str:
    """The one that cuts the first rows into the most fields, equally many in each."""
    head = [line for line in islice(lines(path, bar=False), 30) if line.strip()]
    widths = {}
    for separator in SEPARATORS:
        try:
            found = [len(row) for row in csv.reader(head, delimiter=separator)]
        except csv.Error:
            continue
        # The last row may be cut off inside quotes.
        widths[separator] = (len(set(found[:-1])) <= 1, found[0] if found else 0)
    if path.suffix.lower() == ".tsv" and widths.get("\t", (0, 0))[1] > 1:
        return "\t"
    several = {key: value for key, value in widths.items() if value[1] > 1}
    return max(several, key=several.__getitem__, default=",")


def _table(path: Path, separator: str, quoting: int) -> Dataset:
    """Every column as text."""
    import pyarrow as pa

    rows = _rows(path, separator, quoting)
    names = _names(path, next(rows, []))
    schema = pa.schema([(name, pa.string()) for name in names])

    def fill(batch: list[list[str]]) -> pa.RecordBatch:
        return pa.record_batch([pa.array(c, pa.string()) for c in zip(*batch, strict=True)], schema)

    dataset = store(path, schema, map(fill, batches(rows)))
    if len(dataset) == 0:
        raise DataError(f"{path.name} has a header ({', '.join(names)}) and no rows: add some")
    return dataset


def _rows(path: Path, separator: str, quoting: int) -> Iterator[list[str]]:
    """Header first; every row as wide as the header. Blank lines are no rows."""
    limit = csv.field_size_limit(LONGEST)  # a setting of the process: put back below
    reader = csv.reader(lines(path), delimiter=separator, quoting=quoting, strict=True)
    start, width = 1, 0
    try:
        for row in reader:
            if row:
                width = width or len(row)
                if len(row) != width:
                    raise DataError(
                        f"{path.name} line {start} has {len(row)} field{'s' * (len(row) != 1)}, "
                        f"the header has {width}: "
                        f"put a field that holds {_NAMED[separator]} in double quotes"
                    )
                yield row
            start = reader.line_num + 1
    except csv.Error as error:
        raise DataError(f"{path.name} line {start} {_reason(error)}") from error
    finally:
        csv.field_size_limit(limit)


def _reason(error: csv.Error) -> str:
    if "field limit" in str(error):
        return f"starts a field of {LONGEST // 10**6} MB or longer: is a quote left open there?"
    if "unexpected end" in str(error):
        return "opens a double quote that is never closed: close it, or double it"
    return f"cannot be read as CSV ({error}): a double quote inside a quoted field is doubled"


def _names(path: Path, header: list[str]) -> list[str]:
    names = [name.strip() or f"column_{i}" for i, name in enumerate(header, 1)]
    if not any(name.strip() for name in header):
        raise DataError(f"{path.name} is empty: it has only blank lines; check how it was written")
    for i, name in enumerate(names):
        if name in names[:i]:
            raise DataError(
                f"{path.name} has two columns named {name!r} (columns {names.index(name) + 1} and "
                f"{i + 1}): rename one in the header"
            )
    return names


def _numbers(dataset: Dataset) -> Dataset:
    """Columns of text that hold nothing but numbers become int64 or float64, blanks null."""
    from datasets import Value

    for name in dataset.column_names:
        array = _number_column(dataset.data.column(name))
        if array is not None:
            kind = "int64" if array.type == "int64" else "float64"
            dataset = replace_column(dataset, name, array, Value(kind))
    return dataset


def _number_column(column: pa.ChunkedArray) -> pa.ChunkedArray | None:
    import pyarrow as pa
    import pyarrow.compute as pc

    trimmed = pc.utf8_trim_whitespace(column)
    blank = pc.is_in(trimmed, value_set=pa.array(_BLANK))
    filled = trimmed.filter(pc.invert(blank))
    if len(filled) == 0:
        return None

    def every(pattern: str, among: pa.ChunkedArray = filled) -> bool:
        return pc.all(pc.match_substring_regex(among, pattern)).as_py()

    if not every(_FLOAT, filled.slice(0, 100)):  # long columns of prose are seen through early
        return None
    if not every(_FLOAT) or pc.any(pc.match_substring_regex(filled, _CODE)).as_py():
        return None
    kind = pa.int64() if every(_INTEGER) else pa.float64()
    plain = pc.replace_substring_regex(trimmed, r"^\+", "")
    return pc.if_else(blank, pa.scalar(None, pa.string()), plain).cast(kind)
