"""Clean one table of texts: normalise, filter, drop duplicates, and account for every row.

The steps are `normalization` (one format, private details masked), `filters` (language and
quality, by published rules) and `deduplication` (exact, then near); this file puts them in order
and writes the `Ledger`. Documents and short labelled text get different rules, chosen by a guess
that is printed. It cuts no splits and levels no classes (`splits`, `sampling`), and it holds the
texts in memory: `cluster` does the same beyond that. Used by chapters 00 and 01.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from cookbook.data import deduplication, filters
from cookbook.data.errors import DataError
from cookbook.data.filters import DOCUMENTS, LABELLED, Rules
from cookbook.data.ledger import Ledger
from cookbook.data.normalization import mask_private, normalize
from cookbook.data.sampling import balance, cap, class_balance, value_names

if TYPE_CHECKING:
    from datasets import Dataset

__all__ = ["DOCUMENTS", "LABELLED", "Rules", "balance", "cap", "class_balance", "clean"]

SHORT = 100  # characters: unlabelled rows shorter than this on average are no documents
ADVICE = {
    "no text": "check that text_column names the column with the text",
    "other language": "pass language='' to keep every language",
    "exact duplicate": "the rows repeat one text: check the export",
    "near duplicate": "the rows repeat one text: check the export, or pass near_threshold=None",
    "conflicting label": "no text has a label that its copies agree on: check label_column",
}


def clean(
    dataset: Dataset,
    *,
    rules: str | Rules = "auto",
    text_column: str = "text",
    label_column: str = "label",
    near_threshold: float | None = 0.8,
    language: str = "auto",
    mask: bool = True,
) -> tuple[Dataset, Ledger]:
    """The rows worth training on, their text in one format, and the account of all others.

    Steps: normalise (drops rows without text), language and quality (documents only), exact
    duplicates, near-duplicates of Jaccard `near_threshold` (None: skip). Of rows that repeat one
    text the first stays; where their labels differ, the first with the majority's label, none in
    a tie (`ledger.conflicts`). A near-duplicate under another label stays. A column `text_pair`
    is normalised too and counts for what is a duplicate.

    `rules` is "documents", "labelled", `filters.Rules`, or "auto": labelled where there is a
    `label_column` or rows are short. `language` is an ISO 639 code, "" for any, or "auto": that
    of at least 80 % of the rows whose language is sure. With both given, cleaning twice is
    cleaning once; a guess may change when it is made on what is left.

    Raises DataError without the column or the rows, or when every row is dropped: it names the
    reason that dropped most.

    >>> from datasets import Dataset
    >>> rows = Dataset.from_dict({"text": ["Hi <b>you</b>", "hi you!", " "], "label": [1, 1, 0]})
    >>> kept, ledger = clean(rows)
    rules: labelled (there is a column 'label'); other sets: rules='documents'
    >>> kept["text"][:], str(ledger)
    (['Hi you'], '3 rows in = 1 kept + 1 no text + 1 exact duplicate')
    """
    texts = column_of_text(dataset, text_column)
    labels = value_names(dataset, label_column) if label_column in dataset.column_names else None
    ledger = Ledger(len(texts))
    length = sum(len(text or "") for text in texts) / len(texts)
    rules = choose_rules(rules, length, label_column if labels is not None else "", ledger)
    texts = _normalise_step(texts, rules, mask, ledger)
    _quality_steps(texts, rules, language, ledger)
    pairs = _pairs(dataset, rules)
    keys = texts if pairs is None else [f"{a}\n{b}" for a, b in zip(texts, pairs, strict=True)]
    _exact_step(keys, labels, ledger)
    if near_threshold is not None:
        _near_step(keys, labels, near_threshold, ledger)
    refuse_empty(ledger.check())
    columns = {text_column: texts} | ({"text_pair": pairs} if pairs else {})
    return with_columns(dataset, columns, ledger.kept), ledger


def column_of_text(dataset: Dataset, text_column: str) -> list[str | None]:
    """The texts; DataError if this is no single table or has no such column or no rows."""
    if isinstance(dataset, dict):
        raise DataError(
            f"clean takes one table, and this holds {', '.join(dataset)}: pass dataset['train'], "
            "or clean before you split"
        )
    if text_column not in dataset.column_names:
        raise DataError(
            f"there is no column {text_column!r}: the columns are "
            f"{', '.join(dataset.column_names)}; pass text_column="
        )
    if not len(dataset):
        raise DataError("there are no rows to clean: check the source")
    texts = dataset[text_column][:]
    strange = next((text for text in texts if text is not None and not isinstance(text, str)), None)
    if strange is not None:
        raise DataError(
            f"column {text_column!r} holds {type(strange).__name__}, not text: pass text_column="
        )
    return texts


def choose_rules(rules: str | Rules, length: float, label_column: str, ledger: Ledger) -> Rules:
    """The set of rules that `rules` names; "auto" is guessed, printed and noted.

    `length` is the mean of the rows in characters, `label_column` empty where there is none.
    """
    named = {"documents": DOCUMENTS, "labelled": LABELLED}
    if isinstance(rules, Rules):
        return rules
    if rules in named:
        return named[rules]
    if rules != "auto":
        raise DataError(f"rules={rules!r} is unknown: choose auto, documents or labelled")
    short = length < SHORT
    chosen, other = (LABELLED, DOCUMENTS) if label_column or short else (DOCUMENTS, LABELLED)
    why = (
        f"there is a column {label_column!r}" if label_column else f"{length:.0f} characters a row"
    )
    ledger.notes.append(f"rules: {chosen.name} ({why}); other sets: rules={other.name!r}")
    print(ledger.notes[-1])
    return chosen


def normalise_text(text: str | None, rules: Rules, mask: bool) -> str:
    """One text as the first step leaves it; `""` where there is none."""
    text = normalize(text or "", one_line=rules.name == "labelled")
    return mask_private(text) if mask else text


def _normalise_step(
    texts: Sequence[str | None], rules: Rules, mask: bool, ledger: Ledger
) -> list[str]:
    normal = [normalise_text(text, rules, mask) for text in texts]
    changed = sum(new != old for new, old in zip(normal, texts, strict=True) if new)
    reasons = ["" if text else "no text" for text in normal]
    ledger.record("normalise", reasons, texts=texts, changed=changed)
    return normal


def _quality_steps(texts: Sequence[str], rules: Rules, language: str, ledger: Ledger) -> None:
    if rules.one_language and language:
        codes = [filters.language(texts[row]) for row in ledger.kept]
        language = choose_language(Counter(codes), ledger) if language == "auto" else language
        wrong = ["other language" if language and c and c != language else "" for c in codes]
        ledger.record("language", wrong, texts=[texts[row] for row in ledger.kept])
    seen = [texts[row] for row in ledger.kept]
    ledger.record("quality", [filters.quality(t, rules, language) for t in seen], texts=seen)


def choose_language(codes: Counter[str], ledger: Ledger) -> str:
    """The language of at least 80 % of the rows that are sure of theirs, else `""`; noted."""
    sure = Counter({code: rows for code, rows in codes.items() if code})
    if not sure:
        return ""
    code, rows = sure.most_common(1)[0]
    share = rows / sure.total()
    kept = "one language is kept" if share >= 0.8 else "no row is dropped for its language"
    ledger.notes.append(
        f"language: {code} in {share:.1%} of {sure.total()} rows that are sure of theirs; {kept}"
    )
    return code if share >= 0.8 else ""


def _exact_step(keys: Sequence[str], labels: Sequence[str] | None, ledger: Ledger) -> None:
    rows = ledger.kept
    texts = [keys[row] for row in rows]
    groups = defaultdict(list)
    for place, first in enumerate(deduplication.exact_duplicates(texts)):
        groups[first].append(place)
    reasons, twins = [""] * len(rows), rows.copy()
    for places in groups.values():
        if len(places) > 1:
            found = [None if labels is None else labels[rows[place]] for place in places]
            verdicts, kept = judge_copies(found)
            for place, reason in zip(places, verdicts, strict=True):
                reasons[place], twins[place] = reason, rows[places[kept]]
            if len(set(found)) > 1:
                where = [int(rows[place]) for place in places]
                ledger.conflicts.append({"text": texts[places[0]], "rows": where, "labels": found})
    ledger.record("exact duplicates", reasons, texts=texts, twins=twins)
    note_conflicts(ledger)


def judge_copies(labels: Sequence[str | None]) -> tuple[list[str], int]:
    """A reason for each copy of one text, given their labels, and the place of the one to keep.

    >>> judge_copies(["ham", "spam", "ham"])
    (['', 'conflicting label', 'exact duplicate'], 0)
    >>> judge_copies(["ham", "spam"])
    (['conflicting label', 'conflicting label'], 0)
    """
    votes = Counter(labels).most_common()
    if len(votes) > 1 and votes[0][1] == votes[1][1]:
        return ["conflicting label"] * len(labels), 0
    winner = votes[0][0]
    kept = labels.index(winner)
    reasons = ["exact duplicate" if x == winner else "conflicting label" for x in labels]
    reasons[kept] = ""
    return reasons, kept


def note_conflicts(ledger: Ledger) -> None:
    """Say in the ledger how many texts carry more than one label."""
    if ledger.conflicts:
        worst = ledger.conflicts[0]
        ledger.notes.append(
            f"texts under several labels: {len(ledger.conflicts)}, such as "
            f"{worst['text'][:60]!r} under {sorted(set(worst['labels']))}"
        )


def _near_step(
    keys: Sequence[str], labels: Sequence[str] | None, threshold: float, ledger: Ledger
) -> None:
    rows = ledger.kept
    texts = [keys[row] for row in rows]
    first = deduplication.near_duplicates(texts, threshold=threshold)
    found = [None] * len(rows) if labels is None else [labels[row] for row in rows]
    reasons, twins = judge_near(first, found)
    note_spared(first, reasons, ledger)
    ledger.record("near duplicates", reasons, texts=texts, twins=rows[twins])


def judge_near(first: np.ndarray, labels: Sequence[str | None]) -> tuple[list[str], np.ndarray]:
    """A reason for each row of a cluster after the first under its label, and that first row."""
    kept: dict[tuple, int] = {}
    groups = zip(first.tolist(), labels, strict=True)
    twins = np.array([kept.setdefault(group, row) for row, group in enumerate(groups)], np.int64)
    return ["near duplicate" if twin != row else "" for row, twin in enumerate(twins)], twins


def note_spared(first: np.ndarray, reasons: Sequence[str], ledger: Ledger) -> None:
    """Say in the ledger how many near-duplicates stay because of their label."""
    spared = int((first != np.arange(len(first))).sum()) - sum(map(bool, reasons))
    if spared:
        ledger.notes.append(f"near-duplicates that stay, under another label: {spared}")


def refuse_empty(ledger: Ledger) -> None:
    """Raise DataError when no row is kept, naming the reason that dropped most."""
    if len(ledger.kept):
        return
    reason, count = Counter(ledger.dropped).most_common(1)[0]
    advice = ADVICE.get(reason, "pass rules='labelled' to switch the quality rules off")
    raise DataError(
        f"all {ledger.rows_in} rows were dropped, most of them ({count}) for {reason!r}: {advice}"
    )


def _pairs(dataset: Dataset, rules: Rules) -> list[str] | None:
    if "text_pair" not in dataset.column_names:
        return None
    return [normalise_text(text, rules, mask=False) for text in dataset["text_pair"]]


def with_columns(dataset: Dataset, columns: dict[str, list], rows: np.ndarray) -> Dataset:
    """`rows` of the dataset, with new values in `columns` (lists as long as the whole)."""
    import pyarrow as pa
    from datasets import Dataset

    table = dataset.select(rows).with_format("arrow")[:]
    for name, values in columns.items():
        place = table.schema.get_field_index(name)
        field = table.schema.field(name)
        chosen = pa.array([values[row] for row in rows], type=field.type)
        table = table.set_column(place, field, chosen)
    return Dataset(table, info=dataset.info.copy(), split=dataset.split)
