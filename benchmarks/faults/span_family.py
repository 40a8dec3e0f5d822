"""The family that came last: a BERT that points at its answer, which no check was written with.

A question and a sentence of a docstring stand in one row; the answer is a stretch of it, found by
the offsets of its characters, and the model is told the first and the last of its pieces. It holds
no fault; faults stand in `mutations/sixth_*`, healthy readers in `sixth_healthy`.
"""

from __future__ import annotations

import functools
import random
import re
from collections.abc import Mapping
from typing import Any

import torch

from faults import material
from faults.families import load, some
from faults.recipe import Recipe

NAME = "span"
LENGTH = 40
TYPES = (
    "int|integer|str|string|bool|boolean|float|list|dict|dictionary|tuple|array|tensor|ndarray"
    "|none|true|false|set|array_like|iterable|object|class|callable|scalar"
)
THINGS = (
    "graph|node|edge|matrix|vector|function|polynomial|model|tokenizer|layer|group|ring|field"
    "|path|tree|axis|file|dimension|token|module|batch|sequence|index|image|value|weight|degree"
    "|point|expression|parameter|method|name|key"
)
QUESTIONS = {  # what is asked for → what its answer looks like; it stands once in the sentence
    "which number?": r"\b\d+(?:\.\d+)?\b",
    "which type?": rf"(?i)\b(?:{TYPES})s?\b",
    "which thing?": rf"(?i)\b(?:(?:the|an?|this|each|of) )?(?:{THINGS})(?:s|es)?\b",
}
PADDED = ("input_ids", "attention_mask", "token_type_ids")


def sentences(text: str) -> list[str]:
    """The first sentences of a docstring, those that are neither a word nor a page."""
    return [part for part in re.split(r"(?<=[.:;]) ", text)[:4] if 20 <= len(part) <= 140]


@functools.cache
def trained_on() -> frozenset[str]:
    """All sentences of the training split, in small letters: none of them is held out."""
    texts = material.texts()["topics"]["train"]
    return frozenset(part.lower() for text, _ in texts for part in sentences(text))


def asked(sentence: str, draw: random.Random) -> tuple[str, int, int] | None:
    """A question that this sentence answers once, and the characters of the answer."""
    found = {question: [*re.finditer(sign, sentence)] for question, sign in QUESTIONS.items()}
    fits = [(question, places[0]) for question, places in found.items() if len(places) == 1]
    if not fits:
        return None
    question, match = draw.choice(fits)
    return question, match.start(), match.end()


def pointed(tokens: Any, question: str, text: str, begin: int, end: int) -> dict[str, Any] | None:
    """Question and text in one row, with the pieces of the answer; None if it was cut off."""
    encoded = tokens(
        question,
        text,
        truncation="only_second",
        max_length=LENGTH,
        return_offsets_mapping=True,
    )
    inside = [
        place
        for place, (part, (first, last)) in enumerate(
            zip(encoded.sequence_ids(), encoded["offset_mapping"], strict=True)
        )
        if part == 1 and first < end and last > begin
    ]
    if not inside or encoded["offset_mapping"][inside[-1]][1] < end:
        return None
    return {
        "question": question,
        "context": text,
        "answer": text[begin:end],
        **{name: encoded[name] for name in PADDED},
        "start_positions": inside[0],
        "end_positions": inside[-1],
    }


def span_rows(split: str, seed: int, count: int, tokens: Any = None) -> list[dict[str, Any]]:
    """Sentences with a question each that they answer; a sentence stands once."""
    tokens, draw, rows = tokens or material.tokenizer("bert"), random.Random(seed), []
    seen = set() if split == "train" else set(trained_on())
    for text, _ in some(material.texts()["topics"][split], seed, 10**6):
        for sentence in sentences(text):
            chosen = None if sentence.lower() in seen else asked(sentence, draw)
            seen.add(sentence.lower())
            row = pointed(tokens, chosen[0], sentence, *chosen[1:]) if chosen else None
            if row:
                rows.append(row)
    return rows[:count]


class Spans:
    """A collator: pads to the longest row; the two places stay numbers."""

    def __init__(self, pad: int) -> None:
        self.pad = pad

    def __call__(self, rows: list[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        width, batch = max(len(row["input_ids"]) for row in rows), {}
        for name in PADDED:
            fill = self.pad if name == "input_ids" else 0
            batch[name] = torch.tensor(
                [[*row[name], *[fill] * (width - len(row[name]))] for row in rows]
            )
        for name in ("start_positions", "end_positions"):
            batch[name] = torch.tensor([row[name] for row in rows])
        return batch


def exact_match(prediction: Any) -> dict[str, float]:
    """`compute_metrics`: the share of rows whose first and last piece are both found."""
    scores, places = prediction
    right = [each.argmax(-1) == place for each, place in zip(scores, places, strict=True)]
    return {"exact_match": float((right[0] & right[1]).mean())}


def span(seed: int, loop: str = "trainer") -> Recipe:
    """`BertForQuestionAnswering`: which stretch of a sentence answers the question?"""
    tokens = material.tokenizer("bert")
    return Recipe(
        NAME,
        seed,
        lambda: load("BertForQuestionAnswering", "bert"),
        span_rows("train", seed, 384, tokens),
        span_rows("eval", seed, 128, tokens),
        collate=Spans(tokens.pad_token_id),
        tokenizer=tokens,
        metrics=exact_match if loop == "trainer" else None,  # the loop asks for one set of scores
        loop=loop,
        lr=3e-3,
        steps=80,
        warmup=8,
    )
