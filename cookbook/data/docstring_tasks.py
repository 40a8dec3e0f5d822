"""Sets made of docstrings for other tasks: how a row is made, kept and accounted for.

`derive` turns docstrings into rows of a task, drops what repeats and what held-out modules share
with training, and writes the ledger; `summaries` is the first such set, `docstring_questions` and
`docstring_mentions` hold the others. Splits are by module, as in all sets. Chapter 15 uses them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from cookbook.data import deduplication, splits
from cookbook.data.ledger import Ledger

if TYPE_CHECKING:
    from datasets import DatasetDict, Features

# A row of the corpus -> rows of the task, or the one reason why it has none; a row that must not
# be taken has its reason under the key "reason".
Maker = Callable[[dict[str, str]], "list[dict[str, Any]] | str"]
WHERE = ("library", "module", "name")
SHORTEST_SUMMARY, SHORTEST_BODY = 15, 120  # characters: "Return self." sums nothing up


def derive(
    corpus: DatasetDict, make: Maker, *, same: Iterable[str], leak: str, features: Features
) -> tuple[DatasetDict, Ledger]:
    """The rows that `make` finds, by split, with columns `features`, and the ledger.

    A row is a repetition if it agrees with an earlier one in the columns `same`; training comes
    first, so that the held-out side loses it. A held-out row whose text `leak` is nearly one of
    training (test: or validation) is left out as well. Every docstring counts at least once.
    """
    from datasets import Dataset, DatasetDict

    rows, sides, reasons = [], [], []
    for side in splits.NAMES:
        for row in corpus[side].to_list():
            found = make(row)
            for one in [{"reason": found}] if isinstance(found, str) else found:
                reasons.append(one.pop("reason", ""))
                rows.append(one | {name: row[name] for name in WHERE})
                sides.append(side)
    ledger = Ledger(len(rows))
    ledger.record("form", reasons)
    kept = [rows[i] for i in ledger.kept]
    keys = ["\n".join(str(row[column]) for column in same) for row in kept]
    first = deduplication.exact_duplicates(keys)
    ledger.record(
        "repetitions", ["" if i == at else "repetition" for i, at in enumerate(first.tolist())],
        texts=keys, twins=ledger.kept[first],
    )  # fmt: skip
    leaked = _leaks([sides[i] for i in ledger.kept], [rows[i][leak] for i in ledger.kept])
    ledger.record("leaks", ["nearly a text of another split" * bool(one) for one in leaked])
    made: dict[str, list] = {side: [] for side in splits.NAMES}
    for i in ledger.check().kept.tolist():
        made[sides[i]].append(rows[i])
    columns = {side: {c: [row[c] for row in part] for c in features} for side, part in made.items()}
    parts = {side: Dataset.from_dict(columns[side], features=features) for side in splits.NAMES}
    return DatasetDict(parts), ledger


def summaries(corpus: DatasetDict) -> tuple[DatasetDict, Ledger]:
    """`docstring-summaries`: text (the body), summary (the first line), and where it stands."""
    from datasets import Features, Value

    columns = ("text", "summary", *WHERE)
    features = Features({name: Value("string") for name in columns})
    return derive(corpus, summary_of, same=("text", "summary"), leak="text", features=features)


def summary_of(row: dict[str, str]) -> list[dict[str, Any]] | str:
    """Body and first line of a docstring, or why there is no such pair.

    >>> summary_of({"text": "Too short."})
    'no body'
    >>> body = "It walks through the list once and keeps what it has seen. " * 3
    >>> summary_of({"text": f"Remove repeated items.\\n\\n{body}"})[0]["summary"]
    'Remove repeated items.'
    """
    head, _, body = row["text"].strip().partition("\n\n")
    head, body = " ".join(head.split()), body.strip()
    if not body:
        return "no body"
    if len(body) < SHORTEST_BODY:
        return "body too short"
    if len(head) < SHORTEST_SUMMARY or len(head) > 200:
        return "first line too short or too long"
    if not re.match(r"[A-Z`'\"].*\.$", head):
        return "first line is no sentence"
    if deduplication.fingerprint(head) in deduplication.fingerprint(body):
        return "body repeats the first line"
    return [{"text": body, "summary": head}]


def _leaks(sides: list[str], texts: list[str]) -> np.ndarray:
    """(n,) bool: held out, and nearly a text of a split before. Equal texts are compared once."""
    order = {text: place for place, text in enumerate(dict.fromkeys(texts))}
    leaked, seen = np.zeros(len(texts), bool), []
    for side in splits.NAMES:
        here = [i for i, one in enumerate(sides) if one == side]
        unique = list(dict.fromkeys(texts[i] for i in here))
        if seen and unique:
            near = deduplication.near_duplicates_across(seen, unique) >= 0
            bad = {order[text] for text, one in zip(unique, near, strict=True) if one}
            leaked[[i for i in here if order[texts[i]] in bad]] = True
        seen += unique
    return leaked
