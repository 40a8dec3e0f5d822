"""Tags of words, carried over to the pieces that a tokenizer cuts the words into, and back.

A tagger reads pieces, people tag words: `align` puts a word's tag on its first piece (or on all of
them), and `read_back` makes tags of words out of answers about pieces. It trains nothing and knows
no metric. Used by `finetuning.tagging`, chapter 15.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

IGNORE = -100  # a label that no loss counts
PIECES = ("first", "all")


class Aligned(NamedTuple):
    """One sentence as a model reads it.

    `row` holds ids, attention mask and `labels`, all of one length; `first[w]` is the position of
    the first piece of word w, or -1 for a word that was cut off, or that has no piece at all.
    """

    row: dict[str, list[int]]
    first: list[int]


def align(
    tokens: Sequence[str],
    tags: Sequence[int],
    tokenizer: PreTrainedTokenizerBase,
    *,
    max_length: int = 128,
    pieces: str = "first",
) -> Aligned:
    """Words and their tag numbers as ids and labels; -100 wherever there is no tag to learn.

    `pieces` "first" labels the first piece of each word, as Devlin et al. 2019 do (section 5.3);
    "all" labels every piece with its word's tag, so that a long word weighs more than a short one.
    Raises ValueError for another choice, and where words and tags do not go together.

    >>> from cookbook.models import load_tokenizer
    >>> one = align(["a", "zzgraph"], [0, 3], load_tokenizer("docbert"))
    >>> one.row["labels"], one.first
    ([-100, 0, 3, -100, -100, -100], [1, 2])
    """
    if pieces not in PIECES:
        raise ValueError(f"pieces is {pieces!r}: choose one of {', '.join(PIECES)}")
    if len(tokens) != len(tags):
        raise ValueError(f"{len(tokens)} words with {len(tags)} tags: each word needs one")
    coded = tokenizer(
        list(tokens), is_split_into_words=True, truncation=True, max_length=max_length
    )
    first, labels = [-1] * len(tokens), []
    for position, word in enumerate(coded.word_ids()):
        begins = word is not None and first[word] < 0
        if begins:
            first[word] = position
        labelled = begins or (word is not None and pieces == "all")
        labels.append(int(tags[word]) if labelled else IGNORE)
    names = [name for name in coded if name in tokenizer.model_input_names]
    return Aligned({name: list(coded[name]) for name in names} | {"labels": labels}, first)


def read_back(aligned: Aligned, answers: Sequence[int], *, outside: int = 0) -> list[int]:
    """A tag for each word, from `answers` about each piece; `outside` where no piece was read.

    >>> read_back(Aligned({}, [1, 3, -1]), [0, 5, 6, 7])
    [5, 7, 0]
    """
    return [int(answers[place]) if place >= 0 else outside for place in aligned.first]
