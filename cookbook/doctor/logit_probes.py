"""Does the loss get logits, or probabilities that it squashes once more (L2); one to choose (M4)?

The autograd graph says what stands directly before the loss: a softmax before a cross-entropy, a
sigmoid before `binary_cross_entropy_with_logits`. Where the graph is hidden (a compiled loss), the
numbers do: outputs that sum to 1 and whose cross-entropy is the loss. A log-softmax before a
cross-entropy changes nothing and is left alone; none before `nll_loss` is told.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from cookbook.doctor import gradients
from cookbook.doctor.checks import Skip
from cookbook.doctor.findings import Finding
from cookbook.doctor.loss_probes import read_targets
from cookbook.doctor.subject import IGNORE, Subject

ROWS = 8
NOTHING = 1e-9  # a loss that is 0 but for rounding
ABOVE = 0.01  # a log-probability is at most 0, the logarithms of a row's sum to one
# Operations that change the shape, the type or the order of numbers, not the numbers.
NEUTRAL = ("View", "ReshapeAlias", "UnsafeView", "Transpose", "Permute", "Squeeze", "Unsqueeze",
           "ToCopy", "Slice", "Clone", "Alias", "Index", "T", "Expand", "Select", "Split",
           "SplitWithSizes", "Unbind", "Narrow", "Unfold", "Contiguous")  # fmt: skip
SQUASH = {"SoftmaxBackward": "softmax", "SigmoidBackward": "sigmoid"}
# What takes logits, and what before it is one squash too many.
LOSSES = {
    "LogSoftmaxBackward": ("cross-entropy", ("softmax", "sigmoid")),
    "BinaryCrossEntropyWithLogitsBackward": ("BCE with logits", ("softmax", "sigmoid")),
    "NllLossBackward": ("negative log-likelihood", ("softmax",)),
    "NllLoss2DBackward": ("negative log-likelihood", ("softmax",)),
}  # fmt: skip


def check_softmax_before_loss(subject: Subject) -> Iterable[Finding]:
    """L2: probabilities where the loss expects logits, by the graph and by the numbers; M4: one
    score a row where it expects several."""
    batch = subject.batch(rows=ROWS)
    if batch is None:
        raise Skip("does not apply")
    with subject.mode(training=False):
        loss, outputs = gradients.training_loss(subject, batch)
    logits = subject.logits(outputs)
    if loss is None or loss.dim() or not loss.requires_grad:
        raise Skip("does not apply")
    if _is_no_choice(loss, logits):
        yield Finding(
            "M4", "error",
            "a cross-entropy chooses between classes and is given one score a row: the loss is 0 "
            "for every score (bound: 2 classes)",
            "use BCEWithLogitsLoss for one score and labels of 0 and 1, or give each class a score",
            {"classes": 1},
        )  # fmt: skip
        return
    found, told, raw = squashed(loss), _told(loss, logits), likelihood_of_scores(loss)
    if raw is not None:
        yield Finding(
            "L2", "error",
            "the negative log-likelihood takes log-probabilities and is given scores: the greatest "
            f"is {raw:.3g} (bound: 0, the logarithm of 1), so the loss falls without end",
            "use nn.CrossEntropyLoss, or put log_softmax before the loss", {"greatest": raw},
        )  # fmt: skip
        return
    if found is not None:
        squash, taker = found
        yield _finding(logits, f"a {squash} stands directly before the {taker}{told}", squash)
    elif told and _cross_entropy_of_outputs(loss, logits):
        yield _finding(logits, f"the loss is the cross-entropy of probabilities{told}", "softmax")


def squashed(loss: torch.Tensor) -> tuple[str, str] | None:
    """(squash, loss) where a softmax or sigmoid feeds a loss that takes logits; else None.

    >>> z = torch.zeros(2, 3, requires_grad=True)
    >>> squashed(nn.functional.cross_entropy(z.softmax(-1), torch.tensor([0, 1])))
    ('softmax', 'cross-entropy')
    """
    for node in gradients.graph(loss):
        taker, wrong = LOSSES.get(_operation(node), ("", ()))
        if not wrong:
            continue
        squash = SQUASH.get(_operation(_source(node)))
        if squash in wrong:
            return squash, taker
    return None


def likelihood_of_scores(loss: torch.Tensor) -> float | None:
    """The greatest number that an `nll_loss` is given, where they are no log-probabilities.

    >>> z = torch.tensor([[1.0, 3.0, 0.0]], requires_grad=True)
    >>> likelihood_of_scores(nn.functional.nll_loss(z, torch.tensor([1])))
    3.0
    >>> likelihood_of_scores(nn.functional.cross_entropy(z, torch.tensor([1])))
    """
    for node in gradients.graph(loss):
        given = getattr(node, "_saved_self", None)
        if not _operation(node).startswith("NllLoss") or not isinstance(given, torch.Tensor):
            continue
        given = given.detach().float()
        scores = float(given.max()) > ABOVE and float(given.min()) < 0 or float(given.max()) > 1
        if scores and float((given.logsumexp(1)).abs().median()) > ABOVE:
            return float(given.max())
    return None


def _source(node: Any) -> Any:
    """The operation whose numbers a node takes first, past what only reshapes them."""
    while True:
        node = node.next_functions[0][0] if node.next_functions else None
        if node is None or _operation(node).removesuffix("Backward") not in NEUTRAL:
            return node


def _operation(node: Any) -> str:
    """The node's name without the number behind it.

    >>> _operation(torch.ones(1, requires_grad=True).sigmoid().grad_fn)
    'SigmoidBackward'
    """
    return type(node).__name__.rstrip("0123456789")


def _told(loss: torch.Tensor, logits: torch.Tensor | None) -> str:
    """The numbers of outputs that are probabilities, or "" where they are none."""
    if logits is None or logits.dim() < 2 or logits.shape[-1] < 2 or not logits.is_floating_point():
        return ""
    rows = logits.detach().float().flatten(0, -2)
    sums = rows.sum(-1)
    inside = bool((rows >= 0).all() and (rows <= 1 + 1e-6).all())
    if not (inside and float((sums - 1).abs().max()) <= 1e-3):
        return ""
    return (
        f": outputs lie in [0, 1], their rows sum to {float(sums.mean()):.3f} "
        f"(bound: logits), loss {loss.item():.3f}"
    )


def _cross_entropy_of_outputs(loss: torch.Tensor, logits: torch.Tensor) -> bool:
    read = read_targets(loss, logits)
    if read is None:
        return False
    rows, target = logits.detach().float().flatten(0, -2), read.target.flatten()
    again = nn.functional.cross_entropy(rows, target, ignore_index=IGNORE)
    return abs(float(again - loss.detach())) <= 0.01 * abs(loss.item())


def _finding(logits: torch.Tensor | None, evidence: str, squash: str) -> Finding:
    classes = logits.shape[-1] if logits is not None and logits.dim() > 1 else 0
    floor = math.log(1 + (classes - 1) / math.e) if squash == "softmax" and classes > 1 else None
    bound = "" if floor is None else f"; it cannot fall below {floor:.3f}"
    measured = {} if floor is None else {"floor": floor, "classes": classes}
    if "bound:" not in evidence:
        evidence += " (bound: logits go in)"
    return Finding(
        "L2", "error", evidence + bound,
        f"return logits: the loss applies the {squash} itself", measured,
    )  # fmt: skip


def _is_no_choice(loss: torch.Tensor, logits: torch.Tensor | None) -> bool:
    """Whether a cross-entropy was given one score a row, of which the softmax is always 1."""
    if logits is None or logits.dim() < 2 or logits.shape[1] != 1:
        return False
    names = {node.name().rstrip("0123456789") for node in gradients.graph(loss)}
    return "LogSoftmaxBackward" in names and abs(float(loss.detach())) < NOTHING


CHECKS = (check_softmax_before_loss,)
