"""What the log of a finished run can tell, and what it cannot.

Curves alone name few causes: a loss that stays at ln K may be a rate that is too high or labels
that belong to other rows. So this file reports what a log proves, and `scope` says in plain words
what only `examine` and `Doctor` can see. Used by `cookbook doctor RUN_DIR`, chapter 13.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator

from cookbook.doctor.findings import Curve, Finding
from cookbook.doctor.logs import RunLog
from cookbook.doctor.report import Report

Points = list[tuple[float, float]]
LOWER = ("loss", "error", "perplexity", "wer", "cer", "mae", "mse", "rmse")  # smaller is better
FLAT = 0.02  # the share by which a loss must have changed to be called moving


def examine_log(log: RunLog) -> Report:
    """The faults that the log itself proves, ranked; never more than it can know.

    >>> log = RunLog("log.csv", [{"step": i, "loss": math.nan if i > 3 else 1.0} for i in range(9)])
    >>> examine_log(log).primary.fault
    'P1'
    """
    checks = (not_finite, rate_dies, diverges, overfits, weights_stand_still, wrong_best)
    findings = [found for check in checks for found in check(log)]
    return Report(
        findings, checked=[check.__name__ for check in checks], not_checked=_unseen(log, findings)
    )


def scope(log: RunLog) -> str:
    """What this log holds, and what no log tells, as a paragraph for the terminal."""
    held = [name for name in ("loss", "learning_rate", "grad_norm", "eval_loss") if log.line(name)]
    held += log.metrics()
    return (
        f"{log.source}: {len(log.entries)} entries with {', '.join(held)}.\n"
        "A log shows when a run went wrong, seldom why: labels, masks, frozen or cut layers, the "
        "optimizer's\nparameters and the metric are not in it. For those: "
        "cookbook.doctor.examine(model, …) before training,\n"
        "cookbook.doctor.Doctor() among the Trainer's callbacks, or Watch around your own loop."
    )


def not_finite(log: RunLog) -> Iterator[Finding]:
    """P1: a loss or gradient norm that is NaN or infinite; a loss of 0.0 beside one."""
    for name in ("loss", "grad_norm", "eval_loss"):
        bad = [step for step, value in log.line(name) if not math.isfinite(value)]
        if bad:
            hidden = [s for s, v in log.line("loss") if v == 0.0 and s in bad]
            told = " while the logged loss says 0.0" if hidden else ""
            yield Finding(
                "P1", "error",
                f"{name} is not finite from step {bad[0]:g} on, {len(bad)} in all{told}",
                measured={"first_step": bad[0], "entries": len(bad)}, curve=_curve(log, "loss"),
            )  # fmt: skip
            return


def rate_dies(log: RunLog) -> Iterator[Finding]:
    """O2: the rate is 0 all along. O4: it reaches its end before 90 % of the planned steps."""
    rates = log.line("learning_rate")
    if len(rates) < 5:
        return
    highest = max(rate for _, rate in rates)
    if highest == 0:
        yield Finding("O2", "error", f"the learning rate is 0 in all {len(rates)} entries",
                      measured={"entries": len(rates)})  # fmt: skip
        return
    last_alive = max(step for step, rate in rates if rate > 1e-3 * highest)
    first_dead = next((step for step, _ in rates if step > last_alive), None)
    planned = log.planned or rates[-1][0]
    if first_dead is not None and first_dead < 0.9 * planned and rates[-1][0] > 1.1 * first_dead:
        yield Finding(
            "O4", "error",
            f"the learning rate has died by step {first_dead:g} of {planned:g} (bound: 90 %)",
            measured={"step": first_dead, "planned": planned}, curve=_curve(log, "learning_rate"),
        )  # fmt: skip


def diverges(log: RunLog) -> Iterator[Finding]:
    """O1, or O3 within 3 % without warm-up: far above its best for good, and a second sign."""
    losses = [(step, value) for step, value in log.line("loss") if math.isfinite(value)]
    if len(losses) < 10 or min(value for _, value in losses) <= 0:
        return
    smooth = _smoothed(losses)
    place = min(range(len(smooth)), key=lambda i: smooth[i][1])
    best = smooth[place][1]
    above = [step for step, value in smooth[place:] if value > 1.5 * best]
    for_good = len(above) >= max(5, 0.2 * len(smooth)) and smooth[-1][1] > 1.5 * best
    second = _gradient_spike(log)
    if not second and smooth[-1][1] > losses[0][1]:
        second = f"an end above its start, {losses[0][1]:.3g}"
    if for_good and second:
        early = above[0] <= 0.03 * (log.planned or losses[-1][0]) and not _warmed_up(log)
        ratio = smooth[-1][1] / best
        yield Finding(
            "O3" if early else "O1", "warn",
            f"from step {above[0]:g} on the smoothed loss is above 1.5 times its best and ends at "
            f"{ratio:.1f} times, with {second}",
            measured={"ratio": ratio, "step": above[0]}, curve=_curve(log, "loss", 1.5 * best),
        )  # fmt: skip


def overfits(log: RunLog) -> Iterator[Finding]:
    """R1: the best held-out loss is 3 evaluations old, 5 % lower, and training still falls."""
    held_out, losses = log.line("eval_loss"), log.line("loss")
    if len(held_out) < 4 or not all(math.isfinite(value) for _, value in held_out):
        return
    place = min(range(len(held_out)), key=lambda i: held_out[i][1])
    (step, best), (_, last) = held_out[place], held_out[-1]
    falling = [value for at, value in losses if at > step and math.isfinite(value)]
    before = [value for at, value in losses if at <= step and math.isfinite(value)]
    if (
        len(held_out) - 1 - place < 3
        or last < 1.05 * best
        or best <= 0
        or not falling
        or not before
    ):
        return
    rising = all(
        b >= a for (_, a), (_, b) in zip(held_out[place:], held_out[place + 1 :], strict=False)
    )
    if falling[-1] < before[-1] and (rising or last > 1.15 * best):
        yield Finding(
            "R1", "warn",
            f"the held-out loss was best at step {step:g} ({best:.3g}) and is now "
            f"{last / best - 1:.0%} higher (bound: 5 %), while training fell to {falling[-1]:.3g}",
            measured={"best_step": step, "rise": last / best - 1},
            curve=Curve({"training": losses, "held out": held_out}),
        )  # fmt: skip


def weights_stand_still(log: RunLog) -> Iterator[Finding]:
    """O7: three and more evaluations that agree to the last digit although the rate is not 0."""
    held_out = log.line("eval_loss")
    rates = [rate for _, rate in log.line("learning_rate")]
    same = len({value for _, value in held_out}) == 1
    if len(held_out) >= 3 and same and rates and min(rates[: len(rates) // 2 + 1]) > 0:
        yield Finding(
            "O7", "error",
            f"all {len(held_out)} evaluations, from step {held_out[0][0]:g} on, give "
            f"{held_out[0][1]:.6g}: the weights do not move though the rate is not 0",
            measured={"evaluations": len(held_out)}, curve=_curve(log, "eval_loss"),
        )  # fmt: skip


def wrong_best(log: RunLog) -> Iterator[Finding]:
    """K3: the checkpoint that counts as best has the worst of its metric."""
    if not log.best or log.best_value is None:
        return
    for name in ["eval_loss", *log.metrics()]:
        values = [value for _, value in log.line(name)]
        lower = any(name.endswith(word) for word in LOWER)
        known = lower or name.endswith(("accuracy", "f1", "mcc", "bleu", "precision", "recall"))
        if len(set(values)) < 3 or log.best_value not in values or not known:
            continue
        worst = max(values) if lower else min(values)
        if log.best_value == worst:
            yield Finding(
                "K3", "error",
                f"{log.best} counts as best with {name} {worst:.4g}, the worst of {len(values)}",
                measured={"value": worst, "evaluations": len(values)}, curve=_curve(log, name),
            )  # fmt: skip


def _unseen(log: RunLog, findings: list[Finding]) -> dict[str, str]:
    """What this log in particular leaves open."""
    reasons = {}
    for name, what in (("learning_rate", "the schedule"), ("grad_norm", "gradients"),
                       ("eval_loss", "overfitting")):  # fmt: skip
        if not log.line(name):
            reasons[what] = f"the log has no {name}"
    losses = [value for _, value in log.line("loss") if math.isfinite(value)]
    if len(losses) >= 10 and not findings and _is_flat(losses):
        reasons["why the loss is flat"] = (
            f"it stays within {FLAT:.0%} of {losses[0]:.3g}; rate, labels, frozen or cut layers "
            "look alike in a log: run examine(model, …)"
        )
    return reasons


def _is_flat(losses: list[float]) -> bool:
    third = len(losses) // 3
    first, last = statistics.fmean(losses[:third]), statistics.fmean(losses[-third:])
    return abs(last - first) < FLAT * abs(first)


def _smoothed(points: Points, keep: float = 0.7) -> Points:
    """An exponential mean, started at the first value."""
    mean, found = points[0][1], []
    for step, value in points:
        mean = keep * mean + (1 - keep) * value
        found.append((step, mean))
    return found


def _gradient_spike(log: RunLog) -> str:
    norms = [value for _, value in log.line("grad_norm") if math.isfinite(value)]
    if len(norms) < 10:
        return ""
    usual = statistics.median(norms)
    spike = max(norms)
    return (
        f"gradients up to {spike / usual:.0f} times their median" if spike > 10 * usual > 0 else ""
    )


def _warmed_up(log: RunLog) -> bool:
    rates = [rate for _, rate in log.line("learning_rate")]
    return not rates or rates[0] < 0.9 * max(rates)


def _curve(log: RunLog, name: str, bound: float | None = None) -> Curve:
    return Curve({name: log.line(name)}, bound=bound, y_label=name)
