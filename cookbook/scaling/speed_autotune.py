"""Try a handful of settings for a minute, and return `TrainingArguments` with the reasons.

`autotune` measures: precision, then rows in a forward pass, then whether activation checkpointing
is needed. It leaves the mathematics alone: the number of rows that make one update is given, and
what a forward pass does not hold is accumulated. It looks for no learning rate (`range_test` and
`random_search` of `training` do). Chapter 10.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from cookbook.live_memory import LiveMemory
from cookbook.scaling.calculator import parse_bytes, readable
from cookbook.scaling.speed_setups import checkpoint_layers
from cookbook.training.loop import autocast, to_device


@dataclass(frozen=True)
class Tuned:
    """What was chosen, why, and everything that was tried: speed in rows a second."""

    arguments: Any
    reasons: list[str]
    tried: list[dict[str, Any]]

    def __str__(self) -> str:
        return "\n".join(self.reasons)


def autotune(
    model: torch.nn.Module,
    data: Any,
    *,
    collate: Callable[[list], dict] | None = None,
    update: int = 32,
    seconds: float = 60.0,
    memory: str | int | None = None,
    precisions: tuple[str, ...] = (),
    output_dir: str = "build/autotuned",
    clock: Callable[[], float] = time.perf_counter,
    **arguments: Any,
) -> Tuned:
    """`TrainingArguments` for `model` on `data`: the fastest that were tried within `seconds`.

    `data` is a map-style data set of rows, which `collate` makes into batches with `labels`
    (default: torch's). `update` rows make one update in every setting: rows in a forward pass times
    accumulation. `memory` ("2GB") is what a step may hold, in live bytes; without it nothing is
    turned down for its memory. The model is copied, and stays as it is. `clock` is read around each
    step; a trial that time has run out for is not made, and the reasons say so. Further `arguments`
    go to `TrainingArguments`. Raises ValueError where `memory` holds not even one row.
    """
    import transformers

    trial = _Trials(model, data, collate, clock, seconds)
    precisions = precisions or _precisions(next(model.parameters()).device)
    reasons: list[str] = []
    sizes = [n for n in (4, 8, 16, 32, 64) if n <= update and update % n == 0] or [update]
    middle = sizes[min(1, len(sizes) - 1)]
    precision = trial.best("precision", precisions, reasons, rows=middle)
    limit = parse_bytes(memory) if memory else None
    rows, checkpointing = _rows(trial, sizes, precision, limit, reasons)
    reasons.append(f"accumulation {update // rows}: {rows} rows in a forward pass make {update} in "
                   "an update, so that the mathematics stays what it was")  # fmt: skip
    args = transformers.TrainingArguments(**{
        "output_dir": output_dir, "per_device_train_batch_size": rows,
        "gradient_accumulation_steps": update // rows, "bf16": precision == "bf16",
        "fp16": precision == "fp16", **(_checkpointing() if checkpointing else {}),
        "optim": "adamw_torch_fused", "use_cpu": trial.device.type == "cpu", "report_to": "none",
        "dataloader_pin_memory": trial.device.type == "cuda", **arguments,
    })  # fmt: skip
    return Tuned(args, reasons, trial.tried)


def _checkpointing() -> dict[str, Any]:
    """The two arguments under the name that this version of transformers has for them."""
    import transformers

    new = "activation_checkpointing" in transformers.TrainingArguments.__dataclass_fields__
    name = "activation_checkpointing" if new else "gradient_checkpointing"
    return {name: True, f"{name}_kwargs": {"use_reentrant": False}}


def _precisions(device: torch.device) -> tuple[str, ...]:
    if device.type != "cuda":
        return "fp32", "bf16"
    return "fp32", "bf16" if torch.cuda.is_bf16_supported() else "fp16"


def _rows(
    trial: _Trials, sizes: list[int], precision: str, limit: int | None, reasons: list[str]
) -> tuple[int, bool]:
    """Rows in a forward pass, and whether checkpointing has to make room for them."""
    for checkpointing in (False, True):
        if limit is None:
            fit = sizes
        else:
            held = {n: trial.peak(n, precision, checkpointing) for n in sizes}
            fit = [n for n, size in held.items() if size <= limit]
            reasons += [f"{n} rows hold {readable(held[n])}"
                        f"{' with checkpointing' * checkpointing}: more than {readable(limit)}"
                        for n in sizes if n not in fit]  # fmt: skip
        if fit:
            if checkpointing:
                reasons.append("activation checkpointing: without it not even one size fits")
            return trial.best("rows", tuple(fit), reasons, precision=precision,
                              checkpointing=checkpointing), checkpointing  # fmt: skip
    raise ValueError(f"{readable(limit or 0)} hold not even {sizes[0]} rows: shorten them")


class _Trials:
    """Times steps of copies of a model; keeps what it tried, and the time that is left."""

    def __init__(self, model: Any, data: Any, collate: Any, clock: Any, seconds: float) -> None:
        self.model, self.data, self.clock = model, data, clock
        self.collate = collate or torch.utils.data.default_collate
        self.device = next(model.parameters()).device
        self.end = clock() + seconds
        self.tried: list[dict[str, Any]] = []

    def best(self, name: str, values: tuple, reasons: list[str], **given: Any) -> Any:
        """The value with the most rows a second; each is tried in two turns."""
        speeds: dict[Any, float] = {}
        steps = {value: self._step(**{**given, name: value}) for value in values}
        for _ in range(2):
            for value, step in steps.items():
                if self.clock() > self.end and (value in speeds or len(speeds) > 0):
                    continue
                speeds[value] = max(speeds.get(value, 0.0), self._speed(step))
        chosen = max(speeds, key=speeds.get)
        self.tried += [{**given, name: v, "rows_per_second": s} for v, s in speeds.items()]
        told = ", ".join(f"{v} {s:,.0f}" for v, s in speeds.items())
        left = [str(v) for v in values if v not in speeds]
        late = f"; no time was left for {', '.join(left)}" if left else ""
        reasons.append(f"{name} {chosen}: rows a second were {told}{late}")
        return chosen

    def peak(self, rows: int, precision: str, checkpointing: bool) -> int:
        """Live bytes of one update with the state of the optimizer there."""
        step = self._step(rows=rows, precision=precision, checkpointing=checkpointing)
        step()
        with LiveMemory(step.model, step.optimizer) as memory:
            step()
        return memory.peak

    def _speed(self, step: _Step) -> float:
        try:
            if not step.warm:
                step()
            began = self.clock()
            step()
        except torch.OutOfMemoryError:
            return 0.0
        return step.rows / max(self.clock() - began, 1e-9)

    def _step(self, *, rows: int, precision: str, checkpointing: bool = False) -> _Step:
        model = copy.deepcopy(self.model).train()
        if checkpointing:
            checkpoint_layers(model)
        return _Step(model, self._batches(rows), rows, precision, self.device)

    def _batches(self, rows: int) -> Iterator[dict]:
        start = 0
        while True:
            wanted = [(start + i) % len(self.data) for i in range(rows)]
            yield self.collate([self.data[i] for i in wanted])
            start += rows


class _Step:
    """An update of one forward pass: loss, gradient, clipping, fused AdamW."""

    def __init__(self, model: Any, batches: Any, rows: int, precision: str, device: Any) -> None:
        self.model, self.batches, self.rows = model, batches, rows
        self.precision, self.device, self.warm = precision, device, False
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
        self.scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")

    def __call__(self) -> None:
        batch = to_device(dict(next(self.batches)), self.device)
        with autocast(self.device, self.precision):
            loss = self.model(**batch)["loss"]
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimizer)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()
        self.warm = True
        if self.device.type == "cuda":
            torch.cuda.synchronize()
