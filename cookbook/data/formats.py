"""One file into one table, by its ending, strictly: every row arrives, or a line says why not.

It knows neither roles nor splits (`roles` and `sources` do); the reading itself is done by
`delimited`, `json_rows` and `readers`. Chapter 01 uses it through `cookbook.data.load`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cookbook.data import delimited, json_rows, readers
from cookbook.data.errors import DataError

if TYPE_CHECKING:
    from datasets import Dataset

FORMATS = (".csv", ".tsv", ".jsonl", ".json", ".parquet", ".txt")


def read_file(path: Path) -> Dataset:
    """All rows of one file, columns as in the file.

    Raises DataError, one line, for a file that is missing, empty, binary, not UTF-8, ragged,
    holds a line of 10 MB or is of none of `FORMATS`.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "two.txt"
    ...     _ = path.write_text("one row\\nanother\\n")
    ...     read_file(path)["text"][:]
    ['one row', 'another']
    """
    kinds = {
        ".csv": delimited.read, ".tsv": delimited.read, ".jsonl": json_rows.read,
        ".json": json_rows.read, ".parquet": readers.read_parquet, ".txt": readers.read_lines,
    }  # fmt: skip
    kind = path.suffix.lower()
    if kind not in kinds:
        raise DataError(
            f"{path.name} is of a kind that is not read here: convert it to one of "
            f"{', '.join(FORMATS)}"
        )
    try:
        if path.stat().st_size == 0:
            raise DataError(f"{path.name} is empty: it has 0 bytes; check how it was written")
        if kind != ".parquet":
            readers.refuse_binary(path)
        dataset = kinds[kind](path)
    except OSError as error:
        raise DataError(f"{path.name} cannot be read: {error.strerror or error}") from error
    if len(dataset) == 0:
        raise DataError(f"{path.name} is empty: it has no rows; check how it was written")
    return dataset
