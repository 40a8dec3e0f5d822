"""Calls that are no forward pass: batches that are read (H1), prompts that are continued (T11).

Watches `DataLoader`s that read in the training process, and `generate` of the watched model; fills
`run.facts` and judges nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch.utils.data.dataloader import _SingleProcessDataLoaderIter

from cookbook.doctor import hooks, kinds
from cookbook.doctor.records import Run

KEPT = 4096  # steps whose reading is timed


class Reading:
    """Adds up, for each step, the seconds in which batches were read: `facts["reading"]`."""

    def __init__(self, run: Run) -> None:
        self.run, self.began = run, 0.0
        run.facts["reading"] = {}

    def begins(self, *_: Any) -> None:
        """A batch is asked for."""
        self.began = time.perf_counter()

    def ends(self, *_: Any) -> None:
        """It is there."""
        taken, step = self.run.facts["reading"], self.run.steps
        if step < KEPT:
            taken[step] = taken.get(step, 0.0) + time.perf_counter() - self.began


class Prompts:
    """Counts prompts that a decoder goes on with behind their padding: `facts["prompts"]`.

    While it writes, the passes of the model are those of no evaluation: `seen.generating`.
    """

    def __init__(self, run: Run, model: Any, seen: Any) -> None:
        self.run, self.model, self.seen = run, model, seen
        config = getattr(model, "config", None)
        self.applies = not getattr(config, "is_encoder_decoder", False)

    def begins(self, model: Any, *given: Any, **named: Any) -> None:
        """`generate` is called, on this model or on another."""
        if model is not self.model:
            return
        self.seen.generating = True
        if not self.applies:
            return
        mask = named.get("attention_mask")
        if not isinstance(mask, torch.Tensor) or mask.dim() != 2 or mask.shape[1] < 2:
            return
        seen = mask != 0
        behind = int((~seen[:, -1] & seen.any(1)).sum())
        old = self.run.facts.get("prompts", (0, 0))
        self.run.facts["prompts"] = old[0] + behind, old[1] + len(mask)

    def ends(self, *_: Any) -> None:
        """The text is written."""
        self.seen.generating = False


def follow(model: Any, run: Run, cost: hooks.Cost, seen: Any) -> list[Callable[[], None]]:
    """Notice such calls from now on; returns the functions that stop it."""
    reading, base = Reading(run), kinds.base_of(model)
    undo = [hooks.intercept_all(
        _SingleProcessDataLoaderIter, "_next_data",
        hooks.Hook(reading.begins, cost), hooks.Hook(reading.ends, cost),
    )]  # fmt: skip
    owner = next((kind for kind in type(base).__mro__ if "generate" in vars(kind)), None)
    if owner is not None and callable(vars(owner)["generate"]):
        told = Prompts(run, base, seen)
        both = hooks.Hook(told.begins, cost), hooks.Hook(told.ends, cost)
        undo.append(hooks.intercept_all(owner, "generate", *both))
    return undo
