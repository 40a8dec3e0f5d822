"""A training script as data: every line of it can be replaced, and that is what a fault does.

A `Recipe` holds what a short script holds: model, rows, collator, optimizer, schedule, loss, and
the lines of its loop, either transformers' `Trainer` or a handwritten one. `outcome` runs it under
the doctor, `examine` first and then the online part, and says what was found. It knows no fault.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader


@dataclass
class Recipe:
    """A script. `lines()` says which lines a handwritten loop has; `args` go to the `Trainer`."""

    family: str
    seed: int
    model: Callable[[], nn.Module]
    train: Any
    eval: Any
    collate: Callable | None = None
    tokenizer: Any = None
    loss: Callable | None = None  # loss(outputs, y) or loss(outputs, batch); None: the model's own
    metrics: Callable | None = None
    loop: str = "trainer"
    lr: float = 3e-3
    batch: int = 16
    steps: int = 40
    warmup: int = 4
    decay: float = 0.0
    accumulation: int = 1
    clip: float = 1.0
    eval_every: int = 0
    online: bool = False
    prepare: Callable[[nn.Module], nn.Module] = lambda model: model
    optimizer: Callable[[nn.Module], Any] | None = None
    schedule: Callable[[Any], Any] | None = None
    late: Callable[[nn.Module], Any] = lambda model: None  # after the optimizer was built
    args: dict[str, Any] = field(default_factory=dict)
    trainer: Callable[[], type] | None = None
    callbacks: list = field(default_factory=list)
    loader: dict[str, Any] = field(default_factory=dict)
    eval_loader: dict[str, Any] = field(default_factory=dict)
    line: SimpleNamespace = field(default_factory=lambda: lines())
    note: dict[str, Any] = field(default_factory=dict)

    def make_optimizer(self, model: nn.Module) -> Any:
        """AdamW on what is trainable, unless the script says otherwise."""
        if self.optimizer is not None:
            return self.optimizer(model)
        held = [p for p in model.parameters() if p.requires_grad]
        return torch.optim.AdamW(
            held or list(model.parameters()), lr=self.lr, weight_decay=self.decay
        )

    def make_schedule(self, optimizer: Any) -> Any:
        """Linear warm-up and decay over the plan, unless the script says otherwise."""
        if self.schedule is not None:
            return self.schedule(optimizer)
        from transformers import get_linear_schedule_with_warmup

        return get_linear_schedule_with_warmup(optimizer, self.warmup, self.steps)

    def loaders(self) -> tuple[DataLoader, DataLoader]:
        """The loaders of the handwritten loop."""
        draws = torch.Generator().manual_seed(self.seed)
        how = {"batch_size": self.batch, "collate_fn": self.collate, "drop_last": True}
        order = (
            {}
            if isinstance(self.train, torch.utils.data.IterableDataset)
            else {"shuffle": True, "generator": draws}
        )
        train = DataLoader(self.train, **(how | order | self.loader))
        rest = {"batch_size": self.batch, "collate_fn": self.collate}
        return train, DataLoader(self.eval, **(rest | self.eval_loader))


def lines() -> SimpleNamespace:
    """The lines of a handwritten loop, as nearly everybody writes them."""
    return SimpleNamespace(
        to_train=lambda model: model.train(),
        to_eval=lambda model: model.eval(),
        forward=lambda model, batch: (
            model(**batch) if isinstance(batch, Mapping) else model(batch[0])
        ),
        loss=lambda loss: loss,
        backward=lambda loss: loss.backward(),
        scale=lambda loss, accumulation: loss / accumulation,
        clip=lambda model, limit: nn.utils.clip_grad_norm_(model.parameters(), limit),
        step=lambda optimizer: optimizer.step(),
        schedule=lambda schedule: schedule.step(),
        micro=lambda schedule: None,
        zero=lambda optimizer: optimizer.zero_grad(),
        epoch=lambda schedule: None,
        after=lambda model, optimizer: None,
    )


def loss_of(recipe: Recipe, outputs: Any, batch: Any) -> torch.Tensor:
    """What the script descends."""
    if recipe.loss is not None:
        return recipe.loss(outputs, batch if isinstance(batch, Mapping) else batch[1])
    return outputs["loss"] if isinstance(outputs, Mapping) else outputs.loss


# -- under the doctor ----------------------------------------------------------------------------


def outcome(recipe: Recipe) -> dict[str, Any]:
    """Run the script under the doctor: primary fault, all faults, when it was raised, CPU time."""
    began, reports = time.process_time(), []
    try:
        for report in stages(recipe):
            reports.append(report)
        error = ""
    except Exception as raised:  # a fault may end in a crash; what was said before it counts
        error = f"{type(raised).__name__}: {' '.join(str(raised).split())[:200]}"
    recipe.note.get("after", lambda: None)()
    whole = sum(reports[1:], reports[0]) if reports else None
    return {
        "primary": whole.primary.fault if whole and whole.primary else None,
        "faults": whole.faults() if whole else [],
        "advice": [f.fault for f in whole.findings if f.severity == "info"] if whole else [],
        "evidence": f"{whole.primary}" if whole and whole.primary else "",
        "all": [str(found) for found in whole.all] if whole else [],
        "examined": recipe.note.get("examined", reports[0].faults() if reports else []),
        "failed_checks": {k: v for r in reports for k, v in r.not_checked.items() if "failed" in v},
        "alarms": recipe.note.get("alarms", {}),
        "error": error,
        "cpu_s": round(time.process_time() - began, 2),
    }


def stages(recipe: Recipe) -> Iterator[Any]:
    """The reports of a run as they come: examination, then the watched run."""
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.set_seed(recipe.seed)
    model = recipe.prepare(recipe.model())
    yield from (trained if recipe.loop == "trainer" else looped)(recipe, model)


def trained(recipe: Recipe, model: nn.Module) -> Iterator[Any]:
    """With transformers' `Trainer`, or the script's own subclass of it."""
    from cookbook.doctor import examine

    with tempfile.TemporaryDirectory() as folder:
        trainer = make_trainer(recipe, model, folder)
        recipe.late(trainer.model)
        if recipe.online:
            yield from _watched(recipe, trainer)
        elif recipe.trainer is not None or recipe.optimizer is not None:
            yield examine(trainer, loss_fn=recipe.loss)
        else:
            yield examine(
                trainer.model,
                train_dataset=recipe.train,
                eval_dataset=recipe.eval,
                data_collator=recipe.collate,
                processing_class=recipe.tokenizer,
                args=trainer.args,
                compute_metrics=recipe.metrics,
                loss_fn=recipe.loss,
            )


def _watched(recipe: Recipe, trainer: Any) -> Iterator[Any]:
    """The `Doctor` examines before the first step, then watches."""
    from cookbook.doctor import Doctor

    doctor = Doctor(loss_fn=recipe.loss, on_finding=lambda found: _note(recipe, doctor, found))
    trainer.add_callback(doctor)
    try:
        trainer.train(**recipe.note.get("train", {}))
    finally:
        recipe.note["examined"] = doctor.examined.faults()
        yield doctor.report


def _note(recipe: Recipe, doctor: Any, found: Any) -> None:
    """The step at which each fault was raised."""
    recipe.note.setdefault("alarms", {})[found.fault] = doctor.monitor.run.steps


def make_trainer(recipe: Recipe, model: nn.Module, folder: str) -> Any:
    """The `Trainer` of the script, without bars and files."""
    import transformers

    own = {
        "output_dir": folder,
        "learning_rate": recipe.lr,
        "max_steps": recipe.steps,
        "warmup_steps": recipe.warmup,
        "per_device_train_batch_size": recipe.batch,
        "per_device_eval_batch_size": recipe.batch,
        "weight_decay": recipe.decay,
        "gradient_accumulation_steps": recipe.accumulation,
        "max_grad_norm": recipe.clip,
        "seed": recipe.seed,
        "use_cpu": True,
        "report_to": "none",
        "disable_tqdm": True,
        "save_strategy": "no",
        "logging_steps": 5,
        "log_level": "error",
    }
    if recipe.eval_every:
        own |= {"eval_strategy": "steps", "eval_steps": recipe.eval_every}
    kind = transformers.TrainingArguments
    if recipe.note.get("seq2seq"):
        kind = transformers.Seq2SeqTrainingArguments
    given = {}
    if recipe.optimizer is not None or recipe.schedule is not None:
        optimizer = recipe.make_optimizer(model)
        given["optimizers"] = (optimizer, recipe.make_schedule(optimizer))
    if recipe.loss is not None:
        given["compute_loss_func"] = lambda outputs, labels, num_items_in_batch=None: recipe.loss(
            outputs, {"labels": labels}
        )
    make = recipe.trainer() if recipe.trainer is not None else transformers.Trainer
    trainer = make(
        model=model,
        args=kind(**(own | recipe.args)),
        train_dataset=recipe.train,
        eval_dataset=recipe.eval,
        data_collator=recipe.collate,
        processing_class=recipe.tokenizer,
        compute_metrics=recipe.metrics,
        callbacks=list(recipe.callbacks),
        **given,
    )
    trainer.remove_callback(transformers.PrinterCallback)
    return trainer


def looped(recipe: Recipe, model: nn.Module) -> Iterator[Any]:
    """With a handwritten loop."""
    from cookbook.doctor import examine

    optimizer = recipe.make_optimizer(model)
    schedule = recipe.make_schedule(optimizer)
    recipe.late(model)
    train, held_out = recipe.loaders()
    yield examine(
        model,
        train_dataset=train,
        eval_dataset=held_out,
        processing_class=recipe.tokenizer,
        optimizer=optimizer,
        lr_scheduler=schedule,
        compute_metrics=recipe.metrics,
        loss_fn=recipe.loss,
    )
    if not recipe.online:
        return
    from cookbook.doctor import Watch

    told = {"train_dataloader": train} if "train_dataloader" in recipe.note.get("told", ()) else {}
    watch = Watch(
        model, optimizer, schedule, on_finding=lambda f: _note(recipe, watch, f), **told
    )  # fmt: skip
    try:
        with watch:
            loop(recipe, model, optimizer, schedule, (train, held_out), watch)
    finally:
        yield watch.report


def loop(
    recipe: Recipe, model: nn.Module, optimizer: Any, schedule: Any, loaders: tuple, watch: Any
) -> None:
    """The lines of the script, one after the other."""
    line, train, held_out = recipe.line, *loaders
    line.to_train(model)
    micro, total = 0, recipe.steps * recipe.accumulation
    while micro < total:
        for batch in train:
            loss = line.loss(loss_of(recipe, line.forward(model, batch), batch))
            line.backward(line.scale(loss, recipe.accumulation))
            line.micro(schedule)
            micro += 1
            if micro % recipe.accumulation == 0:
                if recipe.clip:
                    line.clip(model, recipe.clip)
                line.step(optimizer)
                line.schedule(schedule)
                line.zero(optimizer)
                line.after(model, optimizer)
            watch.step(loss, batch=batch)
            if recipe.eval_every and micro % (recipe.eval_every * recipe.accumulation) == 0:
                evaluate(recipe, model, held_out, watch)
                line.to_train(model)
            if micro >= total:
                break
        line.epoch(schedule)


def evaluate(recipe: Recipe, model: nn.Module, held_out: Any, watch: Any) -> None:
    """Tell the mean loss of the held-out rows, and of a classifier its predictions."""
    recipe.line.to_eval(model)
    losses, scores, labels = [], [], []
    with torch.no_grad():
        for batch in held_out:
            outputs = recipe.line.forward(model, batch)
            losses.append(loss_of(recipe, outputs, batch).item())
            if recipe.metrics is not None:
                scores.append(outputs.logits)
                labels.append(batch["labels"] if isinstance(batch, Mapping) else batch[1])
    told = {"loss": sum(losses) / len(losses)}
    if not scores:
        watch.evaluate(told)
        return
    predicted, right = torch.cat(scores), torch.cat(labels)
    told |= recipe.metrics((predicted.float().numpy(), right.numpy()))
    watch.evaluate(told, predictions=predicted, labels=right)
