"""The family of the ninth set: words, an embedding, a GRU, a linear layer; nothing of transformers.

Its vocabulary is made from the words of its training texts (0 pads, 1 is a word that is not in
it), its rows are pairs (ids, subject), its loop is handwritten, and its model computes the mean of
the GRU's states over the words of a row. It holds no fault; faults stand in `mutations/ninth_*`,
healthy readers in `ninth_healthy`.
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from faults import material
from faults.families import CLASSES, SUBJECTS, accuracy, some
from faults.recipe import Recipe

NAME = "recurrent"
PAD, UNKNOWN = 0, 1
LENGTH, WORDS = 64, 5000  # words of a row, rows of the embedding at most
TRAIN, EVAL = 384, 128


class Scores(NamedTuple):
    """What the model returns."""

    logits: torch.Tensor


def words(text: str) -> list[str]:
    """Small letters; a number is a zero, a sign is a word."""
    return re.findall(r"[a-z]+|0|[^\w\s]", re.sub(r"\d+", "0", text.lower()))[:LENGTH]


def make_vocabulary(texts: Iterable[str], size: int = WORDS) -> dict[str, int]:
    """The most frequent words, from 2 on."""
    counts = Counter(word for text in texts for word in words(text))
    kept = [word for word, _ in counts.most_common(size - 2)]
    return {word: i + 2 for i, word in enumerate(kept)}


@functools.cache
def vocabulary() -> dict[str, int]:
    """That of the training texts of all subjects."""
    return make_vocabulary(text for text, _ in material.texts()["topics"]["train"])


def texts(split: str, seed: int, count: int) -> list[tuple[str, int]]:
    """Docstrings and the place of their subject."""
    rows = [row for row in material.texts()["topics"][split] if row[1] in SUBJECTS]
    return [(text, SUBJECTS.index(label)) for text, label in some(rows, seed, count)]


def encode(text: str, known: dict[str, int] | None = None) -> torch.Tensor:
    """The ids of a text's words."""
    known = known or vocabulary()
    return torch.tensor([known.get(word, UNKNOWN) for word in words(text)], dtype=torch.long)


def pairs(split: str, seed: int, count: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """The rows of a split: ids and subject."""
    return [(encode(text), torch.tensor(label)) for text, label in texts(split, seed, count)]


def padded(rows: list[tuple[torch.Tensor, torch.Tensor]]) -> tuple[torch.Tensor, torch.Tensor]:
    """The collate function: ids up to the longest row, subjects."""
    x, y = zip(*rows, strict=True)
    return pad_sequence(list(x), batch_first=True, padding_value=PAD), torch.stack(list(y))


class Reader(nn.Module):
    """Embedding, GRU or LSTM, mean over the words, linear layer."""

    def __init__(
        self,
        outputs: int = CLASSES,
        rows: int | None = None,
        width: int = 64,
        kind: type[nn.Module] = nn.GRU,
        **settings: Any,
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(rows or len(vocabulary()) + 2, width, padding_idx=PAD)
        self.dropout = nn.Dropout(0.1)
        self.recurrent = kind(width, width, **({"batch_first": True} | settings))
        self.head = nn.Linear(width * (2 if self.recurrent.bidirectional else 1), outputs)

    def states(self, x: torch.Tensor) -> torch.Tensor:
        """What the recurrent layer says at every word."""
        return self.recurrent(self.dropout(self.embedding(x)))[0]

    def pooled(self, x: torch.Tensor) -> torch.Tensor:
        """One vector a row: the mean over its words."""
        real = (x != PAD).unsqueeze(-1)
        return (self.states(x) * real).sum(1) / real.sum(1).clamp(min=1)

    def forward(self, x: torch.Tensor) -> Scores:
        return Scores(self.head(self.dropout(self.pooled(x))))


def recurrent(seed: int, loop: str = "plain") -> Recipe:
    """A GRU that tells the subject of a docstring."""
    return Recipe(
        NAME,
        seed,
        Reader,
        pairs("train", seed, TRAIN),
        pairs("eval", seed, EVAL),
        collate=padded,
        loss=lambda outputs, y: functional.cross_entropy(outputs.logits, y),
        metrics=accuracy,
        loop=loop,
        lr=5e-3,
        steps=60,
        warmup=6,
    )
