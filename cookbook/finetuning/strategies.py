"""Every way to adapt a pretrained model to a classification task, behind one signature.

`fine_tune(model, dataset, "full" | "linear-probe", …)`. A strategy is a function registered in
`STRATEGIES`; the choice of the learning rate on the validation split, the single look at the test
split and the bookkeeping are the same for all. Chapters 00 and 07 use it.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from cookbook.evaluation.metrics import classification_metrics
from cookbook.finetuning.encoding import classes_of, collator, encode_rows, predict
from cookbook.finetuning.results import Result
from cookbook.models.initialization import count_parameters, freeze, load_model, load_tokenizer

if TYPE_CHECKING:
    from datasets import DatasetDict


@dataclass(frozen=True)
class Job:
    """What a strategy is given: encoded rows of each split and how to train on them."""

    model: str
    tokenizer: Any
    rows: dict[str, list[dict[str, Any]]]
    classes: int
    learning_rate: float
    seed: int
    epochs: float
    batch_size: int
    precision: str
    random_weights: bool
    output_dir: str


# A strategy returns the trained model, its logits as a function of rows, and its loss curve.
Trained = tuple[torch.nn.Module, Callable[[list], np.ndarray], list[tuple[int, float]]]


def full(job: Job) -> Trained:
    """Train all weights and a new classification head (Devlin et al. 2019, section 4)."""
    model = _classifier(job)
    history = _train(job, model)
    return model, lambda rows: _logits(job, model, rows), history


def linear_probe(job: Job) -> Trained:
    """Train a linear head on frozen, cached features: the mean of the last hidden states.

    The encoder runs once over each row; the head is then trained on the cached features to its
    optimum, so an epoch costs nothing (Alain and Bengio 2016, arXiv:1610.01644).
    """
    encoder = freeze(
        load_model(job.model, "encoder", random=job.random_weights, seed=job.seed)
    ).eval()  # fmt: skip

    def features(rows: list) -> torch.Tensor:
        found = predict(encoder, rows, job.tokenizer, precision=job.precision, features=True)
        return torch.from_numpy(found)

    cached = features(job.rows["train"])
    mean, spread = cached.mean(0), cached.std(0) + 1e-6
    labels = torch.tensor([row["labels"] for row in job.rows["train"]])
    head, history = _fit_head((cached - mean) / spread, labels, job)

    def logits(rows: list) -> np.ndarray:
        with torch.no_grad():
            return head((features(rows) - mean) / spread).numpy()

    return torch.nn.ModuleDict({"encoder": encoder, "head": head}), logits, history


STRATEGIES: dict[str, Callable[[Job], Trained]] = {"full": full, "linear-probe": linear_probe}

# Learning rates tried, the sensible ones for each strategy; the validation split chooses.
RATES = {"full": (3e-4, 1e-3), "linear-probe": (1e-3, 1e-2)}


def fine_tune(
    model: str,
    dataset: DatasetDict,
    strategy: str = "full",
    *,
    seed: int = 0,
    learning_rate: float | Sequence[float] | None = None,
    epochs: float = 4,
    batch_size: int = 16,
    max_length: int = 128,
    precision: str = "fp32",
    random_weights: bool = False,
    name: str = "",
    output_dir: str = "build/fine-tuning",
) -> Result:
    """Adapt `model` to the classes of `dataset` and read the test split once.

    Of several learning rates (default: `RATES[strategy]`) the one with the best validation accuracy
    is taken, ties to the first. Under "full" the weights of the best epoch by validation accuracy
    are kept. `random_weights` uses the architecture alone. Raises ValueError for an unknown
    strategy and DataError for data without classes.
    """
    if strategy not in STRATEGIES:
        raise ValueError(f"unknown strategy {strategy!r}: choose one of {', '.join(STRATEGIES)}")
    rates = RATES[strategy] if learning_rate is None else np.atleast_1d(learning_rate).tolist()
    classes, tokenizer = len(classes_of(dataset)), load_tokenizer(model)
    max_length = min(max_length, tokenizer.model_max_length)
    rows = {split: encode_rows(part, tokenizer, max_length) for split, part in dataset.items()}
    score, began, best = classification_metrics(classes), time.perf_counter(), None
    for rate in rates:
        job = Job(model, tokenizer, rows, classes, rate, seed, epochs, batch_size, precision,
                  random_weights, str(output_dir))  # fmt: skip
        trained = STRATEGIES[strategy](job)
        validation = score((trained[1](rows["validation"]), _labels(rows["validation"])))
        if best is None or validation["accuracy"] > best[0]["accuracy"]:
            best = (validation, rate, trained)
    seconds = time.perf_counter() - began
    validation, rate, (fitted, logits, history) = best
    answers, labels = logits(rows["test"]), _labels(rows["test"])
    total, trainable = count_parameters(fitted)
    return Result(
        name or strategy, seed, rate, validation, score((answers, labels)), answers.argmax(-1),
        labels, seconds, total, trainable, history, fitted,
    )  # fmt: skip


def _classifier(job: Job) -> torch.nn.Module:
    # On a CPU and at these lengths the plain attention kernels are a third faster than the fused.
    plain = {} if torch.cuda.is_available() else {"attn_implementation": "eager"}
    return load_model(
        job.model, "classification", num_labels=job.classes, random=job.random_weights,
        seed=job.seed, **plain,
    )  # fmt: skip


def _train(job: Job, model: torch.nn.Module) -> list[tuple[int, float]]:
    """Train with `Trainer`, then put the weights of the best epoch back; the loss curve."""
    import transformers

    from cookbook.training.trainer import Trainer

    args = transformers.TrainingArguments(
        output_dir=job.output_dir, num_train_epochs=job.epochs, learning_rate=job.learning_rate,
        per_device_train_batch_size=job.batch_size, warmup_steps=0.1, weight_decay=0.01,
        lr_scheduler_type="linear", optim="adamw_torch_fused", seed=job.seed, report_to="none",
        save_strategy="no", logging_steps=5, remove_unused_columns=False,
        bf16=job.precision == "bf16", fp16=job.precision == "fp16",
        use_cpu=not torch.cuda.is_available(), dataloader_pin_memory=False,
    )  # fmt: skip
    trainer = Trainer(
        model, args, train_dataset=job.rows["train"], data_collator=collator(job.tokenizer)
    )
    best = _keep_best(job, model)
    trainer.add_callback(best)
    trainer.train()
    model.load_state_dict(best.weights)
    return [
        (entry["step"], entry["loss"]) for entry in trainer.state.log_history if "loss" in entry
    ]


def _keep_best(job: Job, model: torch.nn.Module) -> Any:
    """A callback that keeps, in memory, the weights of the epoch with the best validation."""
    import transformers

    class KeepBest(transformers.TrainerCallback):
        accuracy, weights = -1.0, None

        def on_epoch_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            answers = _logits(job, model, job.rows["validation"]).argmax(-1)
            accuracy = float((answers == _labels(job.rows["validation"])).mean())
            if accuracy > self.accuracy:
                self.accuracy, self.weights = accuracy, copy.deepcopy(model.state_dict())

    return KeepBest()


def _fit_head(features: torch.Tensor, labels: torch.Tensor, job: Job) -> tuple[Any, list]:
    """Multinomial logistic regression by full-batch AdamW; one step an epoch, 300 of them."""
    torch.manual_seed(job.seed)
    head = torch.nn.Linear(features.shape[1], job.classes)
    optimizer = torch.optim.AdamW(head.parameters(), lr=job.learning_rate, weight_decay=0.01)
    history = []
    for step in range(1, 301):
        loss = torch.nn.functional.cross_entropy(head(features), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.append((step, loss.item()))
    return head, history


def _logits(job: Job, model: torch.nn.Module, rows: list) -> np.ndarray:
    return predict(model, rows, job.tokenizer, precision=job.precision)


def _labels(rows: list[dict[str, Any]]) -> np.ndarray:
    return np.array([row["labels"] for row in rows], dtype=np.int64)
