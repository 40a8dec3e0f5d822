"""Does training go down its loss, or up (fault L4)?

Two questions: is the loss the negative of a known one, and does the optimizer's own step raise the
loss of the batch it was computed on? The second looks at the slope along the step, not at its
length: a rate that is too high overshoots, and is not a wrong sign.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from cookbook.doctor import gradients, preserve, sampling
from cookbook.doctor.checks import Skip
from cookbook.doctor.drawn import cosine
from cookbook.doctor.findings import Finding
from cookbook.doctor.loss_probes import read_targets
from cookbook.doctor.subject import IGNORE, Subject

ROWS, TRIES = 8, 5
REACH = 1e-3  # length of the trial step, relative to the weights that moved
LIBRARIES = ("torch", "transformers", "peft", "bitsandbytes", "liger_kernel", "flash_attn")
TURNED = -0.99  # cosine of two slopes, from which one is the other reversed
NOISE = 2e-6  # relative change of the loss that rounding can make


def check_negative_loss(subject: Subject) -> Iterable[Finding]:
    """A loss that is the negative of a known one, or falls where that one rises: 1 - loss, say."""
    batch = subject.batch(rows=ROWS)
    if batch is None:
        raise Skip("does not apply")
    with subject.mode(training=False):
        loss, outputs = gradients.training_loss(subject, batch)
    logits = subject.logits(outputs)
    if loss is None or logits is None or loss.dim() or not loss.requires_grad:
        raise Skip("does not apply")
    value, scores = loss.item(), logits.detach().float().requires_grad_()
    known = known_losses(scores, subject.labels(batch), read_targets(loss, logits))
    slope = (
        torch.autograd.grad(loss, logits, allow_unused=True)[0] if logits.requires_grad else None
    )
    for name, one in known.items():
        negative = value < 0 and abs(value + one.item()) <= 0.01 * one.item()
        turned = slope is not None and cosine(slope, torch.autograd.grad(one, scores)[0]) < TURNED
        if one.item() > 1e-6 and (negative or turned):
            what = f"the negative of the {name} {one.item():.4f}" if negative else (
                f"and rises where the {name} falls: its slope by the outputs is reversed"
            )  # fmt: skip
            yield Finding(
                "L4", "error",
                f"the loss is {value:.4f}, {what} (bound: its own sign): training climbs it",
                "mend the sign of the loss: minimise it",
                measured={"loss": value, "known": one.item()},
            )  # fmt: skip
            return


def known_losses(logits: torch.Tensor, labels: Any, read: Any) -> dict[str, torch.Tensor]:
    """Name → value of the losses that outputs and labels allow."""
    found, functional = {}, nn.functional
    if read is not None:
        found["cross-entropy"] = functional.cross_entropy(
            logits.flatten(0, -2), read.target.flatten(), ignore_index=IGNORE
        )
    if labels is not None and labels.numel() * logits.shape[-1] == logits.numel():
        if not labels.is_floating_point() and 0 <= int(labels.max()) < logits.shape[-1]:
            found["cross-entropy with the labels"] = functional.cross_entropy(
                logits.flatten(0, -2), labels.flatten(), ignore_index=IGNORE
            )
    if labels is not None and labels.numel() == logits.numel():
        wanted = labels.float().view_as(logits)
        found["squared error"] = functional.mse_loss(logits, wanted)
        found["absolute error"] = functional.l1_loss(logits, wanted)
        if bool(((wanted >= 0) & (wanted <= 1)).all()):
            found["binary cross-entropy"] = functional.binary_cross_entropy_with_logits(
                logits, wanted
            )
    return found


def check_ascent(subject: Subject) -> Iterable[Finding]:
    """The slope of the loss along the optimizer's own step, on up to five batches."""
    optimizer = preserve.unwrap(subject.optimizer)
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise Skip("does not apply")
    batches = [sampling.first_rows(b, ROWS) for b in subject.train.batches[:TRIES]]
    moved = [p for group in optimizer.param_groups for p in group["params"] if p.requires_grad]
    if not batches or not moved or any(p.dtype != torch.float32 for p in moved):
        raise Skip("does not apply")
    slopes = []
    with subject.mode(training=False), gradients.undisturbed(subject.bare):
        for batch in batches:
            slope = _slope(subject, optimizer, moved, batch)
            if slope is None or slope <= NOISE:
                return  # one step downhill is enough: the sign is right
            slopes.append(slope)
    maximize = any(group.get("maximize") for group in optimizer.param_groups)
    yield Finding(
        "L4", "error",
        f"the optimizer's step, cut to {REACH:g} of the weights, raises the loss of its own batch "
        f"in {len(slopes)} of {len(slopes)} batches, by {max(slopes):.1e} of it (bound: it falls)"
        + (": maximize=True" if maximize else ""),
        "pass maximize=False" if maximize else "mend the sign of the gradient or of the update",
        measured={"raised": len(slopes), "largest_rise": max(slopes)},
    )  # fmt: skip


