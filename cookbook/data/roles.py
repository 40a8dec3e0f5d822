"""Which column plays which role: what was asked for, what `guesses` adds, and the renaming.

A role is what a chapter asks for (`text`, `label`, `context` ...). Explicit choices are checked
strictly; the rest is guessed, and the guess printed. It reads no file and makes no split.
Every chapter uses it through `cookbook.data.load`.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import TYPE_CHECKING

from cookbook.data import labels
from cookbook.data.errors import DataError
from cookbook.data.guesses import HOLDS, guess, label_candidates, mean_length, only_other
from cookbook.data.labels import kind
from cookbook.data.readers import replace_column

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from datasets import Dataset

ROLES = (*HOLDS, "group")
CONTENT = HOLDS.keys() - {"label"}


def asked(columns: Mapping[str, str] | None, text_column: str, label_column: str) -> dict[str, str]:
    """Role -> column as the caller gave them; an empty name counts as not given.

    >>> asked({"group": "author"}, "review", "")
    {'group': 'author', 'text': 'review'}
    """
    given = {role: column for role, column in (columns or {}).items() if column}
    given |= {r: c for r, c in (("text", text_column), ("label", label_column)) if c}
    for role, column in given.items():
        if role not in ROLES:
            raise DataError(f"{role!r} is not a role: choose among {', '.join(ROLES)}")
        twice = [other for other in given if other != role and given[other] == column]
        if twice:
            raise DataError(
                f"column {column!r} is given as {role} and as {twice[0]}: give each its own column"
            )
    return given


def assign(
    parts: dict[str, Dataset], given: dict[str, str], *, where: str, guessing: bool = True
) -> tuple[dict[str, Dataset], list[str]]:
    """`parts` with columns renamed to roles, these first, all others kept; and the roles.

    A column in the way of a role becomes `<name>_original`. Raises DataError for a column that is
    missing, empty or of the wrong kind. `guessing=False` is for sets whose columns are known.
    """
    parts = {split: _unfold(part) for split, part in parts.items()}
    main = parts.get("train", next(iter(parts.values())))
    _check_known(main, given, where)
    chosen = guess(main, given) if guessing else dict(given)
    if guessing and not CONTENT & chosen.keys():
        listing = ", ".join(f"{name} ({kind(feature)})" for name, feature in main.features.items())
        raise DataError(
            f"{where} has no column of text or images: its columns are {listing}; name one with "
            "columns={...}"
        )
    for role, column in chosen.items():
        if role in CONTENT:
            several = len(parts) > 1
            parts = {
                split: _checked(part, role, column, f"{where} ({split})" if several else where)
                for split, part in parts.items()
            }
    parts, words = _with_label(parts, main, chosen, where, guessing)
    if guessing and (guessed := {r: c for r, c in chosen.items() if r not in given}):
        print(_said(main, guessed, words))
    return {split: _renamed(part, chosen) for split, part in parts.items()}, list(chosen)


def _unfold(part: Dataset) -> Dataset:
    """Images that pandas wrote become images, `translation: {en, de}` becomes columns en, de."""
    from datasets import Image, Translation

    for name, feature in dict(part.features).items():
        if isinstance(feature, dict) and kind(feature) == "images":
            part = part.cast_column(name, Image())
        elif name == "translation" and isinstance(feature, (dict, Translation)):
            languages = feature.languages if isinstance(feature, Translation) else list(feature)
            order = [column for column in part.column_names if column != name]
            part = part.flatten().rename_columns({f"{name}.{x}": x for x in languages})
            part = part.select_columns([*languages, *order])
    return part


def _check_known(main: Dataset, given: dict[str, str], where: str) -> None:
    for column in given.values():
        if column not in main.column_names:
            near = difflib.get_close_matches(column, main.column_names, n=1, cutoff=0.5)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise DataError(
                f"{where} has no column {column!r}: its columns are "
                f"{', '.join(main.column_names)}{hint}"
            )


def _checked(part: Dataset, role: str, column: str, where: str) -> Dataset:
    """`part`, its column fit for `role`: of the right kind, somewhere filled, text never null."""
    import pyarrow.compute as pc

    if column not in part.column_names:
        raise DataError(
            f"{where} has no column {column!r}: its columns are {', '.join(part.column_names)}; "
            "give all splits the same columns"
        )
    what, values = kind(part.features[column]), part.data.column(column)
    if what == "nothing" or _blank(values, what).all():
        raise DataError(
            f"the {role} column {column!r} of {where} is empty in all {len(part)} rows: fill it "
            "in, or choose another"
        )
    if what not in HOLDS[role]:
        fit = [name for name, feature in part.features.items() if kind(feature) in HOLDS[role]]
        raise DataError(
            f"the {role} column {column!r} of {where} holds {what}, not "
            f"{' or '.join(sorted(HOLDS[role]))}: "
            + (f"choose among {', '.join(fit)}" if fit else "no column of the file does")
        )
    if what == "text" and values.null_count:
        part = replace_column(part, column, pc.fill_null(values, ""), part.features[column])
    return part


def _blank(values: pa.ChunkedArray, what: str) -> np.ndarray:
    """(n,) bool: null, or text of nothing but spaces, or an empty list."""
    import pyarrow as pa
    import pyarrow.compute as pc

    empty = pa.scalar(False)
    if what == "text":
        empty = pc.equal(pc.utf8_length(pc.utf8_trim_whitespace(values)), 0)
    elif pa.types.is_list(values.type) or pa.types.is_large_list(values.type):
        empty = pc.equal(pc.list_value_length(values), 0)
    return pc.if_else(pc.is_null(values), True, empty).to_numpy()


def _with_label(
    parts: dict[str, Dataset], main: Dataset, chosen: dict[str, str], where: str, guessing: bool
) -> tuple[dict[str, Dataset], str]:
    """(`parts` with the label made ready, what it is in words); a guessed one joins `chosen`."""
    if "label" in chosen:
        return labels.attach(parts, chosen["label"], where=where)
    named = label_candidates(main, chosen) if guessing else []
    other = only_other(main, chosen) if guessing and not named else None
    reasons = []
    for column in [*named, *filter(None, [other])]:
        try:
            made = labels.attach(parts, column, where=where, certain=column != other)
        except DataError as error:
            reasons.append(str(error))
            continue
        if column == other:
            _check_header(main, column, where)
        chosen["label"] = column
        return made
    if named:
        print(f"no label guessed: {reasons[0]}")
    return parts, ""


def _check_header(main: Dataset, column: str, where: str) -> None:
    if column in map(str, main.unique(column)):
        raise DataError(
            f"column {column!r} of {where} is named like one of its values: if the file has no "
            "header, put one such as text,label before the first row"
        )


def _said(main: Dataset, guessed: dict[str, str], label: str) -> str:
    """One line: each role, its column where the name differs, and a figure to recognise it by."""
    words = []
    for role, column in guessed.items():
        what = kind(main.features[column])
        about = {"label": label, "image": "images", "answers": what}.get(role)
        if about is None:
            unit = "items" if what == "lists" else "characters"
            about = f"mean {mean_length(main, column):.0f} {unit}"
        words.append(f"{role if role == column else f'{role}={column}'} ({about})")
    return f"guessed {', '.join(words)}; say otherwise with columns={{...}}"


def _renamed(part: Dataset, chosen: dict[str, str]) -> Dataset:
    mapping = {column: role for role, column in chosen.items()}
    names = set(part.column_names) | set(chosen)
    for column in part.column_names:
        if column in chosen and column not in mapping:  # in the way of a role
            new = f"{column}_original"
            while new in names:
                new += "_"
            names.add(new)
            mapping[column] = new
    part = part.rename_columns({old: new for old, new in mapping.items() if old in part.features})
    first = [role for role in ROLES if role in chosen]
    return part.select_columns(first + [name for name in part.column_names if name not in first])
