"""The data checks by themselves: rows of text and labels, and a tokenizer where there is one.

For `cookbook doctor --data train.csv --eval test.csv --model FOLDER`, before anything was set up
for training. Rows are encoded here as training would, cut to what the tokenizer allows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import nn

from cookbook.doctor import examination, kinds, row_keys
from cookbook.doctor.report import Report
from cookbook.doctor.subject import Subject

# What rows of text, and ids made of them, can show without a loss or an optimizer.
ON_TEXT = (
    "row_checks", "content_checks", "duplicate_checks", "randomness_checks", "text_checks",
    "piece_checks",
)  # fmt: skip
TEXT, PAIR = ("text", "sentence", "sentence1", "premise", "question", "review", "content"), (
    "text_pair", "sentence2", "hypothesis", "context",
)  # fmt: skip
LONGEST = 512  # tokens of a row that are looked at, where the tokenizer has no limit


def examine_data(
    train: Sequence[Mapping[str, Any]],
    eval: Sequence[Mapping[str, Any]] | None = None,
    processing_class: Any = None,
    model: nn.Module | None = None,
    *,
    text_column: str = "",
    label_column: str = "",
) -> Report:
    """Look for faults in rows of text and labels, and in how a tokenizer takes them.

    `train` and `eval` are rows with the same columns; a text column and a label column are guessed
    from names and types where they are not given, and labels that are words are numbered for the
    checks that need numbers. With a `model` the vocabulary and the number of classes are compared
    with it; it is not run. Raises ValueError for a column that no row has.

    >>> rows = [{"text": f"the function number {i} of them", "label": i % 2} for i in range(60)]
    >>> examine_data(rows[:40], rows[20:]).primary.fault
    'D1'
    """
    train, eval = _named(train, text_column, label_column), _named(eval, text_column, label_column)
    subject = Subject(None, train_dataset=train, eval_dataset=eval, data_collator=_as_they_are,
                      processing_class=processing_class)  # fmt: skip
    report = examination.run(subject, readers=ON_TEXT, probes=())
    if model is None or processing_class is None:
        return report
    encoded = Subject(
        model, train_dataset=_encoded(train, processing_class, model),
        processing_class=processing_class,
    )  # fmt: skip
    return report + examination.run(encoded, readers=("target_checks", "text_checks"), probes=())


def _named(rows: Any, text: str, label: str) -> list[dict[str, Any]] | None:
    """Rows with the chosen columns under the usual names, so that checks find them."""
    if rows is None:
        return None
    rows = [dict(row) for row in rows]
    for column in filter(None, (text, label)):
        if rows and column not in rows[0]:
            raise ValueError(f"no column {column!r}: there are {', '.join(rows[0])}")
    if label:
        rows = [{**_without(row, label, *kinds.LABEL_KEYS), "label": row[label]} for row in rows]
    if text:
        kept = {text, "label", *kinds.LABEL_KEYS}
        rows = [{k: v for k, v in row.items() if k in kept} for row in rows]
    return rows


def _without(row: dict[str, Any], *names: str) -> dict[str, Any]:
    return {k: v for k, v in row.items() if k not in names}


def _as_they_are(rows: list[Any]) -> list[Any]:
    return rows


def _encoded(rows: Iterable[dict[str, Any]], tokenizer: Any, model: nn.Module) -> list[dict]:
    """Rows as ids and numbered labels."""
    rows = list(rows)
    limit = min(getattr(tokenizer, "model_max_length", LONGEST), LONGEST)
    names = sorted({str(label) for row in rows if (label := row_keys.label(row)) is not None})
    known = getattr(getattr(kinds.base_of(model), "config", None), "label2id", None) or {}
    number = {name: known.get(name, place) for place, name in enumerate(names)}
    found = []
    for row in rows:
        text, pair = _texts(row)
        if text is not None:
            ids = dict(tokenizer(text, pair, truncation=True, max_length=limit))
            label = row_keys.number(row)
            if label is None and (word := row_keys.label(row)) is not None:
                label = number[str(word)]
            found.append(ids if label is None else {**ids, "labels": label})
    return found


def _texts(row: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """The text of a row and the one beside it."""
    columns = row_keys.text_columns(row)
    first = next((c for c in TEXT if c in columns), columns[0] if columns else None)
    second = next((c for c in PAIR if c in columns and c != first), None)
    return (row[first] if first else None), (row[second] if second else None)
