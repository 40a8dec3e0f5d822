"""New versions of a training text by small random edits: mask, insert, swap, delete.

The operations are those of EDA (Wei and Zou 2019, "EDA: Easy Data Augmentation Techniques for
Boosting Performance on Text Classification Tasks") without its thesaurus, and masking as in word
dropout (Iyyer et al. 2015; Bowman et al. 2016). Every function takes its own random generator, so
that a text and a seed give one result. It works on words parted by spaces, on single characters
where a script has none. It knows no labels: whether an edit keeps the meaning is for the reader to
judge ("not good" minus one word is "good"). Augment the training split only. Used by chapters 01
and 09.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from cookbook.data.errors import DataError
from cookbook.data.shingles import UNSPACED

if TYPE_CHECKING:
    from datasets import Dataset

# A word with the space before it, or one character of a script without spaces.
_PIECE = re.compile(rf"\s*(?:[{UNSPACED}]|[^\s{UNSPACED}]+)")


def pieces(text: str) -> list[str]:
    """The units that are edited, each with the space before it: joined they are the text.

    >>> pieces("two words"), pieces("送餐快")
    (['two', ' words'], ['送', '餐', '快'])
    """
    found = _PIECE.findall(text)
    if found:
        found[-1] += text[sum(map(len, found)) :]  # trailing space
    return found


def random_mask(text: str, rate: float, rng: random.Random, *, mask: str = "[MASK]") -> str:
    """Replace each word by `mask` with probability `rate` (word dropout, Iyyer et al. 2015).

    >>> random_mask("the cat sat on the mat", 0.5, random.Random(0))
    'the cat [MASK] [MASK] the [MASK]'
    """
    return "".join(_space(piece) + mask if rng.random() < rate else piece for piece in pieces(text))


def random_insert(text: str, rate: float, rng: random.Random) -> str:
    """Insert n = rate * words copies of words of the text at random places.

    EDA inserts synonyms from WordNet; without a thesaurus a word of the text itself keeps its
    topic (as Karimi et al. 2021, "AEDA", insert punctuation, which keeps even more).

    >>> random_insert("the cat sat", 0.34, random.Random(0))
    'the cat cat sat'
    """
    found = pieces(text)
    for _ in range(_count(rate, found)):
        word = rng.choice(found).strip()
        place = rng.randint(1, len(found))
        found.insert(place, (" " if _spaced(word) else "") + word)
    return "".join(found)


def random_swap(text: str, rate: float, rng: random.Random) -> str:
    """Swap n = rate * words random pairs of words (EDA); the spaces stay where they are.

    >>> random_swap("the cat sat", 0.34, random.Random(0))
    'the sat cat'
    """
    found = pieces(text)
    for _ in range(_count(rate, found) if len(found) > 1 else 0):
        i, j = rng.sample(range(len(found)), 2)
        left, right = found[i].strip(), found[j].strip()
        found[i], found[j] = found[i].replace(left, right), found[j].replace(right, left)
    return "".join(found)


def random_delete(text: str, rate: float, rng: random.Random) -> str:
    """Delete each word with probability `rate` (EDA); one word is always left.

    >>> random_delete("the cat sat on the mat", 0.5, random.Random(0))
    'the cat the'
    """
    found = pieces(text)
    kept = [piece for piece in found if rng.random() >= rate]
    if found and not kept:
        kept = [rng.choice(found)]
    return "".join(kept).lstrip() if kept[:1] != found[:1] else "".join(kept)


OPERATIONS: dict[str, Callable[..., str]] = {
    "mask": random_mask,
    "insert": random_insert,
    "swap": random_swap,
    "delete": random_delete,
}


def augment(
    dataset: Dataset,
    *,
    operations: Sequence[str] = ("insert", "swap", "delete"),
    rate: float = 0.1,
    copies: int = 1,
    seed: int = 0,
    text_column: str = "text",
    mask: str = "[MASK]",
) -> Dataset:
    """The dataset and, after it, `copies` edited versions of each row, an operation each.

    `rate` is the share of words to edit, 0 to 1; EDA found 0.1 right up to 500 rows and 0.05
    above. `mask` is the tokenizer's mask token, where "mask" is among the operations. A copy
    that no edit changed is left out: it would only be a duplicate. Rows keep their other columns.
    Raises DataError for an unknown operation or column.

    >>> from datasets import Dataset
    >>> rows = Dataset.from_dict({"text": ["the cat sat on the mat"], "label": [1]})
    >>> augment(rows, operations=["swap"])["text"][:]
    ['the cat sat on the mat', 'the cat mat on the sat']
    """
    from datasets import concatenate_datasets

    if unknown := set(operations) - set(OPERATIONS):
        raise DataError(
            f"{sorted(unknown)[0]!r} is no operation: choose from {', '.join(OPERATIONS)}"
        )
    if text_column not in dataset.column_names:
        raise DataError(
            f"there is no column {text_column!r}: the columns are {', '.join(dataset.column_names)}"
        )
    texts, parts = dataset[text_column][:], [dataset]
    for copy in range(copies):
        edited = [
            _edit(text, operations, rate, random.Random(f"{seed}/{copy}/{row}"), mask)
            for row, text in enumerate(texts)
        ]
        changed = [row for row, text in enumerate(edited) if text != texts[row]]
        parts.append(_replaced(dataset, changed, text_column, edited))
    return concatenate_datasets(parts)


def _edit(text: str, operations: Sequence[str], rate: float, rng: random.Random, mask: str) -> str:
    name = rng.choice(list(operations))
    return OPERATIONS[name](text, rate, rng, **({"mask": mask} if name == "mask" else {}))


def _replaced(dataset: Dataset, rows: list[int], column: str, texts: list[str]) -> Dataset:
    from cookbook.data.cleaning import with_columns

    return with_columns(dataset, {column: texts}, rows)


def _count(rate: float, found: Sequence[str]) -> int:
    """EDA: n = rate * length, at least one edit, none in an empty text or at rate 0."""
    return max(1, round(rate * len(found))) if found and rate > 0 else 0


def _space(piece: str) -> str:
    return piece[: len(piece) - len(piece.lstrip())]


def _spaced(word: str) -> bool:
    return re.match(f"[{UNSPACED}]", word) is None
