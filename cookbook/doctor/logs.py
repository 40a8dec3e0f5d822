"""The log of a finished run, whatever wrote it, as one list of entries by step.

Reads the `Trainer`'s `trainer_state.json`, a CSV with a header, or TensorBoard's event files (with
the package `tensorboard`). It interprets names, not numbers: `aftermath` judges them. Used by
`cookbook doctor RUN_DIR`, chapter 13.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# What people call the same thing; an evaluation's metric keeps its own name behind "eval_".
NAMES = {
    "step": ("step", "global_step", "steps", "iteration", "iter", "batch"),
    "epoch": ("epoch", "epochs"),
    "loss": ("loss", "train_loss", "training_loss", "loss_train"),
    "learning_rate": ("learning_rate", "lr", "rate"),
    "grad_norm": ("grad_norm", "gradient_norm", "grad", "gnorm"),
    "eval_loss": ("eval_loss", "val_loss", "valid_loss", "validation_loss", "test_loss"),
}
HELD_OUT = ("eval", "val", "valid", "validation", "test")


class LogError(ValueError):
    """The log cannot be read; one line that says what was found and what to do."""


@dataclass(frozen=True)
class RunLog:
    """`entries` are dicts of floats, each with `step`; `planned` is the number of steps or None.

    `best` names the checkpoint that counted as best, `best_value` is its metric.
    """

    source: str
    entries: list[dict[str, float]]
    planned: int | None = None
    best: str = ""
    best_value: float | None = None

    def line(self, name: str) -> list[tuple[float, float]]:
        """(step, value) of all entries that hold `name`.

        >>> RunLog("x", [{"step": 1.0, "loss": 2.0}, {"step": 2.0}]).line("loss")
        [(1.0, 2.0)]
        """
        return [(entry["step"], entry[name]) for entry in self.entries if name in entry]

    def metrics(self) -> list[str]:
        """The names of what evaluations measured beside their loss."""
        silent = ("eval_loss", "eval_runtime", "eval_samples_per_second", "eval_steps_per_second",
                  "eval_model_preparation_time")  # fmt: skip
        found = dict.fromkeys(name for entry in self.entries for name in entry)
        return [name for name in found if name.startswith("eval_") and name not in silent]


def read(path: str | Path) -> RunLog:
    """The log in a run's folder, or in one file. Raises LogError where there is none."""
    path = Path(path)
    if not path.exists():
        raise LogError(f"there is no file or folder {path}: name a run's output_dir or its log")
    file = path if path.is_file() else _find(path)
    if file.name.startswith("events.out.tfevents"):
        return _tensorboard(file)
    reader = {".json": _trainer_state, ".csv": _table}.get(file.suffix.lower())
    if reader is None:
        raise LogError(f"{file.name} is no log: give trainer_state.json, a .csv or event files")
    log = reader(file)
    if not log.entries:
        raise LogError(f"{file.name} holds no step with a loss, a rate or a metric")
    return log


def _find(folder: Path) -> Path:
    """The log of a run: the newest checkpoint's state, else event files, else the only CSV."""
    states = [folder / "trainer_state.json", *folder.glob("checkpoint-*/trainer_state.json")]
    states = [path for path in states if path.is_file()]
    if states:
        return max(states, key=lambda path: (_steps(path), path.parent == folder))
    events = sorted(folder.rglob("events.out.tfevents*"), key=lambda path: path.stat().st_size)
    if events:
        return events[-1]
    tables = sorted(folder.glob("*.csv"))
    if len(tables) == 1:
        return tables[0]
    held = ", ".join(sorted(p.name for p in folder.iterdir())[:8])
    if not held:
        raise LogError(f"the folder {folder} is empty: name a run's output_dir or its log")
    raise LogError(
        f"{folder} holds no trainer_state.json, no event files and not one .csv but {held}: "
        "name the file"
    )


def _steps(path: Path) -> int:
    try:
        return int(json.loads(path.read_text(encoding="utf-8")).get("global_step", 0))
    except (ValueError, OSError):
        return -1


def _trainer_state(path: Path) -> RunLog:
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
        history = state["log_history"]
    except (ValueError, KeyError, TypeError) as error:
        raise LogError(f"{path.name} is not what the Trainer writes ({error}): it is cut short or "
                       "another file") from error  # fmt: skip
    entries = [_numbers(entry) for entry in history if "train_runtime" not in entry]
    best = Path(state.get("best_model_checkpoint") or "").name
    planned = state.get("max_steps") or None
    return RunLog(path.name, _ordered(entries), planned, best, state.get("best_metric"))


def _table(path: Path) -> RunLog:
    with path.open(encoding="utf-8-sig", newline="") as lines:
        rows = list(csv.DictReader(lines))
    if not rows or not {"loss", "eval_loss"} & {_called(name) for name in rows[0] if name}:
        found = ", ".join(name for name in rows[0] if name) if rows else "no rows"
        raise LogError(f"{path.name} has no column for a loss: found {found}")
    return RunLog(path.name, _ordered(_numbers(row) for row in rows))


def _tensorboard(path: Path) -> RunLog:
    try:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    except ImportError:
        raise LogError(
            f"{path.name} is TensorBoard's: pip install tensorboard to read it"
        ) from None
    events = EventAccumulator(str(path), size_guidance={"scalars": 0, "tensors": 0})
    events.Reload()
    by_step: dict[int, dict[str, float]] = {}
    for tag in events.Tags()["scalars"]:
        for event in events.Scalars(tag):
            by_step.setdefault(event.step, {"step": event.step})[tag] = event.value
    return RunLog("TensorBoard's events", _ordered(_numbers(entry) for entry in by_step.values()))


def _numbers(entry: dict[str, Any]) -> dict[str, float]:
    """The entry's numbers under our names; NaN and infinity stay."""
    found = {}
    for name, value in entry.items():
        try:
            number = float(value)
        except (TypeError, ValueError):
            continue
        if name:
            found[_called(name)] = number
    return found


def _called(name: str) -> str:
    """Our name for a column or tag.

    >>> _called("train/loss"), _called("Val/Accuracy"), _called("LR")
    ('loss', 'eval_accuracy', 'learning_rate')
    """
    flat = name.strip().lower().replace("/", "_").replace(" ", "_").replace("-", "_")
    for known, others in NAMES.items():
        if flat in others or flat.removeprefix("train_") in others and known != "loss":
            return known
    first, _, rest = flat.partition("_")
    return f"eval_{rest}" if first in HELD_OUT and rest else flat


def _ordered(entries: Iterable[dict[str, float]]) -> list[dict[str, float]]:
    """By step; where nobody counted steps, by epoch or by line."""
    found = []
    for number, entry in enumerate(entries):
        step = entry.get("step", entry.get("epoch", float(number)))
        if len(entry.keys() - {"step", "epoch"}) and math.isfinite(step):
            found.append(entry | {"step": step})
    return sorted(found, key=lambda entry: entry["step"])
