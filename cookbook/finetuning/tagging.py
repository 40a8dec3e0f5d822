"""Tagging: a label for each word, read off its pieces, scored by whole entities.

Names of the tags, rows for a model, its answers as tags of words, and the baseline that only
remembers words. Alignment with pieces is `data.word_tags`, the score `evaluation.entities`,
training `tuning`. Chapter 15 uses it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import torch

from cookbook.data import word_tags
from cookbook.data.errors import DataError
from cookbook.data.word_tags import Aligned
from cookbook.evaluation.entities import entities
from cookbook.finetuning.tuning import ask

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict
    from transformers import PreTrainedTokenizerBase


def names_of(dataset: DatasetDict) -> list[str]:
    """The tags by number, "O" first where they are given as words.

    Raises DataError where they do not mark entities in BIO, or are numbers without names.
    """
    from datasets import ClassLabel

    inside = getattr(dataset["train"].features.get("tags"), "feature", None)
    if inside is None:
        raise DataError("no tags to learn: name their column with tags_column")
    if isinstance(inside, ClassLabel):
        names = list(inside.names)
    elif inside.dtype in ("string", "large_string"):
        seen = {tag for part in dataset.values() for tags in part["tags"] for tag in tags}
        names = ["O", *sorted(seen - {"O"})]
    else:
        raise DataError("the tags are numbers without names: give them as O, B-kind, I-kind")
    try:
        entities(names)
    except ValueError as error:
        raise DataError(f"{error}: entities are marked in BIO here; rename the tags") from None
    if "O" not in names or len(names) < 2:
        raise DataError(
            f"the tags are {', '.join(names[:5])}: there must be O and a kind of entity"
        )
    return names


def words_and_tags(part: Dataset, names: Sequence[str]) -> tuple[list[list[str]], list[list[str]]]:
    """The words of each sentence and their tags by name."""
    words = [[str(word) for word in tokens] for tokens in part["tokens"]]
    tags = [[one if isinstance(one, str) else names[one] for one in row] for row in part["tags"]]
    return words, tags


def encode(
    part: Dataset,
    names: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    *,
    max_length: int = 128,
    pieces: str = "first",
) -> list[Aligned]:
    """Each sentence aligned with its pieces; see `data.word_tags.align`."""
    number = {name: i for i, name in enumerate(names)}
    return [
        word_tags.align(
            words, [number[tag] for tag in tags], tokenizer, max_length=max_length, pieces=pieces
        )
        for words, tags in zip(*words_and_tags(part, names), strict=True)
    ]


def collator(tokenizer: PreTrainedTokenizerBase) -> Any:
    """Pads a batch to its longest row, labels with -100."""
    from transformers import DataCollatorForTokenClassification

    return DataCollatorForTokenClassification(tokenizer)


def predict(
    model: torch.nn.Module,
    rows: Sequence[Aligned],
    names: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    *,
    precision: str = "fp32",
) -> list[list[str]]:
    """The tag of each word: the likeliest one of its first piece, "O" for words that were cut."""
    answers = ask(model, [one.row for one in rows], collator(tokenizer), precision=precision)
    outside = names.index("O")
    return [
        [names[tag] for tag in word_tags.read_back(one, logits.argmax(-1), outside=outside)]
        for one, (logits,) in zip(rows, answers, strict=True)
    ]


def remember(
    words: Iterable[Sequence[str]],
    tags: Iterable[Sequence[str]],
    unseen: Iterable[Sequence[str]],
) -> list[list[str]]:
    """The baseline: each word's most frequent tag in training, "O" for a word that was not there.

    Ties go to the tag that was seen first.

    >>> remember([["the", "axis"]], [["O", "B-parameter"]], [["axis", "two"]])
    [['B-parameter', 'O']]
    """
    seen: dict[str, Counter] = defaultdict(Counter)
    for sentence, marks in zip(words, tags, strict=True):
        for word, tag in zip(sentence, marks, strict=True):
            seen[word][tag] += 1
    usual = {word: counts.most_common(1)[0][0] for word, counts in seen.items()}
    return [[usual.get(word, "O") for word in sentence] for sentence in unseen]
