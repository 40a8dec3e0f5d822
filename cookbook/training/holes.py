"""Ask models of different objectives for the same hidden tokens, so that their answers compare.

The losses of a causal, a denoising and a permutation model answer different questions. Here all of
them get one question: a passage with a hole from `start` to `stop`; how many nats does what stood
there cost? A hole over all but the first token makes every one of them a language model. Each is
asked in the form that it was trained on. Does not train. Used by chapter 04.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from cookbook.training.loop import to_device
from cookbook.training.masked_accuracy import evaluating
from cookbook.training.permutation import permuted
from cookbook.training.stacking import IGNORE, attended, stack

Hole = tuple[int, int]
OBJECTIVES = ("causal", "span denoising", "text infilling", "permutation")


class Tokens(NamedTuple):
    """Ids that stand for something: padding, one hidden span (BART, T5), the end of an input."""

    pad: int
    mask: int
    sentinel: int
    end: int


def question(
    objective: str, passages: Sequence[Sequence[int]], holes: Sequence[Hole], tokens: Tokens
) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """What the model is given, and (batch, …) the tokens of the hole where its logits answer.

    A causal model sees what stands before the hole; the others both sides. XLNet fills the hole
    from left to right and knows how long it is; T5 and BART do not know. Elsewhere the answers are
    -100. Raises ValueError for an unknown objective, or a hole that takes in the first token.

    >>> tokens = Tokens(pad=0, mask=4, sentinel=90, end=3)
    >>> batch, answers = question("span denoising", [[2, 7, 8, 9]], [(1, 3)], tokens)
    >>> batch["input_ids"].tolist(), batch["labels"].tolist(), answers.tolist()
    ([[2, 90, 9, 3]], [[90, 7, 8]], [[-100, 7, 8]])
    """
    if objective not in OBJECTIVES:
        raise ValueError(f"unknown objective {objective!r}: choose one of {', '.join(OBJECTIVES)}")
    if not all(0 < start < stop <= len(ids) for ids, (start, stop) in zip(passages, holes)):  # noqa: B905
        raise ValueError("a hole starts behind the first token and ends within its passage")
    pairs = list(zip(map(np.asarray, passages), holes, strict=True))
    hidden = [ids[start:stop] for ids, (start, stop) in pairs]
    if objective == "permutation":
        ranks = [_left_to_right(len(ids), *hole) for ids, hole in pairs]
        batch = permuted([ids for ids, _ in pairs], ranks, tokens.pad)
        return batch, batch["labels"]
    if objective == "span denoising":
        shown = [[*_replaced(*pair, tokens.sentinel), tokens.end] for pair in pairs]
        written = [[tokens.sentinel, *span] for span in hidden]
        asked = [[IGNORE, *span] for span in hidden]
    else:
        shown = [ids for ids, _ in pairs]
        written = shown
        asked = [_only(ids, *hole) for ids, hole in pairs]
    if objective == "text infilling":
        shown = [_replaced(*pair, tokens.mask) for pair in pairs]
    if objective == "causal":
        asked = [row[1:] for row in asked]  # the logits at t answer for t + 1
    batch = {"input_ids": stack(shown, tokens.pad), "attention_mask": attended(shown)}
    if objective != "causal":
        batch["labels"] = stack(written, IGNORE)
    return batch, stack(asked, IGNORE)


def hidden_nats(
    model: torch.nn.Module,
    objective: str,
    passages: Sequence[Sequence[int]],
    holes: Sequence[Hole],
    tokens: Tokens,
    *,
    batch_size: int = 32,
) -> np.ndarray:
    """(passages,): what the hidden tokens of each passage cost together, in nats."""
    found, device = [], next(model.parameters()).device
    for start in range(0, len(passages), batch_size):
        part = slice(start, start + batch_size)
        batch, answers = question(objective, passages[part], holes[part], tokens)
        with evaluating(model):
            logits = model(**to_device(batch, device)).logits[:, : answers.shape[1]].float()
            loss = torch.nn.functional.cross_entropy(
                logits.transpose(1, 2), answers.to(device), reduction="none"
            )
        found.append(loss.sum(1).cpu().numpy())
    return np.concatenate(found)


def draw_holes(
    passages: Sequence[Sequence[int]], length: int, generator: np.random.Generator
) -> list[Hole]:
    """A hole of `length` tokens for each passage, with at least one token on each side.

    >>> draw_holes([range(6)], 4, np.random.default_rng(0))
    [(1, 5)]
    """
    starts = [int(generator.integers(1, len(ids) - length)) for ids in passages]
    return [(start, start + length) for start in starts]


def _left_to_right(length: int, start: int, stop: int) -> np.ndarray:
    rank = np.full(length, -1, np.int64)
    rank[start:stop] = np.arange(stop - start)
    return rank


def _replaced(ids: np.ndarray, hole: Hole, token: int) -> list[int]:
    return [*ids[: hole[0]], token, *ids[hole[1] :]]


def _only(ids: np.ndarray, start: int, stop: int) -> np.ndarray:
    """The ids within the hole, -100 elsewhere."""
    kept = np.full(len(ids), IGNORE, np.int64)
    kept[start:stop] = ids[start:stop]
    return kept
