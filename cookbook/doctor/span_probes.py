"""The loss of a span: does it ask both ends, the right ones, and downhill (L4, M8, D8)?

Models that answer with a span have two rows of scores, `start_logits` and `end_logits`, and the
usual loss is the mean of two cross-entropies. A loss of one's own is compared with it by its slope.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from cookbook.doctor import gradients, kinds
from cookbook.doctor.checks import Skip
from cookbook.doctor.drawn import cosine
from cookbook.doctor.findings import Finding
from cookbook.doctor.subject import Subject

ROWS = 8
ALIKE = 0.99  # cosine of two slopes that are one
ENDS = ("start", "end")


def check_span_loss(subject: Subject) -> Iterable[Finding]:
    """The slope of the loss by both rows of scores, against that of the cross-entropies."""
    batch = subject.batch(rows=ROWS)
    if not isinstance(batch, Mapping) or any(f"{end}_positions" not in batch for end in ENDS):
        raise Skip("does not apply")
    with subject.mode(training=False):
        loss, outputs = gradients.training_loss(subject, batch)
    both = kinds.span_logits(outputs)
    if both is None or loss is None or loss.dim() or not loss.requires_grad:
        raise Skip("does not apply")
    if not all(scores.requires_grad for scores in both):
        raise Skip("does not apply")
    slopes = torch.autograd.grad(loss, both, allow_unused=True)
    places = [torch.as_tensor(batch[f"{end}_positions"]).reshape(-1) for end in ENDS]
    yield from _judged(loss.item(), slopes, both, places)


def _judged(value: float, slopes: Any, both: Any, places: list[Any]) -> Iterable[Finding]:
    asked = [slope is not None and bool(slope.any()) for slope in slopes]
    if any(asked) and not all(asked):
        lost, kept = (ENDS[asked.index(flag)] for flag in (False, True))
        yield Finding(
            "M8", "error",
            f"the loss does not depend on {lost}_logits, though the batch has {lost}_positions: "
            f"only the {kept} is learnt (bound: both)",
            f"add the cross-entropy of {lost}_logits, undetached, to the loss",
        )  # fmt: skip
        return
    if not all(asked):
        raise Skip("the loss has no slope by the scores")
    own = torch.cat([slope.flatten() for slope in slopes]).float()
    right = cosine(own, _slope(both, places))
    if right < -ALIKE:
        yield Finding(
            "L4", "error",
            f"the loss is {value:.4f}, and rises where the cross-entropies of start and end fall: "
            f"the cosine of their slopes is {right:.2f} (bound: above 0)",
            "mend the sign of the loss: minimise it", {"cosine": right},
        )  # fmt: skip
    elif cosine(own, _slope(both, places[::-1])) > ALIKE > right:
        yield Finding(
            "D8", "error",
            "the loss compares the scores of the start with the ends, and those of the end with "
            f"the starts: its slope is that of the crossed pairs (cosine {right:.2f} with that of "
            f"the right ones, bound: {ALIKE:g})",
            "give start_logits the start_positions, and end_logits the end_positions",
            {"cosine": right},
        )  # fmt: skip


def _slope(both: Any, places: list[Any]) -> torch.Tensor:
    """The slope of the mean of both cross-entropies, as the library takes it."""
    free = [scores.detach().float().requires_grad_() for scores in both]
    width = free[0].shape[1]
    loss = sum(
        nn.functional.cross_entropy(
            scores, at.clamp(0, width).to(scores.device), ignore_index=width
        )
        for scores, at in zip(free, places, strict=True)
    )
    return torch.cat([slope.flatten() for slope in torch.autograd.grad(loss, free)])


CHECKS = (check_span_loss,)
