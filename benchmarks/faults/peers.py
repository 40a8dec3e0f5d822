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
import importlib
import io
import logging
import re
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from faults import recipe as recipes
from faults.recipe import Recipe

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "build" / "peers"
PACKAGES = ("training-doctor==0.1.0", "torch-audit==0.3.0", "torchmortem==0.1.1",
            "runmedic==0.1.1", "trl", "plotly", "rich", "click")  # fmt: skip
NAMES = ("training-doctor", "torch-audit", "torchmortem", "runmedic", "library warnings")
# The most severe level of each tool's own.
SEVERE = {"critical", "error", "fatal"}
LIBRARIES = ("transformers", "peft", "trl", "accelerate", "torch")

Alarms = set[tuple[str, str]]  # (what, level)


def package(name: str) -> Any:
    """A module of a peer, which lies in a target of its own."""
    if str(FOLDER) not in sys.path:
        sys.path.append(str(FOLDER))
    return importlib.import_module(name)


class Told:
    """What a loop tells at each step, handed on to those who want it; a stand-in for `Watch`."""

    def __init__(self, recipe: Recipe, model: Any, optimizer: Any, ears: list[Any]) -> None:
        self.ears, self.optimizer, self.steps, self.norm = ears, optimizer, 0, None
        clip = recipe.line.clip

        def clipped(model: Any, limit: float) -> Any:
            self.norm = clip(model, limit)
            return self.norm

        recipe.line.clip = clipped

    def step(self, loss: Any, batch: Any = None) -> None:
        """One step: loss, rate and, where it is clipped, the gradient's norm."""
        self.steps += 1
        told = {"loss": float(loss), "lr": float(self.optimizer.param_groups[0]["lr"])}
        if self.norm is not None:
            told["grad_norm"] = float(self.norm)
        for ear in self.ears:
            ear(self.steps, told)

    def evaluate(self, metrics: dict[str, float], **_: Any) -> None:
        """One evaluation."""
        for ear in self.ears:
            ear(self.steps, {f"eval_{name}": float(value) for name, value in metrics.items()})


# -- one tool each: a context that yields an ear for a loop, and alarms when it is over -----------


def training_doctor(recipe: Recipe) -> Alarms:
    """By `doctor.log` in a loop; by the repaired callback in a `Trainer`."""
    doctor = package("training_doctor").Doctor()

    def hear(step: int, told: dict[str, float]) -> None:
        doctor.log(step=step, **told)

    def callback() -> Any:
        import transformers

        own = package("training_doctor.integrations").HuggingFaceCallback

        class Repaired(own, transformers.TrainerCallback):
            pass

        return Repaired(doctor=doctor, auto_print=False)

    run(recipe, ear=hear, callback=callback)
    return {(d.problem, d.severity.value) for d in doctor.diagnoses}


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


def runmedic(recipe: Recipe) -> Alarms:
    """Reads a CSV of the loop's numbers, or the folder that the `Trainer` leaves."""
    rows: dict[int, dict[str, float]] = {}

    def hear(step: int, told: dict[str, float]) -> None:
        named = {"train/loss": told.get("loss"), "val/loss": told.get("eval_loss"),
                 "lr": told.get("lr"), "grad_norm": told.get("grad_norm")}  # fmt: skip
        rows.setdefault(step, {}).update({k: v for k, v in named.items() if v is not None})

    with tempfile.TemporaryDirectory() as folder:
        run(recipe, ear=hear, folder=folder)
        if rows:
            names = ["step", *dict.fromkeys(name for row in rows.values() for name in row)]
            with open(f"{folder}/metrics.csv", "w", newline="") as file:
                writer = csv.DictWriter(file, names)
                writer.writeheader()
                writer.writerows({"step": step, **row} for step, row in rows.items())
        found: Alarms = set()
        for one in package("runmedic.loaders").load(folder):
            roles = package("runmedic.roles").detect(one)
            for finding in package("runmedic.checks").run_checks(one, roles):
                found.add((finding.check, finding.severity))
    return found


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


TOOLS = dict(
    zip(NAMES, (training_doctor, torch_audit, torchmortem, runmedic, library_warnings), strict=True)
)


# -- a run of the script, without our doctor -----------------------------------------------------


