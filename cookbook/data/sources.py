"""Any source into a `DatasetDict` with known columns: `load`.

A source is an embedded set, a file, a folder or a hub id; `formats` reads one file, `roles` names
the columns, `splits` cuts what is missing, `folders` finds the files. It cleans nothing: empty and
repeated texts stay, `cleaning` drops them with a ledger. Every chapter starts with it.
"""

from __future__ import annotations

import difflib
import hashlib
import os
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cookbook.data import deduplication, embedded, folders, formats, roles, splits
from cookbook.data.errors import DataError

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

PATH_OF_USER_SETS = "COOKBOOK_DATA_DIR"


def load(
    source: str | Path,
    *,
    text_column: str = "",
    label_column: str = "",
    columns: Mapping[str, str] | None = None,
    seed: int = 0,
) -> DatasetDict:
    """`train`, `validation` and `test` of any source, columns renamed to roles.

    `source`: an embedded name; a `.csv`, `.tsv`, `.jsonl`, `.json`, `.parquet` or `.txt` file; a
    folder that `datasets` reads, or of text files (three and more: a document each); a hub id,
    `owner/name` or `owner/name:configuration`. A bare name is looked for in the folder
    `COOKBOOK_DATA_DIR` first. `columns` maps roles to columns: text, text_pair, label; tokens,
    tags; context, question, answers; source, target; summary; image, caption; group (its rows
    stay in one split). `text_column` and `label_column` win; the rest is guessed, and said.

    `label` becomes `ClassLabel`, or float32 for a measured number; rows without one are left out
    and counted in a printed line. Given splits are kept and their overlap reported; missing ones
    are cut from `train` without overlap; without `train`, missing splits have no rows. Raises
    DataError, one line, for what cannot be used as asked.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "reviews.csv"
    ...     rows = [f"review no {i},{i % 5}" for i in range(50)]
    ...     _ = path.write_text("review,stars\\n" + "\\n".join(rows))
    ...     dataset = load(path, columns={"text": "review", "label": "stars"})
    >>> dataset.num_rows, dataset["train"].features["label"].names
    ({'train': 40, 'validation': 5, 'test': 5}, ['0', '1', '2', '3', '4'])
    """
    given = roles.asked(columns, text_column, label_column)
    return _loaded(str(source), given, seed)


def load_apart(
    files: Mapping[str, str | Path], *, text_column: str = "", label_column: str = ""
) -> dict[str, Dataset]:
    """Several sources, each a split of its own as it is: nothing is cut from it or moved.

    `files` maps a split's name to a file, or to a folder or embedded set whose `train` is meant.
    Columns are renamed to roles as in `load`. For looking at data that somebody has split already.
    Raises DataError.
    """
    given = roles.asked(None, text_column, label_column)
    parts = {}
    for name, source in files.items():
        path = _find(str(source))
        embedded_set = path is None and str(source) in embedded.names()
        read = dict(embedded.build(str(source))) if embedded_set else _read(str(source), path)[0]
        parts[name] = read.get(name, read.get("train", next(iter(read.values()))))
    where = " and ".join(Path(str(source)).name for source in files.values())
    return roles.assign(parts, given, where=where)[0]


def _loaded(source: str, given: dict[str, str], seed: int) -> DatasetDict:
    if not source.strip():
        raise DataError("no data source is given: name an embedded set, a file or a folder")
    path = _find(source)
    if path is None and source in embedded.names():
        built = dict(embedded.build(source))
        return _three(*roles.assign(built, given, where=source, guessing=False), seed)
    parts, where = _read(source, path)
    _refuse_too_few(parts, where)
    parts, known = roles.assign(parts, given, where=where)
    _report_empty(parts, known, where)
    _report_overlap(parts, known, where)
    return _three(parts, known, seed)


def _find(source: str) -> Path | None:
    """The file or folder that `source` names, or None: then it is an embedded set or a hub id."""
    root = os.environ.get(PATH_OF_USER_SETS, "")
    bare = not set(source) & {"/", os.sep}
    if bare and root and (path := Path(root).expanduser() / source).exists():
        return path
    if bare and source in embedded.names():
        return None
    path = Path(source).expanduser()
    return path if path.exists() else None


def _read(source: str, path: Path | None) -> tuple[dict[str, Dataset], str]:
    """(split -> rows, the name that messages use)."""
    if path is None:
        head, _, configuration = source.rpartition(":")
        if head and (folder := _find(head)) and folder.is_dir():
            return folders.read_folder(folder, configuration), folder.name
        _refuse_missing(source)
        return folders.read_hub(source), source
    where = path.resolve().name
    if path.is_dir():
        return folders.read_folder(path), where
    return {"train": formats.read_file(path)}, where


def _refuse_missing(source: str) -> None:
    """Raise DataError unless `source` may be a hub id; nothing misspelt goes to the network."""
    path = Path(source).expanduser()
    parent = path.parent
    pathlike = path.suffix.lower() in formats.FORMATS or source[0] in "./~\\"
    if path.name == source and not pathlike:
        known = embedded.names() + _entries(Path(os.environ.get(PATH_OF_USER_SETS) or "."))
        near = difflib.get_close_matches(source, known, n=3, cutoff=0.4) or embedded.names()
        raise DataError(
            f"{source!r} is no embedded data set, file or folder: the nearest names are "
            f"{', '.join(near)}; a hub id has the form owner/name"
        )
    if parent.is_dir() and (pathlike or path.parts[:-1]):
        near = difflib.get_close_matches(path.name, _entries(parent), n=3, cutoff=0.6)
        hint = f"did you mean {' or '.join(near)}?" if near else "check the path"
        raise DataError(f"there is no file or folder {source}: {hint}")
    if pathlike:
        raise DataError(f"there is no folder {parent}: check the path of {path.name}")


