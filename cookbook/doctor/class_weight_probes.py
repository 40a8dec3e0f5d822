"""Do class weights favour the classes that are rare (D4)?

Weights that are the classes' own shares make the frequent ones more frequent still. The loss is
shown equal scores for the commonest and the rarest class: how large its gradient is for each says
how much each counts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import torch

from cookbook.doctor import oracles, trial
from cookbook.doctor.checks import Skip
from cookbook.doctor.findings import Finding
from cookbook.doctor.subject import Subject

ROWS = 8
UNEVEN, FAVOURED = 3.0, 1.5  # times as many rows; times the weight of a row of the rarest class


def check_rare_classes_weigh_no_less(subject: Subject) -> Iterable[Finding]:
    """D4: a row of the commonest class counts for more than one of the rarest."""
    if subject.kind != "classifier" or subject.loss_fn is None:
        raise Skip("does not apply")
    labels = oracles.scalars(subject.train, subject)
    counts = Counter([] if labels is None else labels.tolist()).most_common()
    if len(counts) < 2 or counts[0][1] < UNEVEN * counts[-1][1]:
        raise Skip("does not apply")
    (common, many), (rare, few) = counts[0], counts[-1]
    batch = subject.batch("train", ROWS)
    weight = _weight_of(subject, batch, common, rare)
    if weight > FAVOURED:
        yield Finding(
            "D4", "warn",
            f"a row of class {common}, which has {many:,} rows, counts {weight:.3g} times as much "
            f"in the loss as one of class {rare}, which has {few:,} (bound: {FAVOURED:g})",
            "weigh classes by the inverse of their shares: total / (classes * counts)",
            {"weight": weight, "rows": many, "rare_rows": few},
        )  # fmt: skip


def _weight_of(subject: Subject, batch: Any, common: int, rare: int) -> float:
    """The gradient at equal scores of a row of the first class, over that of one of the second."""
    with trial.quiet(subject):
        outputs = trial.outputs_of(subject, batch)
        logits = subject.logits(outputs)
    if logits is None or logits.dim() != 2 or logits.shape[1] <= max(common, rare):
        raise Skip("does not apply")
    scores = torch.zeros_like(logits).requires_grad_()
    wanted = torch.tensor([common, rare] * len(scores))[: len(scores)]
    with torch.enable_grad():
        loss = trial.loss_with(subject, batch, wanted, trial.with_logits(outputs, scores))
        (gradient,) = torch.autograd.grad(loss, scores, allow_unused=True)
    if gradient is None:
        raise Skip("does not apply")
    size = gradient.norm(dim=1)
    return float(size[wanted == common].mean() / size[wanted == rare].mean().clamp(min=1e-12))


CHECKS = (check_rare_classes_weigh_no_less,)
