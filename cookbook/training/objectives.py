"""What a pretraining run predicts: masked tokens, whole words, the next sentence.

It turns rows of token ids into inputs and labels; it neither encodes nor trains. Every random
choice is a function of (seed, epoch, row), never of the global random state, so that a resumed run
or a prefetching loader sees the same masks. Chapter 03 uses it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from cookbook.training.order import key_generator
from cookbook.training.stacking import HIDDEN, IGNORE, stack

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def mask_tokens(
    ids: np.ndarray,
    maskable: np.ndarray,
    generator: np.random.Generator,
    *,
    mask_id: int,
    vocab_size: int,
    probability: float = 0.15,
    continues: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and labels of one row, both (length,) int64; -100 where nothing is to be predicted.

    Of the `maskable` tokens exactly `max(1, round(probability * count))` are chosen. Of the chosen,
    80 % become `mask_id`, 10 % a random token, 10 % stay: the model cannot tell which of the
    visible tokens it will be asked for. With `continues`, (length,) bool, true where a token goes
    on the word before it, whole words are chosen and the count is not exceeded, unless every word
    is longer than that: then the shortest is taken.
    Source: Devlin et al. 2019, arXiv:1810.04805, section 3.1 and its code.

    >>> ids, rng = np.arange(10, 20), np.random.default_rng(0)
    >>> inputs, labels = mask_tokens(ids, ids > 9, rng, mask_id=4, vocab_size=30, probability=0.3)
    >>> int((labels != IGNORE).sum())
    3
    """
    labels = np.full(ids.shape, IGNORE, np.int64)
    inputs = ids.astype(np.int64)
    places = np.flatnonzero(maskable)
    if len(places) == 0:
        return inputs, labels
    wanted = max(1, round(probability * len(places)))
    if continues is None:
        chosen = generator.permutation(places)[:wanted]
    else:
        chosen = _whole_words(places, continues, wanted, generator)
    labels[chosen] = ids[chosen]
    fate = generator.random(len(chosen))
    inputs[chosen[fate < 0.8]] = mask_id
    swapped = chosen[fate >= 0.9]
    inputs[swapped] = generator.integers(0, vocab_size, len(swapped))
    return inputs, labels


def _whole_words(
    places: np.ndarray, continues: np.ndarray, wanted: int, generator: np.random.Generator
) -> np.ndarray:
    """Tokens of randomly ordered words, as many words as fit into `wanted` tokens."""
    # A word starts where a token does not continue, or where the token before is not maskable.
    starts = ~continues[places] | (np.diff(places, prepend=-2) > 1)
    words = np.split(places, np.flatnonzero(starts)[1:])
    chosen: list[np.ndarray] = []
    room = wanted
    for word in generator.permutation(len(words)):
        if len(words[word]) <= room:
            chosen.append(words[word])
            room -= len(words[word])
        if room == 0:
            break
    return np.concatenate(chosen) if chosen else min(words, key=len)


def continuations(tokenizer: PreTrainedTokenizerBase) -> np.ndarray:
    """(vocabulary,) bool: whether a token goes on the word before it.

    WordPiece marks such pieces by `##`; byte-level BPE and SentencePiece mark the others, by `Ġ`
    and `▁`.
    """
    tokens = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    marks = [token[:1] for token in tokens]
    special = set(tokenizer.all_special_tokens)
    if sum(mark in ("Ġ", "▁") for mark in marks) > len(tokens) // 10:
        found = [
            m not in ("Ġ", "▁") and t not in special for t, m in zip(tokens, marks, strict=True)
        ]
    else:
        found = [token.startswith("##") for token in tokens]
    return np.asarray(found)


