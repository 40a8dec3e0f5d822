"""Every way to adapt a pretrained model to a classification task, behind one signature.

`fine_tune(model, dataset, "full" | "linear-probe" | "lora" | …)`. A strategy is a function of a
`Job`, registered in `STRATEGIES`; most live in the files beside this one. The choice of the rate on
the validation split, the single look at the test split and the bookkeeping are the same for all;
`comparison` runs many. Chapters 00 and 07 use it.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from cookbook.evaluation.metrics import classification_metrics
from cookbook.finetuning import (
    adapters,
    distillation,
    features,
    freezing,
    jobs,
    multitask,
    peft_methods,
)
from cookbook.finetuning.encoding import check_splits, classes_of, encode_rows
from cookbook.finetuning.fit import check_tokenizer
from cookbook.finetuning.jobs import Job, Trained
from cookbook.finetuning.results import Result
from cookbook.models.initialization import count_parameters, freeze, load_tokenizer

if TYPE_CHECKING:
    from datasets import DatasetDict


def full(job: Job) -> Trained:
    """Train all weights and a new classification head (Devlin et al. 2019, section 4)."""
    return jobs.train(job, jobs.classifier(job))


def linear_probe(job: Job) -> Trained:
    """Train a linear head on frozen features: the mean of the last hidden states over the tokens.

    The encoder reads each row once, for all learning rates and seeds, so an epoch costs next to
    nothing; `epochs`, `max_steps` and `batch_size` do not apply (Alain and Bengio 2016,
    arXiv:1610.01644).
    """
    # A masked-LM checkpoint has no pooler. It is not used here, but drawn anew for each seed it
    # would make every seed's encoder look like another one to the cache of features.
    seed = job.seed if job.random_weights else 0
    encoder = freeze(jobs.load(job, "encoder", seed=seed)).eval()

    def read(rows: list) -> np.ndarray:
        return features.cached(encoder, rows, job.tokenizer, job.precision)

    def labelled(split: str) -> tuple[np.ndarray, np.ndarray]:
        return read(job.rows[split]), jobs.labels_of(job.rows[split])

    head, history = features.fit_head(
        *labelled("train"), labelled("validation"), classes=job.classes,
        learning_rate=job.learning_rate, seed=job.seed,
    )  # fmt: skip
    probe = features.Probe(encoder, head.to(next(encoder.parameters()).device)).eval()

    def logits(rows: list) -> np.ndarray:
        with torch.no_grad():
            return head(torch.tensor(read(rows), device=head.weight.device)).cpu().numpy()

    return Trained(probe, logits, history)


def from_scratch(job: Job) -> Trained:
    """Train the same architecture from random weights: what pretraining is worth."""
    return full(dataclasses.replace(job, random_weights=True))


STRATEGIES: dict[str, Callable[[Job], Trained]] = {
    "full": full,
    "partial": freezing.partial,
    "gradual": freezing.gradual,
    "linear-probe": linear_probe,
    "lora": peft_methods.lora,
    "dora": peft_methods.dora,
    "ia3": peft_methods.ia3,
    "houlsby": adapters.houlsby,
    "pfeiffer": adapters.pfeiffer,
    "bitfit": freezing.bitfit,
    "layer-norm": freezing.layer_norm,
    "prompt": peft_methods.prompt,
    "p-tuning": peft_methods.p_tuning,
    "prefix": peft_methods.prefix,
    "distillation": distillation.distil,
    "multi-task": multitask.multitask,
    "from-scratch": from_scratch,
}

# Learning rates tried, the sensible ones for each strategy; the validation split chooses. The fewer
# weights move, the further each has to go: a prompt wants hundreds of times the rate of a full
# model. `benchmarks/rate_edges.py` tried one rate above each grid.
RATES = {
    "full": (3e-4, 1e-3),
    "partial": (1e-3, 3e-3),
    "gradual": (1e-3, 3e-3),
    "linear-probe": (1e-3, 1e-2),
    "lora": (1e-3, 3e-3),
    "dora": (1e-3, 3e-3),
    "ia3": (1e-2, 3e-2, 1e-1),
    "houlsby": (3e-3, 1e-2),
    "pfeiffer": (3e-3, 1e-2),
    "bitfit": (3e-3, 1e-2),
    "layer-norm": (3e-3, 1e-2),
    "prompt": (1e-1, 3e-1, 1.0),
    "p-tuning": (1e-3, 1e-2),
    "prefix": (1e-2, 1e-1, 3e-1),
    "distillation": (3e-4, 1e-3),
    "multi-task": (3e-4, 1e-3),
    "from-scratch": (3e-4, 1e-3),
}


def fine_tune(
    model: str,
    dataset: DatasetDict,
    strategy: str = "full",
    *,
    seed: int = 0,
    learning_rate: float | Sequence[float] | None = None,
    epochs: float = 4,
    max_steps: int = 0,
    batch_size: int = 16,
    max_length: int = 128,
    precision: str = "fp32",
    random_weights: bool = False,
    name: str = "",
    output_dir: str = "build/fine-tuning",
    callbacks: Sequence = (),
) -> Result:
    """Adapt `model` to the classes of `dataset` and read the test split once.

    Of several learning rates (default: `RATES[strategy]`) the one with the best validation accuracy
    is taken, ties to the first; of one run, the weights of the best epoch by validation accuracy.
    `max_steps` above 0 ends training there, whatever `epochs` says. `random_weights` uses the
    architecture alone. `callbacks` watch each training run, as the `Trainer` takes them. Raises
    ValueError for an unknown strategy, DataError for data without classes, splits or labels, and
    for data that the model's tokenizer cannot read.
    """
    check_strategy(strategy)
    rates = RATES[strategy] if learning_rate is None else np.atleast_1d(learning_rate).tolist()
    job = prepare(model, dataset, seed=seed, epochs=epochs, max_steps=max_steps,
                  batch_size=batch_size, max_length=max_length, precision=precision,
                  random_weights=random_weights, output_dir=str(output_dir),
                  callbacks=tuple(callbacks))  # fmt: skip
    rows, began, best = job.rows, time.perf_counter(), None
    for rate in rates:
        trained = STRATEGIES[strategy](dataclasses.replace(job, learning_rate=rate))
        answers = trained.logits(rows["validation"])
        found = jobs.accuracy(answers, rows["validation"])
        if best is None or found > best[0]:
            best = (found, rate, trained, answers)
    seconds, (_, rate, trained, on_validation) = time.perf_counter() - began, best
    on_test, labels = trained.logits(rows["test"]), jobs.labels_of(rows["test"])
    score = classification_metrics(job.classes)
    return Result(
        name or strategy, seed, rate, score((on_validation, jobs.labels_of(rows["validation"]))),
        score((on_test, labels)), on_test.argmax(-1), labels, seconds,
        *count_parameters(trained.model), trained.history, trained.model, len(rates),
    )  # fmt: skip


def prepare(model: str, dataset: DatasetDict, *, max_length: int, **settings: Any) -> Job:
    """Rows checked and encoded, and all that a strategy needs to know but the learning rate.

    Raises DataError for data without classes, splits or labels, or in an alphabet that the model's
    tokenizer does not know.
    """
    classes, tokenizer = len(classes_of(check_splits(dataset))), load_tokenizer(model)
    check_tokenizer(tokenizer, dataset["train"]["text"], name=model)
    length = min(max_length, tokenizer.model_max_length)
    rows = {split: encode_rows(part, tokenizer, length) for split, part in dataset.items()}
    return Job(model, tokenizer, rows, classes, learning_rate=0.0, **settings)


def check_strategy(name: str) -> None:
    """Raises ValueError, with the names that there are, for a strategy that is not registered."""
    if name not in STRATEGIES:
        raise ValueError(f"unknown strategy {name!r}: choose one of {', '.join(STRATEGIES)}")
