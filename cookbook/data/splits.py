"""Training, validation and test splits that share no text and no group.

One function, `assign`, decides by hashing a key for every embedded set, so that a module is on the
same side in all of them; `split` cuts the reader's own rows. It drops nothing: rows that belong
together move together. Chapter 01 explains it; every chapter relies on it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from cookbook.data.errors import DataError

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

NAMES = ("train", "validation", "test")
HELD_OUT_FIRST = {"test": -2, "validation": -1}
FRACTIONS = (0.8, 0.1, 0.1)


def assign(key: str, *, fractions: Sequence[float] = FRACTIONS, seed: int = 0) -> str:
    """The split to which everything under `key` belongs: a hash, so no list has to be kept.

    A module added tomorrow moves no module of today.

    >>> assign("scipy.stats") == assign("scipy.stats")
    True
    """
    position = _unit_hash(key, seed)
    for name, edge in zip(NAMES, np.cumsum(fractions), strict=True):
        if position < edge:
            return name
    return NAMES[-1]


def split(
    dataset: Dataset,
    *,
    groups: Sequence | None = None,
    fractions: Sequence[float] = FRACTIONS,
    seed: int = 0,
    text_column: str = "text",
    names: Sequence[str] = NAMES,
) -> DatasetDict:
    """Cut one `Dataset` into `names`, rows of one group or one normalised text kept together.

    `groups` gives a group for each row (a patient, a thread, an author); rows whose text differs
    only in case, spaces and punctuation are one group anyway. Classes are spread evenly as far as
    the groups allow. Raises DataError when there are fewer groups than splits, or not a group for
    each row.

    >>> from datasets import Dataset
    >>> rows = Dataset.from_dict({"text": ["a b", "A  b!", "c", "d", "e"]})
    >>> parts = split(rows, fractions=(0.6, 0.2, 0.2))
    >>> sorted(len(part) for part in parts.values())
    [1, 1, 3]
    """
    from datasets import DatasetDict

    if len(dataset) < len(names):
        raise DataError(
            f"the data has {len(dataset)} row{'s' * (len(dataset) != 1)}, too few to make "
            f"{', '.join(names)}: at least {len(names)} are needed"
        )
    if groups is not None and len(groups) != len(dataset):
        raise DataError(f"{len(groups)} groups are given for {len(dataset)} rows: give one a row")
    bundles = _bundles(dataset, groups, text_column)
    if bundles.max() + 1 < len(names):
        raise DataError(
            f"all {len(dataset)} rows belong to {bundles.max() + 1} group(s) of equal text or "
            f"group column, too few to make {', '.join(names)}: add rows or another group column"
        )
    labels = _labels(dataset)
    side = _deal(bundles, labels, np.asarray(fractions, float), seed)
    return DatasetDict(
        {name: dataset.select(np.flatnonzero(side == i)) for i, name in enumerate(names)}
    )


def few(dataset: DatasetDict, train: int, held_out: int, *, seed: int = 0) -> DatasetDict:
    """A smaller copy: at most `train` training rows and `held_out` rows of each other split.

    Rows are drawn at random, the classes as evenly as they are there to be had: with few rows a
    plain draw would miss some. Given splits stay what they are, but a row whose text was drawn for
    the test is not drawn for the validation, and of neither for the training: many a published set
    repeats itself, and a score on what was trained flatters. Raises DataError where every text of a
    split is held out elsewhere.
    """
    from datasets import DatasetDict

    drawn: dict[str, np.ndarray] = {}
    known: set[str] = set()
    for name in sorted(dataset, key=lambda name: HELD_OUT_FIRST.get(name, 0)):
        rows = train if name == "train" else held_out
        drawn[name], keys = _draw_unseen(dataset[name], rows, seed, known)
        if rows and len(dataset[name]) and not len(drawn[name]):
            raise DataError(
                f"each of the {len(dataset[name])} texts of {name} is also drawn to be held out: "
                f"nothing is left for {name}. Give splits that share no text, or draw fewer rows"
            )
        known |= keys
    return DatasetDict({name: dataset[name].select(drawn[name]) for name in dataset})


def _draw_unseen(
    part: Dataset, rows: int, seed: int, known: set[str]
) -> tuple[np.ndarray, set[str]]:
    """Row numbers by `draw_evenly` of which none has a text among `known`, and their texts."""
    labels, left = _labels(part), np.arange(len(part))
    while True:
        found = left[draw_evenly(labels[left], rows, seed)]
        keys = np.array(_fingerprints(part.select(found), "text"), dtype=object)
        seen = np.array([bool(key) and key in known for key in keys], bool)
        if not seen.any():
            return found, {key for key in keys if key}
        left = np.setdiff1d(left, found[seen])


def draw_evenly(labels: np.ndarray, rows: int, seed: int) -> np.ndarray:
    """Up to `rows` row numbers, ascending: turn by turn one of each class that has some left."""
    order = np.random.default_rng(seed).permutation(len(labels))
    turn = np.empty(len(labels), int)
    for label in np.unique(labels):
        own = order[labels[order] == label]
        turn[own] = np.arange(len(own))
    return np.sort(order[np.argsort(turn[order], kind="stable")][:rows])


def check_disjoint(
    dataset: DatasetDict, *, text_column: str = "text", groups: str | None = None
) -> int:
    """Raise DataError if two splits share a normalised text, or a value of the `groups` column.

    Returns the number of different keys that were compared; empty texts are not.
    """
    seen: dict[str, str] = {}
    for name, part in dataset.items():
        keys = {f"text {key}" for key in _fingerprints(part, text_column) if key}
        if groups:
            keys |= {f"group {value}" for value in part.unique(groups)}
        shared = sorted(key for key in keys if key in seen)
        if shared:
            raise DataError(
                f"{len(shared)} texts or groups of {name} are in {seen[shared[0]]} too, such as "
                f"{shared[0][:60]!r}: split by group, or drop the copies"
            )
        seen.update(dict.fromkeys(keys, name))
    return len(seen)


def _unit_hash(key: str, seed: int) -> float:
    digest = hashlib.blake2b(f"{seed}:{key}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def _fingerprints(dataset: Dataset, text_column: str) -> list[str]:
    from cookbook.data.deduplication import fingerprint

    return [fingerprint(text) for text in _texts(dataset, text_column)]


def _texts(dataset: Dataset, text_column: str) -> list[str]:
    if text_column not in dataset.column_names:
        return []
    if "text_pair" in dataset.column_names and text_column == "text":
        pairs = zip(dataset["text"][:], dataset["text_pair"][:], strict=True)
        return [f"{a or ''} \n {b or ''}" for a, b in pairs]
    return [str(text or "") for text in dataset[text_column][:]]  # [:]: a column read at once


def _bundles(dataset: Dataset, groups: Sequence | None, text_column: str) -> np.ndarray:
    """(n,) int: rows linked through a group or a text share a number, 0 … bundles - 1."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    n = len(dataset)
    sides: list[list[str]] = [list(map(str, groups))] if groups is not None else []
    if texts := _fingerprints(dataset, text_column):
        # An empty text says nothing about who belongs together: each such row stands alone.
        sides.append([key or f"\0{row}" for row, key in enumerate(texts)])
    if not sides:
        return np.arange(n)
    ids, offset = [], n
    for keys in sides:
        # A dict, not np.unique: an array of str gives every row the room of the longest text.
        known: dict[str, int] = {}
        ids.append(np.array([known.setdefault(key, offset + len(known)) for key in keys]))
        offset += len(known)
    rows, columns = np.tile(np.arange(n), len(sides)), np.concatenate(ids)
    links = coo_matrix((np.ones(len(rows), bool), (rows, columns)), shape=(offset, offset))
    found = connected_components(links, directed=False)[1][:n]
    return np.unique(found, return_inverse=True)[1]