def _entries(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir() if p.name[0] != ".") if folder.is_dir() else []


def _refuse_too_few(parts: dict[str, Dataset], where: str) -> None:
    rows = len(parts.get("train", []))
    if list(parts) == ["train"] and rows < len(splits.NAMES):
        raise DataError(
            f"{where} has {rows} row{'s' * (rows != 1)}, too few to make train, validation and "
            f"test: at least {len(splits.NAMES)} are needed"
        )


def _three(parts: dict[str, Dataset], known: Collection[str], seed: int) -> DatasetDict:
    """All three splits: given ones as they are, missing ones cut from train."""
    from datasets import DatasetDict

    missing = [name for name in splits.NAMES if name not in parts]
    if missing and "train" in parts:
        if len(parts) > 1:
            print(f"no {' and no '.join(missing)} split is given: cut from train")
        parts = parts | _cut(parts["train"], known, ["train", *missing], seed)
    elif missing:
        empty = " and ".join(missing)
        print(f"only {' and '.join(parts)} is given, for evaluation: no rows in {empty}")
        nothing = next(iter(parts.values())).select([])
        parts = parts | dict.fromkeys(missing, nothing)
    return DatasetDict({name: parts[name] for name in splits.NAMES})


def _cut(rows: Dataset, known: Collection[str], names: list[str], seed: int) -> dict[str, Dataset]:
    share = dict(zip(splits.NAMES, splits.FRACTIONS, strict=True))
    fractions = np.array([share[name] for name in names])
    made = splits.split(
        rows,
        groups=_groups(rows, known),
        fractions=fractions / fractions.sum(),
        seed=seed,
        text_column=_key_columns(known)[0],
        names=names,
    )
    return dict(made)


def _key_columns(known: Collection[str]) -> list[str]:
    """The roles whose text must not be on two sides; the first decides the split."""
    for role in ("context", "source", "caption"):
        if role in known:
            return [role]
    return ["text", "text_pair"] if "text_pair" in known else ["text"]


def _groups(part: Dataset, known: Collection[str]) -> list[str] | None:
    """What else keeps rows together: the group column, the tokens, the image, half of a pair."""
    if "group" in known:
        return [str(group) for (group,) in _rows(part, "group")]
    if "tokens" in known:
        return [" ".join(map(str, tokens)) for (tokens,) in _rows(part, "tokens")]
    if "image" in known:
        return _pictures(part)
    if "text_pair" in known:
        texts = [text for (text,) in _rows(part, "text")]
        return texts if len(set(texts)) >= 10 else None  # fewer: one question, many answers
    return None


def _pictures(part: Dataset) -> list[str]:
    """A key of each image: the same picture twice is a leak like the same text twice."""
    from datasets import Image

    if isinstance(part.features["image"], Image):
        part = part.cast_column("image", Image(decode=False))
    raw = (repr(picture).encode() for picture in _rows(part, "image"))
    return [hashlib.blake2b(picture, digest_size=8).hexdigest() for picture in raw]


def _report_empty(parts: dict[str, Dataset], known: Collection[str], where: str) -> None:
    if "text" not in known:
        return
    blank = sum(not text.strip() for part in parts.values() for (text,) in _rows(part, "text"))
    if blank:
        rows = sum(len(part) for part in parts.values())
        print(f"{where}: {blank} of {rows} rows have an empty text, kept here: cleaning drops them")


def _report_overlap(parts: dict[str, Dataset], known: Collection[str], where: str) -> None:
    """Say how many held-out rows have a text that train has too; the reader's files stay as is."""
    columns = _key_columns(known)
    if "train" not in parts or len(parts) == 1 or columns[0] not in known:
        return
    seen = set(_keys(parts["train"], columns))
    found = {name: _keys(part, columns) for name, part in parts.items() if name != "train"}
    shared = {name: sum(key in seen for key in keys if key) for name, keys in found.items()}
    if any(shared.values()):
        counts = " and ".join(f"{count} rows of {name}" for name, count in shared.items() if count)
        print(f"{where}: {counts} repeat a text of train, so scores on them flatter; kept as given")


def _keys(part: Dataset, columns: list[str]) -> list[str]:
    """The normalised text of each row, both of a pair."""
    from tqdm.auto import tqdm

    long = len(part) >= 200_000
    bar = tqdm(_rows(part, *columns), "overlap", len(part), leave=False, disable=not long)
    return ["\n".join(map(deduplication.fingerprint, row)).strip() for row in bar]


def _rows(part: Dataset, *columns: str) -> Iterator[tuple]:
    """The values of some columns row by row, read in batches: many times faster than by row."""
    for batch in part.select_columns(list(columns)).iter(10_000):
        yield from zip(*(batch[column] for column in columns), strict=True)
