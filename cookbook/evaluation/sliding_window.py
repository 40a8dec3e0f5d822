"""Evaluate a language model on a text that is longer than its window, each token exactly once.

Cut the text into windows that do not overlap, and the first tokens of each are judged with hardly
any context; move by one token, and the text is read `window` times over. The stride chooses between
the two: every token but those of the first window has at least `window - stride` tokens before it.
It scores tokens and does not train. Used by chapter 04.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch


class Window(NamedTuple):
    """The model reads tokens `start` to `stop - 1`, and those from `first` on are scored."""

    start: int
    stop: int
    first: int


def windows(length: int, window: int, stride: int) -> list[Window]:
    """Windows over `length` tokens in which every token but the first is scored exactly once.

    Nothing stands before the first token, so nothing predicts it: put a begin token there. `stride`
    is at most `window - 1`, for the same reason. Raises ValueError otherwise.

    >>> [tuple(w) for w in windows(8, window=4, stride=2)]
    [(0, 4, 1), (2, 6, 4), (4, 8, 6)]
    """
    if not 1 <= stride < window:
        raise ValueError(f"stride is {stride}: choose 1 to {window - 1}, less than the window")
    found = [Window(0, min(window, length), 1)] if length > 1 else []
    while found and found[-1].stop < length:
        first = found[-1].stop
        stop = min(first + stride, length)
        found.append(Window(stop - window, stop, first))
    return found


@torch.no_grad()
def token_nats(
    model: torch.nn.Module,
    ids: Sequence[int],
    *,
    window: int,
    stride: int,
    batch_size: int = 32,
) -> np.ndarray:
    """(len(ids) - 1,): `-ln p` of each token but the first, given what its window shows before it.

    `model(input_ids=…)` returns `.logits` (batch, length, vocabulary), those at t for token t + 1.
    Where `window` holds the whole text the mean is the model's own loss, whatever the stride.
    """
    training, device = model.training, next(model.parameters()).device
    model.eval()
    stream = torch.as_tensor(np.asarray(ids, np.int64))
    nats = np.full(max(0, len(stream) - 1), np.nan)
    places = windows(len(stream), window, stride)
    for start in range(0, len(places), batch_size):
        part = places[start : start + batch_size]
        batch = torch.stack([stream[w.start : w.stop] for w in part]).to(device)
        scores = model(input_ids=batch).logits[:, :-1].float()
        found = torch.nn.functional.cross_entropy(
            scores.transpose(1, 2), batch[:, 1:], reduction="none"
        )
        for w, row in zip(part, found.cpu().numpy(), strict=True):
            nats[w.first - 1 : w.stop - 1] = row[w.first - w.start - 1 :]
    model.train(training)
    return nats


def bits_per_character(nats: float, characters: int) -> float:
    """The nats of a whole text as bits for each of its characters.

    What makes models with different tokens comparable: a coarse vocabulary has fewer and harder
    tokens, but the text has as many characters under each. Raises ValueError for no characters.

    >>> round(bits_per_character(nats=100 * math.log(4), characters=400), 3)
    0.5
    """
    if characters < 1:
        raise ValueError(f"{characters} characters: there is no text to divide by")
    return nats / math.log(2) / characters
