"""Online: evaluations that get worse while training gets better (R1), one class only (D4), rows
lost or scored twice (E2), no better than a trivial answer (E3).

Reads a `records.Run`. One bad evaluation is no sign; a short run that has not learnt yet neither.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch

from cookbook.doctor import curves
from cookbook.doctor.checks import Skip
from cookbook.doctor.findings import Curve, Finding
from cookbook.doctor.records import Evaluation, Run

PATIENCE, RISE, FALL = 3, 0.05, 0.05  # evaluations since the best; relative rise and fall
HALVED = 0.5  # of the training loss at the best evaluation
MUCH = 4  # times that rise, for evaluations that scatter
BACK = 0.1  # share of what was lost that must come back within those
ONE_CLASS, IMBALANCE, MARGIN = 0.95, 0.6, 0.01
LEARNT = 0.85  # of the labels' entropy: a training loss under this is no guess at their rates
TAUGHT = 0.8  # share of a class among the training labels that explains why it alone is predicted
OTHERS, FEW = 10, 3  # rows of other classes under which one class is no surprise; a blind one
SKEW = 2.0  # times the mean of the other classes, from which the largest of many is one
BLIND = 0.94  # of that entropy, from which an evaluation knows nothing but the labels' rates
UNKNOWN = 0.97  # of it, from which an evaluation that is the last one knows nothing
EASING = 0.97  # of the cross-entropy before, under which an evaluation is still on its way
SPENT = 0.1  # of the rate's peak, and of the steps, are left when a run is over
ROWS, SCORED = 30, 20  # fewer tell nothing about a class, without scores and with them


def falls(name: str) -> bool:
    """Whether a metric of this name is better when it is smaller.

    >>> falls("eval_loss"), falls("accuracy"), falls("val_perplexity")
    (True, False, True)
    """
    small = ("loss", "perplexity", "error", "rmse", "mse", "mae", "wer", "cer", "nll")
    return any(part in small for part in name.lower().replace("-", "_").split("_"))


def overfitting(run: Run) -> Iterator[Finding]:
    """R1: the best evaluation is long past, what followed is worse, and training still falls."""
    if len(run.evaluations) < PATIENCE + 1:
        raise Skip("fewer than four evaluations")
    names = run.evaluations[-1].metrics
    losses = [n for n in names if falls(n) and n.endswith("loss")]
    scores = [n for n in names if not falls(n) and _is_score(run, n)]
    for name in losses[:1] or scores[:1]:
        worse = _worse(run, name)
        if worse is None or not _training_falls(run, worse[0]):
            return
        at, best, now = worse
        still = [s for s in scores if losses and _improves(run, s)]
        severity = "info" if still or run.facts.get("keeps_best") else "warn"
        line = [(e.step, e.metrics[name]) for e in run.evaluations if name in e.metrics]
        yield Finding(
            "R1", severity,
            f"{name} was best at step {at} ({best:.3g}) and is {now:.3g} now, {PATIENCE} or more "
            f"evaluations later (bound: {RISE:.0%} worse), while the training loss still falls",
            measured={"best": best, "now": now, "best_step": at},
            curve=Curve({name: line, "training loss": run.line("loss")}),
        )  # fmt: skip


def _is_score(run: Run, name: str) -> bool:
    found = [e.metrics.get(name) for e in run.evaluations]
    silent = ("runtime", "per_second", "epoch", "time", "steps", "samples")
    return not any(part in name for part in silent) and all(
        v is not None and 0 <= v <= 1 for v in found
    )


def _worse(run: Run, name: str) -> tuple[int, float, float] | None:
    """(step of the best, the best, the level of the last evaluations) where they are worse."""
    held = [e for e in run.evaluations if math.isfinite(e.metrics.get(name, math.nan))]
    if len(held) < PATIENCE + 1:
        return None
    sign = 1.0 if falls(name) else -1.0
    values = [sign * e.metrics[name] for e in held]
    place = int(np.argmin(values))
    later = values[place + 1 :]
    if len(later) < PATIENCE:
        return None
    best, last = values[place], values[-PATIENCE:]
    scatter = curves.noise(values) / math.sqrt(len(last))
    rows = held[place].scored or held[place].rows
    if not falls(name):
        scatter = max(scatter, math.sqrt(best * -1 * (1 + best) / rows) if rows else RISE)
    bound = max(RISE * abs(best), 2 * scatter, 0.01)
    level, least = float(np.median(later)), max(RISE * abs(best), 0.01)
    never = len(later) >= 2 * PATIENCE and min(later) > best + least  # however they scatter
    if never and level > best + MUCH * least and last[-1] > (best + level) / 2:
        return held[place].step, sign * best, sign * level
    on_its_way = max(scatter, BACK * (last[0] - best))  # of a plateau it may be the lower end
    if min(last) < best + bound or last[-1] < last[0] - on_its_way:
        return None
    return held[place].step, sign * best, sign * last[-1]


def _improves(run: Run, name: str) -> bool:
    values = [e.metrics[name] for e in run.evaluations]
    return int(np.argmax(values)) >= len(values) - PATIENCE


def _training_falls(run: Run, since: int) -> bool:
    line = run.line("loss")
    before = [v for s, v in line if s <= since]
    before = before if len(before) > 2 else [v for _, v in line[:3]]  # best at the very first
    after = [v for s, v in line if s > since]
    if len(before) < 3 or len(after) < 3:
        return False
    old = np.mean(before[-max(3, len(before) // 3) :])
    new = np.mean(after[-max(3, len(after) // 3) :])
    if np.median(after[-max(3, len(after) // 3) :]) < HALVED * old:  # but for a spike or two
        return True
    return new < old - max(FALL * abs(old), 2 * curves.standard_error(after, len(after) // 3))


def one_class(run: Run) -> Iterator[Finding]:
    """D4: nearly all predictions are the majority's class, at two evaluations in a row."""
    judged = [
        e for e in run.evaluations
        if e.counts is not None and e.counts.sum() >= (ROWS if e.surprise is None else SCORED)
    ]  # fmt: skip
    if len(judged) < 2:
        raise Skip("fewer than two evaluations with predictions")
    shares = [_shares(e) for e in judged[-2:]]
    for predicted, majority, accuracy, _ in shares:
        if predicted < ONE_CLASS or accuracy > majority + MARGIN:
            return
    predicted, majority, accuracy, chosen = shares[-1]
    others = [_others(e, share) for e, share in zip(judged[-2:], shares, strict=True)]
    taught = 0.0 if all(others) else _taught(run, judged, chosen)
    if not (all(others) or taught) or _too_early(run, judged):
        return
    why = f"is that of the majority, {majority:.1%}" if not taught else (
        f"that of guessing; {taught:.1%} of the training labels are that class"
    )  # fmt: skip
    yield Finding(
        "D4", "warn",
        f"{predicted:.1%} of the predictions are class {chosen} at two evaluations (bound: "
        f"{ONE_CLASS:.0%}) and the accuracy {accuracy:.1%} {why}",
        measured={"predicted": predicted, "accuracy": accuracy, "majority": majority},
    )  # fmt: skip


