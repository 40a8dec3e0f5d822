"""The same input twice: D1 in training and in evaluation, D2 with different labels.

Rows are compared by `row_keys`. Of a large training set more than the usual sample is read, because
a copy is only found when both of its places are; a few seconds at most.
"""

from __future__ import annotations

import itertools
import math
import random
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from cookbook.doctor import row_keys, span_checks
from cookbook.doctor.checks import Skip
from cookbook.doctor.findings import Finding
from cookbook.doctor.sampling import ROWS, SECONDS

SHARED_WARN, SHARED_ERROR, SHARED_ROWS = 0.005, 0.05, 5  # shares of the evaluation rows, and rows
CONFLICTS, CONFLICT_ROWS = 0.01, 5
SPANS = 0.05  # share of spans that may have another answer elsewhere
ALL_ROWS = 50_000  # so many training rows are read for copies
ONE_BATCH = 16  # training on no more rows is an exercise in overfitting
BITS = 30  # features that hold fewer may be equal by chance
OFTEN = 4  # times as often as within training must texts begin as one of training, to be copies
REPETITIVE = 0.1  # fewer different inputs than that share of the rows: the data are no documents


def check_evaluation_is_new(subject: Any) -> Iterable[Finding]:
    """D1: the share of evaluation rows whose input stands in training."""
    if subject.eval_dataset is None or subject.train_dataset is None:
        raise Skip("does not apply")
    drop = _special(subject)
    rows = [(row_keys.input_key(row, drop), row) for row in _sampled(subject.eval)]
    evaluation = [(key, row_keys.read_key(row, drop)) for key, row in rows if key is not None]
    if not evaluation:
        raise Skip("no evaluation row is long enough to compare")
    training, cut, alike, read, coverage = _training_keys(subject, drop)
    if read <= max(ONE_BATCH, subject.train.batch_size) or _repetitive(training, read):
        raise Skip("too few different training rows to speak of copies")
    shared = sum(key in training for key, _ in evaluation)
    begun = sum(ids in cut and key not in training for key, ids in evaluation)
    shared += begun if begun >= OFTEN * alike * len(evaluation) else 0
    shared = max(shared, _read_alike(subject))
    share = min(1.0, shared / len(evaluation) / coverage)
    if shared < SHARED_ROWS or share < SHARED_WARN:
        return
    if _few_bits(subject.train) and share < 2 * (1 - len(training) / read):
        raise Skip("rows of a few features repeat within training as often as across the sets")
    severe = share >= SHARED_ERROR
    yield Finding(
        "D1", "error" if severe else "warn",
        f"{share:.1%} of the evaluation rows stand in training as well, {shared:,} of "
        f"{len(evaluation):,} (bound: {SHARED_ERROR if severe else SHARED_WARN:.1%})"
        + ("" if coverage == 1 else f"; counted on {coverage:.0%} of the training rows"),
        measured={"share": share, "shared_rows": shared, "eval_rows": len(evaluation)},
    )  # fmt: skip


def _read_alike(subject: Any) -> int:
    """Evaluation rows of ids alone whose text, but for case and spaces, a training row has."""
    tokenizer, rows = subject.tokenizer, (subject.train.rows, subject.eval.rows)
    ids = all(
        isinstance(row, Mapping) and "input_ids" in row and row_keys.text_of(row) is None
        for part in rows for row in part[:4]
    )  # fmt: skip
    if not ids or not all(rows) or not hasattr(tokenizer, "batch_decode"):
        return 0
    known, asked = (
        [" ".join(text.casefold().split()) for text in tokenizer.batch_decode(
            [np.asarray(row["input_ids"]).reshape(-1).tolist() for row in part],
            skip_special_tokens=True,
        )]
        for part in rows
    )  # fmt: skip
    known = set(known)
    return sum(text in known for text in asked if len(text) >= row_keys.CHARACTERS)


def check_inputs_have_one_label(subject: Any) -> Iterable[Finding]:
    """D2: the share of training rows whose input occurs with two or more labels."""
    if subject.kind in ("regression", "question-answering", "causal-lm", "masked-lm", "seq2seq"):
        raise Skip("does not apply")
    drop, names = _special(subject), getattr(subject.args, "label_names", None)
    labels, rows = defaultdict(list), 0
    for row in subject.train.rows:
        key, label = row_keys.input_key(row, drop), row_keys.label(row, names)
        if key is not None and label is not None:
            labels[key].append(label)
            rows += 1
    if not rows or _repetitive(labels, rows):
        raise Skip("does not apply")
    contradicted = sum(len(group) for group in labels.values() if len(set(group)) > 1)
    if contradicted >= max(CONFLICT_ROWS, CONFLICTS * rows):
        yield Finding(
            "D2", "warn",
            f"{contradicted / rows:.1%} of {rows:,} rows have an input that occurs with two or "
            f"more labels (bound: {CONFLICTS:.0%})",
            measured={"share": contradicted / rows, "rows": rows},
        )  # fmt: skip


