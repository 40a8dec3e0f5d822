"""JSON into a table: one object a line, a list of objects, or an object of columns.

Two passes over the rows: the first finds the types, the second fills the table, so that a key
that appears late and a column that mixes types lose nothing. It does not flatten nested objects.
Chapter 01 uses it through `cookbook.data.load`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cookbook.data.errors import DataError
from cookbook.data.readers import batches, cache_file, lines, store, whole_text

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset


def read(path: Path) -> Dataset:
    """All rows of a `.json` or `.jsonl` file; a key that a row lacks is null there.

    Accepts JSON lines, `[{...}, ...]`, `{"data": [{...}, ...]}`, `{"text": [...], ...}` and what
    pandas writes by default, `{"text": {"0": ...}, ...}`. Raises DataError for anything else.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "two.json"
    ...     _ = path.write_text('{"text": ["one", "two"], "stars": [5, 1]}')
    ...     read(path)[1]
    {'text': 'two', 'stars': 1}
    """
    import pyarrow as pa
    from datasets import Dataset

    if cache_file(path).exists():  # spares the first pass too
        return Dataset.from_file(str(cache_file(path)))
    held = None if _is_lines(path) else _rows_of(path, _parse(path, whole_text(path)))

    def rows() -> Iterator[dict]:
        return iter(held) if held is not None else _line_rows(path)

    def fill(batch: list[dict]) -> pa.RecordBatch:
        plain = [{k: _as_text(v) if k in mixed else v for k, v in row.items()} for row in batch]
        return pa.RecordBatch.from_pylist(plain, schema)

    try:
        schema, mixed = _schema(path, rows())
        if not schema:
            raise DataError(f"{path.name} is empty: it has no rows; check how it was written")
        return store(path, schema, map(fill, batches(rows())))
    except UnicodeEncodeError as error:
        half = ascii(error.object[error.start])
        raise DataError(
            f"{path.name} holds {half}, half of a character: write it again with ensure_ascii=False"
        ) from error


def _is_lines(path: Path) -> bool:
    """Whether each line is a row; `.json` and `.jsonl` are mistaken for each other often."""
    with path.open("rb") as handle:
        first = handle.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
    if path.suffix.lower() == ".jsonl" or first != b"{":
        return first != b"["
    with path.open("rb") as handle:
        head, rest = handle.readline(), any(line.strip() for line in handle)
    try:
        json.loads(head.removeprefix(b"\xef\xbb\xbf"))
    except ValueError:
        return False
    return rest


def _parse(path: Path, text: str, where: str = "") -> Any:
    try:
        return json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise DataError(
            f"{path.name}{where} is not JSON: {error}; write a list of objects, or one a line"
        ) from error


def _line_rows(path: Path) -> Iterator[dict]:
    for number, line in enumerate(lines(path), 1):
        if line.strip():
            yield _object(path, _parse(path, line, f" line {number}"), f"line {number}")


def _object(path: Path, row: Any, where: str) -> dict:
    if not isinstance(row, dict):
        raise DataError(
            f"{path.name} {where} is a {type(row).__name__}, not an object such as "
            '{"text": "...", "label": "..."}'
        )
    return row


def _rows_of(path: Path, content: Any) -> list[dict]:
    """The rows of a whole JSON document, whichever of the usual shapes it has."""
    if isinstance(content, dict) and len(content) == 1:
        (only,) = content.values()
        if isinstance(only, list) and only and all(isinstance(row, dict) for row in only):
            content = only
    if isinstance(content, list):
        return [_object(path, row, f"row {i}") for i, row in enumerate(content, 1)]
    columns = content if isinstance(content, dict) else {}
    columns = {k: list(v.values()) if isinstance(v, dict) else v for k, v in columns.items()}
    if not columns or not all(isinstance(column, list) for column in columns.values()):
        raise DataError(
            f"{path.name} is one JSON {type(content).__name__}, not a table: write a list of "
            "objects, or an object of lists"
        )
    if len(sizes := {name: len(column) for name, column in columns.items()}) > 1:
        if len(set(sizes.values())) > 1:
            listing = ", ".join(f"{name} {size}" for name, size in sizes.items())
            raise DataError(f"{path.name} has columns of different length: {listing}; align them")
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _schema(path: Path, rows: Iterator[dict]) -> tuple[pa.Schema | None, set[str]]:
    """(schema of all rows or None, names of the columns that mix types and are read as text)."""
    import pyarrow as pa

    types: dict[str, pa.DataType] = {}
    present: Counter[str] = Counter()
    mixed: set[str] = set()
    total = 0
    for batch in batches(rows):
        total += len(batch)
        for row in batch:
            present.update(row.keys())
        for name in {key: None for row in batch for key in row}:
            try:
                values = pa.array([row.get(name) for row in batch])
                types[name] = _common(types.get(name, values.type), values.type)
            except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
                mixed.add(name)
                types[name] = pa.string()
    types.update(dict.fromkeys(mixed, pa.string()))
    _say_what_differs(path, present, total, mixed)
    return (pa.schema(list(types.items())) if types else None), mixed


def _common(first: pa.DataType, second: pa.DataType) -> pa.DataType:
    import pyarrow as pa

    pair = [pa.schema([("column", kind)]) for kind in (first, second)]
    return pa.unify_schemas(pair, promote_options="permissive").field(0).type


def _say_what_differs(path: Path, present: Counter, total: int, mixed: set[str]) -> None:
    for name in present:
        if name in mixed:
            print(f"{path.name}: column {name!r} mixes types, so it is read as text")
    missing = [f"{name} in {total - n}" for name, n in present.items() if n < total]
    if missing:
        print(f"{path.name}: of {total} rows some lack a key, null there: {', '.join(missing)}")


def _as_text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)
