"""Every way to adapt a pretrained model to a classification task, behind one signature.

`fine_tune(model, dataset, "full" | "linear-probe", …)`. A strategy is a function registered in
`STRATEGIES`; the choice of the learning rate on the validation split, the single look at the test
split and the bookkeeping are the same for all. Chapters 00 and 07 use it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from cookbook.evaluation.metrics import classification_metrics
from cookbook.finetuning import features, jobs
from cookbook.finetuning.encoding import check_splits, classes_of, encode_rows
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
    ValueError for an unknown strategy, DataError for data without classes, splits or labels.
    """
    if strategy not in STRATEGIES:
        raise ValueError(f"unknown strategy {strategy!r}: choose one of {', '.join(STRATEGIES)}")
    rates = RATES[strategy] if learning_rate is None else np.atleast_1d(learning_rate).tolist()
    classes, tokenizer = len(classes_of(check_splits(dataset))), load_tokenizer(model)
    max_length = min(max_length, tokenizer.model_max_length)
    rows = {split: encode_rows(part, tokenizer, max_length) for split, part in dataset.items()}
    began, best = time.perf_counter(), None
    for rate in rates:
        job = Job(model, tokenizer, rows, classes, rate, seed, epochs, max_steps, batch_size,
                  precision, random_weights, str(output_dir), tuple(callbacks))  # fmt: skip
        trained = STRATEGIES[strategy](job)
        answers = trained.logits(rows["validation"])
        found = jobs.accuracy(answers, rows["validation"])
        if best is None or found > best[0]:
            best = (found, rate, trained, answers)
    seconds, (_, rate, trained, on_validation) = time.perf_counter() - began, best
    on_test, labels = trained.logits(rows["test"]), jobs.labels_of(rows["test"])
    score = classification_metrics(classes)
    return Result(
        name or strategy, seed, rate, score((on_validation, jobs.labels_of(rows["validation"]))),
        score((on_test, labels)), on_test.argmax(-1), labels, seconds,
        *count_parameters(trained.model), trained.history, trained.model,
    )  # fmt: skip
