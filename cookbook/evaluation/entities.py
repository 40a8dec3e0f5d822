"""Named entities: what BIO tags mark, and precision, recall and F1 of whole entities.

An entity counts if its kind, its first and its last word are right; half of a name earns nothing.
Equal to `seqeval` in its default mode, as CoNLL's script scores. It reads BIO only. Used by
`finetuning.tagging`, chapter 15.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

Tags = Sequence[str]


class Scores(NamedTuple):
    """Shares from 0 to 1, and the number of entities that there are."""

    precision: float
    recall: float
    f1: float
    entities: int


def entities(tags: Tags) -> list[tuple[str, int, int]]:
    """(kind, first word, last word) of each entity, in order.

    `B-kind` begins one, `I-kind` goes on; an `I-` behind another kind or behind nothing begins one
    as well, as in CoNLL's script. Raises ValueError for a tag of another form.

    >>> entities(["B-class", "I-class", "O", "I-module", "B-module"])
    [('class', 0, 1), ('module', 3, 3), ('module', 4, 4)]
    """
    found: list[tuple[str, int, int]] = []
    open_kind = ""
    for place, tag in enumerate(tags):
        begin, _, kind = tag.partition("-")
        if tag != "O" and (begin not in ("B", "I") or not kind):
            raise ValueError(f"tag {tag!r} is not of the form O, B-kind or I-kind")
        if tag == "O":
            open_kind = ""
        elif begin == "I" and kind == open_kind:
            found[-1] = (*found[-1][:2], place)
        else:
            found.append((kind, place, place))
            open_kind = kind
    return found


def entity_scores(predictions: Sequence[Tags], references: Sequence[Tags]) -> Scores:
    """Precision, recall and F1 over all entities of all sentences together (micro).

    Raises ValueError where sentences or their words do not go together. A share of nothing is 0.

    >>> entity_scores([["B-x", "O"]], [["B-x", "I-x"]]).f1
    0.0
    """
    counts = _counts(predictions, references)
    return _scores(*(sum(part.values()) for part in counts))


def by_kind(predictions: Sequence[Tags], references: Sequence[Tags]) -> dict[str, Scores]:
    """The same for each kind by itself, in alphabetical order.

    >>> by_kind([["B-x", "B-y"]], [["B-x", "B-x"]])["y"].entities
    0
    """
    right, found, wanted = _counts(predictions, references)
    kinds = sorted(found.keys() | wanted.keys())
    return {kind: _scores(right[kind], found[kind], wanted[kind]) for kind in kinds}


def word_accuracy(predictions: Sequence[Tags], references: Sequence[Tags]) -> float:
    """Share of words whose tag is right. Most words are O, so it is high for any tagger.

    >>> word_accuracy([["O", "O"]], [["O", "B-x"]])
    0.5
    """
    pairs = [pair for p, r in _paired(predictions, references) for pair in zip(p, r, strict=True)]
    return sum(p == r for p, r in pairs) / max(1, len(pairs))


def _counts(predictions: Sequence[Tags], references: Sequence[Tags]) -> tuple[Counter, ...]:
    """Entities by kind: found and right, found, wanted."""
    right, found, wanted = Counter(), Counter(), Counter()
    for prediction, reference in _paired(predictions, references):
        ours, theirs = entities(prediction), entities(reference)
        found.update(kind for kind, *_ in ours)
        wanted.update(kind for kind, *_ in theirs)
        right.update(kind for kind, *_ in set(ours) & set(theirs))
    return right, found, wanted


def _paired(predictions: Sequence[Tags], references: Sequence[Tags]) -> list[tuple[Tags, Tags]]:
    if [len(one) for one in predictions] != [len(one) for one in references]:
        raise ValueError("predictions and references must have the same sentences, word by word")
    return list(zip(predictions, references, strict=True))


def _scores(right: int, found: int, wanted: int) -> Scores:
    return Scores(
        right / max(1, found), right / max(1, wanted), 2 * right / max(1, found + wanted), wanted
    )