def check_questions_have_one_answer(subject: Any) -> Iterable[Finding]:
    """D2: the share of spans whose question and text occur with another answer, elsewhere.

    Annotators may end a span a word later, and an answer may stand in a text twice.
    """
    drop, answers = _special(subject), defaultdict(list)
    spans = [s for s in span_checks.read(subject.train.rows) if s.fits and s.end >= s.start]
    for span in spans:
        key = row_keys.read_key(span.row, drop)
        if key is not None:
            said = tuple(span.ids[span.start : span.end + 1].tolist())
            answers[key].append((span.start, span.end, said))
    rows = sum(map(len, answers.values()))
    if not rows or _repetitive(answers, rows):
        raise Skip("does not apply")
    contradicted = sum(len(group) for group in answers.values() if _elsewhere(group))
    if contradicted >= max(CONFLICT_ROWS, SPANS * rows):
        yield Finding(
            "D2", "warn",
            f"{contradicted / rows:.1%} of {rows:,} rows have a question and a text that occur "
            f"with different answers at different places (bound: {SPANS:.0%})",
            "keep one answer for a row, and give the others to the metric",
            {"share": contradicted / rows, "rows": rows},
        )  # fmt: skip


def _elsewhere(group: list[tuple[int, int, tuple[int, ...]]]) -> bool:
    """Whether two of these spans have no token in common and read differently."""
    pairs = itertools.combinations(set(group), 2)
    return any((a[1] < b[0] or b[1] < a[0]) and a[2] != b[2] for a, b in pairs)


def _special(subject: Any) -> frozenset[int]:
    return frozenset(getattr(subject.tokenizer, "all_special_ids", None) or ())


def _few_bits(sample: Any) -> bool:
    """Whether rows are a few features of a few values each, which repeat by nature."""
    found = [row_keys.array_of(row) for _, row in zip(range(50), _sampled(sample), strict=False)]
    arrays = [array for array in found if array is not None]
    if not arrays:
        return False
    values = len(np.unique(np.concatenate([array.reshape(-1) for array in arrays])))
    return max(array.size for array in arrays) * math.log2(max(values, 2)) < BITS


def _repetitive(keys: Any, rows: int) -> bool:
    return len(keys) < REPETITIVE * rows


def _training_keys(
    subject: Any, drop: frozenset[int]
) -> tuple[set[bytes], set[bytes], float, int, float]:
    """Keys of the training rows, and of their token ids; what share of these is that of another
    text, plus one; how many rows were read, and what share of all they are."""
    keys, texts, cut, read = set(), set(), set(), 0
    for row in _more_rows(subject.train):
        key, ids = row_keys.input_key(row, drop), row_keys.read_key(row, drop)
        read += 1
        if key is not None:
            keys.add(key)
            texts |= {key} if ids is not None else set()
            cut |= {ids} if ids is not None else set()
    alike = (len(texts) - len(cut) + 1) / max(1, len(texts))
    total = subject.train.total
    return keys, cut, alike, read, 1.0 if not total or not read else min(1.0, read / total)


def _more_rows(sample: Any) -> Iterator[Any]:
    """The rows that were read, and more where that costs only seconds: in a drawn order."""
    yield from _sampled(sample)
    if sample.iterable:
        return
    total = sample.total or 0
    if not sample.rows or len(sample.rows) >= total or total > ALL_ROWS:
        return
    known = set(sample.indices)
    rest = [i for i in range(total) if i not in known]
    random.Random(0).shuffle(rest)
    until = time.process_time() + SECONDS
    for part in (rest[i : i + 500] for i in range(0, len(rest), 500)):
        yield from _read(sample.dataset, part)
        if time.process_time() > until:
            return


def _read(dataset: Any, places: list[int]) -> list[Any]:
    """Rows at these places; a `datasets.Dataset` gives many at once, much faster."""
    if type(dataset).__module__.startswith("datasets."):
        columns = dataset[places]
        names = list(columns)
        values = zip(*columns.values(), strict=True)
        return [dict(zip(names, row, strict=True)) for row in values]
    return [dataset[i] for i in places]


def _sampled(sample: Any) -> Iterator[Any]:
    """The rows of the sample; of a stream as many as a sample has."""
    yield from sample.front(ROWS) if sample.iterable else sample.rows


CHECKS = (check_evaluation_is_new, check_inputs_have_one_label, check_questions_have_one_answer)
