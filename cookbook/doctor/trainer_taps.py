"""Where a `Trainer` can be listened to: its raw losses, its first window, its predictions.

A callback is told neither the raw loss nor the data sets nor who calls it. This file finds the
calling `Trainer`, wraps `training_step` and `compute_metrics` on that one object, and takes the
wraps off again. It judges nothing.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

from cookbook.doctor import accumulation, kinds, order, preserve, weights
from cookbook.doctor import given as taken
from cookbook.doctor.monitor import Monitor

DEEP = 12  # frames between a callback and the Trainer that calls it
WINDOW, LARGE = 8, 200_000_000  # micro-batches, and parameters of a model, that are recomputed


def calling_trainer() -> Any:
    """The `Trainer` that is calling a callback now, or None.

    A `Trainer` hands its callbacks the model and the optimizer, and no reference to itself; yet
    the evaluation set and the metric are known to it alone.
    """
    import transformers

    frame = sys._getframe(1)
    for _ in range(DEEP):
        if frame is None:
            return None
        held = frame.f_locals.get("self")
        if isinstance(held, transformers.Trainer):
            return held
        frame = frame.f_back
    return None


def resumed_from() -> str | None:
    """The checkpoint's folder that the calling `Trainer` resumes from, if it does."""
    frame = sys._getframe(1)
    for _ in range(DEEP):
        if frame is None:
            return None
        held = frame.f_locals.get("resume_from_checkpoint")
        if isinstance(held, str):
            return held
        frame = frame.f_back
    return None


def subject_of(args: Any, trainer: Any, given: dict[str, Any]) -> dict[str, Any]:
    """What `Subject` takes, from the trainer or, without one, from what callbacks are given."""
    loader = given.get("train_dataloader")
    names = ("train_dataset", "eval_dataset", "data_collator", "compute_metrics")
    held = {name: getattr(trainer, name, None) for name in names}
    if trainer is None:
        held["train_dataset"] = getattr(loader, "dataset", None)
        held["data_collator"] = getattr(loader, "collate_fn", None)
    held["eval_dataset"] = taken.rows("eval_dataset", held["eval_dataset"])
    return held | {
        "model": given["model"], "args": args, "optimizer": given.get("optimizer"),
        "lr_scheduler": given.get("lr_scheduler"), "trainer": trainer,
        "processing_class": given.get("processing_class"),
    }  # fmt: skip


def called_model(trainer: Any, model: Any) -> Any:
    """The model whose `forward` the loop calls: outside of `torch.compile`, inside of DDP."""
    wrapped = getattr(trainer, "model_wrapped", None)
    return wrapped if hasattr(wrapped, "_orig_mod") else model


def rows_of(loader: Any) -> int | None:
    """The number of rows of a loader's data set, None where it is not known."""
    try:
        return len(loader.dataset)
    except (AttributeError, TypeError):
        return None


@contextlib.contextmanager
def undisturbed(trainer: Any) -> Iterator[None]:
    """Within, checks may use the trainer; its counters and its callbacks are put back."""
    state = getattr(trainer, "state", None)
    before = dict(vars(state)) if state is not None else {}
    accelerator = getattr(trainer, "accelerator", None)
    gradients = getattr(accelerator, "gradient_state", None)
    shared = dict(gradients._shared_state) if gradients is not None else {}
    try:
        yield
    finally:
        if state is not None:
            vars(state).update(before)
        if gradients is not None:
            gradients._shared_state.update(shared)


class Taps:
    """Wraps methods of one trainer; `close` takes the wraps off."""

    def __init__(self, trainer: Any, monitor: Monitor, loss_fn: Callable | None = None) -> None:
        self.trainer, self.monitor, self.loss_fn = trainer, monitor, loss_fn
        self.window: list[tuple[Any, dict]] | None = [] if self._worth_it() else None
        self.put_back: list[tuple[str, Any]] = []
        self._listen_to_losses()
        if callable(getattr(trainer, "compute_metrics", None)):
            self._listen_to_predictions()
        monitor.run.facts["shuffles"] = order.shuffles(monitor.seen.loader)

    def _worth_it(self) -> bool:
        """Whether the first window of micro-batches is computed once more (fault L3)."""
        args, model = self.trainer.args, self.monitor.model
        return (
            1 < args.gradient_accumulation_steps <= WINDOW and args.world_size == 1
            and sum(p.numel() for p in model.parameters()) < LARGE
        )  # fmt: skip

    def _wrap(self, name: str, wrapper: Callable) -> None:
        held = vars(self.trainer)
        self.put_back.append((name, held.get(name, self)))  # self: there was none of its own
        setattr(self.trainer, name, wrapper)

    def close(self) -> None:
        """The trainer as it was."""
        for name, before in reversed(self.put_back):
            if before is self:
                vars(self.trainer).pop(name, None)
            else:
                setattr(self.trainer, name, before)
        self.put_back, self.window = [], None

    def _listen_to_losses(self) -> None:
        original, monitor = self.trainer.training_step, self.monitor
        note = monitor._hook(self._note_step)
        prepare = monitor._hook(self._prepare)

        def training_step(model: Any, inputs: Any, *more: Any, **named: Any) -> Any:
            prepare(inputs)
            loss = original(model, inputs, *more, **named)
            note(loss, inputs)
            return loss

        self._wrap("training_step", training_step)

    def _prepare(self, inputs: Any) -> None:
        if self.window is not None:
            self.window.append((dict(inputs), preserve.random_state()))

    def _note_step(self, loss: Any, inputs: Any) -> None:
        windowed = self.trainer.args.gradient_accumulation_steps
        self.monitor.observing(loss * windowed, inputs)  # the window's sum is its mean
        if self.window is not None and len(self.window) >= windowed:
            self._compare()

    def _compare(self) -> None:
        """L3: the gradient of the first window against that of the same rows in one batch."""
        window, self.window = self.window, None
        model, scaler = kinds.unwrapped(self.monitor.model), self.monitor.scaler
        scale = float(scaler.get_scale()) if scaler is not None else 1.0
        chosen = weights.choose(model, 4)
        observed = {n: None if p.grad is None else p.grad.clone() for n, p in chosen.items()}
        with self.trainer.compute_loss_context_manager():
            found = accumulation.compare_gradients(
                model, [batch for batch, _ in window], observed, loss_fn=self.loss_fn,
                random_states=[state for _, state in window], scale=scale,
            )  # fmt: skip
        if found is not None:
            configured = self.trainer.args.gradient_accumulation_steps
            how = f", accumulated by {type(self.trainer).__module__}.{type(self.trainer).__name__}"
            self.monitor.run.facts["accumulation"] = accumulation.judge(
                found, configured=configured, how=how
            )  # fmt: skip

    def _listen_to_predictions(self) -> None:
        original, seen = self.trainer.compute_metrics, self.monitor.seen
        note = self.monitor._hook(lambda p: seen.predictions(p.predictions, p.label_ids))

        def compute_metrics(predictions: Any, *more: Any, **named: Any) -> Any:
            note(predictions)
            return original(predictions, *more, **named)

        self._wrap("compute_metrics", compute_metrics)
