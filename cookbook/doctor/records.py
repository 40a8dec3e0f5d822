"""What a watched run leaves behind: one small record a step, evaluations, a few facts.

Plain data, which `monitor` fills and the detectors read; nothing here looks at a model. The history
is bounded: an old record is dropped, every second one, so that a long run keeps its shape.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch

LONGEST = 4000  # records that are kept at most
RECENT = 1000  # of which the last are never thinned


@dataclass(slots=True)
class Record:
    """One optimizer step. What was not measured at this step is None.

    `loss` is the raw mean loss of its window; `grad` the norm of the sampled gradient, `norm` that
    of all of it; `update` is the median ‖Δw‖/‖w‖ of the sampled weights, `angle` the cosine between
    Δw and the gradient; `clipped` is the gradient at the step over the one that arrived, `turned`
    the cosine between these two.
    """

    step: int
    loss: Any = None
    rate: float | None = None
    micro: int = 0  # backward passes of the window
    grad: Any = None
    norm: Any = None
    update: Any = None
    moved: Any = None  # did any sampled weight change
    undone: Any = None  # had all come back to what they were before the step before
    angle: Any = None
    overshoot: Any = None  # cosine of the last Δw and this gradient: above 0 it went too far
    clipped: Any = None
    turned: Any = None
    fresh: Any = None  # did the window begin with gradients that were zero
    swallowed: Any = None  # share of half-precision weights with a gradient that did not change
    stuck: Any = None  # the same since the anchor, many steps ago
    scale: float | None = None  # of the GradScaler
    wait: float | None = None  # seconds between the last step and the first forward pass
    seconds: float | None = None  # since the last step
    memory: int | None = None  # bytes on the accelerator
    spread: Any = None  # standard deviation of the logits across rows

    def settle(self) -> None:
        """Device tensors become numbers; called in batches, since it may wait for the device."""
        for name in self.__slots__:
            value = getattr(self, name)
            if isinstance(value, torch.Tensor):
                setattr(self, name, value.item())


@dataclass
class Evaluation:
    """One evaluation after `step` optimizer steps. `scored` and `rows` count its rows.

    `counts` is the confusion, (classes, classes) with labels in rows, where predictions were seen.
    `forwards` passes of the model went with it, of which `in_training_mode` had all dropout and
    batch norms in training mode.
    `surprise` is the plain mean cross-entropy of the counted rows, None where no scores were seen.
    """

    step: int
    metrics: dict[str, float]
    scored: int | None = None
    rows: int | None = None
    counts: torch.Tensor | None = None
    forwards: int = 0
    in_training_mode: int = 0
    surprise: float | None = None


@dataclass
class Schedule:
    """What is known of the learning-rate schedule, and how often it was stepped by whom."""

    name: str = ""
    calls: int = 0  # without the epoch given: one more unit of whatever the schedule counts
    placed: int = 0  # with the epoch given: the caller says where it stands
    first: int = 0  # last_epoch when the watch began
    horizon: int | None = None  # units after which it has run out
    counts_steps: bool | None = None  # True: one unit is one optimizer step by construction
    mode: str = ""  # of one that waits for a plateau: "min" or "max" …
    watched: list[float] = field(default_factory=list)  # … and what it was shown first


@dataclass
class Run:
    """All that the online detectors read. `planned` optimizer steps, of which `resumed` lie before
    this run; `closed` once it is over. `facts` are what was found about parameters and adapters."""

    records: list[Record] = field(default_factory=list)
    evaluations: list[Evaluation] = field(default_factory=list)
    schedule: Schedule | None = None
    planned: int | None = None
    resumed: int = 0
    closed: bool = False
    accelerator: bool = False
    steps: int = 0  # optimizer steps
    backwards: int = 0
    forwards: int = 0  # training forward passes
    discarded: int = 0  # times that gradients vanished without a step
    told: int = 0  # losses that the loop reported
    attempts: int = 0  # steps through a GradScaler …
    skipped: list[int] = field(default_factory=list)  # … and which of them it skipped
    unlabelled: list[int] = field(default_factory=list)  # forward passes without any label
    labelled: int = 0  # forward passes whose labels were looked at
    bad: dict[str, Any] | None = None  # the first loss or gradient that was not finite
    not_finite: list[int] = field(default_factory=list)  # training passes in which one was seen
    uphill: list[tuple[int, float]] = field(default_factory=list)  # rows, share of them with a
    # gradient above 0 at their own label's logit
    loss_gradients: list[float] = field(default_factory=list)  # of what is descended, by own loss
    told_by_own: list[float] = field(default_factory=list)  # the loop's loss over the model's own
    dropout_on: int = 0  # training passes with it …
    dropout_off: int = 0  # … and the latest ones in a row without
    again: int = 0  # times that a gradient came back to an older pass, after its first time
    graphs: tuple[int, int] = (0, 0)  # past losses whose graph is still held, of so many
    batches: list[str] = field(default_factory=list)  # hashes of the first batches
    widths: list[int] = field(default_factory=list)  # of those: the length of their rows
    epochs: dict[int, str] = field(default_factory=dict)  # epoch → hashes of its first batches
    logs: list[dict[str, float]] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    settled: int = 0

    def add(self, record: Record) -> None:
        """One more step; the oldest half is thinned where there are too many."""
        self.records.append(record)
        if len(self.records) > LONGEST:
            old = len(self.records) - RECENT
            self.records = self.records[:old:2] + self.records[old:]
            self.settled = 0

    def settle(self) -> None:
        """Every pending device tensor as a number; what is settled already is not looked at."""
        for record in self.records[self.settled :]:
            record.settle()
        self.settled = max(0, len(self.records) - 2)  # the last may still be filled

    def line(self, name: str, records: Iterable[Record] | None = None) -> list[tuple[float, float]]:
        """(step, value) wherever `name` was measured and is finite."""
        found = []
        for record in self.records if records is None else records:
            value = getattr(record, name)
            if value is not None and math.isfinite(value):
                found.append((record.step, float(value)))
        return found

    def values(self, name: str, records: Iterable[Record] | None = None) -> list[float]:
        """The finite values of a field, in order."""
        return [value for _, value in self.line(name, records)]
