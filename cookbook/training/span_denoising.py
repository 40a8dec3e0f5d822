"""Span denoising, the objective of T5: spans are cut out, and only they are written down.

    text     the quick brown fox jumps over the lazy dog
    input    the <0> fox jumps over the <1> dog
    target   <0> quick brown <1> lazy

The loss is that of the target given the input, so it says nothing about the tokens that stayed. It
turns ids into inputs and labels and trains nothing. Raffel et al. 2020, arXiv:1910.10683, section
3.1.4 and figure 2. Used by chapter 04; `training.permutation` draws its targets in the same way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from cookbook.training.stacking import IGNORE, attended, generator_of, stack, text_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def noise_spans(
    length: int,
    generator: np.random.Generator,
    *,
    density: float = 0.15,
    mean_length: float = 3.0,
) -> np.ndarray:
    """(length,) bool: which tokens are cut out, in `round(noise / mean_length)` separate spans.

    Exactly `round(density * length)` tokens are, at least 1 and at most `length - 1`. The text
    starts with a token that stays and ends with a span; between two spans at least one token stays.
    Noise and rest are each cut into as many pieces, all ways of cutting being equally likely, and
    laid out in turn, as in `random_spans_noise_mask` of the T5 code. Raises ValueError for fewer
    than 2 tokens.

    >>> int(noise_spans(20, np.random.default_rng(0)).sum())
    3
    """
    if length < 2:
        raise ValueError(f"length is {length}: to hide a part and show a part takes 2 tokens")
    noise = min(max(round(density * length), 1), length - 1)
    spans = min(max(round(noise / mean_length), 1), noise, length - noise)
    lengths = np.empty(2 * spans, np.int64)
    lengths[0::2] = _cut(length - noise, spans, generator)
    lengths[1::2] = _cut(noise, spans, generator)
    return np.repeat(np.arange(2 * spans) % 2 == 1, lengths)


def _cut(total: int, pieces: int, generator: np.random.Generator) -> np.ndarray:
    """(pieces,): positive whole numbers that add up to `total`, every such list equally likely."""
    places = generator.permutation(total - 1)[: pieces - 1] + 1
    return np.diff([0, *np.sort(places), total])


def cut_out(
    ids: np.ndarray, noise: np.ndarray, sentinels: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Input and target of one text: the k-th span becomes the k-th sentinel, and follows it there.

    Raises ValueError where there are more spans than sentinels.

    >>> noise = np.array([False, True, True, False, True])
    >>> [part.tolist() for part in cut_out(np.array([5, 6, 7, 8, 9]), noise, [90, 91])]
    [[5, 90, 8, 91], [90, 6, 7, 91, 9]]
    """
    starts = noise & ~np.concatenate(([False], noise[:-1]))
    if starts.sum() > len(sentinels):
        raise ValueError(
            f"{starts.sum()} spans need as many sentinels, there are {len(sentinels)}: shorten the "
            "rows or call add_sentinels with more"
        )
    marked = np.where(starts, 0, ids)
    marked[starts] = np.asarray(sentinels)[: starts.sum()]
    places = np.flatnonzero(starts)
    target = np.insert(ids, places, marked[starts])
    kept = np.insert(noise, places, True)  # the sentinel before its span
    return marked[~noise | starts], target[kept]


def restore(inputs: Sequence[int], target: Sequence[int], sentinels: Sequence[int]) -> list[int]:
    """The text: each sentinel of `inputs` replaced by what follows it in `target`.

    >>> restore([5, 90, 8, 91], [90, 6, 7, 91, 9], [90, 91])
    [5, 6, 7, 8, 9]
    """
    spans: dict[int, list[int]] = {sentinel: [] for sentinel in sentinels}
    open_span: list[int] = []
    for token in target:
        if token in spans:
            open_span = spans[token]
        else:
            open_span.append(token)
    return [t for token in inputs for t in spans.get(token, [token])]


def add_sentinels(tokenizer: PreTrainedTokenizerBase, count: int = 32) -> list[int]:
    """Ids of `<extra_id_0>` …, T5's names; those that the tokenizer lacks are added to it."""
    names = [f"<extra_id_{number}>" for number in range(count)]
    tokenizer.add_special_tokens({"additional_special_tokens": names}, False)
    return tokenizer.convert_tokens_to_ids(names)


class SpanDenoisingCollator:
    """Batches for T5: `input_ids`, `attention_mask` and `labels`, each (batch, its own length).

    Both sides end in `end_id`. The model makes the decoder's inputs from the labels itself. Takes
    rows of a `Keyed` dataset; the noise is a function of (seed, epoch, row).
    """

    def __init__(
        self,
        sentinels: Sequence[int],
        *,
        end_id: int,
        pad_id: int,
        density: float = 0.15,
        mean_length: float = 3.0,
        seed: int = 0,
    ) -> None:
        self.sentinels, self.end_id, self.pad_id, self.seed = sentinels, end_id, pad_id, seed
        self.noise = {"density": density, "mean_length": mean_length}

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        inputs, labels = zip(*map(self._denoise, rows), strict=True)
        return {
            "input_ids": stack(inputs, self.pad_id),
            "attention_mask": attended(inputs),
            "labels": stack(labels, IGNORE),
        }

    def _denoise(self, row: Mapping[str, Any]) -> list[np.ndarray]:
        ids = text_of(row)
        noise = noise_spans(len(ids), generator_of(row, self.seed), **self.noise)
        return [np.append(side, self.end_id) for side in cut_out(ids, noise, self.sentinels)]
