"""Online: the learning rate is zero (O2), or its schedule is stepped too often, never, or by a
metric that it watches upside down (O4).

Reads a `records.Run`: rates at each step and calls of the schedule. A schedule may count epochs,
and then is stepped once each epoch: what it counts is taken from its class and its horizon.
"""

from __future__ import annotations

from collections.abc import Iterator

from cookbook.doctor import argument_checks
from cookbook.doctor.checks import Skip
from cookbook.doctor.findings import Curve, Finding
from cookbook.doctor.records import Run

PATIENCE = 5  # steps at rate zero that a warm-up or a last step may explain
DEAD = 1e-4  # of the highest rate: as good as zero
NEAR_END = 0.98  # of the plan: from here on a rate of zero is the plan
EARLY_END = 0.9
SHOWN = 0.9  # of the values that a plateau's watcher was shown are those of one metric
SWINGS = 8  # half periods of a cosine that nobody means
OFTEN = 1.5  # calls for each optimizer step


def rate_is_zero(run: Run) -> Iterator[Finding]:
    """O2: from the beginning, and for longer than a warm-up's first step."""
    rates = run.line("rate")
    if not rates:
        raise Skip("the optimizer has no learning rate" if run.records else "no step was made")
    zero = 0
    for _, rate in rates:
        if rate:
            break
        zero += 1
    if zero > PATIENCE:
        yield Finding(
            "O2", "error",
            f"the learning rate was 0 in the first {zero} optimizer steps (bound: {PATIENCE})",
            measured={"zero_steps": zero},
            curve=Curve({"rate": rates}, y_label="learning rate"),
        )  # fmt: skip


def schedule_stepped_wrongly(run: Run) -> Iterator[Finding]:
    """O4: too many calls for each optimizer step, none at all, or a rate that dies early."""
    if not run.records:
        raise Skip("no step was made")
    evidence = too_often(run) or too_seldom(run) or upside_down(run) or dies_early(run)
    evidence = evidence or swings_back(run)
    if evidence:
        yield Finding(
            "O4", "error", evidence,
            measured={"calls": run.schedule.calls if run.schedule else 0, "steps": run.steps},
            curve=Curve({"rate": run.line("rate")}, y_label="learning rate"),
        )  # fmt: skip


def swings_back(run: Run) -> str:
    """A cosine planned in epochs and stepped by batches: behind its end it rises, and falls again.

    A few long swings may be meant, as cycles are.
    """
    schedule = run.schedule
    if schedule is None or schedule.name != "CosineAnnealingLR" or not schedule.horizon:
        return ""
    by_steps = schedule.calls >= 0.9 * run.steps
    if not by_steps or schedule.calls < SWINGS * schedule.horizon:
        return ""
    return (f"CosineAnnealingLR falls within T_max={schedule.horizon} calls and was stepped "
            f"{schedule.calls} times, so that the rate rose and fell again all the time (bound: "
            f"{SWINGS} times T_max)")  # fmt: skip


def too_often(run: Run) -> str:
    """More than one call for each optimizer step, unless the schedule was planned for that."""
    schedule = run.schedule
    if schedule is None or run.steps < 4 or schedule.calls < OFTEN * (run.steps + 1):
        return ""
    if run.skipped and schedule.calls <= run.steps + len(run.skipped) + 1:
        return ""  # stepped although the scaler skipped: a few steps early
    ratio = schedule.calls / run.steps
    accumulates = run.backwards >= OFTEN * run.steps
    horizon, planned = schedule.horizon, run.planned
    if accumulates and horizon:
        if planned and horizon >= 0.8 * ratio * planned:
            return ""  # it was planned in micro-batches
        over = run.closed and schedule.calls <= 1.2 * horizon
        if not planned and (over or not run.closed) and schedule.calls <= horizon:
            return ""
    return (f"{schedule.name} was stepped {schedule.calls} times in {run.steps} optimizer steps: "
            f"{ratio:.2f} times for each (bound: 1)")  # fmt: skip


def too_seldom(run: Run) -> str:
    """Never, or once an epoch where the schedule was planned in steps; judged when it is over."""
    schedule = run.schedule
    if schedule is None or schedule.placed or run.steps < 20 or not schedule.counts_steps:
        return ""
    told = f"{schedule.name} counts optimizer steps and was stepped {schedule.calls} times in "
    if not schedule.calls:
        return told + f"{run.steps} of them (bound: each time)"
    planned_in_steps = schedule.horizon and schedule.horizon >= 0.5 * run.steps
    seldom = schedule.calls < 0.5 * (run.steps - 1)
    if seldom and planned_in_steps and run.closed:
        return told + f"{run.steps} of them; it was planned for {schedule.horizon}"
    return ""


def upside_down(run: Run) -> str:
    """It waits for a plateau of something that gets better the other way."""
    schedule = run.schedule
    if schedule is None or schedule.mode not in ("min", "max") or len(schedule.watched) < PATIENCE:
        return ""
    shown = {_rounded(value) for value in schedule.watched}
    for name, values in _measured(run).items():
        way = argument_checks.direction(name)
        same = sum(value in shown for value in set(map(_rounded, values)))
        if way and len(shown) >= PATIENCE and same >= SHOWN * len(shown):
            if (way > 0) == (schedule.mode == "max"):
                return ""
            better = "higher" if way > 0 else "lower"
            return (f"{schedule.name} has mode={schedule.mode!r} and is shown the {name}, better "
                    f"when {better} ({same} of {len(shown)} values are equal): it lowers the rate "
                    f"while training improves (bound: the mode of what it is shown)")  # fmt: skip
    return ""


def _measured(run: Run) -> dict[str, list[float]]:
    """Name → values of what the run tells of itself: evaluations first, then the training loss."""
    found: dict[str, list[float]] = {}
    for evaluation in run.evaluations:
        for name, value in evaluation.metrics.items():
            found.setdefault(name, []).append(value)
    return found | {"training loss": run.values("loss")}


def _rounded(value: float) -> str:
    return f"{value:.6g}"


def dies_early(run: Run) -> str:
    """The rate was above zero, and is as good as zero long before the end of the plan."""
    rates = run.line("rate")
    peak = max((rate for _, rate in rates), default=0.0)
    if not peak or run.facts.get("not_resumed"):
        return ""  # what did not come back decides where the rate stands: K2
    schedule = run.schedule
    if schedule is not None and schedule.counts_steps is False and rates[-1][1]:
        return ""  # it waits for a plateau: the rate is its answer
    last = [step for step, rate in rates if rate > DEAD * peak]
    dead = [(step, rate) for step, rate in rates if step > last[-1]]
    if len(dead) <= PATIENCE:
        return ""
    first, planned = dead[0][0], run.planned
    if planned:
        early = first < EARLY_END * planned
    else:  # without a plan: a rate that died, and a run that went on for long
        early = len(dead) > max(PATIENCE, 0.1 * len(rates)) and (
            dead[-1][1] == 0 or len(dead) > 0.3 * len(rates)
        )
    if not early:
        return ""
    end = f"the plan ends at {planned}" if planned else f"the run went on to step {rates[-1][0]}"
    return (f"the learning rate fell under {DEAD:g} of its peak at step {first} and stayed there "
            f"for {len(dead)} steps or more; {end} (bound: {EARLY_END:.0%} of it)")  # fmt: skip


CHECKS = (rate_is_zero, schedule_stepped_wrongly)
