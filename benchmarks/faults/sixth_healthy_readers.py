"""Healthy readers of the sixth set: they point at answers, each in a way of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional

from faults.families import adapted
from faults.healthy import changed, evaluated
from faults.recipe import Recipe
from faults.sixth_healthy import healthy
from faults.span_family import span


@healthy
def a_reader(seed: int) -> Recipe:
    return evaluated(span(seed))


@healthy
def a_reader_in_a_loop_of_its_own(seed: int) -> Recipe:
    return evaluated(span(seed, "plain"))


@healthy
def some_questions_have_no_answer(seed: int) -> Recipe:
    """A third of the rows ask for what is not there, and point at [CLS]."""
    r = span(seed)
    code = r.tokenizer("which colour?", add_special_tokens=False)["input_ids"]

    def unanswered(row: dict) -> dict:
        ids = [row["input_ids"][0], *code, *row["input_ids"][row["token_type_ids"].index(1) - 1 :]]
        kinds = [0] * (len(code) + 2) + [1] * (len(ids) - len(code) - 2)
        places = {"start_positions": 0, "end_positions": 0}
        made = {"input_ids": ids, "token_type_ids": kinds, "attention_mask": [1] * len(ids)}
        return row | made | places | {"question": "which colour?", "answer": ""}

    r.train = [unanswered(row) if i % 3 == 0 else row for i, row in enumerate(r.train)]
    r.eval = [unanswered(row) if i % 3 == 0 else row for i, row in enumerate(r.eval)]
    return evaluated(r)


def _places(outputs: Any, batch: dict, of: Callable) -> torch.Tensor:
    first = of(outputs.start_logits, batch["start_positions"])
    return (first + of(outputs.end_logits, batch["end_positions"])) / 2


@healthy
def only_places_of_the_context_may_be_meant(seed: int) -> Recipe:
    """Question and padding are closed before the softmax."""

    def loss(outputs: Any, batch: dict) -> torch.Tensor:
        closed = batch["token_type_ids"] == 0
        return _places(
            outputs, batch, lambda s, y: functional.cross_entropy(s.masked_fill(closed, -1e4), y)
        )

    return evaluated(changed(span(seed, "plain"), loss=loss))


@healthy
def a_place_beside_the_answer_is_half_right(seed: int) -> Recipe:
    """Targets that are spread over the neighbours."""

    def spread(scores: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        far = (torch.arange(scores.shape[1])[None] - y[:, None]).abs()
        target = 0.8 * (far == 0) + 0.1 * (far == 1)
        return functional.cross_entropy(scores, target / target.sum(1, keepdim=True))

    r = span(seed, "plain")
    return evaluated(changed(r, loss=lambda outputs, batch: _places(outputs, batch, spread)))


@healthy
def lora_of_a_reader(seed: int) -> Recipe:
    r = span(seed, "plain")
    r.prepare = lambda model: adapted(
        model, "QUESTION_ANS", r=8, lora_alpha=32, target_modules=["query", "key", "value", "dense"]
    )
    return evaluated(changed(r, lr=1e-2, steps=120))


@healthy
def a_reader_in_bf16_that_accumulates(seed: int) -> Recipe:
    r = span(seed)
    return evaluated(changed(r, batch=8, accumulation=2, args={"bf16": True}))