class MaskedLMCollator:
    """Batches for masked language modelling: `input_ids`, `attention_mask`, `labels` …

    Takes rows of a `Keyed` dataset (they say `epoch` and `row`), padded here to the longest.
    Special tokens and padding are never masked. `document_ids` with more than one document in a
    row become a (batch, 1, length, length) float mask, added to the scores, which keeps attention
    inside each document.
    Raises ValueError for rows without `epoch` and `row`.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        *,
        probability: float = 0.15,
        whole_word: bool = False,
        seed: int = 0,
    ) -> None:
        self.seed, self.probability = seed, probability
        self.pad_id, self.mask_id = tokenizer.pad_token_id, tokenizer.mask_token_id
        if self.mask_id is None:
            raise ValueError("the tokenizer has no mask token: masked language modelling needs one")
        self.vocab_size = len(tokenizer)
        self.special = np.zeros(self.vocab_size, bool)
        self.special[tokenizer.all_special_ids] = True
        self.continues = continuations(tokenizer) if whole_word else None

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        if "row" not in rows[0] or "epoch" not in rows[0]:
            raise ValueError(
                "rows carry no epoch and row, which the masks are drawn from: wrap the dataset in "
                "cookbook.training.order.Keyed"
            )
        length = max(len(row["input_ids"]) for row in rows)
        masked = [self._mask(row) for row in rows]
        batch = {
            "input_ids": stack([inputs for inputs, _ in masked], self.pad_id),
            "labels": stack([labels for _, labels in masked], IGNORE),
            "attention_mask": _attention(rows, length),
        }
        names = {"token_type_ids", "position_ids"} & set(rows[0])
        if "document_ids" in rows[0] and batch["attention_mask"].dim() == 2:
            # One document a row: the model counts by itself, and RoBERTa does not count from 0.
            names.discard("position_ids")
        for name in sorted(names):
            batch[name] = stack([row[name] for row in rows], 0, length)
        if "next_sentence_label" in rows[0]:
            batch["next_sentence_label"] = torch.tensor(
                [row["next_sentence_label"] for row in rows]
            )
        return batch

    def _mask(self, row: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
        ids = np.asarray(row["input_ids"])
        maskable = ~self.special[ids]
        if "document_ids" in row:
            maskable &= np.asarray(row["document_ids"]) > 0
        return mask_tokens(
            ids, maskable, key_generator(self.seed, row["epoch"], row["row"]),
            mask_id=self.mask_id, vocab_size=self.vocab_size, probability=self.probability,
            continues=None if self.continues is None else self.continues[ids],
        )  # fmt: skip


def _attention(rows: Sequence[dict[str, Any]], length: int) -> torch.Tensor:
    """(batch, length), or (batch, 1, length, length) where rows hold several documents."""
    if "document_ids" not in rows[0]:
        ones = [row.get("attention_mask", np.ones(len(row["input_ids"]))) for row in rows]
        return stack(ones, 0, length)
    documents = stack([row["document_ids"] for row in rows], 0, length)
    if documents.max() <= 1:
        return (documents > 0).long()
    same = documents[:, None, :, None] == documents[:, None, None, :]
    # A padding token attends to itself: a row of the mask without a single true is NaN in softmax.
    seen = same & (documents > 0)[:, None, None, :] | torch.eye(length, dtype=torch.bool)
    # Added to the scores: a boolean mask would be added too, as 0 and 1, by "eager".
    return torch.zeros(1).masked_fill(~seen, HIDDEN)


def sentences(text: str) -> list[str]:
    """The sentences, or lines where a text is a list or code, of one document.

    >>> sentences("Sum of two. Then more.\\n\\nx : int")
    ['Sum of two.', 'Then more.', 'x : int']
    """
    parts = re.split(r"\n+|(?<=[.!?。！？])\s+|(?<=[。！？])", text)
    return [part.strip() for part in parts if part.strip()]


def next_sentence_pairs(
    texts: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    *,
    length: int = 128,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """One row a document with at least two sentences, for next sentence prediction.

    The first part of a document is followed by its own second part (`next_sentence_label` 0) or,
    in half of the rows, by the second part of another document (label 1), the convention of
    `BertForNextSentencePrediction`. Both parts are cut to fit into `length` tokens.
    Source: Devlin et al. 2019, section 3.1. Raises ValueError with fewer than two such documents,
    or for a `length` that does not hold a token of each part.
    """
    if length < 5:
        raise ValueError(f"length is {length}: two parts and three special tokens need at least 5")
    parts = []
    for number, text in enumerate(texts):
        found = sentences(text)
        if len(found) >= 2:
            cut = int(key_generator(seed, 0, number).integers(1, len(found)))
            parts.append((" ".join(found[:cut]), " ".join(found[cut:])))
    if len(parts) < 2:
        raise ValueError(
            f"{len(parts)} of {len(texts)} documents have two sentences; next sentence prediction "
            "needs at least two such documents"
        )
    rows = []
    for row, (first, second) in enumerate(parts):
        rng = key_generator(seed, 1, row)
        other = None
        if rng.random() < 0.5:
            other = _another(parts, row, int(rng.integers(len(parts) - 1)))
        pair = (first, second if other is None else other)
        rows.append(_encode_pair(*pair, other is not None, tokenizer, length))
    return rows


def _another(parts: list[tuple[str, str]], row: int, skip: int) -> str | None:
    """The second part of any document but this one and its copies; None if there is no other."""
    for step in range(len(parts) - 1):
        other = parts[(row + 1 + (skip + step) % (len(parts) - 1)) % len(parts)]
        if other[1] != parts[row][1] and " ".join(other) != " ".join(parts[row]):
            return other[1]
    return None


def _encode_pair(
    first: str, second: str, other: bool, tokenizer: PreTrainedTokenizerBase, length: int
) -> dict[str, Any]:
    # The end of the first part meets the start of the second: there the evidence lies.
    half = (length - 3) // 2
    # Not verbose: what is too long is cut here, so the warning about it would mislead.
    a = tokenizer(first, add_special_tokens=False, verbose=False)["input_ids"][-half:]
    b = tokenizer(second, add_special_tokens=False, verbose=False)["input_ids"]
    b = b[: length - 3 - len(a)]
    ids = [tokenizer.cls_token_id, *a, tokenizer.sep_token_id, *b, tokenizer.sep_token_id]
    segments = [0] * (len(a) + 2) + [1] * (len(b) + 1)
    return {"input_ids": ids, "token_type_ids": segments, "next_sentence_label": int(other)}
