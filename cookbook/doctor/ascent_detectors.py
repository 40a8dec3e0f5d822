"""Online: the loss is climbed, not descended (L4).

Reads a `records.Run`. Each sign is of the run's own numbers: its gradient by the model's own loss,
the labels' own logits, the direction of the steps, the loss of its evaluations.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from cookbook.doctor import curves
from cookbook.doctor.findings import Curve, Finding
from cookbook.doctor.records import Run

TURNED = 0.5  # cosine of a gradient and what is left of it at the step, where it was reversed
MIRRORED, GREW = 2.0, 2.0  # times that two losses of opposite sign may differ; that one grew


def climbing(run: Run) -> str:
    """Evidence that the loss is climbed, or ""."""
    signs = run.loss_gradients
    if len(signs) >= 3 and all(s < 0 for s in signs):
        return (f"what is descended falls where the model's own loss rises: its gradient by that "
                f"loss was {curves.median(signs):.3g} in {len(signs)} of {len(signs)} passes "
                f"(bound: above 0)")  # fmt: skip
    rows = sum(n for n, _ in run.uphill)
    if len(run.uphill) >= 3 and rows >= 12 and all(share == 1.0 for _, share in run.uphill):
        return (f"the gradient at the label's own logit was above 0 in 100 % of {rows} rows: the "
                f"step makes the right answer less likely (bound: below 0)")  # fmt: skip
    turned = run.values("turned")
    if len(turned) >= 5 and max(turned) < -TURNED and curves.median(run.values("angle")) < 0:
        return (f"the gradients were reversed between backward() and step(): their cosine was "
                f"{curves.median(turned):.2f} in {len(turned)} of {len(turned)} steps (bound: "
                f"above 0)")  # fmt: skip
    hand = run.facts.get("by_hand", [])
    if len(hand) >= 5 and np.mean(np.array(hand) > 0) > 0.9 and curves.median(hand) > 0.2:
        return (f"weights that are moved by hand go along the gradient, not against it (cosine "
                f"{curves.median(hand):.2f} in {len(hand)} moves, bound: below 0)")  # fmt: skip
    angles = run.values("angle")
    if len(angles) >= 5 and np.mean(np.array(angles) > 0) > 0.9 and curves.median(angles) > 0.05:
        losses = run.values("loss")
        if len(losses) >= 6:
            rise, error = curves.change(losses, 0.34)
            if rise > max(0.05 * abs(losses[0]), 3 * error):
                return (f"the weights move along the gradient, not against it (cosine "
                        f"{curves.median(angles):.2f}, bound: below 0), and the loss rose by "
                        f"{rise:.3g}")  # fmt: skip
    return _mirrored(run)


def _mirrored(run: Run) -> str:
    """Evidence that a loss is trained by which the evaluation, with its sign turned, gets worse.

    A loss that has no lower end, as a likelihood's, is the same in both.
    """
    told = [(e.step, e.metrics["loss"]) for e in run.evaluations if "loss" in e.metrics]
    pairs = []
    for (step, value), before in zip(told, [0, *(s for s, _ in told)], strict=False):
        seen = [loss for at, loss in run.line("loss") if before < at <= step][-2:]
        if not seen or value <= 0 or np.mean(seen) >= 0:
            return ""
        pairs.append((float(np.mean(seen)), value))
    if len(pairs) < 3 or pairs[-1][1] < GREW * pairs[0][1]:
        return ""
    if any(not 1 / MIRRORED < value / -seen < MIRRORED for seen, value in pairs[1:]):
        return ""
    seen, value = pairs[-1]
    return (
        f"the training loss is {seen:.3g} and the evaluation's {value:.3g}, the same with the sign "
        f"turned, and it grew from {pairs[0][1]:.3g} (bound: one sign)"
    )


def loss_is_climbed(run: Run) -> Iterator[Finding]:
    """L4: the sign of the loss or of the step is wrong."""
    evidence = climbing(run)
    if evidence:
        yield Finding("L4", "error", evidence, curve=Curve({"loss": run.line("loss")}))


CHECKS = (loss_is_climbed,)
