"""Online: the loss runs away (O1), at once for want of a warm-up (O3).

Reads a `records.Run`. A rising loss alone is no fault here: it must stay up, stand out of its
noise, end where the run began or higher, and come with updates or gradients that are too large.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from cookbook.doctor import curves
from cookbook.doctor.ascent_detectors import climbing
from cookbook.doctor.checks import Skip
from cookbook.doctor.findings import Curve, Finding
from cookbook.doctor.records import Run

FEWEST, LONG = 12, 20  # steps to judge on; steps that a rise must last
RISE, LARGE, GRADIENT = 1.5, 1e-2, 10.0  # × the best loss; ‖Δw‖/‖w‖ a step; × the median gradient
EXPLOSION, FLOOR = 10.0, 0.5  # × the loss at the start; under this a loss is as good as none
REWRITTEN = 0.05  # ‖Δw‖/‖w‖ of eight steps or more, after which little is left of the weights
LEAP = 0.5  # ‖Δw‖/‖w‖ of one step that leaves little of a weight
GUESSED = 0.9  # of the entropy of the labels' rates, above which nothing was learnt of them
STUCK_UPDATE = 0.1  # ‖Δw‖/‖w‖ of the first steps with which little can be learnt
SPIKE = 1.4  # × the first loss: a throw from which nothing came back
LOST, HURLED = 1.3, 3.0  # × the first loss: a throw back to where training began; far above it
THROWN, UNSOLVED = 0.1, 0.8  # relative rise in the first third; share of the first loss at the end
WORSE = 0.07  # of the first loss, by which half of a run is worse than without training
EARLY = 0.03  # share of the plan within which a warm-up would have helped


@dataclass(frozen=True)
class Rise:
    """How a loss ran away: from `best` to `level`, since `onset`; `how` and its bound in words."""

    onset: int
    best: float
    level: float
    how: str
    bound: str = f"{RISE:g} times its best"
    recovers: bool = False  # slowly, from where training had begun


def runaway(losses: Sequence[tuple[int, float]]) -> Rise | None:
    """Whether a line of (step, loss) ends far above its best, beyond its noise, for long.

    >>> runaway([(step, 1.0) for step in range(40)]) is None
    True
    """
    if len(losses) < FEWEST:
        return None
    values = np.array([loss for _, loss in losses])
    lasts = min(LONG, max(8, len(values) // 3))
    width = max(4, lasts // 2)
    means = curves.running_mean(values, width)
    tail = means[-max(1, lasts - width + 1) :]
    before = means[: len(means) - len(tail)]
    if not len(before):
        return None
    place = int(np.argmin(before))
    best, start = float(before[place]), float(np.median(values[:3]))
    quiet = values[: max(FEWEST, place + width)]
    error = max(curves.standard_error(quiet, width), curves.standard_error(values[-lasts:], width))
    bound = max((RISE - 1) * abs(best), 0.25 * abs(start), 5 * error)
    if tail.min() < best + bound or tail.min() < 0.9 * start:
        return None
    onset = place + int(np.argmax(means[place:] > best + bound)) + width // 2
    return Rise(losses[onset][0], best, float(tail.mean()),
                f"for {lasts} steps or more")  # fmt: skip


def explosion(run: Run) -> Rise | None:
    """Whether the loss multiplied within a few steps and stayed so, or ended in no number."""
    losses = run.line("loss")
    if len(losses) < 4:
        return None
    values = np.array([loss for _, loss in losses])
    start, low = abs(float(values[0])), float(values.min())
    floor = 10 * FLOOR if run.resumed else FLOOR
    huge = values > max(EXPLOSION * start, floor)
    if huge.sum() >= 3 and (values[-3:] > 3 * start).all():
        onset = losses[int(np.argmax(huge))][0]
        return Rise(onset, low, float(values[huge].max()), "and stayed up")
    calm = curves.noise(values[:-6]) if len(values) >= 12 else 0.0
    big = values > max(2 * start + 8 * calm, floor)
    if run.bad is not None and big[-6:].any() and run.bad["step"] >= losses[-1][0] - 3:
        onset = losses[int(np.argmax(big))][0]
        return Rise(onset, low, float(values.max()), "before it was no number any more")
    return None


def pressed(run: Run, onset: int) -> str:
    """The second sign: updates or gradients that are too large around the onset, or ""."""
    near = [r for r in run.records if r.step >= onset - 12 and r.step <= onset + 40]
    updates = [v for _, v in run.line("update", near)]
    if updates and curves.median(updates) > LARGE:
        return f"updates of {curves.median(updates):.2g} of the weights a step (bound: {LARGE:g})"
    early = [v for s, v in run.line("update") if s <= onset]
    rewrote = max(map(curves.median, _windows(early)), default=0.0)
    if rewrote > REWRITTEN:
        return f"updates of {rewrote:.2g} of the weights a step before it (bound: {REWRITTEN:g})"
    leaps = [v for v in updates if v > LEAP]  # the rest may be dead since, and move no more
    if len(leaps) >= 2:
        return (
            f"{len(leaps)} steps of {LEAP:g} of the weights' size and more, up to {max(leaps):.2g}"
        )
    before = [v for s, v in run.line("grad") if s < onset]
    after = [v for s, v in run.line("grad") if onset <= s <= onset + 60]
    if len(before) >= 3 and len(after) >= 2:
        times = curves.median(after) / max(curves.median(before), 1e-30)
        if times > GRADIENT:
            return f"gradients {times:.0f} times those before (bound: {GRADIENT:g})"
    return ""


def _windows(values: list[float], width: int = 8) -> Iterator[list[float]]:
    for start in range(len(values) - width + 1):
        yield values[start : start + width]


def stuck(run: Run) -> Rise | None:
    """Whether nothing was learnt since the start while each step rewrites the weights."""
    losses = run.line("loss")
    if len(losses) < 30:
        return None
    values = [loss for _, loss in losses]
    updates = run.values("update")
    early = curves.median(updates[:10])
    head_only = run.facts.get("trained_share", 1.0) < 0.5  # fresh, small weights: they may
    if not updates or early < REWRITTEN or head_only:
        return None
    third, half = len(values) // 3, values[len(values) // 2 :]
    start, end = abs(values[0]), float(np.mean(half))
    peak = max(values[:third])
    noise = 4 * curves.noise(half)
    thrown = peak > max(*half, start + max(THROWN * start, noise))
    far = peak > max(*half, SPIKE * start + noise / 2) and end > 0.95 * start
    above = max(WORSE * start, 4 * float(np.std(half)) / len(half) ** 0.5)
    worse = end > start + above  # half of the run, and worse than without training
    worse = worse and (early >= STUCK_UPDATE or min(half) > start)
    moved, error = curves.change(half, 0.5)
    flat = moved > -max(0.02 * abs(end), 2 * error)
    far, thrown = (early >= STUCK_UPDATE and sign for sign in (far, thrown))
    threw = curves.running_mean(np.array(values[:third]), 3).max() > (1 + LOST) / 2 * start
    lost = curves.median(updates[:6]) >= STUCK_UPDATE and peak > max(*half, LOST * start) and threw
    if end < UNSOLVED * start or not (worse or far or lost or (thrown and flat)) or run.resumed:
        return None
    if lost and not (worse or far or flat):
        later = f"and {len(values) // 2} steps later is {end:.3g}"
        return Rise(losses[0][0], start, peak, later, recovers=True)
    return Rise(losses[0][0], start, max(values), f"came back to {end:.3g} and learns no more")


def hurled(run: Run) -> Rise | None:
    """Whether the loss stood far above its start for some steps that rewrote the weights.

    It may come back as the rate falls; what the weights had known is gone. Without a warm-up, and
    in a long run, this is O3.
    """
    losses, updates, rates = run.line("loss"), run.values("update"), run.values("rate")
    if len(losses) < FEWEST or len(updates) < 8 or run.resumed:
        return None
    values = np.array([loss for _, loss in losses])
    start = max(abs(float(values[0])), FLOOR)
    high = values > HURLED * start
    warmed = len(rates) > 1 and rates[1] < 0.9 * max(rates[:20])
    some = run.facts.get("trained_share", 1.0) < 0.5
    small = curves.median(updates[:10]) < STUCK_UPDATE
    if high.sum() < 5 or some or small or not (warmed or len(losses) < 60):
        return None
    return Rise(losses[int(np.argmax(high))][0], start, float(values.max()),
                f"and stood above {HURLED:g} times its start in {high.sum()} steps",
                f"{HURLED:g} times its start")  # fmt: skip


def blank(run: Run) -> Rise | None:
    """Whether the loss stands at that of a blind guess since steps had rewritten the weights."""
    values, counts = run.values("loss"), run.facts.get("label_counts")
    some = run.facts.get("trained_share", 1.0) < 0.5
    if len(values) < 30 or counts is None or some or run.resumed:
        return None
    steps, updates = zip(*run.line("update"), strict=True) if run.values("update") else ((), ())
    windows = [curves.median(part) for part in _windows(list(updates))]
    rewrote = max(windows, default=0.0)
    rates = np.array([c for c in counts if c > 0], float) / max(1, sum(counts))
    guess, half = float(-(rates * np.log(rates)).sum()), values[len(values) // 2 :]
    level = float(np.mean(half))
    moved, error = curves.change(half, 0.5)
    falls = moved < -max(0.05 * level, 2 * error)
    if rewrote < STUCK_UPDATE or len(rates) < 2 or level < GUESSED * guess or falls:
        return None
    since = steps[windows.index(rewrote) + len(updates) - len(windows)]
    return Rise(since, values[0], level,
                f"that of a blind guess at the labels' rates ({guess:.3g}), and learns no more",
                f"{GUESSED:g} of that")  # fmt: skip


def learning_rate_too_high(run: Run) -> Iterator[Finding]:
    """O1: the loss ran away and the updates were too large."""
    if not run.values("loss"):
        raise Skip("no loss was seen")
    rise = explosion(run) or runaway(run.line("loss")) or stuck(run) or hurled(run) or blank(run)
    if rise is None or climbing(run) or (rise.recovers and unwarmed(run)):
        return
    why = pressed(run, rise.onset)
    if not why:
        return
    bound = RISE * rise.best if rise.best > 0 else None
    yield Finding(
        "O1", "warn",
        f"the loss went from {rise.best:.3g} to {rise.level:.3g} from step {rise.onset} on, "
        f"{rise.how} (bound: {rise.bound}), with {why}",
        measured={"best": rise.best, "level": rise.level, "onset": rise.onset},
        curve=Curve({"loss": run.line("loss")}, bound),
    )  # fmt: skip


def unwarmed(run: Run) -> bool:
    """Whether the rate began at its peak; a warm-up of a single step is none."""
    rates = run.values("rate")
    return len(rates) > 1 and rates[1] >= 0.9 * max(rates[:20]) and not run.resumed


def warm_up_missing(run: Run) -> Iterator[Finding]:
    """O3: it ran away in the first steps, without a warm-up, and came back later."""
    losses, back = run.line("loss"), stuck(run)
    if any(learning_rate_too_high(run)):
        return  # it never came back
    if back is not None and back.recovers and unwarmed(run) and pressed(run, back.onset):
        yield Finding(
            "O3", "warn",
            f"the loss rose from {back.best:.3g} to {back.level:.3g} in the first steps {back.how} "
            f"(bound: {LOST:g} times its start), without a warm-up and with "
            f"{pressed(run, back.onset)}",
            measured={"start": back.best, "peak": back.level},
            curve=Curve({"loss": losses}, LOST * back.best),
        )  # fmt: skip
        return
    if len(losses) < 60 or not unwarmed(run):
        return
    values = np.array([loss for _, loss in losses])
    planned = run.planned or len(values)
    first = max(10, int(EARLY * planned))
    start, means = float(values[0]), curves.running_mean(values, 5)
    peak = float(means[: 3 * first].max())
    onset = int(np.argmax(values > RISE * abs(start)))
    recovered = means[-1] < 0.9 * abs(start)
    error = curves.standard_error(values[first:], 5)
    if not (peak > 2 * abs(start) + 5 * error and recovered and onset < first):
        return
    why = pressed(run, onset)
    if why and not climbing(run):
        yield Finding(
            "O3", "warn",
            f"the loss rose from {start:.3g} to {peak:.3g} within the first {first} steps and fell "
            f"only later (bound: {2:g} times), without a warm-up and with {why}",
            measured={"start": start, "peak": peak},
            curve=Curve({"loss": run.line("loss")}, 2 * abs(start)),
        )  # fmt: skip


CHECKS = (learning_rate_too_high, warm_up_missing)
