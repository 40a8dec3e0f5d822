"""Do spans belong to their texts (fault D8, in question answering)?

Where an answer begins is told, a little, by the token it begins with, by its neighbours, and by
whether the question has it too. Spans of other rows owe nothing to the tokens under them: a naive
Bayes over those four signs ranks the true beginning no higher among its row's tokens than one taken
from another row. That is a warning, and only where many rows agree.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from cookbook.doctor import span_checks
from cookbook.doctor.checks import Skip
from cookbook.doctor.findings import Finding
from cookbook.doctor.span_checks import Span

FEWEST, MOST, LONGEST = 200, 600, 512  # rows with a span, tokens of a row
BEATS = 3.0  # deviations of spans of other rows
TWINS, BUCKETS = 20, 4096
SIGNS = 4


def check_spans_belong(subject: Any) -> Iterable[Finding]:
    """The rank of each beginning by simple signs, against beginnings taken from other rows."""
    spans = [s for s in span_checks.read(subject.train.rows) if s.answered]
    spans = [s for s in spans if 0 < s.start < min(s.length, LONGEST)]
    if len(spans) < FEWEST:
        raise Skip("does not apply")
    spans = spans[:: max(1, len(spans) // MOST)][:MOST]
    signs = [_signs(span) for span in spans]
    draw = np.random.default_rng(0)
    own = np.array([span.start for span in spans])
    first = np.array([_first(span) for span in spans])
    ranks = [_mean_rank(signs, own, first)]
    for _ in range(TWINS):
        other = own[draw.permutation(len(own))]
        room = np.array([len(s) for s in signs]) - first
        ranks.append(_mean_rank(signs, first + (other - first) % np.maximum(room, 1), first))
    twins = np.array(ranks[1:])
    distance = (ranks[0] - twins.mean()) / (twins.std() + 1e-9)
    if distance < BEATS:
        yield Finding(
            "D8", "warn",
            f"the tokens of {len(spans)} rows rank their own beginning of the answer at "
            f"{ranks[0]:.1%} and one of another row at {twins.mean():.1%}, {distance:.1f} "
            f"deviations apart (bound: {BEATS:g})",
            "join questions, texts and answers by one key, and look at decoded spans",
            {"rank": ranks[0], "permuted": float(twins.mean()), "distance": float(distance)},
        )  # fmt: skip


def _first(span: Span) -> int:
    """Where the text that is asked begins: behind the question where token types say so, else 1."""
    if span.types is None or span.types[: span.length].max() == 0 or span.types[span.start] == 0:
        return 1
    return min(int(span.types.argmax()), span.start)


def _signs(span: Span) -> np.ndarray:
    """Numbers (tokens, 4): the token, the one before, the one behind, whether the question has it.

    The last also says whether the token occurs once or more in its row.
    """
    ids = span.ids[: min(span.length, LONGEST)].astype(np.int64)
    before, behind = np.roll(ids, 1), np.roll(ids, -1)
    first = _first(span)
    asked = np.isin(ids, ids[:first])
    _, where, times = np.unique(ids, return_inverse=True, return_counts=True)
    shared = asked * 2 + (times[where] > 1)
    return np.stack([ids % BUCKETS, before % BUCKETS, behind % BUCKETS, shared], 1)


def _mean_rank(signs: list[np.ndarray], starts: np.ndarray, first: np.ndarray) -> float:
    """The mean share of its row's tokens that a beginning is ranked above, in two folds."""
    found = []
    for fold in (0, 1):
        table = np.ones((2, SIGNS, BUCKETS))  # beginnings, all tokens
        for row in range(1 - fold, len(signs), 2):
            for sign in range(SIGNS):
                np.add.at(table[1, sign], signs[row][first[row] :, sign], 1.0)
                table[0, sign, signs[row][starts[row], sign]] += 1.0
        told = np.log(table[0] / table[0].sum(1, keepdims=True))
        told -= np.log(table[1] / table[1].sum(1, keepdims=True))
        for row in range(fold, len(signs), 2):
            score = sum(told[sign, signs[row][:, sign]] for sign in range(SIGNS))
            asked, own = score[first[row] :], score[starts[row]]
            found.append(float((asked < own).mean() + 0.5 * (asked == own).mean()))
    return float(np.mean(found))


CHECKS = (check_spans_belong,)
