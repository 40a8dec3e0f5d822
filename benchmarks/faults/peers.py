"""What other tools say about a run of the bench, each used as its authors intend.

training-doctor is told loss, rate, gradient norm and evaluation loss at each step, or hangs on the
`Trainer` by its callback; torch-audit patches model and optimizer; torchmortem is stepped inside
its context; runmedic reads the log afterwards; and the warnings of transformers, PEFT, TRL,
accelerate and torch are caught. None of them sees what the others see; nothing here judges.

training-doctor 0.1.0 had to be repaired: its documented callback is no `TrainerCallback` and
raises under transformers 5; `Repaired` derives from both.
"""

from __future__ import annotations

import contextlib
import csv
import logging
import re
import tempfile
import warnings
from collections.abc import Iterator
from typing import Any

import torch

from faults.peer_runs import package, run
from faults.recipe import Recipe

PACKAGES = ("training-doctor==0.1.0", "torch-audit==0.3.0", "torchmortem==0.1.1",
            "runmedic==0.1.1", "trl", "plotly", "rich", "click")  # fmt: skip
NAMES = ("training-doctor", "torch-audit", "torchmortem", "runmedic", "library warnings")
# The most severe level of each tool's own.
SEVERE = {"critical", "error", "fatal"}
LIBRARIES = ("transformers", "peft", "trl", "accelerate", "torch")

Alarms = set[tuple[str, str]]  # (what, level)


# -- one tool each: a context that yields an ear for a loop, and alarms when it is over -----------


def torch_audit(recipe: Recipe) -> Alarms:
    """By `autopatch`, every step audited."""
    held: list[Any] = []

    @contextlib.contextmanager
    def attach(model: Any, optimizer: Any) -> Iterator[None]:
        patch = package("torch_audit").autopatch
        auditor = patch(
            model, optimizer=optimizer, every_n_steps=1, reporters=[], fail_level="FATAL",
            suppress_internal_errors=True,
        )  # fmt: skip
        held.append(auditor)
        try:
            yield
        finally:
            auditor.unpatch()

    run(recipe, attach=attach)
    if not held:
        return set()
    return {(f.rule_id, f.severity.value.lower()) for f in held[0].finish(report=False).findings}


def torchmortem(recipe: Recipe) -> Alarms:
    """Inside `Autopsy`, stepped with the loss."""
    held: list[Any] = []

    @contextlib.contextmanager
    def attach(model: Any, optimizer: Any) -> Iterator[None]:
        with package("torchmortem").Autopsy(model, optimizer=optimizer) as autopsy:
            held.append(autopsy)
            yield

    def hear(step: int, told: dict[str, float]) -> None:
        if held and "loss" in told:
            held[0].step(loss=told["loss"])

    run(recipe, ear=hear, attach=attach)
    report = held[0].get_report() if held else None
    found = report.findings if report else []
    return {(f"{f.detector}: {f.category}", f.severity.name.lower()) for f in found}


def listeners(recipe: Recipe) -> dict[str, Alarms]:
    """One run for the two that need its numbers only: told at each step, and read afterwards.

    training-doctor is told by `doctor.log` in a loop and by the repaired callback in a `Trainer`;
    runmedic reads a CSV of the loop's numbers, and the folder that the `Trainer` leaves.
    """
    doctor, rows = package("training_doctor").Doctor(), {}

    def hear(step: int, told: dict[str, float]) -> None:
        if recipe.loop != "trainer":
            doctor.log(step=step, **told)
        named = {"train/loss": told.get("loss"), "val/loss": told.get("eval_loss"),
                 "lr": told.get("lr"), "grad_norm": told.get("grad_norm")}  # fmt: skip
        rows.setdefault(step, {}).update({k: v for k, v in named.items() if v is not None})

    with tempfile.TemporaryDirectory() as folder:
        run(recipe, ear=hear, callback=lambda: _repaired(doctor), folder=folder)
        medic = _read_afterwards(folder, rows)
    return {
        "training-doctor": {(d.problem, d.severity.value) for d in doctor.diagnoses},
        "runmedic": medic,
    }


def _repaired(doctor: Any) -> Any:
    import transformers

    own = package("training_doctor.integrations").HuggingFaceCallback

    class Repaired(own, transformers.TrainerCallback):
        pass

    return Repaired(doctor=doctor, auto_print=False)


def _read_afterwards(folder: str, rows: dict[int, dict[str, float]]) -> Alarms:
    if rows:
        names = ["step", *dict.fromkeys(name for row in rows.values() for name in row)]
        with open(f"{folder}/metrics.csv", "w", newline="") as file:
            writer = csv.DictWriter(file, names)
            writer.writeheader()
            writer.writerows({"step": step, **row} for step, row in rows.items())
    return {
        (finding.check, finding.severity)
        for one in package("runmedic.loaders").load(folder)
        for finding in package("runmedic.checks").run_checks(
            one, package("runmedic.roles").detect(one)
        )
    }


def library_warnings(recipe: Recipe) -> Alarms:
    """Everything that transformers, PEFT, TRL, accelerate and torch warn of, numbers left out."""
    records: list[logging.LogRecord] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = records.append
    loggers = [logging.getLogger(name) for name in LIBRARIES]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            run(recipe, library=True)
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.removeHandler(handler)
            logger.setLevel(level)
    ours = [w for w in caught if any(f"/{name}/" in w.filename for name in LIBRARIES)]
    said = [(str(w.message), "warning") for w in ours]
    said += [(record.getMessage(), record.levelname.lower()) for record in records]
    return {(part, level) for words, level in said for part in _parts(words)}


def _parts(words: str) -> list[str]:
    """A warning without its numbers; a report of loading, whose rows have no order, row by row."""
    rows = re.findall(r"(\S+)\s*\| (MISSING|UNEXPECTED|MISMATCH)", words)
    return [": ".join(row) for row in rows] or [re.sub(r"\d+|/\S+", "#", words)[:200]]


# Each takes a fresh script and says what its tools raise.
TOOLS: dict[tuple[str, ...], Any] = {
    ("training-doctor", "runmedic"): listeners,
    ("torch-audit",): lambda recipe: {"torch-audit": torch_audit(recipe)},
    ("torchmortem",): lambda recipe: {"torchmortem": torchmortem(recipe)},
    ("library warnings",): lambda recipe: {"library warnings": library_warnings(recipe)},
}


def alarms(recipe_of: Any) -> dict[str, list[list[str]]]:
    """What every tool says about a script; `recipe_of()` makes it anew for each."""
    found: dict[str, list[list[str]]] = {}
    for names, tool in TOOLS.items():
        torch.manual_seed(0)
        try:
            said = tool(recipe_of())
        except Exception as error:  # the tool itself fell over
            raised = [[f"raised {type(error).__name__}: {error}"[:200], "raised"]]
            found |= dict.fromkeys(names, raised)
            continue
        found |= {name: sorted([what, level] for what, level in said[name]) for name in names}
    return found
