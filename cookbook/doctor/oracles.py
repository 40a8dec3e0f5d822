"""Predictions that are right, wrong or constant on purpose, in the shape that a task returns them.

For `metric_probes`: from the labels of the evaluation, and from made-up ones in which every class
occurs equally often. They are arrays, as the `Trainer` gathers them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from cookbook.doctor import kinds, responses, sampling, span_checks
from cookbook.doctor.subject import Subject

IGNORE = -100
SURE = 10.0  # the logit of what is predicted
LARGEST = 4e6  # elements of an array that is made


@dataclass(frozen=True)
class Oracle:
    """Labels, and predictions for them: logits in the shape of the model's, or numbers.

    `perfect_otherwise` is perfect too and differs at -100 only; None where there is none.
    """

    labels: Any
    perfect: Any
    wrong: Any
    constant: Any
    perfect_otherwise: Any = None


def words(name: str) -> set[str]:
    """The words of a metric's name."""
    return set(re.split(r"[^a-z0-9]+", name.lower()))


def of(subject: Subject) -> Iterator[Oracle]:
    """Oracles for the task: on the labels of the evaluation where there are some, and made up."""
    kind, shape = subject.kind, _shape(subject)
    own = _labels(subject)
    if shape is not None and kind == "question-answering" and len(shape) == 3:
        yield from _spans(subject)
    if shape is None or kind == "question-answering":
        return
    if getattr(subject.args, "predict_with_generate", False):
        return
    drawn = np.random.default_rng(0)
    if kind == "classifier" and len(shape) == 2 and shape[1] > 1:
        even = np.tile(np.arange(shape[1]), max(2, 64 // shape[1]))
        for labels in (own, drawn.permutation(even)):
            if labels is not None and labels.ndim == 1 and len(np.unique(labels)) > 1:
                yield _classes(labels, shape[1])
    elif kind == "multi-label":
        flags = (drawn.random((64, shape[-1])) < 0.5).astype(np.float32)
        yield from (_flags(y) for y in (own, flags) if y is not None and y.ndim == 2)
    elif kind == "regression" and own is not None and set(np.unique(own)) <= {0, 1}:
        if subject.loss_fn is not None or subject.config is None:
            yield _flags(own.reshape(len(own), -1)[:, : shape[-1]])  # one logit for two classes
        if own.size > 2 and np.ptp(own) > 0:
            yield _numbers(own, shape)
    elif kind == "regression":
        numbers = drawn.normal(size=64).astype(np.float32)
        for labels in (own, numbers):
            if labels is not None and labels.size > 2 and np.ptp(labels) > 0:
                yield _numbers(labels, shape)
    elif kind in ("tagger", "masked-lm", "causal-lm", "seq2seq") and len(shape) == 3:
        if own is not None and own.ndim == 2:
            yield from _sequences(own, shape[2], int(kind == "causal-lm"))


def _shape(subject: Subject) -> tuple[int, ...] | None:
    """The shape of the model's scores for a few rows; None where it has none."""
    try:
        with responses.quiet(subject):
            return tuple(responses.scores(subject, responses.inputs(subject)).shape)
    except Exception:
        return None


def _labels(subject: Subject) -> np.ndarray | None:
    """All labels of the rows that were read, else those of some batches, padded with -100."""
    sample = subject.eval if subject.eval.dataset is not None else subject.train
    found = [subject.labels(batch) for batch in sample.batches]
    if not found or any(labels is None for labels in found):
        return None
    arrays = [labels.cpu().float().numpy() if labels.is_floating_point() else
              labels.cpu().numpy() for labels in found]  # fmt: skip
    whole = scalars(sample, subject) if arrays[0].ndim == 1 else None
    if whole is not None:
        return whole
    if arrays[0].ndim != 2:
        return np.concatenate(arrays)
    width = max(array.shape[1] for array in arrays)
    padded = [np.pad(array, ((0, 0), (0, width - array.shape[1])), constant_values=IGNORE)
              for array in arrays]  # fmt: skip
    return np.concatenate(padded)


def scalars(sample: sampling.Sample, subject: Subject) -> np.ndarray | None:
    """One label a row, of all rows: for a metric that counts on the whole evaluation."""
    rows, names = sample.rows, getattr(subject.args, "label_names", None)
    try:
        if isinstance(rows[0], Mapping):
            key = kinds.label_key(rows[0], names)
            return np.asarray([torch.as_tensor(row[key]).item() for row in rows])
        return np.asarray([torch.as_tensor(row[1]).item() for row in rows])
    except (TypeError, ValueError, RuntimeError, IndexError, KeyError):
        return None


def _one_hot(labels: np.ndarray, classes: int) -> np.ndarray:
    """Logits that point at the labels, (…, classes), a little noise where they do not."""
    logits = np.random.default_rng(1).normal(scale=0.1, size=(*labels.shape, classes))
    np.put_along_axis(logits, labels[..., None], SURE, axis=-1)
    return logits.astype(np.float32)


def _classes(labels: np.ndarray, classes: int) -> Oracle:
    labels = labels.astype(np.int64)
    if labels.min() < 0 or labels.max() >= classes:
        labels = labels.clip(0, classes - 1)  # another check tells
    constant = _one_hot(np.zeros_like(labels), classes)
    wrong = _one_hot((labels + 1) % classes, classes)
    return Oracle(labels, _one_hot(labels, classes), wrong, constant)


def _spans(subject: Subject) -> Iterator[Oracle]:
    """Two rows of scores that point at the first and the last token of the evaluation's answers."""
    rows = (subject.eval if subject.eval.dataset is not None else subject.train).rows
    spans = [s for s in span_checks.read(rows) if s.fits]
    if len(spans) < 2:
        return
    labels = tuple(np.array(ends) for ends in zip(*((s.start, s.end) for s in spans), strict=True))
    width = max(int(ends.max()) for ends in labels) + 2
    hot = [tuple(_one_hot(change(ends), width) for ends in labels) for change in (
        lambda ends: ends, lambda ends: (ends + 1) % width, np.zeros_like)]  # fmt: skip
    yield Oracle(labels, *hot)


def _flags(labels: np.ndarray) -> Oracle:
    sure = (SURE * (2 * labels - 1)).astype(np.float32)
    return Oracle(labels, sure, -sure, np.full_like(sure, SURE))


def _numbers(labels: np.ndarray, shape: tuple[int, ...]) -> Oracle:
    labels = labels.astype(np.float32)
    wide = labels.reshape(len(labels), -1) if len(shape) == 2 else labels
    spread = np.random.default_rng(1).normal(scale=1e-6, size=wide.shape).astype(np.float32)
    return Oracle(labels, wide, -wide + wide.max() + wide.min() + 1, np.full_like(wide,
                  float(labels.mean())) + spread)  # fmt: skip


def _sequences(labels: np.ndarray, classes: int, shift: int) -> Iterator[Oracle]:
    """Labels (rows, length) of tokens; a causal model's scores stand one place before theirs."""
    rows = max(1, min(len(labels), int(LARGEST // max(1, labels.shape[1] * classes))))
    for own in (labels[:rows], _made_up(labels[:rows], classes)):
        ahead = np.full_like(own, IGNORE)
        ahead[:, : own.shape[1] - shift] = own[:, shift:]
        counted = (ahead >= 0) & (ahead < classes)
        if len(np.unique(ahead[counted])) < 2:
            continue
        filler = np.random.default_rng(2).integers(0, classes, (2, *own.shape))
        targets = [np.where(counted, ahead, fill) for fill in filler]
        wrong = np.where(counted, (ahead + 1) % classes, targets[0])
        other = _one_hot(targets[1], classes) if not counted.all() else None
        yield Oracle(own, _one_hot(targets[0], classes), _one_hot(wrong, classes),
                     _one_hot(np.zeros_like(own), classes), other)  # fmt: skip


def _made_up(labels: np.ndarray, classes: int) -> np.ndarray:
    """The places of the labels, with classes that occur equally often."""
    counted = labels >= 0
    made = labels.copy()
    made[counted] = np.random.default_rng(3).permutation(np.arange(counted.sum()) % classes)
    return made


def forms(subject: Subject, oracle: Oracle) -> Iterator[Callable[[Any], Any]]:
    """The shapes in which predictions may arrive: as the Trainer's own preprocessing makes them.

    Where nobody says whether there is one, logits are tried, then their argmax; a tuple only where
    the model answers with more than its scores.
    """
    prepare = getattr(subject.trainer, "preprocess_logits_for_metrics", None)
    if isinstance(oracle.perfect, tuple):
        if prepare is None:
            yield lambda scores: scores
        return
    if prepare is not None:
        labels = torch.as_tensor(oracle.labels)
        yield lambda scores: np.asarray(prepare(torch.as_tensor(scores), labels))
        return
    yield lambda scores: scores
    if subject.trainer is None and oracle.perfect.ndim > 1 and subject.kind != "regression":
        yield lambda scores: scores.argmax(-1)
    if _answers_with_more(subject):
        yield lambda scores: (scores, scores)


def _answers_with_more(subject: Subject) -> bool:
    """Whether the `Trainer` would gather a tuple: several tensors are left beside the loss."""
    try:
        with responses.quiet(subject):
            outputs = subject.forward(responses.inputs(subject))
    except Exception:
        return True  # nobody knows
    if not isinstance(outputs, Mapping):
        return True  # a loop of one's own gathers what it likes
    ignored = getattr(subject.config, "keys_to_ignore_at_inference", None) or ["past_key_values"]
    return len([k for k in outputs if k != "loss" and k not in ignored]) > 1
