"""What reading every kind of file needs: lines of UTF-8, batches, Arrow, errors with their line.

Reads `.txt` (a row a line) and `.parquet` itself; `delimited` and `json_rows` build on it and
`formats` chooses among them. It repairs nothing: what is not UTF-8, binary or without end is
refused with its line. Files from 64 MB on become memory-mapped Arrow in the cache of `datasets`.
Chapter 01 uses it through `cookbook.data.load`.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cookbook.data.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset

LONGEST = 10_000_000  # bytes of one line or field: more is a file in one line, not a row
IN_MEMORY = 64 * 2**20  # bytes of a file; from here on memory-mapped, with a progress bar
ROWS_PER_BATCH = 4096
BOM = b"\xef\xbb\xbf"
_MAGIC = {
    b"PK\x03\x04": "a zip archive or an Excel workbook", b"\x1f\x8b": "gzip", b"PAR1": "parquet",
    b"%PDF": "a PDF", b"\x89PNG": "a PNG image", b"\xff\xd8\xff": "a JPEG image",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook", b"SQLite format 3": "an SQLite database",
}  # fmt: skip


def refuse_binary(path: Path) -> None:
    """Raise DataError where a file with a text ending does not begin like UTF-8 text."""
    with path.open("rb") as handle:
        head = handle.read(8192)
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise DataError(
            f"{path.name} is UTF-16, not UTF-8: convert it with "
            f"iconv -f UTF-16 -t UTF-8 {path.name} > utf8-{path.name}"
        )
    for magic, what in _MAGIC.items():
        if head.startswith(magic):
            raise DataError(
                f"{path.name} is not text but {what}: unpack or export it as {path.suffix}"
            )
    controls = sum(byte < 9 or 13 < byte < 27 or 27 < byte < 32 for byte in head)
    if controls > len(head) / 10:
        raise DataError(
            f"{path.name} is not text but binary: {controls} of its first {len(head)} bytes are "
            f"control characters; export it as {path.suffix}"
        )


def lines(path: Path, *, bar: bool = True) -> Iterator[str]:
    """The lines of a UTF-8 file with their ends as they stand, any of \\n, \\r\\n, \\r.

    Raises DataError with the line for bytes that are not UTF-8 and for a line of 10 MB, before
    that line is in memory.
    """
    offset = number = 0
    with path.open("rb") as handle, progress(path, bar) as shown:
        while raw := handle.readline(LONGEST):
            number += 1
            if len(raw) >= LONGEST:
                raise DataError(
                    f"{path.name} line {number} is {LONGEST // 10**6} MB long or longer: put one "
                    "document on a line, or cut it into paragraphs"
                )
            try:
                line = (raw.removeprefix(BOM) if offset == 0 else raw).decode("utf-8")
            except UnicodeDecodeError:
                raise not_utf8(path, raw, number, offset) from None
            offset += len(raw)
            shown.update(len(raw))
            if "\r" in line[:-2]:  # a lone \r ends a line too, as on old machines
                yield from io.StringIO(line, newline="")
            else:
                yield line


def progress(path: Path, bar: bool) -> Any:
    """A bar over the bytes of a file, shown only where reading takes long enough to wonder."""
    from tqdm.auto import tqdm

    size = path.stat().st_size
    hidden = not bar or size < IN_MEMORY
    return tqdm(total=size, unit="B", unit_scale=True, desc=path.name, leave=False, disable=hidden)


def batches(rows: Iterable) -> Iterator[list]:
    """Lists of at most `ROWS_PER_BATCH` rows."""
    iterator = iter(rows)
    while batch := list(islice(iterator, ROWS_PER_BATCH)):
        yield batch


def store(path: Path, schema: pa.Schema, parts: Iterable[pa.RecordBatch]) -> Dataset:
    """A `Dataset` of the batches: in memory for a small file, memory-mapped for a large one."""
    import pyarrow as pa
    from datasets import Dataset

    if path.stat().st_size < IN_MEMORY:
        return Dataset(pa.Table.from_batches(parts, schema))
    target = cache_file(path)
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        half = target.with_suffix(f".{os.getpid()}.half")  # whole only once renamed
        try:
            with pa.OSFile(str(half), "wb") as sink, pa.ipc.new_stream(sink, schema) as writer:
                for part in parts:
                    writer.write_batch(part)
            half.replace(target)
        finally:
            half.unlink(missing_ok=True)
    return Dataset.from_file(str(target))


def replace_column(dataset: Dataset, name: str, array: Any, feature: Any) -> Dataset:
    """The same rows with another column `name`; the other columns stay memory-mapped."""
    import pyarrow as pa
    from datasets import Dataset, Features

    order = dataset.column_names
    if order == [name]:  # without a column a table would have no rows to add one to
        return Dataset(pa.table([array], schema=Features({name: feature}).arrow_schema))
    rest = dataset.remove_columns(name)
    return rest.add_column(name, array, feature=feature).select_columns(order)


def cache_file(path: Path) -> Path:
    """Where `store` puts a large file, by its path, size and time of change: an edit counts."""
    import hashlib

    from datasets import config

    status = path.stat()
    key = f"1|{path.resolve()}|{status.st_size}|{status.st_mtime_ns}"  # 1: of this recipe
    folder = Path(config.HF_DATASETS_CACHE) / "cookbook-files"
    return folder / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.arrow"


def whole_text(path: Path) -> str:
    """All of a UTF-8 file as one string; DataError with the line where it is not UTF-8."""
    raw = path.read_bytes()
    try:
        return raw.removeprefix(BOM).decode("utf-8")
    except UnicodeDecodeError as error:
        start = raw.rfind(b"\n", 0, error.start) + 1
        line = raw[start:].split(b"\n", 1)[0]
        raise not_utf8(path, line, raw.count(b"\n", 0, start) + 1, start) from None


def not_utf8(path: Path, raw: bytes, number: int, offset: int) -> DataError:
    """The error for `raw`, line `number` of the file, which starts at byte `offset`."""
    start = len(raw.decode("utf-8", errors="replace").partition("\ufffd")[0].encode())
    likely = "GB18030" if _is_gb18030(raw) else "WINDOWS-1252"
    return DataError(
        f"{path.name} is not UTF-8: byte 0x{raw[start]:02x} at offset {offset + start} (line "
        f"{number}); convert it with iconv -f {likely} -t UTF-8 {path.name} > utf8-{path.name}"
    )


def _is_gb18030(raw: bytes) -> bool:
    """Chinese in GB18030 comes in pairs of high bytes; a lone one is an accent of the West."""
    try:
        text = raw.decode("gb18030")
    except UnicodeDecodeError:
        return False
    return sum("\u4e00" <= character <= "\u9fff" for character in text) >= 2


def read_lines(path: Path) -> Dataset:
    """A `.txt` file: a row a line, blank lines included, in the column `text`."""
    import pyarrow as pa

    schema = pa.schema({"text": pa.string()})
    rows = (line.rstrip("\r\n") for line in lines(path))
    return store(path, schema, (pa.record_batch([pa.array(b)], schema) for b in batches(rows)))


def read_parquet(path: Path) -> Dataset:
    """A `.parquet` file; DataError where it is not one."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            return store(path, file.schema_arrow, file.iter_batches(ROWS_PER_BATCH))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{path.name} is not a readable parquet file: {reason}") from error