def _taught(run: Run, judged: list[Evaluation], chosen: int) -> float:
    """The share of the chosen class among the training labels where it explains the choice, else 0.

    Evaluation rows may well be balanced: then three evaluations say it that know nothing else.
    """
    share, last = _share_of(run, chosen), judged[-3:]
    same = [_shares(e)[3] == chosen and _shares(e)[0] >= ONE_CLASS for e in last]
    blind = [e.surprise is None or e.surprise >= BLIND * _entropy(e.counts) for e in last]
    few = int(last[-1].counts.sum() - last[-1].counts[chosen].sum()) < OTHERS
    return share if share >= TAUGHT and len(last) == 3 and all(same + blind) and not few else 0.0


def _share_of(run: Run, chosen: int) -> float:
    """The share of a class among the training labels."""
    counts = run.facts.get("label_counts") or [0]
    return counts[chosen] / max(1, sum(counts)) if chosen < len(counts) else 0.0


def _others(judged: Evaluation, share: tuple[float, float, float, int]) -> bool:
    """Whether rows of other classes are enough to wonder where they are.

    Where the scores were seen and know no more than the labels' rates, a few are enough; where one
    class is only the largest of many it must be the one that is chosen, and be chosen blindly.
    """
    counts, (_, majority, accuracy, _) = judged.counts, share
    others = int(counts.sum() - counts.sum(1).max())
    there = int((counts.sum(1) > 0).sum())
    blind = judged.surprise is not None and judged.surprise >= BLIND * _entropy(counts)
    if majority >= max(IMBALANCE, 1.5 / len(counts)):
        return others >= (FEW if blind else OTHERS)
    lopsided = majority > SKEW * (1 - majority) / max(1, there - 1) and accuracy == majority
    return others >= OTHERS and lopsided and blind and judged.surprise > 1.5 * _entropy(counts)


def _entropy(counts: torch.Tensor) -> float:
    """Of the labels' rates: the cross-entropy of a guess that knows nothing else."""
    return float(torch.special.entr(counts.sum(1).double() / counts.sum()).sum())


