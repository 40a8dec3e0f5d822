"""`Doctor`: the doctor as a callback of transformers' `Trainer`.

    doctor = Doctor()
    trainer = Trainer(…, callbacks=[doctor])
    trainer.train()
    print(doctor.report)

Before the first step it examines model, data and settings as `examine` does; then it watches, as
`Watch` does. It changes nothing in the run, and nothing that goes wrong inside it reaches the run.
This file imports `transformers` at the top, because its class derives from it. Chapter 13.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import transformers

from cookbook.doctor import checkpoint, examination, resuming, sampling, trainer_taps
from cookbook.doctor.findings import Finding
from cookbook.doctor.monitor import Monitor
from cookbook.doctor.report import Report
from cookbook.doctor.subject import Subject
from cookbook.doctor.watch import LOOK_EVERY, is_number, judge

LARGE, ROWS = 50_000_000, 2  # parameters of a model whose checkpoint is read back; rows it is fed
HUGE = 1_500_000_000  # parameters of a model of which no second copy is made for an examination


class Doctor(transformers.TrainerCallback):
    """Examine a `Trainer`'s run before it starts and watch it; `report` is what was found.

    `report` may be read at any time. `examine=False` leaves out the examination, which takes
    seconds on a small model. `loss_fn(outputs, batch)` is needed only where the run's loss is not
    the model's own. `on_finding(finding)` is called once for each fault, soon after it shows;
    `stop_on_error` ends training then. `overhead` is the CPU time in seconds inside the hooks.
    """

    def __init__(
        self,
        *,
        examine: bool = True,
        loss_fn: Callable | None = None,
        on_finding: Callable[[Finding], None] | None = None,
        stop_on_error: bool = False,
    ) -> None:
        self.examine, self.loss_fn = examine, loss_fn
        self.on_finding, self.stop_on_error = on_finding, stop_on_error
        self.examined = Report()
        self.monitor: Monitor | None = None
        self.taps: trainer_taps.Taps | None = None
        self.told: set[str] = set()
        self.failure = ""

    @property
    def report(self) -> Report:
        """What the examination and the run have shown so far, ranked together."""
        if self.monitor is None:
            reason = self.failure or "training has not begun"
            return self.examined + Report([], not_checked={"the run": reason})
        report = self.examined + judge(self.monitor.run)
        failure = self.failure or self.monitor.cost.failure
        return report + Report([], not_checked={"a hook": failure}) if failure else report

    @property
    def overhead(self) -> float:
        """CPU seconds spent inside the hooks so far, without the examination."""
        return self.monitor.cost.seconds if self.monitor else 0.0

    # -- events ------------------------------------------------------------------------------------

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Examine, then attach."""
        self._close()
        trainer = trainer_taps.calling_trainer()
        self._guarded(self._examine, args, trainer, kwargs)
        self._guarded(self._attach, args, state, trainer, kwargs)

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Epochs are counted, for the order of their batches."""
        if self.monitor is not None:
            self.monitor.seen.new_epoch(int(round(state.epoch or 0)))

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Tell at once what was found, if somebody wants to know."""
        if self.monitor is None or not (self.on_finding or self.stop_on_error):
            return
        if state.global_step % LOOK_EVERY == 0:
            self._guarded(self._tell, control)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        """What the Trainer writes down, filtered as it is."""
        if self.monitor is not None and logs:
            numbers = {k: float(v) for k, v in logs.items() if is_number(v)}
            self.monitor.run.logs.append(numbers | {"step": state.global_step})

    def on_evaluate(
        self, args: Any, state: Any, control: Any, metrics: Any = None, **kwargs: Any
    ) -> None:
        """An evaluation is over."""
        if self.monitor is None or not self.monitor.undo or not metrics:
            return
        numbers = {k: float(v) for k, v in metrics.items() if is_number(v)}
        rows = trainer_taps.rows_of(kwargs.get("eval_dataloader"))
        one_process = getattr(args, "world_size", 1) == 1
        self.monitor.evaluated(numbers, rows=rows if one_process else None)

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """The first checkpoint of a small model is compared with the model."""
        if self.monitor is not None and "saved" not in self.monitor.run.facts:
            self._guarded(self._compare_saved, args, state, kwargs.get("model"))

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """The run is over; its report is final."""
        self._close()

    # -- what they do ------------------------------------------------------------------------------

    def _guarded(self, function: Callable, *given: Any) -> None:
        try:
            function(*given)
        except Exception as error:  # the run is more important than what we think of it
            self.failure = f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"

    def _examine(self, args: Any, trainer: Any, given: dict[str, Any]) -> None:
        if not self.examine:
            return
        size = sum(p.numel() for p in given["model"].parameters())
        if size > HUGE:
            reason = f"{size:,} parameters: a second copy may not fit, call examine beforehand"
            self.examined = Report(not_checked={"the examination": reason})
            return
        held = trainer_taps.subject_of(args, trainer, given) | {"loss_fn": self.loss_fn}
        model = held.pop("model")
        with trainer_taps.undisturbed(trainer):
            self.examined = examination.run(Subject(model, **held))

    def _attach(self, args: Any, state: Any, trainer: Any, given: dict[str, Any]) -> None:
        model, optimizer = given["model"], given["optimizer"]
        resumed = state.global_step
        self.monitor = Monitor(
            trainer_taps.called_model(trainer, model), [optimizer], given.get("lr_scheduler"),
            scaler=getattr(optimizer, "scaler", None), loader=given.get("train_dataloader"),
            planned=state.max_steps or None, resumed=resumed, own_losses=trainer is None,
        )  # fmt: skip
        facts = self.monitor.run.facts
        facts["max_grad_norm"] = args.max_grad_norm
        facts["keeps_best"] = bool(args.load_best_model_at_end)
        folder, schedule = trainer_taps.resumed_from(), given.get("lr_scheduler")
        if resumed or folder:
            facts["not_resumed"] = [
                *resuming.missing(optimizer, schedule, resumed, args),
                *resuming.ahead(optimizer, schedule, resumed),
                *resuming.begun_anew(model, optimizer),
                *(resuming.missing_files(folder) if folder else []),
            ]
        if trainer is not None:
            self.taps = trainer_taps.Taps(trainer, self.monitor, self.loss_fn)

    def _compare_saved(self, args: Any, state: Any, model: Any) -> None:
        facts = self.monitor.run.facts
        facts["saved"] = None
        alone = args.world_size == 1 and sum(p.numel() for p in model.parameters()) < LARGE
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        if alone and folder.is_dir():
            inputs = self.monitor.seen.last
            batch = None if inputs is None else sampling.first_rows(inputs[1], ROWS) or None
            facts["saved"] = checkpoint.compare_saved(model, folder, batch)

    def _tell(self, control: Any) -> None:
        report = self.report
        for found in report.all:
            if found.severity != "info" and found.fault not in self.told:
                self.told.add(found.fault)
                if self.on_finding is not None:
                    self.on_finding(found)
        if self.stop_on_error and report.primary and report.primary.severity == "error":
            control.should_training_stop = True

    def _close(self) -> None:
        if self.taps is not None:
            self.taps.close()
        if self.monitor is not None:
            self.monitor.close()
        self.taps = None
