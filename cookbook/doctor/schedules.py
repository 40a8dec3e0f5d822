"""Count the steps of a learning-rate schedule, whoever makes them.

Steps that name the epoch themselves are counted apart, for they cannot run ahead. It changes no
step and judges nothing: see `schedule_detectors`.
"""

from __future__ import annotations

from typing import Any

from cookbook.doctor import hooks, preserve
from cookbook.doctor.records import Schedule

WATCHED = 200  # values that a plateau's watcher was shown
# What a schedule calls the unit at which it has run out.
HORIZONS = ("total_steps", "total_iters", "T_max")


class Counter:
    """Counts calls of `scheduler.step` in `schedule`; `close` ends it."""

    def __init__(self, scheduler: Any) -> None:
        self.scheduler = preserve.unwrap(scheduler)
        self.schedule = Schedule(
            type(self.scheduler).__name__,
            first=int(getattr(self.scheduler, "last_epoch", 0) or 0),
            horizon=horizon_of(self.scheduler),
            counts_steps=counts_steps(self.scheduler),
        )
        if hasattr(self.scheduler, "patience"):  # what it is shown is a metric
            self.schedule.mode = str(getattr(self.scheduler, "mode", ""))
        self.close = hooks.intercept(self.scheduler, "step", before=self._note)

    def _note(self, *args: Any, **kwargs: Any) -> None:
        plateau = hasattr(self.scheduler, "patience")
        if not plateau and (args or kwargs.get("epoch") is not None):
            self.schedule.placed += 1
            return
        self.schedule.calls += 1
        shown = args[0] if args else kwargs.get("metrics")
        if plateau and shown is not None and len(self.schedule.watched) < WATCHED:
            self.schedule.watched.append(float(shown))


def horizon_of(scheduler: Any) -> int | None:
    """The number of units after which the schedule has run out, where it says so."""
    for name in HORIZONS:
        value = getattr(scheduler, name, None)
        if isinstance(value, int | float) and value > 0:
            return int(value)
    for function in getattr(scheduler, "lr_lambdas", ()):
        value = getattr(function, "keywords", {}).get("num_training_steps")
        if isinstance(value, int | float) and value > 0:
            return int(value)
    return None


def counts_steps(scheduler: Any) -> bool | None:
    """True where a unit is an optimizer step by construction, False for epochs, else None."""
    name = type(scheduler).__name__
    if name in ("OneCycleLR", "CyclicLR"):
        return True
    if name == "ReduceLROnPlateau":
        return False
    for function in getattr(scheduler, "lr_lambdas", ()):
        home = getattr(getattr(function, "func", function), "__module__", "") or ""
        if home.startswith("transformers"):
            return True
    return None
