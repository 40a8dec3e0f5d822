"""A run that goes on: did everything come back (fault K2)?

Looks at the optimizer's state, the schedule's position, the checkpoint's files and a few weights of
the pretrained source when a run that has steps behind it begins. It changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from cookbook.doctor import checkpoint_checks, gradients, preserve, schedules

# A sharded optimizer lies in a folder of its own, so only what is one file always is asked for.
FILES = {"scheduler.pt": "schedule"}
RANDOM = "rng_state*.pth"
TRAINED = ("training_args.bin", "trainer_state.json", "optimizer.pt")  # what a Trainer writes
STARTED = 3  # steps after which a warm-up has left a rate of zero
TRIED, FEWEST = 6, 3  # weights that are compared with their pretrained source, and at least


def missing(optimizer: Any, scheduler: Any, steps: int, args: Any = None) -> list[str]:
    """What is not as it should be after `steps` optimizer steps, in words."""
    optimizer, scheduler = preserve.unwrap(optimizer), preserve.unwrap(scheduler)
    found = []
    if steps and keeps_state(optimizer) and not getattr(optimizer, "state", True):
        found.append("the optimizer's state is empty")
    place = getattr(scheduler, "last_epoch", None)
    if steps and isinstance(place, int) and place == 0:
        found.append("the schedule stands at 0")
    elif steps and isinstance(place, int) and by_step(scheduler) and place != steps:
        found.append(f"the schedule stands at {place}")
    if steps and getattr(args, "ignore_data_skip", False):
        found.append("the rows begin at the start of the epoch again (ignore_data_skip)")
    return found


def ahead(optimizer: Any, scheduler: Any, steps: int) -> list[str]:
    """What remembers more optimizer steps than the run that goes on counts, in words."""
    optimizer, scheduler = preserve.unwrap(optimizer), preserve.unwrap(scheduler)
    if made(optimizer) > steps:
        return [f"the optimizer has made {made(optimizer)} steps, of which the run counts {steps}"]
    place = getattr(scheduler, "last_epoch", None)
    if not steps and isinstance(place, int) and place > 0 and by_step(scheduler):
        return [f"the schedule stands at {place}, and the run counts {steps} steps"]
    return []


def made(optimizer: Any) -> int:
    """How many steps an optimizer remembers; 0 where it counts none."""
    states = getattr(optimizer, "state", {}).values()
    counted = [s["step"] for s in states if isinstance(s, Mapping) and "step" in s]
    return max((int(c) for c in counted if not isinstance(c, list | dict)), default=0)


def begun_anew(model: Any, optimizer: Any) -> list[str]:
    """Weights that are still those of the pretrained source under an optimizer with a past.

    Bit for bit, and each of those that are tried; a source that was itself written by training may
    rightly hold what the checkpoint holds.
    """
    optimizer, name = preserve.unwrap(optimizer), checkpoint_checks.checkpoint_name(model)
    files = checkpoint_checks.weight_files(name)
    if files is None or any(checkpoint_checks.find_file(Path(name), f) for f in TRAINED):
        return []
    if made(optimizer) < STARTED:
        return []
    same = []
    for key, weight in gradients.sampled(model, TRIED).items():
        past = getattr(optimizer, "state", {}).get(weight, {}).get("exp_avg")
        stored = None if past is None else checkpoint_checks.read(files, model, key)
        if stored is not None and stored.shape == weight.shape and bool(past.any()):
            same.append(torch.equal(stored.to(weight.dtype), weight.detach().cpu()))
    if len(same) < FEWEST or not all(same):
        return []
    return [f"{len(same)} of {len(same)} weights tried are those of {Path(name).name}, where the "
            f"run began, though the optimizer has moved them"]  # fmt: skip


def by_step(scheduler: Any) -> bool:
    """Whether the schedule counts optimizer steps for certain."""
    return schedules.counts_steps(scheduler) is True


def keeps_state(optimizer: Any) -> bool:
    """Whether the optimizer has something to remember: plain SGD has not."""
    groups = getattr(optimizer, "param_groups", [])
    if type(optimizer).__name__ == "SGD":
        return any(group.get("momentum") for group in groups)
    return bool(groups)


def missing_files(folder: str | Path) -> list[str]:
    """What a checkpoint's folder lacks for a complete resumption, in words."""
    folder = Path(folder)
    lacking = [what for name, what in FILES.items() if not (folder / name).exists()]
    if not any(folder.glob(RANDOM)):
        lacking.append("random state")
    return [f"the checkpoint has no {what}" for what in lacking]
