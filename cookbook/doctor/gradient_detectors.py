"""Online: gradients that never arrive (M8), are left over from the step before (O5), are eaten by
clipping (O9), or accumulate to a multiple or a part of what they should be (L3).

Reads a `records.Run`. Gradients may lie about when a forward pass begins, as long as they are
emptied before the step's own backward pass.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from cookbook.doctor import graphs
from cookbook.doctor.checks import Skip
from cookbook.doctor.findings import Curve, Finding
from cookbook.doctor.records import Run

WINDOWS = 4  # judged at least
LEFT_OVER = 0.4  # share of them that began with gradients
CLIPPED_STEPS, CLIPPED, FACTOR = 200, 0.9, 0.1  # nearly all steps cut to a tenth or less …
FEW_STEPS, VANISHING = 50, 0.01  # … or, sooner, to a hundredth: no gradient is that large for long
MOSTLY = 0.9  # of the micro-batches or windows that were looked at
WHOLE = 0.01  # how near 1 the derivative by a loss is that was divided by nothing
REPEATED = 3  # gradients that came back to older passes
CONSTANT = 2e-3  # relative scatter of a norm that was cut before it was unscaled


def no_gradient_arrives(run: Run) -> Iterator[Finding]:
    """M8: steps at a rate above zero, and not one backward pass that reached a weight.

    An optimizer that needs no gradient moves the weights, and so does one that asks a closure.
    """
    looked = [r for r in run.records if r.moved is not None and r.rate]
    if len(looked) < WINDOWS:
        raise Skip("too few steps to miss a gradient")
    if not run.backwards and not any(r.moved or r.norm or r.grad for r in looked):
        yield Finding(
            "M8", "error",
            f"in {run.steps} optimizer steps at a rate of {max(r.rate for r in looked):.2g} no "
            f"backward pass reached a weight (bound: 1 each): the loss that is descended does not "
            f"lead back to the model",
            remedy="descend the loss itself, not a tensor that is made anew from its number",
            measured={"steps": run.steps},
        )  # fmt: skip


def gradients_left_over(run: Run) -> Iterator[Finding]:
    """O5: no backward pass of a window found the gradients empty."""
    looked = [r for r in run.records[1:] if r.fresh is not None]
    if len(looked) < WINDOWS:
        raise Skip("too few steps to see left-over gradients")
    left = [r for r in looked if not r.fresh]
    if len(left) >= LEFT_OVER * len(looked):
        yield Finding(
            "O5", "error",
            f"{len(left)} of {len(looked)} steps added to gradients that the step before had left "
            f"(bound: 0)",
            measured={"left_over": len(left), "looked_at": len(looked)},
            curve=Curve({"gradient": run.line("grad")}, y_label="gradient"),
        )  # fmt: skip


def clipped_before_unscaling(run: Run) -> Iterator[Finding]:
    """O9: under a loss scaler the scaled gradient was cut, so what remains is limit / scale."""
    if not run.attempts:
        raise Skip("does not apply")
    looked = [r for r in run.records if r.norm and r.scale and r.scale > 16]
    if len(looked) < 4 or run.facts.get("unscaled_first"):
        return
    scaled = np.array([r.norm * r.scale for r in looked])
    limit = float(np.median(scaled))
    same = np.abs(scaled / limit - 1) < CONSTANT
    if same.mean() > 0.75 and limit < 1e3:
        yield Finding(
            "O9", "error",
            f"the gradient's norm times the loss scale was {limit:.3g} in {int(same.sum())} of "
            f"{len(looked)} steps: it was clipped while scaled by {looked[-1].scale:g}, to "
            f"{limit / looked[-1].scale:.1g} (bound: unscaled first)",
            measured={"limit": limit, "scale": looked[-1].scale},
        )  # fmt: skip


def clipped_nearly_always(run: Run) -> Iterator[Finding]:
    """O9: nearly every step is cut to a tenth of its gradient or less."""
    limit = run.facts.get("max_grad_norm")
    logged = [entry["grad_norm"] for entry in run.logs if entry.get("grad_norm")]
    if limit and len(logged) >= 8:  # the Trainer logs the norm before it clips
        factors = limit / np.maximum(np.array(logged), 1e-30)
    else:
        factors = np.array(_left_by_clipping(run))
    tiny = len(factors) >= 8 and np.median(factors) < VANISHING
    wanted = FEW_STEPS if tiny else CLIPPED_STEPS
    if run.steps < wanted or len(factors) < 8:
        raise Skip(f"fewer than {wanted} steps to judge clipping by")
    if np.mean(factors < 1) > CLIPPED and np.median(factors) < FACTOR:
        yield Finding(
            "O9", "warn",
            f"{np.mean(factors < 1):.0%} of the steps were clipped, the usual one to "
            f"{np.median(factors):.2g} of its gradient (bound: {FACTOR:g})",
            measured={"factor": float(np.median(factors))},
        )  # fmt: skip


def _left_by_clipping(run: Run) -> list[float]:
    """The share of each looked-at gradient that the step was given, a loss scale taken out."""
    if not run.attempts:
        return run.values("clipped")
    scale, found = None, []
    for record in run.records:
        scale = record.scale or scale  # looked up now and then, it seldom changes
        if record.clipped is not None and scale:
            found.append(record.clipped * scale)
    return found


def accumulation_changes_the_gradient(run: Run) -> Iterator[Finding]:
    """L3: judged by `accumulation` from the first window of micro-batches."""
    if "accumulation" not in run.facts:
        raise Skip("does not apply")
    if run.facts["accumulation"] is not None:
        yield run.facts["accumulation"]


def micro_batches_not_divided(run: Run) -> Iterator[Finding]:
    """L3: a handwritten loop adds the full loss of each micro-batch.

    Only where each backward pass had a loss of its own that was reported: several losses of one
    batch may well be added.
    """
    micro = {r.micro for r in run.records[:WINDOWS] if r.micro}
    if len(micro) != 1 or min(micro) < 2 or run.told < run.backwards or run.attempts:
        raise Skip("does not apply")
    count, seen = micro.pop(), run.loss_gradients
    if divided_twice(run, count):
        yield Finding(
            "L3", "warn",
            f"{count} micro-batches are accumulated and the loss that is reported was divided by "
            f"{count}² = {count**2} in each: the gradient is 1/{count} of that of one large batch "
            f"(bound: divided by {count})",
            measured={"ratio": 1 / count, "micro_batches": count},
        )  # fmt: skip
    # By 1, or by their number where it should have been divided by it.
    times = next((t for t in (1, count) if any(abs(v / t - 1) < WHOLE for v in seen)), 1)
    whole = sum(abs(value / times - 1) < WHOLE for value in seen)
    rest = sum(abs(value * count - 1) < WHOLE for value in seen)
    if len(seen) < WINDOWS or whole + rest < len(seen) or whole < len(seen) / 2:
        return  # weighted by tokens, or divided as it should be
    ratio = count * (times * whole + rest / count) / len(seen)
    yield Finding(
        "L3", "warn",
        f"{count} micro-batches are accumulated and the full loss of {whole} in {len(seen)} is "
        f"added: the gradient is ×{ratio:.3g} that of one large batch (bound: each divided by "
        f"{count})",
        measured={"ratio": ratio, "micro_batches": count},
    )  # fmt: skip


def divided_twice(run: Run, count: int) -> bool:
    """Whether each loss, which is the model's own and no part of a sum, counts by 1 / count²."""
    seen, own = run.loss_gradients, run.told_by_own
    alone = len(own) >= WINDOWS and all(abs(value - 1) < WHOLE for value in own)
    squared = sum(abs(value * count**2 - 1) < WHOLE for value in seen)
    return alone and len(seen) >= WINDOWS and squared >= MOSTLY * len(seen)