def _labels(dataset: Dataset) -> np.ndarray:
    """(n,) int class of each row; all zero where there is no class label."""
    from datasets import ClassLabel

    if isinstance(dataset.features.get("label"), ClassLabel):
        return np.asarray([-1 if y is None else y for y in dataset["label"][:]]) + 1
    return np.zeros(len(dataset), int)


def _deal(bundles: np.ndarray, labels: np.ndarray, fractions: np.ndarray, seed: int) -> np.ndarray:
    """(n,) int: bundles dealt out, the largest first, each to the split it is due to the most.

    What a split is due of a class is its fraction of the rows dealt so far, less what it was given.
    """
    counts = np.zeros((bundles.max() + 1, labels.max() + 1))
    np.add.at(counts, (bundles, labels), 1)
    sizes = counts.sum(1)
    shuffled = np.random.default_rng(seed).permutation(len(counts))
    order = shuffled[np.argsort(-sizes[shuffled], kind="stable")]
    due = np.zeros((len(fractions), counts.shape[1]))
    chosen, left = np.empty(len(counts), int), len(counts)
    filled = np.zeros(len(fractions), bool)
    for bundle in order:
        due += fractions[:, None] * counts[bundle]
        # The second term evens out the total: a hundred small classes all round the same way.
        need = due @ counts[bundle] + 0.3 * sizes[bundle] * due.sum(1)
        if left <= (~filled).sum():  # the last bundles go to splits that are still empty
            need = np.where(filled, -np.inf, need)
        side = int(np.argmax(need))
        chosen[bundle], filled[side] = side, True
        due[side] -= counts[bundle]
        left -= 1
    return chosen[bundles]
