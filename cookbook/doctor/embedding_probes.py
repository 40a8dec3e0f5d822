"""Pairs of embeddings: does the loss prefer what belongs together (C1), are rows apart (M10)?

The loss is shown embeddings that are made up: pairs that match, pairs that do not, one point for
all. Whatever a contrastive loss is called, it must want the first, and by how much bounds what
can be learned. It asks for a `loss_fn` over two sides of embeddings; rows with labels or scores of
their own say themselves what belongs together, and are left alone.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch

from cookbook.doctor import responses, sampling
from cookbook.doctor.checks import Skip
from cookbook.doctor.contrastive import NARROW, NEAR, ROWS, embeddings_of
from cookbook.doctor.findings import Finding
from cookbook.doctor.forward_probes import mixes_rightly
from cookbook.doctor.subject import Subject

FLAT = 0.05  # share of the loss of one point that is left to gain: a scale of 0.16 and less
EQUAL = 1e-4  # share by which two losses may differ and be the same
BATCH_FAINT = 1e-2  # share of the embeddings' deviation


def check_loss_wants_pairs(subject: Subject) -> Iterable[Finding]:
    """C1: the loss of pairs that match is not below that of pairs that do not, or of one point."""
    batch, sides, outputs = _paired(subject)
    trained = all(side.requires_grad for side in sides)  # a teacher's side stands still
    rows, width = sides[0].shape
    apart = torch.eye(rows, width).to(sides[0]) * float(sides[0].detach().norm(dim=1).mean())
    point = apart[:1].expand(rows, width)
    matched = _loss(subject, batch, outputs, sides, (apart, apart))
    others = _loss(subject, batch, outputs, sides, (apart, apart.roll(1, 0)))
    same = _loss(subject, batch, outputs, sides, (point, point))
    if not all(map(math.isfinite, (matched, others, same))):
        raise Skip("does not apply")
    measured = {"matched": matched, "mismatched": others, "one_point": same, "rows": rows}
    guess = [math.log(n) for n in (rows, 2 * rows - 1, 2 * rows)]
    chance = any(abs(same / (k * one) - 1) <= NEAR for one in guess for k in (1, 2))
    if matched >= others - EQUAL * abs(others):
        yield Finding(
            "C1", "error",
            f"the loss of {rows} pairs that match is {matched:.3g}, and {others:.3g} where each "
            "row has the partner of another (bound: lower where they match)",
            "check which row the loss takes for the positive, and which for negatives",
            measured,
        )  # fmt: skip
    elif trained and same <= matched + EQUAL * abs(others):
        yield Finding(
            "C1", "error",
            f"the loss of {rows} pairs that match and are at right angles to all others is "
            f"{matched:.3g}, and {same:.3g} where all embeddings are one point (bound: higher at "
            "one point): nothing pushes rows apart",
            "add negatives or a margin, or stop the gradient of one side and predict it",
            measured,
        )  # fmt: skip
    elif chance and matched > (1 - FLAT) * same:
        yield Finding(
            "C1", "error",
            f"the loss of {rows} pairs that match and are at right angles to all others is "
            f"{matched:.3f}, against {same:.3f} where all embeddings are one point: nothing is "
            f"left to learn (bound: {FLAT:.0%} less)",
            "divide the similarities by the temperature, which is about 0.05 to 0.1",
            measured,
        )  # fmt: skip


def _paired(subject: Subject) -> tuple[Any, list[torch.Tensor], Any]:
    """A batch, its two sides of embeddings and the outputs that hold them; Skip without."""
    batch = subject.batch("train", ROWS)
    if subject.loss_fn is None or not isinstance(batch, Mapping):
        raise Skip("does not apply")
    rows = sampling.batch_size(batch)
    flat = [v for v in batch.values() if isinstance(v, torch.Tensor) and v.dim() < 2]
    if rows < 4 or flat or subject.labels(batch) is not None:
        raise Skip("does not apply")
    with responses.quiet(subject), torch.enable_grad():  # to see which side is trained
        outputs = subject.forward(batch)
    sides = embeddings_of(outputs, rows)
    if len(sides) != 2 or sides[0].shape[1] < max(rows, NARROW):
        raise Skip("does not apply")
    return batch, sides, outputs


def _loss(
    subject: Subject, batch: Any, outputs: Any, sides: list[torch.Tensor], other: tuple
) -> float:
    """The loss with other embeddings in the sides' places; Skip where it does not read them."""
    new = [side.detach().clone().requires_grad_() for side in other]
    places = {id(old): side for old, side in zip(sides, new, strict=True)}
    if isinstance(outputs, Mapping):
        given = copy.copy(outputs)
        for name, value in outputs.items():
            given[name] = places.get(id(value), value)
    elif isinstance(outputs, tuple | list):
        values = [places.get(id(value), value) for value in outputs]
        given = type(outputs)(*values) if hasattr(outputs, "_fields") else type(outputs)(values)
    else:
        raise Skip("does not apply")
    with torch.enable_grad():
        loss = subject.loss_of(given, batch)
        if loss is None or loss.dim() or not loss.requires_grad:
            raise Skip("does not apply")
        if any(g is None for g in torch.autograd.grad(loss, new, allow_unused=True)):
            raise Skip("does not apply")
    return float(loss.detach())


def check_embeddings_are_apart(subject: Subject) -> Iterable[Finding]:
    """M10: a row's embedding moves where only the other rows of the batch are changed."""
    batch = responses.inputs(subject)
    rows = sampling.batch_size(batch)
    if rows < 3 or mixes_rightly(subject):
        raise Skip("does not apply")
    with responses.quiet(subject):
        outputs = subject.forward(batch)
        if subject.logits(outputs) is not None:
            raise Skip("does not apply")
        first = _sides(outputs, rows)
        again = _sides(subject.forward(batch), rows)
        changed = responses.each_tensor(batch, rows, lambda t: t[:1].expand_as(t).contiguous())
        after = _sides(subject.forward(changed), rows)
    limit = max(
        (5e-2 if responses.computes_in_half(subject) else BATCH_FAINT) * float(first.std()),
        50 * responses.moved(first, again),
    )
    gap = responses.moved(first[:1], after[:1])
    if gap > limit:
        yield Finding(
            "M10", "warn",
            f"the embedding of a row moves by {gap:.2g} where the other rows of its batch become "
            f"its copies (bound: {limit:.2g})",
            "normalise over the features, dim=-1, and pool over positions only",
            {"difference": gap, "bound": limit},
        )  # fmt: skip


def _sides(outputs: Any, rows: int) -> torch.Tensor:
    """All sides of embeddings beside each other, (rows, numbers), in fp32 on the CPU."""
    sides = embeddings_of(outputs, rows)
    if not sides or not all(bool(side.isfinite().all()) for side in sides):
        raise Skip("does not apply")
    return torch.cat(sides, 1).detach().float().cpu()


CHECKS = (check_loss_wants_pairs, check_embeddings_are_apart)