def emptied_within_a_window(run: Run) -> Iterator[Finding]:
    """L3: losses divided as for accumulation, and the gradients emptied between micro-batches.

    The division says that they were meant to be summed. Without it a second backward pass may
    rightly begin with nothing: sharpness-aware steps, two networks that take turns.
    """
    micro = {r.micro for r in run.records[:WINDOWS] if r.micro}
    if len(micro) != 1 or min(micro) < 2 or run.told < run.backwards or run.attempts:
        raise Skip("does not apply")
    count, seen = micro.pop(), run.loss_gradients
    windows = sum(r.fresh is not None for r in run.records)
    divided = sum(abs(value * count - 1) < WHOLE for value in seen)
    if min(windows, len(seen)) < WINDOWS or divided < MOSTLY * len(seen):
        return
    if run.discarded >= MOSTLY * windows * (count - 1):
        yield Finding(
            "L3", "error",
            f"{count} micro-batches are accumulated, the loss of each divided by {count}, and the "
            f"gradients were emptied between them {run.discarded} times in {windows} windows "
            f"(bound: 0): only the last counts, by 1/{count}",
            remedy="call zero_grad() once for each optimizer step, not for each micro-batch",
            measured={"emptied": run.discarded, "windows": windows, "micro_batches": count},
        )  # fmt: skip


def summed_up_and_differentiated_again(run: Run) -> Iterator[Finding]:
    """L3: a running sum of losses is differentiated at each micro-batch, its first part each time.

    A pass that is differentiated twice before the next one has two losses, or a penalty; that it
    happens when newer passes exist says that the older loss stands in the newer one.
    """
    if not run.again:
        raise Skip("does not apply")
    if run.again < REPEATED:
        return
    yield Finding(
        "L3", "error",
        f"in {min(run.steps, graphs.COUNTED)} steps, {run.again} times a gradient came back to a "
        "pass that had one already, and from a later one (bound: 0): a sum of losses that grows is "
        "differentiated again with each part",
        remedy="call backward() on each loss, divided by their number; sum up loss.item()",
        measured={"again": run.again},
    )  # fmt: skip


CHECKS = (no_gradient_arrives, gradients_left_over, clipped_before_unscaling, clipped_nearly_always,
          accumulation_changes_the_gradient, micro_batches_not_divided,
          emptied_within_a_window, summed_up_and_differentiated_again)  # fmt: skip
