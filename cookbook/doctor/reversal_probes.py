"""Does a part of the model climb the loss that the rest descends (fault L4)?

The gradient that reaches a weight is held against what the loss does when the weight is moved along
it. Where a reversal stands in between, the loss falls where the gradient says that it rises. With
two losses, as in domain-adversarial training, that is the purpose: so the loss must be one known
loss of the outputs alone, and every part of the gradient must be reversed by the same factor.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from cookbook.doctor import ascent_probes, gradients, preserve, sampling
from cookbook.doctor.checks import Skip
from cookbook.doctor.findings import Finding
from cookbook.doctor.loss_probes import read_targets
from cookbook.doctor.subject import Subject

ROWS, BATCHES = 8, 3
LARGE, FEW_ROWS = 2e7, 2  # weights from which on fewer rows are asked: two passes for each weight
ASKED = 1e-2  # relative change of the loss that a trial step should make …
SHORTEST, LONGEST = 1e-5, 5e-2  # … and the bounds of its length, relative to the weight
CLEAR = 1e-3  # relative change below which rounding may decide
TRUE = 0.7  # of the promised change, at least, where the gradient is true
FACTORS = 0.15  # relative scatter of the factor by which a gradient is reversed
FEW = 2  # weights, at least, that are reversed


def check_reversed_part(subject: Subject) -> Iterable[Finding]:
    """Weights whose gradient points uphill, beside others whose gradient is true."""
    large = sum(p.numel() for p in subject.parameters.values()) > LARGE
    rows = FEW_ROWS if large else ROWS
    batches = [sampling.first_rows(b, rows) for b in subject.train.batches[:BATCHES]]
    chosen = {n: p for n, p in _asked(subject).items() if p.dim() > 1}
    if not batches or len(chosen) <= FEW or any(p.dtype != torch.float32 for p in chosen.values()):
        raise Skip("does not apply")
    with subject.mode(training=False), gradients.undisturbed(subject.bare):
        if not _is_one_known_loss(subject, batches[0]):
            raise Skip("the loss is no known one of the outputs alone")
        told = _told(subject, batches[0], chosen)
        reversed_ = {n: [v] for n, v in told.items() if v < 0}
        true = [n for n, v in told.items() if abs(v - 1) <= 1 - TRUE]
        if len(reversed_) < FEW or not true:
            return
        for batch in batches[1:]:
            again = _told(subject, batch, {n: chosen[n] for n in reversed_})
            for name, value in again.items():
                reversed_[name].append(value)
    factors = torch.tensor([v for values in reversed_.values() for v in values])
    middle = factors.median()
    if len(factors) <= len(reversed_) or bool(((factors / middle - 1).abs() > FACTORS).any()):
        return
    names = list(reversed_)
    yield Finding(
        "L4", "error",
        f"the gradient of {len(names)} of {len(told)} weights tried is reversed: moved against it, "
        f"the loss rises by {-float(middle):.2f} of what it should fall (bound: falls by 1), from "
        f"{names[0]} to {names[-1]}; that of {true[-1]} is true",
        "take out what reverses the gradient between the two, or add the loss it was meant for",
        measured={"factor": float(middle), "reversed": len(names)},
    )  # fmt: skip


def _asked(subject: Subject) -> dict[str, nn.Parameter]:
    """A few trained weights from first to last; the optimizer's, where one is given."""
    held = getattr(preserve.unwrap(subject.optimizer), "param_groups", [])
    if any(group.get("maximize") for group in held):
        raise Skip("does not apply")
    theirs = {id(p) for group in held for p in group["params"]}
    chosen = gradients.sampled(subject.bare)
    return {n: p for n, p in chosen.items() if not theirs or id(p) in theirs}


def _is_one_known_loss(subject: Subject, batch: Any) -> bool:
    """Whether the loss is a known one of these outputs and labels, and nothing is added."""
    loss, outputs = gradients.training_loss(subject, batch)
    logits = subject.logits(outputs)
    if loss is None or logits is None or loss.dim() or not loss.requires_grad:
        return False
    if not logits.requires_grad:
        return False
    labels, value = subject.labels(batch), loss.item()
    known = ascent_probes.known_losses(logits.detach(), labels, read_targets(loss, logits))
    return any(abs(value - one) <= 0.01 * one for one in known.values() if one > 0)


def _told(subject: Subject, batch: Any, chosen: dict[str, nn.Parameter]) -> dict[str, float]:
    """Name → what the loss does along the gradient, over what the gradient promises."""
    loss = gradients.training_loss(subject, batch)[0].item()
    grads = gradients.gradients(
        lambda: gradients.training_loss(subject, batch)[0], list(chosen.values())
    )
    found = {}
    for (name, p), grad in zip(chosen.items(), grads, strict=True):
        if grad is None or not float(grad.norm()) > 0:
            continue
        size, slope = float(p.detach().norm()), float(grad.norm())
        reach = min(ASKED * abs(loss) / slope, LONGEST * size)
        promised = 2 * reach * slope
        if reach < SHORTEST * size or promised < CLEAR * abs(loss):
            continue
        found[name] = _between(subject, batch, p, grad * (reach / slope)) / promised
    return found


@torch.no_grad()
def _between(subject: Subject, batch: Any, p: nn.Parameter, step: torch.Tensor) -> float:
    """The loss one step ahead less the loss one step back; the weight is put back."""
    before = p.detach().clone()
    try:
        p.copy_(before + step)
        ahead = float(gradients.training_loss(subject, batch)[0])
        p.copy_(before - step)
        return ahead - float(gradients.training_loss(subject, batch)[0])
    finally:
        p.copy_(before)


CHECKS = (check_reversed_part,)
