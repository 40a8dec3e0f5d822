"""Remedies against overfitting under one harness: the same rows, seeds and updates, one change.

A `Remedy` says what differs from the plain run, `compare` runs each under each seed. The first seed
chooses between the strengths of a remedy on the validation split. Finished runs are kept, as in
`comparison`. What is learnt is a `remedy_tasks.Texts` or `Pictures`, the formulas are in
`training.regularization`, what it brought is counted in `courses`. Chapter 09 uses it.
"""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from cookbook.data.errors import DataError
from cookbook.finetuning import cells
from cookbook.finetuning.courses import Course, scores
from cookbook.session import write_whole
from cookbook.training import early_stopping, loop, optimizers, regularization, schedules

WARMUP = 0.1  # of the updates; the rate stays constant then, so that runs can stop anywhere
BATCH = 16


@dataclass(frozen=True)
class Remedy:
    """What one run does otherwise than the plain one, which does none of it.

    `rows`: so many times the training rows. `edits`: operations of `data.augmentation` (or of
    `image_augmentation`), `edit_rate` of the words, eight edited copies a row; `mixup`: its alpha.
    `smoothing`, `l1`, `l2`, `anchor` are weights in the loss, `decay` is AdamW's, `dropout` a
    share. `stop` early on "loss" or "accuracy" of the validation rows. `smaller` halves the layers
    (or quarters the width), `random` forgets the pretraining, `freeze` is how many of the lowest
    layers rest, with the embeddings, and -1 means all of them. `rate` multiplies the learning rate.

    >>> Remedy(dropout=0.3).changes()
    {'dropout': 0.3}
    """

    rows: float = 1.0
    edits: tuple[str, ...] = ()
    edit_rate: float = 0.1
    mixup: float = 0.0
    smoothing: float = 0.0
    l1: float = 0.0
    l2: float = 0.0
    anchor: float = 0.0
    decay: float = 0.0
    dropout: float = 0.0
    stop: str = ""
    smaller: bool = False
    random: bool = False
    freeze: int = 0
    rate: float = 1.0

    def changes(self) -> dict[str, Any]:
        """The fields that differ from the plain run's."""
        own, plain = dataclasses.asdict(self), dataclasses.asdict(Remedy())
        return {name: value for name, value in own.items() if value != plain[name]}


class Problem(Protocol):
    """What a run learns: `remedy_tasks.Texts`, `Pictures`, or the reader's own."""

    def key(self) -> Any: ...
    def labels(self, split: str) -> np.ndarray: ...
    def model(self, remedy: Remedy, seed: int) -> torch.nn.Module: ...
    def batches(self, remedy: Remedy, seed: int, size: int) -> Sequence[dict]: ...
    def own_rows(self, seed: int) -> tuple[Any, np.ndarray]: ...
    def logits(self, model: torch.nn.Module, split_or_rows: Any) -> np.ndarray: ...


def run(
    problem: Problem,
    remedy: Remedy,
    *,
    steps: int,
    rate: float,
    every: int,
    seed: int = 0,
    name: str = "",
    precision: str = "fp32",
    patience: int = 3,
    around: Callable[..., contextlib.AbstractContextManager] | None = None,
) -> Course:
    """Train `steps` updates, looking at the validation rows every `every`; score what is left.

    Every run of one seed sees the same rows first, from the same weights where the remedy leaves
    them alone. `around(model, optimizer, scheduler)` gives a context, such as the doctor's `Watch`,
    which is told each loss and each evaluation. Draws come from torch's global state, set to
    `seed`.
    """
    model = problem.model(remedy, seed)
    optimizer = optimizers.build(model, "AdamW", remedy.rate * rate, weight_decay=remedy.decay)
    scheduler = schedules.scheduler(optimizer, "constant", warmup=round(WARMUP * steps))
    torch.manual_seed(seed)
    context = around or (lambda *_: contextlib.nullcontext())
    with context(model, optimizer, scheduler) as seen:
        looks = _Looks(problem, model, remedy, every, steps, patience, seen)
        with contextlib.suppress(_Enough):
            loop.train(
                model, problem.batches(remedy, seed, BATCH), optimizer, scheduler, steps=steps,
                precision=precision, loss_fn=_loss(model, remedy), on_step=looks,
            )  # fmt: skip
    step = looks.restore()
    rows, answers = problem.own_rows(seed)
    fit = float(np.mean(problem.logits(model, rows).argmax(-1) == answers))
    scored = {split: problem.logits(model, split).tolist() for split in ("validation", "test")}
    return Course(name, seed, remedy.changes(), looks.curve, step, fit, **scored, seen=seen)


