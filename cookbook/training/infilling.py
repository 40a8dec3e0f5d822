"""Text infilling, the noise of BART: spans become one mask each, and the whole text is written.

    text     the quick brown fox jumps over the lazy dog
    input    the <mask> fox jumps <mask> over the <mask> dog
    target   the quick brown fox jumps over the lazy dog

The second mask stands for a span of length 0, so that the model has to find out *how many* tokens
are missing, none among them. It turns ids into inputs and labels and trains nothing. Lewis et al.
2020, arXiv:1910.13461, section 2.2; of BART's other noises, sentence permutation is not here.
Used by chapter 04.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from cookbook.training.stacking import IGNORE, attended, generator_of, stack, text_of


def span_lengths(
    total: int, generator: np.random.Generator, *, mean_length: float = 3.0
) -> np.ndarray:
    """Lengths drawn from Poisson(mean_length) until they add up to `total`; the last one is cut.

    Some are 0. Raises ValueError for a mean that is not positive: it would never get there.

    >>> int(span_lengths(30, np.random.default_rng(0)).sum())
    30
    """
    if mean_length <= 0:
        raise ValueError(f"mean_length is {mean_length}: spans have to be longer than 0 on average")
    lengths: list[int] = []
    left = total
    while left > 0:
        lengths.append(min(int(generator.poisson(mean_length)), left))
        left -= lengths[-1]
    return np.array(lengths, np.int64)


def infill(
    ids: np.ndarray,
    generator: np.random.Generator,
    *,
    mask_id: int,
    share: float = 0.3,
    mean_length: float = 3.0,
) -> tuple[np.ndarray, list[np.ndarray]]:
    """The noisy text, and the span behind each of its masks, in order.

    Exactly `round(share * length)` tokens are hidden. The spans and the tokens that stay are
    shuffled like cards, the order of the tokens kept, so every layout is equally likely and two
    masks may stand side by side.

    >>> noisy, spans = infill(np.arange(10, 30), np.random.default_rng(1), mask_id=4)
    >>> sum(map(len, spans)), len(noisy) == 20 - 6 + len(spans)
    (6, True)
    """
    lengths = span_lengths(round(share * len(ids)), generator, mean_length=mean_length)
    cards = len(ids) - lengths.sum() + len(lengths)
    masked = np.sort(generator.permutation(cards)[: len(lengths)])
    consumed = np.ones(cards, np.int64)  # how many tokens of the text each card stands for
    consumed[masked] = lengths
    ends = np.cumsum(consumed)
    noisy = np.full(cards, mask_id, np.int64)
    stays = np.delete(np.arange(cards), masked)
    noisy[stays] = ids[ends[stays] - 1]
    return noisy, [ids[ends[place] - consumed[place] : ends[place]] for place in masked]


def restore(noisy: Sequence[int], spans: Sequence[Sequence[int]], mask_id: int) -> list[int]:
    """The text: the k-th mask replaced by the k-th span.

    >>> restore([5, 4, 8, 4], [[6, 7], []], mask_id=4)
    [5, 6, 7, 8]
    """
    left = iter(spans)
    return [int(t) for token in noisy for t in (next(left) if token == mask_id else [token])]


class TextInfillingCollator:
    """Batches for BART: `input_ids`, `attention_mask` and `labels`, each (batch, its own length).

    `labels` are the whole text, which the model shifts right for its decoder. Takes rows of a
    `Keyed` dataset; the noise is a function of (seed, epoch, row).
    """

    def __init__(
        self,
        *,
        mask_id: int,
        pad_id: int,
        share: float = 0.3,
        mean_length: float = 3.0,
        seed: int = 0,
    ) -> None:
        self.pad_id, self.seed = pad_id, seed
        self.noise = {"mask_id": mask_id, "share": share, "mean_length": mean_length}

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        texts = [text_of(row) for row in rows]
        noisy = [
            infill(text, generator_of(row, self.seed), **self.noise)[0]
            for text, row in zip(texts, rows, strict=True)
        ]
        return {
            "input_ids": stack(noisy, self.pad_id),
            "attention_mask": attended(noisy),
            "labels": stack(texts, IGNORE),
        }
