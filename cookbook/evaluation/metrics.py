"""Metrics by hand, as `evaluate.Metric`, as `compute_metrics` for a `Trainer`; the baseline.

Does: accuracy, precision, recall, F1 (per class, micro, macro, weighted, binary), Matthews
correlation, perplexity, and what a model that has learnt nothing would score. Plain functions
equal scikit-learn; the `evaluate.Metric` classes around them need no network (`evaluate.load`
does). Does not: intervals and tests (`significance`), metrics of generated text, ranking.
Used by every chapter that fine-tunes, and explained in chapter 12.

`evaluate` takes seconds to import, so its classes (`Accuracy`, `F1` …) are made when asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import evaluate

AVERAGES = ("micro", "macro", "weighted", "binary", None)


def confusion_matrix(
    predictions: Sequence, references: Sequence, labels: Iterable | None = None
) -> np.ndarray:
    """Count pairs: `matrix[i, j]` rows of class i were predicted as class j. int64 `(C, C)`.

    `labels` fixes the classes and their order; otherwise those that occur, sorted. Raises
    ValueError on empty input, unequal lengths and a class that `labels` does not list.

    >>> confusion_matrix([0, 1, 1], [0, 0, 1]).tolist()
    [[1, 1], [0, 1]]
    """
    predictions, references = _same_rows(predictions, references)
    found, codes = np.unique(np.concatenate((references, predictions)), return_inverse=True)
    names = found if labels is None else np.asarray(list(labels))
    place = {name: position for position, name in enumerate(names.tolist())}
    missing = [name for name in found.tolist() if name not in place]
    if missing:
        raise ValueError(f"class {missing[0]!r} occurs but is not among labels {list(place)}")
    positions = np.array([place[name] for name in found.tolist()])[codes]
    pairs = positions[: len(references)] * len(names) + positions[len(references) :]
    return np.bincount(pairs, minlength=len(names) ** 2).reshape(len(names), len(names))


def accuracy(predictions: Sequence, references: Sequence) -> float:
    """Share of rows predicted right. Says little where one class is frequent.

    >>> accuracy([0, 1, 1, 0], [0, 1, 0, 0])
    0.75
    """
    predictions, references = _same_rows(predictions, references)
    return float(np.mean(predictions == references))


def precision(
    predictions: Sequence,
    references: Sequence,
    *,
    average: str | None = "macro",
    labels: Iterable | None = None,
) -> float | np.ndarray:
    """Of the rows predicted as a class, the share that is of that class. See `f1` for averages.

    >>> precision([0, 1, 1], [0, 0, 1], average=None).tolist()
    [1.0, 0.5]
    """
    right, predicted, actual = _counts(predictions, references, labels, average)
    return _averaged(right, predicted, actual, average)


def recall(
    predictions: Sequence,
    references: Sequence,
    *,
    average: str | None = "macro",
    labels: Iterable | None = None,
) -> float | np.ndarray:
    """Of the rows of a class, the share that was predicted as it. See `f1` for averages.

    >>> recall([0, 1, 1], [0, 0, 1], average=None).tolist()
    [0.5, 1.0]
    """
    right, _, actual = _counts(predictions, references, labels, average)
    return _averaged(right, actual, actual, average)


def f1(
    predictions: Sequence,
    references: Sequence,
    *,
    average: str | None = "macro",
    labels: Iterable | None = None,
) -> float | np.ndarray:
    """Harmonic mean of precision and recall: `2 right / (predicted + actual)`.

    `average`: "macro", the plain mean over classes, so that a rare class counts as much as a
    frequent one; "weighted", by how often a class occurs; "micro", from the summed counts (the
    accuracy, where each row has one label); "binary", class 1 alone; None, one value per class.
    Classes are those that occur in predictions or references, unless `labels` names them. A
    class with nothing in the denominator scores 0, as in scikit-learn (`zero_division=0`).

    >>> f1([0, 0, 1, 0], [0, 0, 1, 1], average="binary"), f1([0, 0], [0, 0], labels=[0, 1])
    (0.6666666666666666, 0.5)
    """
    right, predicted, actual = _counts(predictions, references, labels, average)
    return _averaged(2 * right, predicted + actual, actual, average)


def matthews(predictions: Sequence, references: Sequence) -> float:
    """Correlation of prediction and class: 1 perfect, 0 no better than chance or a constant.

    Unlike accuracy it is not raised by imbalance; the metric of CoLA. For more than two classes
    the R_K statistic of Gorodkin (2004), as in scikit-learn.

    >>> matthews([0, 1, 1, 0], [0, 1, 1, 0]), matthews([1, 1, 1, 1], [0, 1, 1, 0])
    (1.0, 0.0)
    """
    matrix = confusion_matrix(predictions, references).astype(float)
    rows, predicted, actual = matrix.sum(), matrix.sum(0), matrix.sum(1)
    covariance = matrix.trace() * rows - predicted @ actual
    variances = (rows**2 - predicted @ predicted) * (rows**2 - actual @ actual)
    return float(covariance / np.sqrt(variances)) if variances > 0 else 0.0


def perplexity(losses: Sequence[float], tokens: Sequence[int] | None = None) -> float:
    """Exponential of the mean loss *per token*: among how many tokens the model hesitates.

    `losses` are mean cross-entropies in nats, one per sequence or batch, and `tokens` how many
    positions each averaged over; without `tokens` each loss is one token's. The mean of means,
    or of perplexities, is wrong: 2 tokens would count as much as 500. An entry with 0 tokens is
    skipped (its loss is 0/0).

    >>> round(perplexity([np.log(2.0), np.log(32.0)], [3, 1]), 6)  # and not 8, the mean of means
    4.0
    """
    losses = np.asarray(losses, dtype=float)
    tokens = np.ones_like(losses) if tokens is None else np.asarray(tokens, dtype=float)
    if losses.shape != tokens.shape or losses.ndim != 1:
        raise ValueError(f"found {losses.shape} losses for {tokens.shape} token counts")
    if (tokens < 0).any() or tokens.sum() == 0:
        raise ValueError("perplexity needs at least one token, and no negative count of them")
    kept = tokens > 0
    with np.errstate(over="ignore"):  # beyond a loss of 709 nats the honest answer is inf
        return float(np.exp(np.average(losses[kept], weights=tokens[kept])))


def trivial_baseline(
    labels: Sequence[int], *, train_labels: Sequence[int] | None = None
) -> dict[str, float]:
    """What two models score that never look at the input: the floor under every other result.

    "majority" always answers the most frequent class of `train_labels` (where given), which is
    what a model would have seen; "stratified" draws its answer with the classes' frequencies:
    the expected accuracy is given, and the macro F1 of a large sample. Ties go to the smallest.

    >>> baseline = trivial_baseline([0, 0, 0, 1])
    >>> baseline["majority_accuracy"], baseline["stratified_accuracy"]
    (0.75, 0.625)
    """
    labels, seen = np.asarray(labels), np.asarray(labels if train_labels is None else train_labels)
    classes = np.union1d(labels, seen)
    drawn = np.array([np.mean(seen == c) for c in classes])
    actual = np.array([np.mean(labels == c) for c in classes])
    majority = classes[drawn.argmax()]
    constant = np.full_like(labels, majority)
    return {
        "majority_class": majority.item(),
        "majority_accuracy": accuracy(constant, labels),
        "majority_f1": f1(constant, labels),
        "stratified_accuracy": float(drawn @ actual),
        "stratified_f1": float(np.mean(2 * drawn * actual / (drawn + actual))),
    }


def classification_metrics(
    num_labels: int, *, average: str = "macro"
) -> Callable[[tuple], dict[str, float]]:
    """Make the `compute_metrics` of a `Trainer`: accuracy, precision, recall, F1 and MCC.

    It takes an `EvalPrediction`, or a pair of logits `(..., num_labels)` and labels `(...)`. Of
    several arrays of a model the first counts. Positions labelled -100 (tagging) are left out.

    >>> logits = np.array([[2.0, 1.0], [0.0, 3.0], [1.0, 0.0]])
    >>> classification_metrics(2)((logits, np.array([0, 1, 1])))["accuracy"]
    0.6666666666666666
    """

    def compute_metrics(prediction: tuple) -> dict[str, float]:
        logits, labels = prediction[0], np.asarray(prediction[1])
        logits = np.asarray(logits[0] if isinstance(logits, tuple) else logits)
        if logits.shape != (*labels.shape, num_labels):
            raise ValueError(
                f"logits {logits.shape} do not fit labels {labels.shape} and {num_labels} classes"
            )
        kept = labels != -100
        answers, labels = logits.argmax(-1)[kept], labels[kept]
        return {
            "accuracy": accuracy(answers, labels),
            "precision": precision(answers, labels, average=average),
            "recall": recall(answers, labels, average=average),
            "f1": f1(answers, labels, average=average),
            "mcc": matthews(answers, labels),
        }

    return compute_metrics


METRICS = {"accuracy": accuracy, "precision": precision, "recall": recall, "f1": f1}
METRICS |= {"mcc": matthews, "perplexity": perplexity}
_TITLES = {name.upper() if len(name) < 4 else name.title(): name for name in METRICS}


def metric(name: str, **options) -> evaluate.Metric:
    """An `evaluate.Metric` by its name, ready without a network.

    `add_batch(predictions=, references=)` then `compute(**arguments of the plain function)`,
    or `compute` with everything at once; works in `evaluate.combine`. For "perplexity" the
    predictions are mean losses and the references numbers of tokens. Rows are kept in memory;
    for several processes pass `keep_in_memory=False, num_process=…, process_id=…`.

    >>> metric("f1").compute(predictions=[0, 1, 1], references=[0, 0, 1], average="micro")
    {'f1': 0.6666666666666666}
    """
    return _metric_class(name)(**{"keep_in_memory": True, **options})


@cache
def _metric_class(name: str) -> type:
    if name not in METRICS:
        raise ValueError(f"metric {name!r} is unknown; choose one of {', '.join(METRICS)}")
    import datasets
    import evaluate

    function = METRICS[name]
    predictions = datasets.Value("float64" if name == "perplexity" else "int64")

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=function.__doc__.partition("\n")[0],
            citation="",
            inputs_description=function.__doc__,
            features=datasets.Features(
                {"predictions": predictions, "references": datasets.Value("int64")}
            ),
        )

    def _compute(self, predictions, references, **options) -> dict:
        return {name: function(predictions, references, **options)}

    title = next(title for title, key in _TITLES.items() if key == name)
    body = {"_info": _info, "_compute": _compute, "__doc__": function.__doc__}
    return type(title, (evaluate.Metric,), {**body, "__module__": __name__})


def __getattr__(title: str) -> type:
    if title in _TITLES:
        return _metric_class(_TITLES[title])
    raise AttributeError(f"module {__name__!r} has no attribute {title!r}")


def _same_rows(predictions: Sequence, references: Sequence) -> tuple[np.ndarray, np.ndarray]:
    predictions, references = np.asarray(predictions), np.asarray(references)
    if predictions.shape != references.shape or predictions.ndim != 1 or not len(predictions):
        raise ValueError(
            f"predictions {predictions.shape} and references {references.shape} must be "
            "two rows of classes of the same length, at least 1; take argmax of logits first"
        )
    return predictions, references


def _counts(predictions, references, labels, average) -> tuple[np.ndarray, ...]:
    """Per class: rows predicted right, rows predicted as it, rows that are of it."""
    if average not in AVERAGES:
        raise ValueError(f"average {average!r} is unknown; choose one of {AVERAGES}")
    predictions, references = _same_rows(predictions, references)
    present = np.union1d(predictions, references)
    if average == "binary" and not set(present.tolist()) <= {0, 1}:
        raise ValueError(f"average 'binary' needs classes 0 and 1, found {present.tolist()}")
    chosen = present if labels is None else np.asarray(list(labels))
    chosen = np.array([1]) if average == "binary" else chosen
    every = np.union1d(present, chosen)
    matrix = confusion_matrix(predictions, references, every)
    place = np.searchsorted(every, chosen)
    return matrix.diagonal()[place], matrix.sum(0)[place], matrix.sum(1)[place]


def _averaged(numerator, denominator, actual, average) -> float | np.ndarray:
    if average == "micro":
        numerator, denominator = numerator.sum(keepdims=True), denominator.sum(keepdims=True)
    scores = numerator / np.maximum(denominator, 1)  # 0 / 0 is 0: the numerator is 0 then
    if average is None:
        return scores
    if average == "weighted":
        return float(scores @ actual / max(1, actual.sum()))
    return float(scores.mean())
