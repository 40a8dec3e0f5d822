"""M4: can head and loss take these labels? Out of range, fractions for classes, classes for MSE.

A transformers model says by its configuration which loss it computes. Any other loss is asked, on
the rows with the smallest and the largest label: what it cannot take it refuses, and what it takes
wrongly (several ones in a row as probabilities, a column against a row) it cannot hide.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch.nn import functional

from cookbook.doctor import kinds, row_keys, tokens, trial
from cookbook.doctor.checks import Skip
from cookbook.doctor.findings import Finding

IGNORE = tokens.IGNORE
CLASSES = 20  # at most that many whole numbers from 0 on look like classes
ONE_HOT = 48  # rows of one label each that are no chance
FEW = 8  # rows on which a loss is tried
SINGLE, MULTI = "single_label_classification", "multi_label_classification"


def check_labels_fit_the_head(subject: Any) -> Iterable[Finding]:
    """M4 by the configuration of a transformers model that computes its own loss."""
    if subject.model is None or trial.own_loss(subject):
        raise Skip("does not apply")
    kind = subject.kind
    if kind not in ("classifier", "tagger", "multi-label", "regression", "causal-lm", "masked-lm",
                    "seq2seq"):  # fmt: skip
        raise Skip("does not apply")
    labels = _all_labels(subject)
    if not labels:
        raise Skip("does not apply")
    values = torch.cat([part.reshape(-1) for part in labels])
    if kind in ("classifier", "multi-label", "regression"):
        found = _form(labels[0], values, subject)
        if found:
            yield found
            return
    named = type(kinds.base_of(subject.bare)).__name__.endswith("Classification")
    # The classes of a multiple choice are its choices, whatever `num_labels` says.
    if kind in ("classifier", "tagger") and named and not values.is_floating_point():
        yield from _too_large(values, subject.config.num_labels)
    if kind not in ("regression", "multi-label") and not values.is_floating_point():
        yield from _negative(values)


def _all_labels(subject: Any) -> list[torch.Tensor]:
    """The labels of the collated batches, and of the rows with the extreme ones."""
    found = []
    for split in (subject.train, subject.eval):
        batches = [batch for _, batch in split.many] + _extreme_batch(subject, split)
        found += [label for batch in batches if (label := _label_of(subject, batch)) is not None]
    return found


def _label_of(subject: Any, batch: Any) -> torch.Tensor | None:
    if isinstance(batch, Mapping):
        key = kinds.label_key(batch, getattr(subject.args, "label_names", None))
        taken = key in kinds.accepts(subject.bare)[0] or subject.loss_fn
        labels = batch[key] if key is not None and taken else None
    else:
        labels = batch[1] if isinstance(batch, list | tuple) and len(batch) > 1 else None
    return labels.detach().cpu() if isinstance(labels, torch.Tensor) and labels.dim() else None


def _extreme_batch(subject: Any, split: Any) -> list[Any]:
    """A batch of the rows with the smallest and the largest labels among all that were read."""
    rows = split.rows
    names = getattr(subject.args, "label_names", None)
    numbers = [(row_keys.number(row, names), place) for place, row in enumerate(rows)]
    ordered = sorted((number, place) for number, place in numbers if number is not None)
    if len(ordered) < 2:
        return []
    places = dict.fromkeys(p for _, p in [*ordered[: FEW // 2], *ordered[-FEW // 2 :]])
    try:
        return [split.collate([rows[p] for p in places])]
    except Exception:  # a collator that wants something of its rows; the batches are enough
        return []


def _form(example: torch.Tensor, values: torch.Tensor, subject: Any) -> Finding | None:
    """Shape and type of the labels against the loss that `problem_type` and `num_labels` choose."""
    problem = getattr(subject.config, "problem_type", None)
    count = getattr(subject.config, "num_labels", 2)
    whole, flat = not values.is_floating_point(), example.dim() == 1
    if count == 1 and problem is None:
        return _classes_as_numbers(values)
    if problem == MULTI or (problem is None and not whole and count > 1):
        if whole:
            return _wrong("the labels are whole numbers, but the loss of several labels a row "
                          "(BCE) takes floats")  # fmt: skip
        if flat or example.shape[1] != count:
            shape = tuple(example.shape)
            return _wrong(f"the labels are floats of shape {shape}, so that the loss is that of "
                          f"several labels a row, which takes {count} of them")  # fmt: skip
        return _one_of(values.reshape(-1, count)) if problem is None else None
    if problem == SINGLE and not whole:
        return _wrong("the labels are floats, but the loss is cross-entropy over classes, which "
                      "takes whole numbers")  # fmt: skip
    if whole and not flat and example.shape[-1] == count > 1 and subject.kind == "classifier":
        return _wrong(f"the labels have {count} columns of zeros and ones, but the loss is "
                      "cross-entropy for one class a row")  # fmt: skip
    return None


def _one_of(rows: torch.Tensor) -> Finding | None:
    """Floats make the library choose the loss of many labels, though each row has exactly one.

    Who wants that loss for one label says so by `problem_type`.
    """
    binary = bool(((rows == 0) | (rows == 1)).all())
    if not binary or len(rows) < ONE_HOT or bool((rows.sum(1) != 1).any()):
        return None
    return Finding(
        "M4", "warn",
        f"all {len(rows)} rows that were read have exactly one 1.0 among {rows.shape[1]} floats "
        "(bound: some with none or several), and without a problem_type the loss is that of "
        "several labels a row (BCE)",
        "give the number of the class as labels; if BCE is meant, set problem_type",
        {"rows": len(rows), "num_labels": rows.shape[1]},
    )  # fmt: skip


def _wrong(evidence: str) -> Finding:
    return Finding("M4", "error", evidence)


def _classes_as_numbers(values: torch.Tensor) -> Finding | None:
    """num_labels == 1 makes the loss a squared error: are these classes?"""
    kept = values[values != IGNORE].unique()
    whole = bool((kept == kept.round()).all())
    from_zero = whole and kept.tolist() == list(range(len(kept)))
    if not from_zero or not 2 <= len(kept) <= CLASSES:
        return None
    severity = "warn" if len(kept) == 2 else "info"  # a rating from 0 to 5, say
    return Finding(
        "M4", severity if values.is_floating_point() else "error",
        f"num_labels is 1, so the loss is a squared error, but the labels are the {len(kept)} "
        f"classes 0 to {len(kept) - 1}",
        f"set num_labels={len(kept)}; for a regression say problem_type='regression'",
        measured={"num_labels": 1, "classes": len(kept)},
    )  # fmt: skip


def _too_large(values: torch.Tensor, count: int) -> Iterator[Finding]:
    largest = int(values.max()) if values.numel() else 0
    if largest >= count:
        yield Finding(
            "M4", "error",
            f"the largest label is {largest}, but the head has {count} classes",
            f"set num_labels={largest + 1}, or number the classes from 0",
            measured={"largest": largest, "num_labels": count},
        )  # fmt: skip


def _negative(values: torch.Tensor) -> Iterator[Finding]:
    wrong = values[(values < 0) & (values != IGNORE)]
    if wrong.numel():
        yield Finding(
            "M4", "error",
            f"{wrong.numel():,} labels are negative and not {IGNORE}, such as {int(wrong[0])}: the "
            "loss ignores only that one",
            f"set them to {IGNORE}",
            measured={"negative": wrong.numel()},
        )  # fmt: skip


# -- a loss of the reader's own --------------------------------------------------------------------


def check_the_loss_takes_the_labels(subject: Any) -> Iterable[Finding]:
    """M4 by asking: the loss of the rows with the smallest and largest labels."""
    if subject.model is None or not trial.own_loss(subject):
        raise Skip("does not apply")
    batch = next(iter(_extreme_batch(subject, subject.train)), None) or subject.batch("train", FEW)
    labels = None if batch is None else _label_of(subject, batch)
    if labels is None:
        raise Skip("does not apply")
    with trial.quiet(subject):
        try:
            outputs = None if subject.loss_fn is None else trial.outputs_of(subject, batch)
            loss = trial.loss_with(subject, batch, labels, outputs)
        except (IndexError, RuntimeError, ValueError) as error:
            found = _refused(error, labels)
            if found is None:
                raise Skip(f"a trial run raised {type(error).__name__}") from error
            yield found
            return
        scores = None if outputs is None else subject.logits(outputs)
        if scores is not None:
            yield from _several_ones(subject, batch, scores, labels, loss, outputs)
            yield from _broadcast(subject, batch, scores, labels, loss)


def _refused(error: Exception, labels: torch.Tensor) -> Finding | None:
    """What the loss said about labels it cannot take; None where it spoke of something else."""
    words = " ".join(str(error).split())
    if isinstance(error, IndexError) and "out of bounds" in words and "Target" in words:
        return _wrong(f"the loss refuses a label: {words} (labels from {_least(labels)} to "
                      f"{labels.max().item()})")  # fmt: skip
    kind = "dtype" in words or "scalar type" in words or "cast" in words
    if kind and ("Long" in words or "Float" in words):
        return _wrong(f"the labels are {str(labels.dtype).removeprefix('torch.')}, and the loss "
                      f"refuses them: {words[:90]}")  # fmt: skip
    if "target size" in words.lower() or "batch_size" in words:
        return _wrong(f"the labels have shape {tuple(labels.shape)}, and the loss refuses them: "
                      f"{words[:90]}")  # fmt: skip
    return None


def _least(labels: torch.Tensor) -> float:
    kept = labels[labels != IGNORE]
    return kept.min().item() if kept.numel() else IGNORE


def _several_ones(subject: Any, batch: Any, scores: torch.Tensor, labels: torch.Tensor,
                  loss: torch.Tensor, outputs: Any) -> Iterator[Finding]:  # fmt: skip
    """Cross-entropy takes a row of several ones for probabilities, without a word."""
    if not labels.is_floating_point() or labels.shape != scores.shape or labels.dim() != 2:
        return
    binary = bool(((labels == 0) | (labels == 1)).all())
    several = (labels.sum(1) > 1).float().mean().item()
    if not binary or several < 0.01 or scores.shape[1] < 2:
        return
    by_class = functional.cross_entropy(scores.float(), labels.float())
    if torch.isclose(loss, by_class, rtol=1e-4):
        yield Finding(
            "M4", "error",
            f"{several:.0%} of the rows have several labels at once, but the loss is cross-entropy "
            "for one class a row (bound: 0)",
            "use binary_cross_entropy_with_logits",
        )  # fmt: skip


def _broadcast(subject: Any, batch: Any, scores: torch.Tensor, labels: torch.Tensor,
               loss: torch.Tensor) -> Iterator[Finding]:  # fmt: skip
    """(rows, 1) against (rows,) makes a table of all pairs, and its mean a loss of nothing."""
    shapes = {tuple(scores.shape), tuple(labels.shape)}
    rows = len(labels)
    if shapes != {(rows,), (rows, 1)} or rows < 2 or isinstance(batch, Mapping):
        return
    try:
        flat = _loss(subject, scores.reshape(-1), labels.reshape(-1))
        pairs = _loss(subject, scores.expand(rows, rows), labels.expand(rows, rows))
    except Exception:  # a loss that shapes its input by itself, and so knows what it does
        return
    if torch.isclose(loss, pairs, rtol=1e-4) and not torch.isclose(loss, flat, rtol=1e-3):
        yield Finding(
            "M4", "error",
            f"outputs of shape {tuple(scores.shape)} and labels of shape {tuple(labels.shape)} "
            f"are compared all with all: the loss is {loss:.3g}, row by row it is {flat:.3g}",
            "give both the same shape: outputs.squeeze(-1)",
        )  # fmt: skip


def _loss(subject: Any, scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    value = subject.loss_fn(scores.contiguous(), labels.contiguous())
    return torch.as_tensor(value).float().mean()


CHECKS = (check_labels_fit_the_head, check_the_loss_takes_the_labels)
