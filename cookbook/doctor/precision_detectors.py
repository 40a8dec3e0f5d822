"""Online: numbers that are not finite (P1), fp16 that overflows (P2), half-precision weights that
swallow their updates (P3) or whose gradients are scaled (P4).

Reads a `records.Run`. A loss scaler is meant to skip some steps: its first ones, and one in a few
hundred later.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from cookbook.doctor.checks import Skip
from cookbook.doctor.findings import Curve, Finding
from cookbook.doctor.records import Run

SETTLING, LATEST, SKIPPED = 12, 200, 0.2  # a scaler's first attempts; share of the latest skipped
IN_A_ROW = 25
SWALLOWED, STUCK, STEPS = 0.9, 0.8, 3


def not_finite(run: Run) -> Iterator[Finding]:
    """P1: a raw loss or a gradient that is NaN or infinite, whatever the log says."""
    bad = run.bad or _late(run) or _logged(run)
    if bad is None:
        return
    where = f": {bad['where']}" if bad.get("where") else ""
    skipped = len(run.not_finite) <= 1.5 * len(run.skipped) + 2
    if run.attempts and skipped and not where.startswith((": the batch", ": the weights")):
        return  # the scaler skips such a step, and lowers its scale
    batch = f", batch {bad['batch']}" if bad.get("batch") is not None else ""
    count = len(set(run.not_finite))  # a loss and its gradient are one step
    more = f"; {count} such batches in all" if count > 1 else ""
    yield Finding(
        "P1", "error",
        f"the {bad['what']} was not finite at step {bad['step']}{batch} (bound: finite){where}"
        f"{more}",
        measured={"step": bad["step"]}, curve=Curve({"loss": run.line("loss")}),
    )  # fmt: skip


def _late(run: Run) -> dict | None:
    """On an accelerator losses are read late: the first record whose loss is no number."""
    for record in run.records:
        for what, value in (("loss", record.loss), ("gradient", record.norm)):
            if value is not None and not math.isfinite(value) and not run.attempts:
                return {"what": what, "step": record.step}
    return None


def _logged(run: Run) -> dict | None:
    """A logged loss of exactly 0 beside a gradient norm that is no number."""
    for entry in run.logs:
        norm = entry.get("grad_norm")
        if norm is not None and not math.isfinite(norm) and not run.attempts:
            if entry.get("loss") == 0.0 or not math.isfinite(entry.get("loss", 0.0)):
                return {"what": "gradient", "step": int(entry.get("step", 0)),
                        "where": f"logged as a loss of {entry.get('loss')}"}  # fmt: skip
    return None


def overflows(run: Run) -> Iterator[Finding]:
    """P2: the scaler skips too many steps, or has lowered its scale under 1."""
    if not run.attempts:
        raise Skip("does not apply")
    settled = max(SETTLING, _leading(run.skipped))
    late = [a for a in run.skipped if a > settled and a > run.attempts - LATEST]
    of = min(LATEST, run.attempts - settled)
    scales = run.values("scale")
    if of >= 20 and len(late) > SKIPPED * of:
        yield Finding(
            "P2", "warn",
            f"{len(late)} of the latest {of} steps were skipped for overflow (bound: "
            f"{SKIPPED:.0%})",
            measured={"skipped": len(late), "of": of},
        )  # fmt: skip
    elif _longest_row(run.skipped) >= IN_A_ROW:
        yield Finding(
            "P2", "warn",
            f"{_longest_row(run.skipped)} steps in a row were skipped for overflow (bound: "
            f"{IN_A_ROW})",
        )  # fmt: skip
    elif scales and scales[-1] < 1:
        yield Finding("P2", "warn", f"the loss scale fell to {scales[-1]:.3g} (bound: 1)",
                      measured={"scale": scales[-1]})  # fmt: skip


def _leading(places: list[int]) -> int:
    """Steps that were skipped from the first on: the scaler was finding its scale."""
    return next((i for i, place in enumerate(places) if place != i + 1), len(places))


def _longest_row(places: list[int]) -> int:
    best = row = 0
    before = None
    for place in places:
        row = row + 1 if before is not None and place == before + 1 else 1
        best, before = max(best, row), place
    return best


def updates_swallowed(run: Run) -> Iterator[Finding]:
    """P3: half-precision weights with a gradient and a full rate that stay what they were."""
    measured = [r for r in run.records if r.swallowed is not None and r.rate]
    if not measured:
        raise Skip("does not apply")
    top = max(r.rate for r in measured)
    full = [r for r in measured if r.rate >= 0.5 * top]
    last = full[-STEPS:]
    if len(last) < STEPS or min(r.swallowed for r in last) < SWALLOWED:
        return
    if (last[-1].stuck if last[-1].stuck is not None else 1.0) < STUCK:
        return
    share = min(r.swallowed for r in last)
    yield Finding(
        "P3", "error",
        f"{share:.0%} of the sampled half-precision weights with a gradient did not change in each "
        f"of {len(last)} steps at a rate of {last[-1].rate:.2g} (bound: {SWALLOWED:.0%})",
        measured={"swallowed": share, "stuck": last[-1].stuck or 0.0},
    )  # fmt: skip


def half_weights_scaled(run: Run) -> Iterator[Finding]:
    """P4: trainable weights are fp16 though a loss scaler unscales their gradients."""
    half = run.facts.get("half_scaled")
    if half:
        yield Finding(
            "P4", "error",
            f"{half} of {run.facts['trainable']} trainable weights are fp16 while a loss scaler "
            "unscales their gradients (bound: 0)",
            "load the model in fp32 and let autocast compute in fp16, or use bf16",
            measured={"half": half},
        )  # fmt: skip


CHECKS = (not_finite, overflows, updates_swallowed, half_weights_scaled)