class _Enough(Exception):
    """Raised within the loop when an early stop is due."""


class _Looks:
    """Called after each step: evaluates every so often, and keeps the best for early stopping."""

    def __init__(self, problem, model, remedy, every, steps, patience, seen) -> None:
        self.problem, self.model, self.every, self.steps, self.seen = (
            problem, model, every, steps, seen,
        )  # fmt: skip
        self.stop, self.early = remedy.stop, early_stopping.EarlyStopping(patience)
        self.curve, self.losses = [], []

    def __call__(self, step: int, loss: float) -> None:
        self.losses.append(loss)
        if hasattr(self.seen, "step"):
            self.seen.step(loss)
        if step % self.every and step != self.steps:
            return
        held, accuracy = scores(
            self.problem.logits(self.model, "validation"), self.problem.labels("validation")
        )
        self.curve.append((step, float(np.mean(self.losses[-self.every :])), held, accuracy))
        if hasattr(self.seen, "evaluate"):
            self.seen.evaluate({"loss": held, "accuracy": accuracy})
        if self.stop and self.early.see(
            held if self.stop == "loss" else -accuracy, step, self.model
        ):
            raise _Enough

    def restore(self) -> int:
        """The best weights back, where the run was to stop early; the step that they are from."""
        if not self.stop:
            return len(self.losses)
        self.early.restore(self.model)
        return self.early.step


def _loss(model: torch.nn.Module, remedy: Remedy) -> Callable:
    return regularization.regularized_loss(
        model, smoothing=remedy.smoothing, l1_weight=remedy.l1, l2_weight=remedy.l2,
        anchor=remedy.anchor,
    )  # fmt: skip


def compare(
    problem: Problem,
    remedies: Mapping[str, Sequence[Remedy]],
    *,
    seeds: Sequence[int],
    folder: str | Path,
    **settings: Any,
) -> list[Course]:
    """Each remedy under each seed; of several strengths the first seed's validation chooses one.

    By accuracy, then by loss, at the weights that the run ended with. `settings` are those of
    `run`: `steps`, `rate`, `every`, `precision`, `patience`. Finished runs lie in `folder` and are
    read from there where data, model, settings, code and versions agree. A remedy that the model
    has no place for, such as frozen layers where all layers are one, is skipped with its reason.
    """
    from tqdm.auto import tqdm

    made_by = {"problem": problem.key(), "settings": settings, "versions": cells.versions(),
               "code": _code(problem)}  # fmt: skip
    truth, courses, folder = problem.labels("validation"), [], Path(folder)
    total = sum(len(own) + len(seeds) - 1 for own in remedies.values())
    with tqdm(total=total, desc="remedies", unit="run", leave=False) as bar:
        for name, strengths in remedies.items():
            try:
                for seed in seeds:
                    tried = []
                    for remedy in strengths:
                        bar.set_postfix_str(f"{name}, seed {seed}")
                        tried.append(_kept(problem, remedy, name, seed, folder, made_by, settings))
                        bar.update()
                    best = max(range(len(tried)), key=lambda i: _merit(tried[i].validation, truth))
                    strengths = [strengths[best]]
                    courses.append(tried[best])
            except DataError:
                raise
            except ValueError as error:
                print(f"skipped {name}: {str(error).splitlines()[0]}")
    return courses


def _merit(logits: Any, labels: np.ndarray) -> tuple[float, float]:
    loss, accuracy = scores(logits, labels)
    return accuracy, -loss


def _kept(problem, remedy, name, seed, folder, made_by, settings) -> Course:
    """A run from the folder, or made now and kept there."""
    key = cells.digest([made_by, dataclasses.asdict(remedy), seed])
    path = folder / f"{key}.json"
    try:
        found = Course(**json.loads(path.read_text(encoding="utf-8")))
        return dataclasses.replace(found, name=name, curve=[tuple(p) for p in found.curve])
    except (OSError, ValueError, TypeError):
        pass
    course = run(problem, remedy, seed=seed, name=name, **settings)
    folder.mkdir(parents=True, exist_ok=True)
    left = {k: v for k, v in vars(course).items() if k != "seen"}
    write_whole(path, json.dumps(left))
    return course


def _code(problem: Problem) -> str:
    """A digest of the code that makes a run; comments and layout do not count."""
    from cookbook.data import augmentation, image_augmentation

    parts = [regularization, early_stopping, loop, augmentation, image_augmentation,
             inspect.getmodule(type(problem))]  # fmt: skip
    sources = [inspect.getsource(part) for part in [*parts, run, _Looks]]
    return cells.digest([ast.dump(ast.parse(source)) for source in sources])
