"""E1: does `compute_metrics` score perfect predictions best?

An oracle is built from labels in the shape in which the `Trainer` hands predictions over: logits
that point at the label, shifted for a causal model. It must score 1 where 1 means perfect, beat a
systematically wrong predictor, and not care for what is predicted at -100. A fault is told only
where the evaluation's own labels and a balanced made-up set agree on it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from cookbook.doctor import oracles
from cookbook.doctor.argument_checks import direction
from cookbook.doctor.checks import Skip
from cookbook.doctor.findings import Finding
from cookbook.doctor.oracles import Oracle
from cookbook.doctor.subject import Subject

# Words of names of metrics whose value for perfect predictions is 1 (or 100).
UNIT = {"accuracy", "acc", "f1", "precision", "recall", "mcc", "matthews", "auc", "auroc", "em",
        "exact", "kappa", "pearson", "pearsonr", "spearman", "spearmanr", "r2"}  # fmt: skip
# And those whose value is then 0.
ZERO = {"mse", "rmse", "mae", "wer", "cer"}
# Of these a constant prediction must stay below; recall of one class may be perfect with it.
STRICT = {"accuracy", "acc", "mcc", "matthews", "kappa"}
CORRELATED = {"pearson", "pearsonr", "spearman", "spearmanr"}
# Plain shares of what is right: 0 where nothing is. (A top-five accuracy is called otherwise.)
PLAIN, MERCY = {"accuracy", "acc", "eval", "token", "mean", "tag", "word"}, 0.05


@dataclass(frozen=True)
class Flaw:
    """What one metric did wrong, as a sentence's end, and the number."""

    metric: str
    told: str
    value: float


def check_metric_rewards_perfection(subject: Subject) -> Iterable[Finding]:
    """E1: a perfect prediction does not score best, or what is ignored changes the score."""
    if not callable(subject.compute_metrics) or subject.model is None:
        raise Skip("does not apply")
    if getattr(subject.args, "batch_eval_metrics", False):
        raise Skip("metrics are computed batch by batch")
    made = list(oracles.of(subject))
    if not made:
        raise Skip("does not apply")
    told, failures = [], ""
    for oracle in made:
        try:
            told.append(_best(subject, oracle))
        except Exception as error:
            failures = f"compute_metrics raised {type(error).__name__} on made-up predictions"
    if not told:
        raise Skip(failures)
    shared = [f for f in told[0] if all(f.metric in {g.metric for g in other} for other in told)]
    if shared:
        flaw = shared[0]
        evidence = f"{flaw.metric}: {flaw.told}"
        measured = {"value": flaw.value, "metrics": len(shared)}
        yield Finding("E1", "error", evidence, _mend(subject, flaw), measured)


def _mend(subject: Subject, flaw: Flaw) -> str:
    if "-100" in flaw.told:
        return "leave positions with label -100 out"
    if subject.kind == "causal-lm":
        return "compare logits[:, :-1] with labels[:, 1:], without those of -100"
    return ""


def _best(subject: Subject, oracle: Oracle) -> list[Flaw]:
    """The flaws of the form of predictions that the function likes best: logits or their argmax."""
    tries, error = [], None
    for place, form in enumerate(oracles.forms(subject, oracle)):
        try:
            tries.append(flaws(subject.compute_metrics, oracle, form, guessed=place > 0))
        except Exception as problem:
            error = problem
    if not tries:
        raise error or Skip("does not apply")
    return min(tries, key=len)


