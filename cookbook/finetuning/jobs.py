"""What every strategy works with: a job, a classifier for it, and one way to train it.

A strategy gets a `Job` and gives a `Trained`; most of them change the model of `classifier` and
hand it to `train`. It chooses no strategy and reads no test split. Used by `strategies`, and so by
chapters 00 and 07.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch

from cookbook.finetuning.encoding import collator, predict
from cookbook.models.initialization import load_model
from cookbook.training import groups

# A new head wants an ordinary rate, whatever the adapter beside it is trained with: a prompt's 0.1
# would saturate a pooler within a few steps.
HEAD_RATE = 3e-3
LOOKS = 8  # at the validation split, at most; the run is short, and looking costs as much as steps


@dataclass(frozen=True)
class Job:
    """Encoded rows of each split, and how to train on them. `max_steps` 0 means: see `epochs`."""

    model: str
    tokenizer: Any
    rows: dict[str, list[dict[str, Any]]]
    classes: int
    learning_rate: float
    seed: int
    epochs: float
    max_steps: int
    batch_size: int
    precision: str
    random_weights: bool
    output_dir: str
    callbacks: tuple = ()


class Trained(NamedTuple):
    """A trained model; its logits (rows, classes) as a function of rows; (step, loss) pairs."""

    model: torch.nn.Module
    logits: Callable[[list], np.ndarray]
    history: list[tuple[int, float]]


def load(job: Job, task: str, **settings: Any) -> torch.nn.Module:
    """The job's model with the head for `task`, on the fastest device; new weights by its seed."""
    # On a CPU and at these lengths the plain attention kernels are a third faster than the fused.
    plain = {} if torch.cuda.is_available() else {"attn_implementation": "eager"}
    settings = {"seed": job.seed, "random": job.random_weights} | plain | settings
    model = load_model(job.model, task, **settings)
    return model.to("cuda" if torch.cuda.is_available() else "cpu")


def classifier(job: Job) -> torch.nn.Module:
    """The job's model with a new head for its classes."""
    return load(job, "classification", num_labels=job.classes)


def train(
    job: Job,
    model: torch.nn.Module,
    *,
    head_rate: float | None = None,
    rows: list | None = None,
    collate: Callable | None = None,
    callbacks: tuple = (),
) -> Trained:
    """Train the unfrozen weights of `model` in place, then put those of the best epoch back.

    Best is the first epoch with the highest accuracy on the validation split, of at most eight that
    are looked at. Linear warm-up over a tenth of the steps, then linear decay; AdamW, without decay
    on norms and biases. `head_rate`: weights that the checkpoint lacked learn at this rate, or at
    the job's if that is lower. `rows` (default: the job's) go into batches by `collate`.
    """
    import transformers

    from cookbook.training.trainer import Trainer

    args = transformers.TrainingArguments(
        output_dir=job.output_dir, num_train_epochs=job.epochs, max_steps=job.max_steps or -1,
        learning_rate=job.learning_rate, per_device_train_batch_size=job.batch_size,
        warmup_steps=0.1, weight_decay=0.01, lr_scheduler_type="linear",
        optim="adamw_torch_fused", seed=job.seed, report_to="none", save_strategy="no",
        logging_steps=5, logging_first_step=True, logging_nan_inf_filter=False,
        label_names=["labels"], remove_unused_columns=False, bf16=job.precision == "bf16",
        fp16=job.precision == "fp16",
        use_cpu=not torch.cuda.is_available(), dataloader_pin_memory=False,
    )  # fmt: skip
    optimizer = None if head_rate is None else two_rates(job, model, head_rate)
    trainer = Trainer(
        model, args, train_dataset=job.rows["train"] if rows is None else rows,
        data_collator=collate or collator(job.tokenizer), optimizers=(optimizer, None),
        callbacks=[*callbacks, *job.callbacks],
    )  # fmt: skip
    best = _keep_best(job, model)
    trainer.add_callback(best)
    trainer.train()
    model.load_state_dict(best.weights)
    curve = [
        (entry["step"], entry["loss"]) for entry in trainer.state.log_history if "loss" in entry
    ]
    return Trained(model, lambda rows: logits(job, model, rows), curve)


def two_rates(job: Job, model: torch.nn.Module, head_rate: float) -> torch.optim.Optimizer:
    """AdamW over what trains: new heads at `head_rate` at most, the rest at the job's rate."""
    chosen, parameters = groups.decays(model), dict(model.named_parameters())
    parts: dict[tuple[bool, bool], list] = {}
    for name, decays in chosen.items():
        parts.setdefault((is_head(model, name), decays), []).append(parameters[name])
    slow = min(head_rate, job.learning_rate)
    return torch.optim.AdamW(
        [
            {"params": found, "lr": slow if head else job.learning_rate,
             "weight_decay": 0.01 if decays else 0.0}
            for (head, decays), found in parts.items()
        ],
        fused=True,
    )  # fmt: skip


def is_head(model: torch.nn.Module, name: str) -> bool:
    """Whether the checkpoint lacked the weight of this name; a copy that peft trains counts."""
    return "modules_to_save" in name or name.endswith(tuple(model.missing_keys))


def head_modules(model: torch.nn.Module) -> list[str]:
    """The modules that the checkpoint lacked, classifier and perhaps pooler, by name.

    All of them have to train: a pooler that was drawn at random and then frozen, as it is where
    only a module called "classifier" is unfrozen, hides half of what the encoder knows.
    """
    return sorted({name.rpartition(".")[0] for name in model.missing_keys})


def logits(job: Job, model: torch.nn.Module, rows: list[dict[str, Any]]) -> np.ndarray:
    """Answers of a model that takes a batch and returns `logits`, (rows, classes) float32."""
    return predict(model, rows, job.tokenizer, precision=job.precision)


def accuracy(answers: np.ndarray, rows: list[dict[str, Any]]) -> float:
    """Share of rows whose largest of `answers`, (rows, classes), is at their label."""
    return float((answers.argmax(-1) == labels_of(rows)).mean())


def labels_of(rows: list[dict[str, Any]]) -> np.ndarray:
    """Class numbers, (rows,) int64."""
    return np.array([row["labels"] for row in rows], dtype=np.int64)


def _keep_best(job: Job, model: torch.nn.Module) -> Any:
    """A callback that keeps, in memory, the weights of the epoch with the best validation."""
    import transformers

    class KeepBest(transformers.TrainerCallback):
        accuracy, weights, looked = -1.0, None, 0

        def on_epoch_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            step, rows = state.global_step, job.rows["validation"]
            if step < state.max_steps and step - self.looked < state.max_steps / LOOKS:
                return
            self.looked = step
            found = accuracy(logits(job, model, rows), rows)
            if found > self.accuracy:
                self.accuracy, self.weights = found, copy.deepcopy(model.state_dict())

    return KeepBest()
