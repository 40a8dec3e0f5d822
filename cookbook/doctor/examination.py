"""`examine`: run every check before training, put everything back, report.

It holds the list of checks and the order in which they run; the checks stand in files of one
subject each. A check that cannot run on this model or data is a line in `Report.not_checked`, never
an exception. Chapters 00 to 16 end their pitfalls in it, chapter 13 is about it.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import nn

from cookbook.doctor import given as taken
from cookbook.doctor import preserve
from cookbook.doctor.checks import Check, Skip, attempt
from cookbook.doctor.report import Report
from cookbook.doctor.subject import Subject

# A check takes a Subject and yields Findings. Each of these files lists its own in CHECKS: a tuple
# of functions. Those of the PROBES run the model; everything is put back after each of them.
READERS = ("label_checks", "target_checks", "row_checks", "content_checks", "duplicate_checks",
           "randomness_checks", "collation_checks", "mask_checks", "masking_checks",
           "ending_checks", "span_checks", "text_checks", "piece_checks", "word_checks",
           "checkpoint_checks", "shape_checks", "model_checks", "adapter_checks",
           "optimizer_checks", "argument_checks", "scale_checks")  # fmt: skip
PROBES = ("forward_probes", "causality_probes", "padding_probes", "packing_probes",
          "tokenizer_probes", "loss_probes", "logit_probes", "ascent_probes", "span_probes",
          "gradient_probes", "finite_probes", "class_weight_probes", "adapter_probes",
          "accumulation_probes", "metric_probes", "contrastive", "embedding_probes",
          "unlisted_probes", "learning_probes", "alignment_probes", "held_out_label_probes",
          "tag_alignment_probes", "span_alignment_probes", "pair_alignment_probes",
          "precision_probes", "saving_probes", "reversal_probes")  # fmt: skip

__all__ = ["PROBES", "READERS", "Skip", "attempt", "examine", "run"]


def examine(
    model: nn.Module | Any,
    *,
    train_dataset: Any = None,
    eval_dataset: Any = None,
    data_collator: Any = None,
    processing_class: Any = None,
    args: Any = None,
    optimizer: Any = None,
    lr_scheduler: Any = None,
    compute_metrics: Callable | None = None,
    loss_fn: Callable | None = None,
) -> Report:
    """Look for faults before training: model, data, tokenizer, loss, gradient, optimizer, metric.

    `model` is any `nn.Module`, or a transformers `Trainer`, from which the rest is then taken.
    Data sets are map-style or iterable (a `DataLoader` serves too), of dicts as the `Trainer`
    takes them or of `(x, y)` pairs. `loss_fn(outputs, y)` is the loss for pairs,
    `loss_fn(outputs, batch)` for dicts; without it the model's own loss counts. Nothing given is
    changed: parameters, buffers, gradients, optimizer, random state and flags are as before, bit
    for bit. Takes seconds on a small model; some forward and backward passes on a large one.

    >>> examine(nn.Linear(2, 2)).healthy
    True
    """
    given = {
        "train_dataset": train_dataset, "eval_dataset": eval_dataset,
        "data_collator": data_collator, "processing_class": processing_class, "args": args,
        "optimizer": optimizer, "lr_scheduler": lr_scheduler, "compute_metrics": compute_metrics,
        "loss_fn": loss_fn,
    }  # fmt: skip
    model = taken.model_or_trainer(model)
    if model is not None and not isinstance(model, nn.Module):
        model, given = _of_trainer(model, given)
    for name in ("train_dataset", "eval_dataset"):
        given[name] = taken.rows(name, given[name])
    return run(Subject(model, **given))


def run(
    subject: Subject, readers: Iterable[str] = READERS, probes: Iterable[str] = PROBES
) -> Report:
    """Run the checks of these files on a subject and report; everything is put back."""
    findings, checked = [], []
    reasons = {
        name: "it has no rows"
        for name, sample in (("train_dataset", subject.train), ("eval_dataset", subject.eval))
        if sample.dataset is not None and sample.total == 0
    }
    held = (subject.train_dataset, subject.eval_dataset, subject.train.collator, subject.loss_fn)
    with (
        preserve.attributes(subject.train.collator),
        preserve.everything(subject.model, subject.optimizer, subject.lr_scheduler, held) as before,
    ):
        for probing, files in ((False, readers), (True, probes)):
            with _uncompiled(subject.model):
                unready = _unready(subject) if probing else ""
            before.restore()
            if unready:
                reasons["probes"] = unready
            for name, check in _checks(files):
                if unready and not getattr(check, "even_refused", False):
                    continue
                with torch.random.fork_rng(devices=[]), _uncompiled(subject.model):
                    found, reason = attempt(check, subject)
                if probing:
                    before.restore()
                findings += found
                if reason:
                    reasons[name] = reason
                else:
                    checked.append(name)
    return Report(findings, checked=checked, not_checked=_worth_saying(reasons))


def _unready(subject: Subject) -> str:
    """Why no probe can run the model; "" where one forward pass went well, or there is no data."""
    from cookbook.doctor import responses

    if subject.unready:
        return subject.unready
    try:
        with responses.quiet(subject):
            subject.forward(responses.inputs(subject))
    except Skip:
        return ""
    except Exception as error:
        try:
            with responses.quiet(subject):
                subject.forward(subject.batch("train", responses.ROWS))
        except Exception:
            words = " ".join(str(error).split())[:120]
            return f"the forward pass raised {type(error).__name__}: {words}"
    return ""


def _uncompiled(model: nn.Module | None) -> contextlib.AbstractContextManager:
    """Within, a compiled model runs as written: each shape of a probe would compile anew."""
    modules = () if model is None else model.modules()
    compiled = any(
        "_orig_mod" in m._modules or getattr(m, "_compiled_call_impl", None) for m in modules
    )
    # Only then: the stance imports all of dynamo.
    return torch.compiler.set_stance("force_eager") if compiled else contextlib.nullcontext()


def _checks(files: Iterable[str]) -> Iterator[tuple[str, Check]]:
    for file in files:
        module = importlib.import_module(f"cookbook.doctor.{file}")
        for check in module.CHECKS:
            yield check.__name__, check


def _worth_saying(reasons: dict[str, str]) -> dict[str, str]:
    """Reasons without those that are obvious: a check for another kind of model."""
    return {name: why for name, why in reasons.items() if why != "does not apply"}


def _of_trainer(trainer: Any, given: dict[str, Any]) -> tuple[nn.Module, dict[str, Any]]:
    """Model and the rest as a `Trainer` holds them; what was given beside it counts first."""
    held = {
        "train_dataset": "train_dataset", "eval_dataset": "eval_dataset",
        "data_collator": "data_collator", "processing_class": "processing_class", "args": "args",
        "optimizer": "optimizer", "lr_scheduler": "lr_scheduler",
        "compute_metrics": "compute_metrics",
    }  # fmt: skip
    for name, attribute in held.items():
        if given.get(name) is None:
            given[name] = getattr(trainer, attribute, None)
    return trainer.model, given | {"trainer": trainer}