@contextlib.contextmanager
def nothing(model: Any, optimizer: Any) -> Iterator[None]:
    """Attaches nothing."""
    yield


def run(
    recipe: Recipe, *, ear: Any = None, attach: Any = nothing, callback: Any = None,
    folder: str = "", library: bool = False,
) -> None:  # fmt: skip
    """Train as the script says; what a fault raises is the script's own business."""
    import transformers

    transformers.set_seed(recipe.seed)
    with tempfile.TemporaryDirectory() as made, contextlib.redirect_stdout(io.StringIO()):
        with contextlib.suppress(Exception):
            model = recipe.prepare(recipe.model())
            if recipe.loop == "trainer":
                _trained(recipe, model, ear, attach, callback, folder or made, library)
            else:
                _looped(recipe, model, ear, attach)


def _looped(recipe: Recipe, model: Any, ear: Any, attach: Any) -> None:
    optimizer = recipe.make_optimizer(model)
    schedule = recipe.make_schedule(optimizer)
    recipe.late(model)
    with attach(model, optimizer):
        told = Told(recipe, model, optimizer, [ear] if ear else [])
        recipes.loop(recipe, model, optimizer, schedule, recipe.loaders(), told)


def _trained(
    recipe: Recipe, model: Any, ear: Any, attach: Any, callback: Any, folder: str, library: bool
) -> None:
    recipe.args |= {"logging_steps": 1}
    if library and recipe.trainer is None and recipe.family in ("sft", "lora-sft", "gpt2"):
        recipe.trainer = _sft_trainer
    trainer = recipes.make_trainer(recipe, model, folder)
    recipe.late(trainer.model)
    own = callback() if callback else None
    if own is not None:
        trainer.add_callback(own)
    elif ear is not None:
        trainer.add_callback(_listener(ear))
    total = recipe.steps
    trainer.create_optimizer_and_scheduler(num_training_steps=total)
    with attach(trainer.model, trainer.optimizer):
        try:
            trainer.train(**recipe.note.get("train", {}))
        finally:
            trainer.save_state()


def _listener(ear: Any) -> Any:
    import transformers

    class Listener(transformers.TrainerCallback):
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            names = {"learning_rate": "lr"}
            numbers = {k: v for k, v in (logs or {}).items() if isinstance(v, float | int)}
            told = {names.get(k, k): v for k, v in numbers.items()}
            if "loss" in told or "eval_loss" in told:
                ear(state.global_step, told)

    return Listener()


def _sft_trainer() -> Any:
    """TRL's `SFTTrainer`, given rows that are tokenized already."""
    trl = package("trl")

    def make(*, args: Any, train_dataset: Any, eval_dataset: Any, **given: Any) -> Any:
        from datasets import Dataset

        own = {name: value for name, value in args.to_dict().items() if value is not None}
        kept = ("output_dir", "learning_rate", "max_steps", "warmup_steps", "weight_decay", "seed",
                "per_device_train_batch_size", "per_device_eval_batch_size", "use_cpu",
                "gradient_accumulation_steps", "max_grad_norm", "save_strategy", "logging_steps",
                "eval_strategy", "eval_steps", "bf16", "disable_tqdm")  # fmt: skip
        config = trl.SFTConfig(
            **{name: own[name] for name in kept if name in own}, report_to="none",
            max_length=None, gradient_checkpointing=False,
        )  # fmt: skip
        names = ("input_ids", "attention_mask", "labels")
        rows = [
            Dataset.from_list([{k: row[k] for k in names if k in row} for row in part])
            for part in (train_dataset, eval_dataset)
        ]
        given = {k: v for k, v in given.items() if v is not None}
        return trl.SFTTrainer(args=config, train_dataset=rows[0], eval_dataset=rows[1], **given)

    return make


def alarms(recipe_of: Any) -> dict[str, list[list[str]]]:
    """What every tool says about a script; `recipe_of()` makes it anew for each."""
    found = {}
    for name, tool in TOOLS.items():
        torch.manual_seed(0)
        try:
            found[name] = sorted([what, level] for what, level in tool(recipe_of()))
        except Exception as error:  # the tool itself fell over
            found[name] = [[f"raised {type(error).__name__}: {error}"[:200], "raised"]]
    return found
