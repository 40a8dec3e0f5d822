"""Let a `Trainer` accumulate a window of micro-batches and compare with one large batch (L3).

The real methods run: those of the given `Trainer`, else of transformers' own on the given
arguments, whatever its version divides by. The model is in evaluation mode on both sides, so that
no dropout stands between them. A loop that is not a `Trainer`'s is seen online only.
"""

from __future__ import annotations

import contextlib
import copy
import inspect
import logging
import tempfile
import warnings
from collections.abc import Iterable, Iterator
from typing import Any

import torch

from cookbook.doctor import accumulation, gradients, sampling
from cookbook.doctor.checks import Skip
from cookbook.doctor.findings import Finding
from cookbook.doctor.subject import Subject

MOST = 8  # micro-batches that are tried
ROWS = 2  # rows of each


def check_accumulation(subject: Subject) -> Iterable[Finding]:
    """The gradient that the Trainer accumulates over a window, against that of one batch."""
    steps = _steps(subject)
    batches = _micro_batches(subject, min(steps, MOST))
    chosen = gradients.sampled(subject.bare)
    if not chosen or not _has_loss(subject, batches[0]):
        raise Skip("does not apply")
    with _quiet(), _trainer(subject) as trainer:
        observed = observe(trainer, subject, batches, chosen)
        with subject.mode(training=False):
            found = accumulation.compare_gradients(subject, batches, observed)
    if found is None:
        raise Skip("the loss is no mean over the rows: accumulation has no equal large batch")
    how = "" if subject.trainer is not None else ", accumulated as transformers' Trainer does"
    said = accumulation.judge(found, configured=steps, how=how)
    if said is not None:
        yield said


def observe(
    trainer: Any, subject: Subject, batches: list[Any], chosen: dict[str, torch.nn.Parameter]
) -> dict[str, torch.Tensor | None]:
    """Gradient by name after the trainer's own steps over these batches, its scale undone.

    Leaves `.grad` of every parameter as it was.
    """
    held = [(p, p.grad) for p in subject.bare.parameters()]
    for parameter, _ in held:
        parameter.grad = None
    try:
        with _evaluating(subject), _window(trainer, len(batches)):
            samples, items = _gathered(trainer, batches)
            for batch in samples:
                _step(trainer, subject.bare, dict(batch), items)
        scaler = getattr(getattr(trainer, "accelerator", None), "scaler", None)
        scale = float(scaler.get_scale()) if scaler is not None else 1.0
        return {n: None if p.grad is None else p.grad.clone() / scale for n, p in chosen.items()}
    finally:
        for parameter, grad in held:
            parameter.grad = grad


def _step(trainer: Any, model: torch.nn.Module, batch: dict, items: Any) -> None:
    takes = inspect.signature(trainer.training_step).parameters
    trainer.training_step(model, batch, *([items] if len(takes) > 2 else []))


def _gathered(trainer: Any, batches: list[Any]) -> tuple[list[Any], Any]:
    """Micro-batches and their number of items, counted by the trainer; (batches, None) of old."""
    count = getattr(trainer, "get_batch_samples", None)
    if count is None:
        return batches, None
    device = [trainer.args.device] if len(inspect.signature(count).parameters) > 2 else []
    return count(iter(batches), len(batches), *device)


@contextlib.contextmanager
def _window(trainer: Any, size: int) -> Iterator[None]:
    """Within, the trainer divides as for a window of `size`, wherever its version looks."""
    places = [(trainer, "current_gradient_accumulation_steps")]
    places += [(trainer.args, "gradient_accumulation_steps")]
    before = [(place, name, getattr(place, name, None)) for place, name in places]
    for place, name in places:
        object.__setattr__(place, name, size)
    try:
        yield
    finally:
        for place, name, value in before:
            object.__setattr__(place, name, value)


@contextlib.contextmanager
def _evaluating(subject: Subject) -> Iterator[None]:
    """Within, the model stays in evaluation mode, though `training_step` calls `train()`."""
    model = subject.bare
    with subject.mode(training=False):
        object.__setattr__(model, "train", lambda mode=True: model)
        try:
            yield
        finally:
            object.__delattr__(model, "train")


def _steps(subject: Subject) -> int:
    steps = getattr(subject.args, "gradient_accumulation_steps", 1)
    if not isinstance(steps, int) or steps < 2:
        raise Skip("does not apply")
    if subject.trainer is None and (subject.loss_fn is not None or not _transformers(subject.args)):
        raise Skip("who accumulates is not known: examine(trainer), or watch the run")
    if getattr(subject.args, "deepspeed", None) or getattr(subject.args, "fsdp", None):
        raise Skip("gradients are sharded")
    if getattr(subject.args, "world_size", 1) > 1:
        raise Skip("gradients are averaged over ranks")
    return steps


def _transformers(args: Any) -> bool:
    return any(base.__name__ == "TrainingArguments" for base in type(args).__mro__)


def _micro_batches(subject: Subject, count: int) -> list[Any]:
    """`count` small micro-batches of rows as they come, with their own numbers of labels."""
    whole = [b for b in subject.train.batches if isinstance(b, dict) or hasattr(b, "keys")]
    small = [dict(sampling.first_rows(batch, ROWS)) for batch in whole]
    small = [b for b in small if gradients.label_counts(subject, b)[0]]
    if not small:
        raise Skip("does not apply")
    return [small[i % len(small)] for i in range(count)]


def _has_loss(subject: Subject, batch: Any) -> bool:
    with torch.no_grad(), subject.mode(training=False), gradients.undisturbed(subject.bare):
        loss = gradients.training_loss(subject, batch)[0]
    return loss is not None and bool(torch.isfinite(loss).all())


@contextlib.contextmanager
def _trainer(subject: Subject) -> Iterator[Any]:
    """The given trainer, or transformers' own around the model, which then goes without trace."""
    if subject.trainer is not None:
        yield subject.trainer
        return
    import transformers
    from accelerate.state import AcceleratorState

    class InPlace(transformers.Trainer):
        def _move_model_to_device(self, *_: Any, **__: Any) -> None:
            """The model stays where it is."""

        def _prepare_inputs(self, inputs: Any) -> Any:
            return sampling.to_device(inputs, subject.device)

    cache = getattr(subject.config, "use_cache", None)
    shared = dict(AcceleratorState._shared_state)
    with tempfile.TemporaryDirectory() as folder:
        args = copy.copy(subject.args)
        args.output_dir, args.report_to, args.push_to_hub = folder, [], False
        try:
            yield InPlace(subject.bare, args)
        finally:
            AcceleratorState._shared_state.clear()
            AcceleratorState._shared_state.update(shared)
            if cache is not None:
                subject.config.use_cache = cache


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Within, libraries keep their remarks on set-up to themselves."""
    logger = logging.getLogger("transformers")
    level = logger.level
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            logger.setLevel(level)


CHECKS = (check_accumulation,)
