"""One way to train any head on rows of its own, and one way to ask it: for the tasks of chapter 15.

`tune` is `training.Trainer` with the settings that a small fine-tuning wants, and the best weights
by a score of the caller's; `ask` runs a model over rows and gives each its part of the outputs. It
knows no task: `tagging`, `question_answering` and `sequence_to_sequence` do. Classifiers with many
strategies have `strategies.fine_tune`.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cookbook.training.loop import autocast, to_device

Collate = Callable[[list[dict[str, Any]]], Any]
LOOKS = 4  # at the validation rows during a run: looking costs as much as training on them


def tune(
    model: torch.nn.Module,
    rows: Sequence[dict[str, Any]],
    collate: Collate,
    *,
    learning_rate: float,
    epochs: float = 3,
    max_steps: int = 0,
    batch_size: int = 16,
    seed: int = 0,
    precision: str = "fp32",
    label_names: Sequence[str] = ("labels",),
    by_length: bool = True,
    score: Callable[[torch.nn.Module], float] | None = None,
    output_dir: str | Path = "build/tasks",
    callbacks: Sequence = (),
) -> list[tuple[int, float]]:
    """Train the unfrozen weights of `model` in place; returns its (step, loss) pairs.

    AdamW without decay on norms and biases, warm-up over a tenth of the steps, then linear decay.
    `max_steps` above 0 ends training there, whatever `epochs` says. `by_length` puts rows of like
    length into one batch, which saves padding, and is unwise where length tells of what kind a row
    is: then each batch pulls another way. With `score` (higher is better)
    the model is looked at four times, and the weights of the best look stay.
    """
    from cookbook.training.trainer import Trainer

    args = _arguments(
        output_dir, epochs, max_steps, learning_rate, batch_size, seed, precision, label_names,
        by_length,
    )  # fmt: skip
    best = _best(model, score)
    trainer = Trainer(
        model, args, train_dataset=list(rows), data_collator=collate, callbacks=[best, *callbacks]
    )
    trainer.train()
    if best.weights is not None:
        model.load_state_dict(best.weights)
    return [
        (entry["step"], entry["loss"]) for entry in trainer.state.log_history if "loss" in entry
    ]


@torch.no_grad()
def ask(
    model: torch.nn.Module,
    rows: Sequence[dict[str, Any]],
    collate: Collate,
    *,
    names: Sequence[str] = ("logits",),
    batch_size: int = 64,
    precision: str = "fp32",
) -> list[tuple[np.ndarray, ...]]:
    """For each row the outputs called `names`, float32, without what stands over padding.

    Rows of like length go together, so that little is padded; dropout is off. An output whose
    second axis is the batch's length is cut to the row's own.
    """
    device = next(model.parameters()).device
    sizes = [len(row["input_ids"]) for row in rows]
    order = np.argsort(sizes, kind="stable").tolist()
    found: list[tuple[np.ndarray, ...]] = [()] * len(rows)
    training = model.training
    model.eval()
    for start in range(0, len(order), batch_size):
        places = order[start : start + batch_size]
        batch = to_device(dict(collate([rows[i] for i in places])), device)
        length = batch["input_ids"].shape[1]
        with autocast(device, precision):
            outputs = model(**batch)
        parts = [outputs[name].float().cpu().numpy() for name in names]
        for k, i in enumerate(places):
            found[i] = tuple(
                part[k, : sizes[i]] if part.shape[1:2] == (length,) else part[k] for part in parts
            )
    model.train(training)
    return found


def _arguments(
    output_dir: str | Path, epochs: float, max_steps: int, learning_rate: float, batch_size: int,
    seed: int, precision: str, label_names: Sequence[str], by_length: bool,
) -> Any:  # fmt: skip
    import transformers

    return transformers.TrainingArguments(
        output_dir=str(output_dir), num_train_epochs=epochs, max_steps=max_steps or -1,
        learning_rate=learning_rate, per_device_train_batch_size=batch_size, warmup_steps=0.1,
        weight_decay=0.01, lr_scheduler_type="linear", optim="adamw_torch_fused", seed=seed,
        report_to="none", save_strategy="no", logging_steps=10, logging_first_step=True,
        logging_nan_inf_filter=False, label_names=list(label_names), remove_unused_columns=False,
        bf16=precision == "bf16", fp16=precision == "fp16", use_cpu=not torch.cuda.is_available(),
        dataloader_pin_memory=False, **_grouping(transformers.TrainingArguments, by_length),
    )  # fmt: skip


def _grouping(arguments: type, by_length: bool) -> dict[str, Any]:
    """The setting that puts rows of like length into one batch, which was renamed on the way."""
    if "train_sampling_strategy" in {field.name for field in dataclasses.fields(arguments)}:
        return {"train_sampling_strategy": "group_by_length"} if by_length else {}
    return {"group_by_length": by_length}


def _best(model: torch.nn.Module, score: Callable[[torch.nn.Module], float] | None) -> Any:
    """A callback that keeps, in memory, the weights with the best score; none without a score."""
    import transformers

    class Best(transformers.TrainerCallback):
        highest, weights = -np.inf, None

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            every = max(1, state.max_steps // LOOKS)
            left = state.max_steps - state.global_step
            if score is None or (left and (state.global_step % every or left < every // 2)):
                return
            found = score(model)
            if found > self.highest:
                self.highest, self.weights = found, copy.deepcopy(model.state_dict())

    return Best()
