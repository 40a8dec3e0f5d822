"""The notebooks as files: find one by name, read its head and its parameters.

It runs nothing (`execution.py` does) and prints nothing (`cli.py` does). Behind every chapter
that `cookbook list` and `cookbook run` name.
"""

from __future__ import annotations

import ast
import difflib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cookbook.session import PROFILES
from cookbook.shipped import folder


class UsageError(ValueError):
    """What was asked for does not exist or does not fit; the message says what does."""


@dataclass(frozen=True)
class Chapter:
    """One notebook, as its own head describes it."""

    path: Path
    title: str
    question: str
    run_time: str


def chapters() -> list[Chapter]:
    """Every chapter, in order, described by its own first cells."""
    return [describe(path) for path in _paths()]


def describe(path: Path) -> Chapter:
    """Read the title (`# …`), `**Question**` and `**Run time**` off a notebook's head.

    What is not there is an empty string.
    """
    notes = [_source(cell) for cell in read(path)["cells"] if cell["cell_type"] == "markdown"]
    head = "\n\n".join(notes[:3])

    def after(pattern: str) -> str:
        found = re.search(pattern, head, re.MULTILINE | re.IGNORECASE)
        return " ".join(found.group(1).split()) if found else ""

    return Chapter(
        path,
        title=after(r"^# +(.+)$"),
        question=after(r"\*\*Question[.:]?\*\*[.:]?((?:.+\n?)+)"),  # up to an empty line
        run_time=after(r"\*\*Run time[^*]*\*\*[.:]?((?:.+\n?)+)"),
    )


def find(name: str) -> Path:
    """The notebook called `name`: its number, its stem, its topic or its file name.

    Raises UsageError, with the nearest names, when there is none.
    """
    wanted = Path(name).name.removesuffix(".ipynb")
    names: dict[str, Path] = {}
    for path in _paths():
        number, topic = path.stem.split("_", 1)
        names |= {path.stem: path, number: path, topic: path}
    if wanted not in names:
        topics = [known for known in names if not known[0].isdigit()]
        raise UsageError(f"no chapter {name!r}: {nearest(wanted, topics)}")
    return names[wanted]


def parameters(path: Path) -> dict[str, Any]:
    """The literals in the cell tagged `parameters`, by name, in order."""
    for cell in read(path)["cells"]:
        if "parameters" in cell["metadata"].get("tags", []):
            assigned = (node for node in ast.parse(_source(cell)).body)
            return {
                node.targets[0].id: ast.literal_eval(node.value)
                for node in assigned
                if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
            }
    raise UsageError(f"{path.name} has no cell tagged 'parameters'")


def typed(given: Mapping[str, str], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """What the reader typed, as the types of the parameters' defaults.

    Text stays text, so `dataset=01` is not a number. Raises UsageError for an unknown name or
    a value of another type.

    >>> typed({"seed": "3", "dataset": "01"}, {"seed": 0, "dataset": "docstrings"})
    {'seed': 3, 'dataset': '01'}
    """
    values = {}
    for name, text in given.items():
        if name not in defaults:
            raise UsageError(f"no parameter {name!r}: {nearest(name, defaults)}")
        values[name] = _as_type_of(defaults[name], name, text)
    if values.get("profile", PROFILES[0]) not in PROFILES:
        raise UsageError(f"no profile {values['profile']!r}: choose one of {', '.join(PROFILES)}")
    return values


def nearest(wanted: str, names: Iterable[str]) -> str:
    """A hint for a name that does not exist: the nearest that do, or else all of them.

    >>> nearest("datset", ["dataset", "seed"])
    'did you mean dataset?'
    >>> nearest("xyz", ["dataset", "seed"])
    'there are dataset, seed'
    """
    names = list(names)
    near = difflib.get_close_matches(wanted, names, n=3)
    return (
        f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(names) or 'none'}"
    )


def read(path: Path) -> dict[str, Any]:
    """A notebook as JSON: nbformat takes a second to import, and a listing needs no check."""
    return json.loads(path.read_text(encoding="utf-8"))


def _paths() -> list[Path]:
    return sorted(folder("notebooks").glob("[0-9][0-9]_*.ipynb"))


def _source(cell: Mapping[str, Any]) -> str:
    return "".join(cell["source"])


def _as_type_of(default: Any, name: str, text: str) -> Any:
    if isinstance(default, str):
        return text
    try:
        # `true` is what JSON, YAML and papermill's own command line write.
        value = ast.literal_eval({"true": "True", "false": "False"}.get(text, text))
    except (ValueError, SyntaxError):
        value = text
    if isinstance(default, float) and type(value) is int:
        value = float(value)
    if default is not None and type(value) is not type(default):
        kind = type(default).__name__
        raise UsageError(f"{name}={text} is not of type {kind}: the default is {default!r}")
    return value
