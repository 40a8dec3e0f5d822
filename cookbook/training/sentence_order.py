"""Sentence order prediction, ALBERT's answer to next sentence prediction: which part came first?

Both parts are of one document, so that the topic, which gives a foreign second part away, says
nothing. It makes rows; `next_sentence` trains and asks such heads, and shows what they learn. Lan
et al. 2020, arXiv:1909.11942, section 3.1. Used by chapter 04.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from cookbook.training.objectives import sentences
from cookbook.training.order import key_generator

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def sentence_order_pairs(
    texts: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    *,
    length: int = 128,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """One row a document with at least two sentences; half of the rows, exactly, are exchanged.

    `sentence_order_label` is 0 where the parts stand as they stood, 1 where they are exchanged, as
    `AlbertForPreTraining` takes it. Both parts are cut to the *same* number of tokens, around the
    place where they met: were only one of them cut, its length would tell which it is. Raises
    ValueError with no such document, or for a `length` that does not hold a token of each part.
    """
    if length < 5:
        raise ValueError(f"length is {length}: two parts and three special tokens need at least 5")
    parts = [cut for number, text in enumerate(texts) if (cut := _cut(text, seed, number))]
    if not parts:
        raise ValueError(f"none of {len(texts)} documents has two sentences to put in order")
    exchanged = key_generator(seed, 1, 0).permutation(len(parts)) % 2
    return [
        _encode(*pair, int(swap), tokenizer, length)
        for pair, swap in zip(parts, exchanged, strict=True)
    ]


def _cut(text: str, seed: int, number: int) -> tuple[str, str] | None:
    """A document in two, at a sentence chosen by chance; None where there is but one."""
    found = sentences(text)
    if len(found) < 2:
        return None
    place = int(key_generator(seed, 0, number).integers(1, len(found)))
    return " ".join(found[:place]), " ".join(found[place:])


def _encode(
    first: str, second: str, swap: int, tokenizer: PreTrainedTokenizerBase, length: int
) -> dict[str, Any]:
    half = (length - 3) // 2
    coded = [
        tokenizer(part, add_special_tokens=False, verbose=False)["input_ids"]
        for part in (first, second)
    ]
    size = min(half, *map(len, coded))  # one size for both, or the longer one would be the first
    a, b = coded[0][len(coded[0]) - size :], coded[1][:size]
    if swap:
        a, b = b, a
    start, end = tokenizer.cls_token_id, tokenizer.sep_token_id
    return {
        "input_ids": [start, *a, end, *b, end],
        "token_type_ids": [0] * (size + 2) + [1] * (size + 1),
        "sentence_order_label": swap,
    }  # fmt: skip
