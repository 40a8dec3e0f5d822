"""`Watch`: the online doctor for any PyTorch loop.

    with Watch(model, optimizer, scheduler) as watch:
        for batch in loader:
            loss = …; loss.backward(); optimizer.step(); scheduler.step(); optimizer.zero_grad()
            watch.step(loss, batch=batch)
        watch.evaluate(accuracy)
    print(watch.report)

It changes nothing in the run and judges nothing itself: `monitor` records, the files named in
`DETECTORS` judge. `callback.Doctor` is the same for transformers' `Trainer`. Chapter 13.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from cookbook.doctor import examination, order, resuming
from cookbook.doctor.findings import Finding
from cookbook.doctor.monitor import Monitor
from cookbook.doctor.records import Run
from cookbook.doctor.report import Report

# Each lists its checks in CHECKS: functions of a `records.Run` that yield Findings.
DETECTORS = ("divergence_detectors", "ascent_detectors", "movement_detectors", "schedule_detectors",
             "gradient_detectors", "precision_detectors", "evaluation_detectors",
             "run_detectors")  # fmt: skip
LOOK_EVERY = 10  # steps between two judgements, where somebody wants to be told at once


class RunStopped(RuntimeError):
    """Raised by `Watch.step` under `stop_on_error`: the report names an error."""


def judge(run: Run) -> Report:
    """What the online detectors find in a run, so far or at its end."""
    run.settle()
    findings, checked, reasons = [], [], {}
    for file in DETECTORS:
        for check in importlib.import_module(f"cookbook.doctor.{file}").CHECKS:
            found, reason = examination.attempt(check, run)
            findings += found
            if reason and reason != "does not apply":
                reasons[check.__name__] = reason
            elif not reason:
                checked.append(check.__name__)
    return Report(findings, checked=checked, not_checked=reasons)


class Watch:
    """Watch a training loop; `report` is what it has found, readable at any time.

    `optimizer` may be a list of them. `scaler` is the loop's `GradScaler`, `train_dataloader` what
    it iterates over (its sampler and length are read), `planned` the optimizer steps of the whole
    run and `resumed` those that lie behind it. `on_finding(finding)` is called once for each fault,
    soon after it shows; `stop_on_error` makes `step` raise `RunStopped` then. `overhead` is the CPU
    time in seconds spent so far inside the hooks. Outside its `with` block it is deaf.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Any,
        lr_scheduler: Any = None,
        *,
        train_dataloader: Any = None,
        scaler: Any = None,
        planned: int | None = None,
        resumed: int = 0,
        on_finding: Callable[[Finding], None] | None = None,
        stop_on_error: bool = False,
    ) -> None:
        several = isinstance(optimizer, list | tuple)
        self.model, self.optimizers = model, list(optimizer) if several else [optimizer]
        self.lr_scheduler = lr_scheduler
        self.how = {"loader": train_dataloader, "scaler": scaler, "planned": planned,
                    "resumed": resumed}  # fmt: skip
        self.on_finding, self.stop_on_error = on_finding, stop_on_error
        self.monitor: Monitor | None = None
        self.told: set[str] = set()

    def __enter__(self) -> Watch:
        self.monitor = Monitor(self.model, self.optimizers, self.lr_scheduler, **self.how)
        self.monitor.run.facts |= {
            "shuffles": order.shuffles(self.how["loader"]),
            "not_resumed": resuming.missing(
                self.optimizers[0], self.lr_scheduler, self.how["resumed"]
            ),
        }
        if self.how["loader"] is None:
            self.monitor.undo.append(order.follow(self.monitor.seen, self.monitor.cost))
        return self

    def __exit__(self, *_: Any) -> None:
        if self.monitor is not None:
            self.monitor.close()

    @property
    def report(self) -> Report:
        """What was found so far; after the `with` block, what was found in all."""
        if self.monitor is None:
            return Report([], not_checked={"the run": "Watch was not entered: use `with Watch(…)`"})
        report = judge(self.monitor.run)
        if self.monitor.cost.failure:
            report = report + Report([], not_checked={"a hook": self.monitor.cost.failure})
        return report

    @property
    def overhead(self) -> float:
        """CPU seconds spent inside the hooks so far."""
        return self.monitor.cost.seconds if self.monitor else 0.0

    def step(self, loss: torch.Tensor | float, batch: Any = None) -> None:
        """Tell of a step: the raw loss and, if at hand, the batch. Anywhere after `backward`."""
        if self.monitor is None or not self.monitor.undo:
            return
        self.monitor.observing(loss, batch)
        if (self.on_finding or self.stop_on_error) and self._due():
            self._tell()

    def evaluate(
        self,
        metric: float | Mapping[str, float],
        *,
        predictions: Any = None,
        labels: Any = None,
        rows: int | None = None,
        greater_is_better: bool = True,
    ) -> None:
        """Tell of an evaluation: one number, or several by name (a name with "loss" falls).

        `predictions` are classes (rows,) or scores (rows, classes) and `labels` (rows,); `rows` is
        how many rows the evaluation set has.
        """
        if self.monitor is None or not self.monitor.undo:
            return
        named = metric if isinstance(metric, Mapping) else {
            "metric" if greater_is_better else "loss": metric
        }  # fmt: skip
        numbers = {name: float(v) for name, v in named.items() if is_number(v)}
        self.monitor.evaluated(numbers, predictions, labels, rows)

    def _due(self) -> bool:
        steps = self.monitor.run.steps
        return steps > 0 and steps % LOOK_EVERY == 0 and steps != self.__dict__.get("looked")

    def _tell(self) -> None:
        self.looked = self.monitor.run.steps
        report = self.report
        for found in report.all:
            if found.severity != "info" and found.fault not in self.told:
                self.told.add(found.fault)
                if self.on_finding is not None:
                    self.on_finding(found)
        if self.stop_on_error and report.primary and report.primary.severity == "error":
            raise RunStopped(str(report.primary))


def is_number(value: Any) -> bool:
    """Whether this can be read as one real number.

    >>> is_number(0.5), is_number("0.5"), is_number(torch.tensor(1.0)), is_number([1])
    (True, False, True, False)
    """
    if isinstance(value, torch.Tensor):
        return value.numel() == 1
    return isinstance(value, int | float) or hasattr(value, "__float__") and math.isfinite(value)
