"""Which model for this data, this memory and this time: asked and answered before any training.

`recommend` looks at each candidate in turn: does its architecture suit the task, can its tokenizer
read the text, what do its frozen features know, which strategy fits into memory and minutes, what
may be done with it. It fine-tunes nothing; the score is one of frozen features, and how well that
foretells the ranking is measured in `benchmarks/selection.py`. Chapter 06; `cookbook recommend`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cookbook.data.errors import DataError
from cookbook.finetuning import cards, features, fit, forecasts, task_fit, transferability
from cookbook.finetuning.assessment import Assessment, Recommendation, ranked
from cookbook.finetuning.encoding import classes_of, encode_rows
from cookbook.models.initialization import load_config, load_model, load_tokenizer
from cookbook.scaling.calculator import parse_bytes, readable

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

PROCESS = 550e6  # bytes that Python, torch, transformers and datasets keep beside tensors: measured
STRATEGIES = ("full", "lora", "partial", "linear-probe")  # the first that fits is proposed
MANY_PIECES = 3.0  # a word: beyond it little is left of the words that were learnt


@dataclass(frozen=True)
class Budget:
    """What may be spent, in bytes and seconds, and how training will be done."""

    memory: float
    seconds: float
    strategies: tuple[str, ...] = STRATEGIES
    epochs: int = 4
    batch_size: int = 16
    max_length: int = 128
    rows: int = 600
    precision: str = "fp32"
    seed: int = 0
    clock: Callable[[], float] = time.perf_counter


def recommend(
    data: DatasetDict | str,
    candidates: Sequence[str] = ("docbert",),
    *,
    memory: str | float = "8GB",
    minutes: float = 30,
    strategies: Sequence[str] = STRATEGIES,
    **training: Any,
) -> Recommendation:
    """Rank `candidates` ("docbert", folders, hub ids) for `data`, with reasons; trains nothing.

    `data` is what `cookbook.data.load` returns or takes. `memory` is what the process may take in
    all, `minutes` what one training run may; of `strategies` the first that fits both is proposed.
    `training` are further fields of `Budget`, such as `epochs`, and `rows`, of how many rows are
    looked at. Candidates are ordered by the accuracy of a linear probe on frozen features. Refused
    are candidates that do not suit the task, cannot read the text, fit nowhere or cannot be
    loaded. Raises ValueError for an impossible
    amount of memory, DataError for data that cannot be read.
    """
    if isinstance(data, str):
        from cookbook.data import load

        data = load(data)
    budget = Budget(parse_bytes(memory), 60 * minutes, tuple(strategies), **training)
    task = task_fit.task_of(data)
    found = [assess(name, data, task, budget) for name in candidates]
    return Recommendation(task, _majority(data["train"], task), ranked(found))


def assess(name: str, data: DatasetDict, task: str, budget: Budget) -> Assessment:
    """Everything about one candidate, cheap questions first; it ends where one is answered no."""
    found = Assessment(name, licence=cards.licence(name))
    try:
        config = load_config(name)
        if not _suits(found, config, data, task):
            return found
        tokenizer = load_tokenizer(name)
        _read(found, tokenizer, data)
        rows = _encoded(data, task, tokenizer, config, budget)
        _score(found, rows["train"], tokenizer, task, budget)
        classes = len(classes_of(data)) if task == "classification" else 1
        asked = {"task": task, "classes": classes, "precision": budget.precision}
        shares = {split: len(data[split]) / len(part) for split, part in rows.items()}
        _propose(found, config, rows, tokenizer, budget, shares, asked)
    except (ValueError, OSError) as error:
        return found.refuse(str(error).splitlines()[0])
    found.reasons.append(cards.in_words(found.licence))
    return found


def _suits(found: Assessment, config: Any, data: DatasetDict, task: str) -> bool:
    found.family = task_fit.family_of(config)
    suits = task_fit.task_fit(task, found.family)
    if suits.grade == 0:
        found.refuse(f"{found.family}, and for {task} no use: {suits.why}")
    elif "image" in data["train"].column_names:
        found.refuse("images are not looked at here; chapter 14 compares models that see")
    else:
        found.reasons.append(f"{found.family}: {suits.why}")
    return suits.grade > 0 and "image" not in data["train"].column_names


def _read(found: Assessment, tokenizer: Any, data: DatasetDict) -> None:
    """Note how the tokenizer reads the text. Raises DataError where it cannot."""
    how = fit.check_tokenizer(tokenizer, _texts(data["train"]), name=found.model)
    found.unknown, found.pieces_per_word = how.unknown, how.pieces_per_word
    many = ", so many that its words are not these" if how.pieces_per_word > MANY_PIECES else ""
    found.reasons.append(
        f"reads the text: {how.unknown:.1%} of the tokens unknown, "
        f"{how.pieces_per_word:.2f} pieces a word{many}"
    )


def _texts(rows: Dataset) -> list[str]:
    """The text of each row, whatever the task calls it."""
    for name in ("text", "context", "source", "tokens"):
        if name in rows.column_names:
            return [" ".join(t) if isinstance(t, list) else t for t in rows[name]]
    raise DataError(f"no text among the columns {', '.join(rows.column_names)}")


def _encoded(
    data: DatasetDict, task: str, tokenizer: Any, config: Any, budget: Budget
) -> dict[str, list[dict[str, Any]]]:
    """Token ids of `budget.rows` training rows and as many to validate on, with labels if any."""
    length = min(budget.max_length, tokenizer.model_max_length)
    if tokenizer.pad_token is None:  # decoders often have none
        tokenizer.pad_token = tokenizer.eos_token
        config.pad_token_id = tokenizer.pad_token_id
    encoded = {}
    for split in ("train", "validation"):
        part = data[split].shuffle(seed=budget.seed)
        part = part.select(range(min(budget.rows, len(part))))
        if task == "classification":
            encoded[split] = encode_rows(part, tokenizer, length)
        else:
            coded = tokenizer(_texts(part), truncation=True, max_length=length)
            encoded[split] = [
                dict(zip(coded, row, strict=True)) for row in zip(*coded.values(), strict=True)
            ]
    return encoded


def _score(found: Assessment, rows: list, tokenizer: Any, task: str, budget: Budget) -> None:
    """Scores of frozen features, where there are classes to compare them with."""
    if task != "classification" or found.family == "joint":
        found.reasons.append("no score: features are compared for classification of text only")
        return
    seen = frozen_features(found.model, rows, tokenizer, budget.precision)
    labels = np.array([row["labels"] for row in rows])
    found.scores = transferability.scores(seen, labels, seed=budget.seed)
    found.reasons.append(
        f"a linear probe on its frozen features is right in {found.scores.probe:.1%} "
        f"± {found.scores.error:.1%} of {found.scores.rows} rows"
    )


def frozen_features(
    model: str, rows: list[dict[str, Any]], tokenizer: Any, precision: str = "fp32"
) -> np.ndarray:
    """Means of the last hidden states over the tokens, (rows, hidden).

    Of encoders, decoders, and the encoder half of encoder-decoders.
    """
    loaded = load_model(model, "encoder")
    if loaded.config.is_encoder_decoder:
        loaded = loaded.get_encoder()
    return features.cached(loaded.eval(), rows, tokenizer, precision)


def _propose(
    found: Assessment, config: Any, rows: dict[str, list], tokenizer: Any, budget: Budget,
    shares: dict[str, float], asked: dict[str, Any],
) -> None:  # fmt: skip
    """The first strategy that memory and minutes allow. Raises ValueError where none does."""
    longest = sorted(rows["train"], key=lambda row: len(row["input_ids"]))[-budget.batch_size :]
    batch = forecasts.batch_for(longest, tokenizer, config, task=asked["task"])
    strategies = budget.strategies if asked["task"] == "classification" else ("full",)
    if config.is_encoder_decoder:
        strategies = ("full",)
    tried = []
    for strategy in strategies:
        need = forecasts.memory(config, strategy, batch, **asked)
        if need.peak + PROCESS > budget.memory:
            tried.append(f"{strategy} needs {readable(need.peak + PROCESS)}")
            continue
        took = forecasts.seconds(
            config, strategy, rows, tokenizer, epochs=budget.epochs, shares=shares,
            batch_size=budget.batch_size, seed=budget.seed, clock=budget.clock, **asked,
        )  # fmt: skip
        if took > budget.seconds:
            tried.append(f"{strategy} takes {_time(took)}")
            continue
        found.strategy, found.memory, found.seconds = strategy, need, took
        found.parameters = need.weights // 4
        instead = f", because {', '.join(tried)}" if tried else ""
        found.reasons.append(
            f"{strategy}{instead}: {readable(need.peak)} of tensors beside {readable(PROCESS)} of "
            f"libraries, about {_time(took)} a run"
        )
        return
    raise ValueError("nothing fits: " + ", ".join(tried))


def _majority(rows: Dataset, task: str) -> float:
    """Share of the most frequent class; 0 where there are none."""
    return float(np.bincount(rows["label"]).max() / len(rows)) if task == "classification" else 0.0


def _time(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.1f} min"
