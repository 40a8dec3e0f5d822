"""Do a row's halves belong together (fault D8): source and target, prompt and answer, two texts?

Texts that belong together share topics, names and words, so rows that are alike in one half are
alike in the other. The dependence of two kernels (Gretton et al. 2005, HSIC) says how much; with
the halves joined by a wrong key it is that of permuted rows. Only where there is enough natural
text: sums and riddles show in no bag of tokens. Plain NumPy; no model is run.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from cookbook.doctor import simple_features
from cookbook.doctor.checks import Skip
from cookbook.doctor.findings import Finding
from cookbook.doctor.subject import IGNORE

FEWEST, MOST = 150, 600  # rows with two halves
WORDS = 150  # different tokens of the first halves, under which it is no natural text
SHORTEST, VARIED = (
    3,
    0.5,
)  # tokens of a first half in the median; share of second halves that differ
BEATS = 3.0  # deviations of the permuted twins
TWINS = 60
# Their labels are no text: other probes ask them.
OTHERS = {"classifier", "tagger", "masked-lm", "multi-label", "regression", "question-answering"}


def check_halves_belong(subject: Any) -> Iterable[Finding]:
    """The dependence of the halves' kernels, against rows that are permuted."""
    if subject.kind in OTHERS:
        raise Skip("does not apply")
    pairs = [pair for pair in map(halves, subject.train.rows) if pair is not None]
    if len(pairs) < max(FEWEST, 0.5 * len(subject.train.rows)):
        raise Skip("does not apply")
    pairs = pairs[:: max(1, len(pairs) // MOST)][:MOST]
    first, second = zip(*pairs, strict=True)
    if len(set().union(*map(set, first))) < WORDS or _alike(second):
        raise Skip("too little natural text to judge by")
    if np.median([len(half) for half in first]) < SHORTEST:
        raise Skip("the texts are too short to judge by")
    best = -np.inf
    for one in kernels_of(first):
        for other in kernels_of(second):
            best = max(best, dependence(one, other))
            if best > BEATS:
                return
    yield Finding(
        "D8", "warn",
        f"rows that are alike in one half are no more alike in the other than by chance: the "
        f"dependence of {len(pairs)} pairs is {best:.1f} deviations above that of permuted ones "
        f"(bound: {BEATS:g})",
        "join the halves by one key, and look at some rows decoded",
        {"distance": float(best), "pairs": len(pairs)},
    )  # fmt: skip


def halves(row: Any) -> tuple[list[int], list[int]] | None:
    """The token ids of a row's two halves; None where it has no two.

    Ids and other labels (source and target), ids without and with a label (prompt and answer), or
    two columns of ids.

    >>> halves({"input_ids": [5, 6, 7, 8], "labels": [-100, -100, 7, 8]})
    ([5, 6], [7, 8])
    >>> halves({"text_ids": [5, 6], "pair_ids": [7, 8]})
    ([5, 6], [7, 8])
    """
    if not isinstance(row, Mapping):
        return None
    ids, labels = _flat(row.get("input_ids")), _flat(row.get("labels"))
    if ids is not None and labels is not None and labels.size > 1:
        answer = labels != IGNORE
        if labels.shape == ids.shape and np.array_equal(ids[answer], labels[answer]):
            asked = ids[~answer]
        elif labels.shape != ids.shape or not np.array_equal(ids, labels):
            asked = ids[_attended(row, ids)]
        else:
            asked = ids[:0]
        told = labels[answer]
        return (asked.tolist(), told.tolist()) if asked.size and told.size else None
    sides = [_flat(v) for k, v in row.items() if k.endswith("_ids") and not _auxiliary(k)]
    sides = [side for side in sides if side is not None and side.size > 1]
    return (sides[0].tolist(), sides[1].tolist()) if len(sides) == 2 else None


def _flat(value: Any) -> np.ndarray | None:
    try:
        found = np.asarray(value)
    except (TypeError, ValueError):
        return None
    return found.reshape(-1) if found.dtype.kind in "iu" and found.ndim else None


def _attended(row: Mapping[str, Any], ids: np.ndarray) -> np.ndarray:
    mask = _flat(row.get("attention_mask"))
    return mask > 0 if mask is not None and mask.shape == ids.shape else np.ones(len(ids), bool)


def _auxiliary(name: str) -> bool:
    parts = ("token_type", "position", "decoder", "group", "word", "segment", "task", "label")
    return any(part in name for part in parts)


def _alike(second: Any) -> bool:
    return len({tuple(half) for half in second}) < VARIED * len(second)


def kernels_of(texts: Any) -> Iterator[np.ndarray]:
    """The linear and the Gaussian kernel (texts, texts) of the counts of their tokens' numbers."""
    width = max(map(len, texts))
    ids, real = np.zeros((len(texts), width), np.int64), np.zeros((len(texts), width), bool)
    for row, text in enumerate(texts):
        ids[row, : len(text)], real[row, : len(text)] = text, True
    for _, kernel in simple_features.kernels("tokens", simple_features.hashed(ids, real)):
        yield kernel


def dependence(one: np.ndarray, other: np.ndarray) -> float:
    """Of two kernels (rows, rows): HSIC, in deviations above its permuted twins."""
    draw = np.random.default_rng(0)
    first, second = _centred(one), _centred(other)
    own = (first * second).sum()
    orders = [draw.permutation(len(one)) for _ in range(TWINS)]
    twins = np.array([(first * second[np.ix_(order, order)]).sum() for order in orders])
    return float((own - twins.mean()) / (twins.std() + 1e-12))


def _centred(kernel: np.ndarray) -> np.ndarray:
    """Centred, and without the diagonal: a row is like itself in any order."""
    found = kernel - kernel.mean(0) - kernel.mean(1, keepdims=True) + kernel.mean()
    np.fill_diagonal(found, 0.0)
    return found


CHECKS = (check_halves_belong,)
