"""The files of a folder or of a hub repository, by split.

`datasets` decides which file belongs to which split; CSV, JSON, parquet and text files of a
folder are then read by `formats`, strictly; all else (images, Arrow, archives, the hub) by
`datasets` itself, which executes no code of a repository. Used by `cookbook.data.load`.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from cookbook.data import formats, readers
from cookbook.data.errors import DataError

if TYPE_CHECKING:
    from datasets import Dataset

ALIASES = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev", "development", "validation_matched"),
    "test": ("test", "testing", "eval", "evaluation", "test_matched"),
}
DOCUMENTS = 3  # so many text files and more in a split are a document each, not a row a line


def read_folder(folder: Path, configuration: str = "") -> dict[str, Dataset]:
    """Split -> rows of a folder; raises DataError where nothing in it can be read."""
    from datasets import Dataset, load_from_disk

    if (folder / "dataset_dict.json").exists() or (folder / "state.json").exists():
        with _one_line_errors(folder.name):
            saved = load_from_disk(str(folder))
        return {"train": saved} if isinstance(saved, Dataset) else _known_splits(dict(saved))
    files = _files(folder, configuration)
    if all(path.suffix.lower() in formats.FORMATS for paths in files.values() for path in paths):
        return _known_splits({split: _read_files(paths) for split, paths in files.items()})
    return _loaded(str(folder), configuration, folder.name)


def read_hub(source: str) -> dict[str, Dataset]:
    """Split -> rows of a hub id, `owner/name` or `owner/name:configuration`."""
    name, _, configuration = source.partition(":")
    return _loaded(name, configuration, source)


def _loaded(name: str, configuration: str, where: str) -> dict[str, Dataset]:
    from datasets import load_dataset

    with _one_line_errors(where):
        return _known_splits(dict(load_dataset(name, configuration or None)))


def _files(folder: Path, configuration: str) -> dict[str, list[Path]]:
    """Split -> files, as `datasets` sees them: by file name, folder name or the card's YAML."""
    from datasets import load_dataset_builder

    with _one_line_errors(folder.name):
        builder = load_dataset_builder(str(folder.resolve()), configuration or None)
    found = builder.config.data_files or {}
    return {str(split): [Path(path) for path in paths] for split, paths in found.items()}


@contextlib.contextmanager
def _one_line_errors(where: str) -> Iterator[None]:
    """Turn what `datasets` raises into a DataError of one line."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:  # its errors have no common base class
        text = " ".join(str(error).split())
        if choices := re.search(r"available configs: \[(.*?)\]", text):
            names = choices[1].replace("'", "")
            reason = f"has several configurations: write {where}:NAME, NAME among {names}"
        elif "on the Hub" in text and isinstance(error, FileNotFoundError):
            reason = "is no file or folder here, and the hub has no such data set: check the name"
        elif isinstance(error, ConnectionError) or "offline" in text.lower():
            reason = "is no file or folder here, and the hub cannot be reached: check the name"
        elif isinstance(error, FileNotFoundError) and "data" in text:
            reason = f"holds no data that can be read: expected {', '.join(formats.FORMATS)} files"
        else:
            reason = f"cannot be loaded: {text[:200]}"
        raise DataError(f"{where} {reason}") from error


def _read_files(paths: list[Path]) -> Dataset:
    """All files of one split as one table."""
    from datasets import concatenate_datasets

    texts = all(path.suffix.lower() == ".txt" for path in paths)
    if texts and len(paths) >= DOCUMENTS:
        if max(path.stat().st_size for path in paths) < readers.LONGEST:
            return _documents(paths)
    found = [formats.read_file(path) for path in paths]
    first = found[0].column_names
    for path, part in zip(paths, found, strict=True):
        if sorted(part.column_names) != sorted(first):
            raise DataError(
                f"{path.name} has the columns {', '.join(part.column_names)}, {paths[0].name} has "
                f"{', '.join(first)}: give all files of a split the same columns"
            )
    return found[0] if len(found) == 1 else concatenate_datasets(_same_types(found))


def _same_types(parts: list[Dataset]) -> list[Dataset]:
    """A column that is a number in one file and text in another becomes text."""
    from datasets import Value

    for name, feature in dict(parts[0].features).items():
        kinds = {str(part.features[name]) for part in parts}
        if len(kinds) > 1 and isinstance(feature, Value):
            numeric = all(part.features[name].dtype.startswith(("int", "float")) for part in parts)
            target = Value("float64" if numeric else "string")
            parts = [
                readers.replace_column(
                    part, name, part.data.column(name).cast(target.pa_type), target
                )
                for part in parts
            ]
    return parts


def _documents(paths: list[Path]) -> Dataset:
    """A row for each file; its folder, where there are several (`pos/`, `neg/`), may be a label."""
    from datasets import Dataset

    rows = {"text": [], "file": [path.name for path in paths]}
    for path in paths:
        if path.stat().st_size:
            readers.refuse_binary(path)
        rows["text"].append(readers.whole_text(path).rstrip("\r\n"))
    parents = [path.parent.name for path in paths]
    if len(set(parents)) > 1:
        rows["category"] = parents
    print(f"{len(paths)} text files read, a document each")
    return Dataset.from_dict(rows)


def _known_splits(parts: dict[str, Dataset]) -> dict[str, Dataset]:
    """Splits under their usual names; others are left out, and said."""
    known = {}
    for name, aliases in ALIASES.items():
        found = next((alias for alias in aliases if alias in parts), None)
        if found is not None:
            known[name] = parts.pop(found)
    if not known and len(parts) == 1:
        return {"train": next(iter(parts.values()))}
    if not known:
        raise DataError(f"no split is called train: there are {', '.join(map(str, parts))}")
    if parts:
        left = ", ".join(f"{name} ({len(part)} rows)" for name, part in parts.items())
        print(f"left out, for being neither train, validation nor test: {left}")
    return known