def _too_early(run: Run, judged: list[Evaluation]) -> bool:
    """Whether the run has only begun, or its loss is on its way or below that of guessing rates."""
    losses = run.values("loss")
    if len(losses) < 20:
        return True
    if _over(run, judged):
        return False
    before, last = (e.surprise for e in judged[-2:])
    if before is not None and last is not None:  # the loss itself may weigh the classes
        return last < BLIND * _entropy(judged[-1].counts) or last < EASING * before
    recent = losses[len(losses) // 2 :]
    if 0 < np.mean(losses[-20:]) < LEARNT * _entropy(judged[-1].counts):
        return True
    moved, error = curves.change(recent)
    return moved < -max(0.05 * abs(np.mean(recent)), 2 * error)


def _over(run: Run, judged: list[Evaluation]) -> bool:
    """Whether the rate has come down, and to the end nothing but one class was said, and blindly.

    Scores that know more than the labels' rates need another threshold, and no other training.
    """
    rates, last = run.values("rate"), judged[-3:]
    ended = bool(rates) and rates[-1] <= SPENT * max(rates)
    if not ended or len(last) < 3 or last[-1].step < (1 - SPENT) * (run.resumed + run.steps):
        return False
    same = len({_shares(e)[3] for e in last}) == 1
    alike = same and all(_shares(e)[0] >= ONE_CLASS for e in last)
    known = last[-1].surprise
    return alike and known is not None and known >= UNKNOWN * _entropy(last[-1].counts)


def _shares(evaluation: Evaluation) -> tuple[float, float, float, int]:
    """Largest share of predictions, majority share of labels, accuracy, the predicted class."""
    counts = evaluation.counts.double()
    total = float(counts.sum())
    columns = counts.sum(0)
    return (
        float(columns.max()) / total, float(counts.sum(1).max()) / total,
        float(counts.diagonal().sum()) / total, int(columns.argmax()),
    )  # fmt: skip


def rows_lost(run: Run) -> Iterator[Finding]:
    """E2: the rows that were scored are not the rows of the evaluation set."""
    judged = [e for e in run.evaluations if e.rows and e.scored]
    if not judged:
        raise Skip("the size of the evaluation set is not known")
    last = judged[-1]
    off = last.scored - last.rows
    if off == 0 or last.scored > 1.5 * last.rows:  # generation calls the model for each token
        return
    what = "were lost" if off < 0 else "were scored twice"
    yield Finding(
        "E2", "error" if abs(off) >= 0.01 * last.rows else "warn",
        f"{last.scored} rows were scored of an evaluation set of {last.rows}: {abs(off)} {what} "
        f"(bound: 0)",
        measured={"scored": last.scored, "rows": last.rows},
    )  # fmt: skip


def no_better_than_trivial(run: Run) -> Iterator[Finding]:
    """E3: training succeeds, and evaluation is that of the most frequent class."""
    judged = [e for e in run.evaluations if e.counts is not None and int(e.counts.sum()) >= ROWS]
    losses = run.values("loss")
    if len(judged) < 3 or len(losses) < 30:
        raise Skip("fewer than three evaluations with predictions")
    moved, error = curves.change(losses)
    learns = moved < -max(0.5 * abs(np.mean(losses[:5])), 3 * error)
    if not learns or any(_better(e.counts) for e in judged[-3:]):
        return
    predicted, majority, accuracy, chosen = _shares(judged[-1])
    # Few rows of the others: `one_class` cannot be sure, the labels that were trained on say why.
    collapsed = predicted >= ONE_CLASS and _share_of(run, chosen) >= TAUGHT
    alike = f"; {predicted:.0%} of the predictions are class {chosen}" if collapsed else ""
    yield Finding(
        "D4" if collapsed else "E3", "warn",
        f"the accuracy {accuracy:.1%} on {int(judged[-1].counts.sum())} rows is within two "
        f"standard errors of the majority class, {majority:.1%}, at three evaluations, though the "
        f"training loss fell by {-moved:.2g}{alike}",
        measured={"accuracy": accuracy, "majority": majority},
    )  # fmt: skip


def _better(counts: torch.Tensor) -> bool:
    """Above the majority, or above chance in the mean of the classes' recalls."""
    counts = counts.double()
    total, of_class = float(counts.sum()), counts.sum(1)
    majority = float(of_class.max()) / total
    accuracy = float(counts.diagonal().sum()) / total
    if accuracy > majority + 2 * math.sqrt(majority * (1 - majority) / total):
        return True
    there = of_class > 0
    recalls = counts.diagonal()[there] / of_class[there]
    variance = (recalls * (1 - recalls) / of_class[there]).sum() / int(there.sum()) ** 2
    return float(recalls.mean()) > 1 / int(there.sum()) + 2 * math.sqrt(float(variance)) + 1e-9


CHECKS = (overfitting, one_class, rows_lost, no_better_than_trivial)
