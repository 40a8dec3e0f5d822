"""A script of the bench as it runs without our doctor, under whatever a peer attaches to it.

`run` trains it and tells an ear the numbers of each step. It knows no tool.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from faults import recipe as recipes
from faults.recipe import Recipe

FOLDER = Path(__file__).resolve().parents[2] / "build" / "peers"


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
    if ear is not None:
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