def flaws(compute: Callable, oracle: Oracle, form: Callable, guessed: bool = False) -> list[Flaw]:
    """What the metrics of a function do wrong on an oracle whose predictions `form` shapes.

    A form that was only guessed must convince: what is wrong everywhere must score 0.
    """
    perfect = _scored(compute, form(oracle.perfect), oracle.labels)
    wrong = _scored(compute, form(oracle.wrong), oracle.labels)
    constant = _scored(compute, form(oracle.constant), oracle.labels)
    other = oracle.perfect_otherwise
    again = perfect if other is None else _scored(compute, form(other), oracle.labels)
    turned = _scored(compute, form(_turned(oracle.perfect)), oracle.labels)
    spans, found = isinstance(oracle.labels, tuple), []
    crossed = _scored(compute, form(oracle.perfect[::-1]), oracle.labels) if spans else None
    for name, value in perfect.items():
        way, words = direction(name), oracles.words(name)
        if not way or not np.isfinite(value):
            continue
        low = _lower(wrong, turned, name) if words & CORRELATED else wrong
        told = _flaw(name, way, words, value, low, constant, again, spans)
        if not told and crossed is not None and way * (crossed.get(name, value) - value) > 0:
            told = (
                f"perfect starts and ends score {value:.3g}, and {crossed[name]:.3g} when they "
                "change places (bound: less)"
            )
        must = guessed or (words <= PLAIN and np.asarray(oracle.labels).dtype.kind == "i")
        if must and not told and words & UNIT and way > 0 and wrong.get(name, 0) > MERCY:
            told = f"wrong predictions score {wrong[name]:.3g} (bound: 0)"
        if not told and _as_good(words, way, value, turned.get(name, np.nan), oracle):
            told = f"right answers given to other rows score {turned[name]:.3g} (bound: less)"
        if told:
            found.append(Flaw(name, told, value))
    return found


def _lower(one: Mapping, other: Mapping, name: str) -> dict[str, float]:
    """The lower score of two wrong predictions: every class off by one still correlates."""
    known = [scores[name] for scores in (one, other) if np.isfinite(scores.get(name, np.nan))]
    return {name: min(known)} if known else {}


def _turned(perfect: Any) -> Any:
    """Perfect predictions, each given to the next row."""
    if isinstance(perfect, tuple):
        return tuple(map(_turned, perfect))
    return np.roll(np.asarray(perfect), 1, axis=0)


def _as_good(words: set, way: int, value: float, turned: float, oracle: Oracle) -> bool:
    """Whether answers of other rows score as well, though their labels are others."""
    labels = np.asarray(oracle.labels)
    if labels.ndim != 1 or labels.dtype.kind != "i" or not words & UNIT or way < 0:
        return False
    return float((labels == np.roll(labels, 1)).mean()) < 0.9 and turned >= value


def _flaw(name: str, way: int, words: set, value: float, wrong: Mapping, constant: Mapping,
          again: Mapping, spans: bool = False) -> str:  # fmt: skip
    """What is wrong; one over spans may know of texts that were cut, and of several answers."""
    top = 100.0 if value > 1.5 else 1.0
    if abs(again.get(name, value) - value) > 1e-6 * top:
        return (
            f"perfect predictions score {value:.3g}, and {again[name]:.3g} when only those at "
            f"label -100 change (bound: no difference)"
        )
    if words & UNIT and way > 0 and value < 0.999 * top and not spans:
        return f"perfect predictions score {value:.3g} (bound: {top:g})"
    below = wrong.get(name, np.nan)
    if np.isfinite(below) and way * (value - below) <= 0:
        return f"perfect predictions score {value:.3g}, wrong ones {below:.3g} (bound: better)"
    if words & ZERO and way < 0 and value > 1e-2 * below:
        return f"perfect predictions score {value:.3g} (bound: 0)"
    fixed = constant.get(name, np.nan)
    if words & STRICT and np.isfinite(fixed) and way * (value - fixed) <= 0:
        return f"perfect predictions score {value:.3g}, constant ones {fixed:.3g} (bound: better)"
    return ""


def _scored(compute: Callable, predictions: Any, labels: Any) -> dict[str, float]:
    """The plain numbers among what the function returns, by name."""
    from transformers import EvalPrediction

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = compute(EvalPrediction(predictions=predictions, label_ids=labels))
    kept = {}
    for name, value in found.items() if isinstance(found, Mapping) else ():
        if isinstance(value, int | float | np.number) or getattr(value, "ndim", None) == 0:
            kept[str(name)] = float(value)
    return kept


CHECKS = (check_metric_rewards_perfection,)