def _slope(subject: Subject, optimizer: Any, moved: list, batch: Any) -> float | None:
    """Relative change of the loss along a fresh optimizer's first step; None if there is none."""
    loss = gradients.training_loss(subject, batch)[0]
    if loss is None or loss.dim() or not loss.requires_grad or not bool(loss.isfinite()):
        raise Skip("does not apply")
    if _reverses(loss) and not any(g.get("maximize") for g in optimizer.param_groups):
        raise Skip("a gradient function of the reader's own may reverse gradients on purpose")
    before = [p.detach().clone() for p in moved]
    grads = gradients.gradients(lambda: gradients.training_loss(subject, batch)[0], moved)
    step = _first_step(optimizer, moved, before, grads)
    length = float(sum(d.square().sum() for d in step).sqrt())
    weights = float(sum(b.square().sum() for b in before).sqrt())
    if not (length > 0 and length < float("inf")):
        return None
    reach = REACH * max(weights, 1e-6) / length

    def at(sign: int) -> float:
        with torch.no_grad():
            for p, b, d in zip(moved, before, step, strict=True):
                p.copy_(b + sign * reach * d)
            return float(gradients.training_loss(subject, batch)[0])

    try:
        return (at(1) - at(-1)) / (2 * max(abs(loss.item()), 1e-12))
    finally:
        _put(moved, before)


def _first_step(optimizer: Any, moved: list, before: list, grads: list) -> list[torch.Tensor]:
    """What the optimizer does with these gradients, without momentum and decay; weights stay."""
    held, called = [p.grad for p in moved], vars(optimizer).get("_opt_called", False)
    optimizer.state.clear()
    for group in optimizer.param_groups:
        rate = group.get("lr")
        if not isinstance(rate, torch.Tensor) and not rate:
            group["lr"] = group.get("initial_lr") or 1e-3  # a warm-up begins at 0
        if "weight_decay" in group:
            group["weight_decay"] = 0.0
    try:
        for p, g in zip(moved, grads, strict=True):
            p.grad = None if g is None else g.clone()
        optimizer.step()
        return [p.detach() - b for p, b in zip(moved, before, strict=True)]
    except (TypeError, RuntimeError) as error:
        raise Skip(f"the optimizer's step wants more than gradients ({error})"[:120]) from error
    finally:
        _put(moved, before)
        optimizer._opt_called = called  # what a schedule looks at to warn of a wrong order
        for p, g in zip(moved, held, strict=True):
            p.grad = g


@torch.no_grad()
def _put(moved: list, before: list) -> None:
    for p, b in zip(moved, before, strict=True):
        p.copy_(b)


def _reverses(loss: torch.Tensor) -> bool:
    """Whether an autograd function of the reader's own stands in the graph, as reversal does."""
    own = torch.autograd.function.BackwardCFunction
    return any(
        isinstance(node, own) and _library(type(node)) not in LIBRARIES
        for node in gradients.graph(loss)
    )


def _library(node: type) -> str:
    """The package that a custom autograd function comes from."""
    function = getattr(node, "_forward_cls", node)
    return function.__module__.partition(".")[0]


CHECKS = (check_negative_loss, check_ascent)
