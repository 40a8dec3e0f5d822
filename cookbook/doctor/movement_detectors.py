"""Online: do the weights move? Steps without effect (O7), foreign parameters (O6), rates far too
low (O2), prompts at a fine-tuning rate (O10), adapters that stay zero (M6).

Reads a `records.Run`. A weight that may not move (no gradient, rate zero, a skipped step) is never
held against a run.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from cookbook.doctor import curves
from cookbook.doctor.checks import Skip
from cookbook.doctor.findings import Finding
from cookbook.doctor.records import Run

STEPS = 3  # that must be without effect
ENDED = 24  # backward passes, of which a whole run must have turned some into a step
UNDONE = 0.8  # share of the measured steps whose effect was taken back
TINY = 3e-6  # ‖Δw‖/‖w‖ a step that changes nothing within thousands of steps
NOTHING = 1e-9  # a rate at which the step is lost in the rounding of a weight
LEAP = 0.5  # of the weights' size, in one step
FLAT = 0.01  # relative change of the loss that counts as none
PROMPT_RATE, PROMPT_FLAT = 1e-3, 0.02


def step_without_effect(run: Run) -> Iterator[Finding]:
    """O7: never called, called after the gradients were emptied, or called in vain."""
    evidence = never_called(run) or in_vain(run)
    if evidence:
        yield Finding("O7", "error", evidence, measured={"steps": run.steps})
    elif not run.steps and len(run.facts.get("by_hand", [])) >= STEPS:
        yield Finding(
            "O7", "info",
            f"the weights move in {len(run.facts['by_hand'])} looks, and not by the optimizer that "
            "was named: its step() was called 0 times (bound: 1)",
            "name the optimizer that makes the steps, once made and kept; one that is made anew "
            "for each step forgets its moments",
        )  # fmt: skip


def never_called(run: Run) -> str:
    """Backward passes, gradients thrown away, and not one step of the optimizer."""
    if run.steps or run.attempts or len(run.facts.get("by_hand", [])) >= STEPS:
        return ""  # weights that move without the optimizer are moved by hand
    if run.discarded >= STEPS:
        return (f"{run.backwards} backward passes, {run.discarded} times the gradients were "
                f"emptied, and optimizer.step() was called 0 times (bound: 1)")  # fmt: skip
    if run.closed and run.backwards >= ENDED:
        return (f"the run ended after {run.backwards} backward passes, and optimizer.step() was "
                f"called 0 times (bound: 1)")  # fmt: skip
    return ""


def in_vain(run: Run) -> str:
    """Steps at a rate above zero after which no sampled weight had changed."""
    looked = [
        r for r in run.records if r.moved is not None and r.rate and r.micro and r.grad is not None
    ]
    after = [r for r in looked if r.undone is not None]
    undone = sum(bool(r.undone) for r in after)
    cleared = run.facts.get("lora_cleared", 0) >= STEPS  # of an adapter alone: M6
    if undone >= STEPS and undone >= UNDONE * len(after) and not cleared:
        return (f"in {undone} of {len(after)} steps the weights had been put back to what they "
                f"were before the last step (bound: {STEPS} steps)")  # fmt: skip
    if len(looked) < STEPS or any(r.moved for r in looked) or run.facts.get("lacking"):
        return ""
    if (max(v for v in [r.swallowed or 0 for r in looked])) >= 0.9:
        return ""  # swallowed by half precision: P3
    graded = [r for r in looked if r.grad > 0]
    rate = max(r.rate for r in looked)
    if rate < NOTHING:
        return ""  # the step is applied, and rounding takes it: O2
    if len(graded) >= STEPS:
        return (f"in {len(graded)} of {len(graded)} steps with a gradient and a rate of {rate:.2g} "
                f"not one sampled weight changed (bound: {STEPS} steps)")  # fmt: skip
    emptied = [r for r in looked if r.grad == 0 and r.norm in (None, 0.0)]
    if len(emptied) == len(looked) and run.facts.get("arrived"):
        return (f"in {len(emptied)} of {len(emptied)} steps the gradients had been emptied between "
                f"backward() and step() (bound: {STEPS} steps)")  # fmt: skip
    return ""


def foreign_parameters(run: Run) -> Iterator[Finding]:
    """O6: trainable parameters with a gradient that the optimizer does not hold, or frozen ones
    that it moves."""
    facts = run.facts
    lacking, foreign = facts.get("lacking", []), facts.get("foreign", 0)
    graded = [n for n in facts.get("lacking_graded", []) if n in set(lacking)]
    replaced = graded and len(lacking) <= 2 * foreign and not facts.get("lacking_moved")
    if lacking and (facts.get("foreign_alike") or replaced):
        yield Finding(
            "O6", "error",
            f"the optimizer holds {facts['foreign']} parameters that are not the model's, and "
            f"lacks {len(lacking)} of its {facts['trainable']} trainable ones (bound: 0): "
            f"{_some(lacking)}",
            measured={"lacking": len(lacking), "foreign": facts["foreign"]},
        )  # fmt: skip
    elif graded and run.steps >= STEPS and not facts.get("lacking_moved"):
        severity = "info" if facts.get("head_only") else "error"
        yield Finding(
            "O6", severity,
            f"{len(graded)} of {facts['trainable']} trainable parameters get a gradient and are in "
            f"no optimizer (bound: 0): {_some(graded)}",
            measured={"lacking": len(graded)},
        )  # fmt: skip
    thawed = facts.get("thawed", [])
    if thawed and facts["thawed_looks"] >= STEPS:
        yield Finding(
            "O6", "error",
            f"{len(thawed)} parameters that were frozen at first get a gradient now and are in no "
            f"optimizer (bound: 0): {_some(thawed)}",
            remedy="give them to the optimizer when they thaw: optimizer.add_param_group(...)",
            measured={"thawed": len(thawed)},
        )  # fmt: skip
    moved = {n: c for n, c in facts.get("frozen_moved", {}).items() if c >= 2}
    if moved:
        yield Finding(
            "O6", "error",
            f"{len(moved)} parameters without requires_grad were moved by the optimizer (bound: "
            f"0): {_some(list(moved))}",
            remedy="set their .grad to None, or build the optimizer from what is trainable",
        )  # fmt: skip


def _some(names: list[str]) -> str:
    return ", ".join(names[:2]) + (f" and {len(names) - 2} more" if len(names) > 2 else "")


def rate_far_too_low(run: Run) -> Iterator[Finding]:
    """O2: updates that are too small to change anything, and a loss that did not change."""
    if run.resumed or run.facts.get("prompt_method"):
        return
    if run.steps and not run.backwards and 0.0 == max(run.values("update"), default=1.0):
        return  # no gradient ever came: M8
    rates = run.values("rate")
    for share in (0.5, 0.1):  # a rate that only ever grows is near its highest for few steps
        top = [r for r in run.records if r.rate and r.rate >= share * max(rates)]
        if len(run.values("update", top)) >= 8:
            break
    updates, losses = run.values("update", top), run.values("loss")
    if len(updates) < 8 or len(losses) < 20:
        raise Skip("too few steps to tell a low rate")
    if curves.median(updates) > TINY or any((r.swallowed or 0) >= 0.5 for r in top):
        return
    if max(run.values("update")) > LEAP:  # weights that were thrown far away move no more
        return
    moved, error = curves.change(losses)
    if abs(moved) < max(FLAT * abs(np.mean(losses[:5])), 3 * error):
        yield Finding(
            "O2", "warn",
            f"a step changes the weights by {curves.median(updates):.1g} of their size (bound: "
            f"{TINY:g}), and the loss changed by {moved:+.2g} in {len(losses)} steps",
            measured={"update": curves.median(updates), "rate": max(rates)},
        )  # fmt: skip


def prompt_rate_too_low(run: Run) -> Iterator[Finding]:
    """O10: a prompt method at a fine-tuning rate, and a loss that did not change."""
    method, rates, losses = run.facts.get("prompt_method"), run.values("rate"), run.values("loss")
    if not method:
        raise Skip("does not apply")
    low = bool(rates) and 0 < max(rates) < PROMPT_RATE
    if not low or len(losses) < max(20, 0.1 * (run.planned or 0)):
        return
    moved, error = curves.change(losses)
    if moved > -max(PROMPT_FLAT * abs(np.mean(losses[:5])), 2 * error):
        yield Finding(
            "O10", "warn",
            f"{method} at a rate of {max(rates):.2g} (bound: {PROMPT_RATE:g}) changed the loss by "
            f"{moved / max(1e-12, abs(np.mean(losses[:5]))):+.1%} in {len(losses)} steps",
            measured={"rate": max(rates)},
        )  # fmt: skip


def adapter_stays_zero(run: Run) -> Iterator[Finding]:
    """M6: every B of LoRA is zero after steps that should have moved it, or before each of them."""
    if not run.facts.get("lora"):
        raise Skip("does not apply")
    effective = sum(r.rate != 0 for r in run.records)
    cleared = run.facts.get("lora_cleared", 0)
    if cleared >= STEPS:
        yield Finding(
            "M6", "error",
            f"before {cleared} steps that moved them all {run.facts['lora']} LoRA B matrices were "
            f"zero, though steps before had moved them, too (bound: {STEPS} steps)",
            "set the weights of the adapter once, before the training, and not after each step",
            measured={"cleared": cleared},
        )  # fmt: skip
    elif run.facts.get("lora_zero") == run.facts["lora"] and effective >= STEPS:
        if in_vain(run):  # nothing moves, the adapter neither: O7
            return
        yield Finding(
            "M6", "error",
            f"{run.facts['lora']} of {run.facts['lora']} LoRA B matrices are zero after "
            f"{effective} steps at a rate above 0 (bound: {STEPS})",
            measured={"zero": run.facts["lora_zero"]},
        )  # fmt: skip


CHECKS = (step_without_effect, foreign_parameters, rate_far_too_low, prompt_rate_too_low,
          adapter_stays_zero)  # fmt: skip
