"""Extractive question answering: where in a text does the answer begin, and where does it end?

The best span of a model's two rows of logits, over all windows of a text; the scores of SQuAD; a
baseline that trains nothing. Windows are `data.answer_spans`, training `tuning`. Chapter 15.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from cookbook.data.answer_spans import Windows, answer_texts, text_between
from cookbook.evaluation.generation import answer_f1, exact_match
from cookbook.finetuning.encoding import collator
from cookbook.finetuning.tuning import ask

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

LABELS = ("start_positions", "end_positions")
LONGEST = 60  # tokens of an answer
_SENTENCE = re.compile(r"(?<=[.!?])\s+|\n\s*\n|\n(?=\s)")


def mixed(windows: Windows, *, share: float = 0.5, seed: int = 0) -> list[dict[str, Any]]:
    """Rows to train on: every window that holds its answer, and `share` times as many that do not.

    Of a long text most windows hold nothing; all of them would teach to answer "not here".
    """
    holding = windows.holding()
    rest = sorted(set(range(len(windows.rows))) - set(holding))
    drawn = np.random.default_rng(seed).permutation(rest)[: round(share * len(holding))]
    return [windows.rows[i] for i in [*holding, *drawn.tolist()]]


def best_span(
    start: np.ndarray, end: np.ndarray, allowed: np.ndarray, longest: int = LONGEST
) -> tuple[int, int, float]:
    """First token, last token and score of the likeliest answer; logits (length,), allowed bool.

    The largest start_i + end_j with i <= j < i + longest, less the score of "no answer here",
    start_0 + end_0, which makes windows comparable. Devlin et al. 2019, sections 4.2 and 4.3.

    >>> allowed = np.array([False, True, True])
    >>> best_span(np.array([0.0, 1.0, 5.0]), np.array([0.0, 4.0, 3.0]), allowed)
    (2, 2, 8.0)
    """
    scores = np.where(allowed, start, -np.inf)[:, None] + np.where(allowed, end, -np.inf)[None]
    near = np.triu(np.ones_like(scores, bool)) & ~np.triu(np.ones_like(scores, bool), longest)
    scores = np.where(near, scores, -np.inf)
    first, last = np.unravel_index(scores.argmax(), scores.shape)
    return int(first), int(last), float(scores[first, last] - start[0] - end[0])


def answers(
    model: torch.nn.Module,
    windows: Windows,
    contexts: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    *,
    precision: str = "fp32",
) -> list[str]:
    """For each context the text of the best span among its windows; "" where it has none."""
    rows = [{k: v for k, v in row.items() if k not in LABELS} for row in windows.rows]
    names = ("start_logits", "end_logits")
    logits = ask(model, rows, collator(tokenizer), names=names, precision=precision)
    found, best = [""] * len(contexts), [-np.inf] * len(contexts)
    for example, offsets, (start, end) in zip(
        windows.example, windows.offsets, logits, strict=True
    ):
        allowed = np.array([place is not None for place in offsets])
        if not allowed.any():
            continue
        first, last, score = best_span(start, end, allowed)
        if score > best[example]:
            best[example] = score
            found[example] = text_between(contexts[example], offsets, first, last)
    return found


def scores(found: Sequence[str], references: Sequence[Any]) -> dict[str, np.ndarray]:
    """`exact` and `f1` of each answer, (rows,) from 0 to 1, as SQuAD's script computes them.

    >>> {name: part.tolist() for name, part in scores(["an axis"], [{"text": ["axis"]}]).items()}
    {'exact': [1.0], 'f1': [1.0]}
    """
    pairs = [(one, answer_texts(wanted)) for one, wanted in zip(found, references, strict=True)]
    return {
        "exact": np.array([exact_match(*pair) for pair in pairs]),
        "f1": np.array([answer_f1(*pair) for pair in pairs]),
    }


def nearest_sentence(question: str, context: str) -> str:
    """The baseline: the sentence behind or with the most words of the question.

    A sentence that says more than the question's words is taken itself; else the next one is.

    >>> nearest_sentence("who won?", "It rained. Denver won the game. All went home.")
    'Denver won the game.'
    >>> nearest_sentence("what is `axis`?", "Sum.\\n\\naxis : int\\n    Which axis to sum.")
    'Which axis to sum.'
    """
    asked = Counter(re.findall(r"\w+", question.lower()))
    parts = [part.strip() for part in _SENTENCE.split(context) if part and part.strip()]
    shared = [
        (asked & Counter(set(re.findall(r"\w+", part.lower())))).total() for part in parts
    ] or [0]
    best = int(np.argmax(shared))
    short = bool(parts) and len(re.findall(r"\w+", parts[best])) <= shared[best] + 2
    return parts[min(best + short, len(parts) - 1)] if parts else ""
