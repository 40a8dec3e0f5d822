"""Strategies side by side under one harness: the same rows, seeds and steps, one table, one front.

`compare(model, dataset, strategies=…, seeds=…, budget=…)`. The first seed chooses each strategy's
learning rate on the validation split; all seeds are scored on the test split, once each. Finished
cells are kept, so a comparison can be interrupted and goes on where it was. Chapter 07 uses it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cookbook.data.errors import DataError
from cookbook.finetuning import cells, costs, peft_methods, results
from cookbook.finetuning.results import Result
from cookbook.finetuning.strategies import RATES, STRATEGIES, check_strategy, fine_tune, prepare
from cookbook.models.initialization import load_model

if TYPE_CHECKING:
    from datasets import DatasetDict
    from pandas import DataFrame

Rates = Mapping[str, "float | Sequence[float]"]
DEFAULTS = {"epochs": 4, "max_steps": 0, "batch_size": 16, "max_length": 128, "precision": "fp32"}
TEXT_LENGTH = 96  # tokens a row of the pretraining text; a prompt needs room before it


@dataclass
class Comparison:
    """The finished runs, one for each strategy and seed, and what is still to do."""

    results: list[Result]
    remembered: float = float("nan")  # masked accuracy before any fine-tuning
    missing: int = 0
    reused: int = 0
    skipped: dict[str, str] = field(default_factory=dict)

    @property
    def rates(self) -> dict[str, float]:
        """The learning rate that was chosen for each strategy."""
        return {result.name: result.learning_rate for result in self.results}

    def of(self, strategy: str) -> list[Result]:
        """The runs of one strategy, in the order of their seeds."""
        return [result for result in self.results if result.name == strategy]

    def right(self, strategy: str) -> np.ndarray:
        """(seeds, test rows) bool: where each seed's prediction is the label."""
        return np.stack([result.right for result in self.of(strategy)])

    def table(self) -> DataFrame:
        """One row a strategy, best accuracy first; `forgets` in points of masked accuracy."""
        import pandas as pd

        rows = {
            name: self._row(self.of(name), interval)
            for name, interval in results.intervals(self.results).items()
        }
        frame = pd.DataFrame.from_dict(rows, orient="index")
        return frame.sort_values("accuracy", ascending=False) if rows else frame

    def _row(self, own: Sequence[Result], interval: tuple[float, float, float]) -> dict[str, Any]:
        mean, low, high = interval
        # The first seed also paid for the choice of the rate: the others tell what a run takes.
        seconds = [r.seconds / r.rates_tried for r in own]
        return {
            "accuracy": mean,
            "95 % interval": f"{low:.3f} – {high:.3f}",
            "macro F1": float(np.mean([r.test["f1"] for r in own])),
            "MCC": float(np.mean([r.test["mcc"] for r in own])),
            "rate": own[0].learning_rate,
            "trainable": own[0].trainable,
            "disk MB": own[0].size / 1e6,
            "peak MB": own[0].peak / 1e6,
            "seconds": float(np.median(seconds[1:] or seconds)),
            "forgets": 100 * (self.remembered - float(np.mean([r.remembers for r in own]))),
            "seeds": len(own),
        }


def compare(
    model: str,
    dataset: DatasetDict,
    *,
    strategies: Sequence[str] | None = None,
    seeds: Sequence[int] = (0, 1, 2),
    budget: float | None = None,
    rates: Rates | None = None,
    pretraining_texts: Sequence[str] = (),
    folder: str | Path = "build/comparison",
    measure: bool = True,
    **settings: Any,
) -> Comparison:
    """Fine-tune `model` on `dataset` by each of `strategies` (default: all), under each seed.

    The first seed tries the rates of `strategies.RATES`, or of `rates`, and the validation split
    chooses; the other seeds take that one. After `budget` minutes no further run is started.
    `pretraining_texts` are asked for masked words, before and after. `measure` adds size and peak
    memory. `settings` are those of `fine_tune`: `epochs`, `max_steps`, `batch_size`, `max_length`,
    `precision`. Finished cells lie in `folder` and are read from there when code, data, checkpoint,
    settings and versions agree. An interrupt from the keyboard returns what is finished.

    A strategy that an architecture has no place for is skipped, with its reason. Raises ValueError
    for a strategy or a setting that there is not, DataError for data that cannot be used.
    """
    names = list(strategies or STRATEGIES)
    _check(names, seeds, budget, settings)
    harness = _Harness(model, dataset, Path(folder), rates or {}, DEFAULTS | settings, measure)
    harness.ask(pretraining_texts)
    done = Comparison([], harness.remembered)
    try:
        for result, reused in harness.run(names, list(seeds), budget, done):
            done.results.append(result)
            done.reused += reused
    except KeyboardInterrupt:
        print(f"interrupted; {len(done.results)} finished runs are kept in {Path(folder).name}")
    done.missing = len(names) * len(seeds) - len(done.results) - len(seeds) * len(done.skipped)
    done.results.sort(key=lambda result: (names.index(result.name), list(seeds).index(result.seed)))
    for name, reason in done.skipped.items():
        print(f"skipped {name}: {reason}")
    if done.missing:
        print(f"{done.missing} runs are still to do: run again to go on")
    return done


class _Harness:
    """What all cells of one comparison share."""

    def __init__(
        self,
        model: str,
        dataset: DatasetDict,
        folder: Path,
        rates: Rates,
        settings: dict,
        measure: bool,
    ) -> None:
        self.model, self.dataset, self.folder, self.rates = model, dataset, folder, rates
        self.settings, self.measure, self.remembered, self.asked = settings, measure, np.nan, None
        # Bad data or a tokenizer that does not fit is said here, before anything is trained.
        job = {"random_weights": False, "seed": 0, "output_dir": str(folder / "runs")}
        self.job = prepare(model, dataset, **job, **settings)
        self.shared = {
            "data": cells.data_key(dataset), "model": cells.model_key(model),
            "versions": cells.versions(), "settings": settings, "measure": measure,
        }  # fmt: skip

    def ask(self, texts: Sequence[str]) -> None:
        """Ask the checkpoint itself for the masked words of `texts`."""
        from cookbook.training.pretraining import evaluate_masked_lm, masked_lm_rows

        self.shared["texts"] = cells.digest(list(texts))
        if len(texts):
            reader, tokenizer = load_model(self.model, "masked-lm"), self.job.tokenizer
            positions = getattr(reader.config, "max_position_embeddings", TEXT_LENGTH)
            room = min(tokenizer.model_max_length, positions) - peft_methods.TOKENS
            self.asked = masked_lm_rows(texts, tokenizer, min(TEXT_LENGTH, room))
            found = evaluate_masked_lm(reader, tokenizer, self.asked)
            self.remembered = found["masked_accuracy"]

    def run(
        self, names: list[str], seeds: list[int], budget: float | None, done: Comparison
    ) -> Iterator[tuple[Result, bool]]:
        """Cell after cell, the first seed of every strategy first; `(result, was it on disk)`."""
        from tqdm.auto import tqdm

        began, chosen, self.first = time.monotonic(), {}, seeds[0]
        tried = {name: np.atleast_1d(self._rates(name)).tolist() for name in names}
        runs = sum(len(tried[name]) + len(seeds) - 1 for name in names)
        with _one_bar(), tqdm(total=runs, desc="comparing", unit="run", leave=False) as bar:
            for seed, name in ((seed, name) for seed in seeds for name in names):
                rates = [chosen[name]] if name in chosen else tried[name]
                late = budget is not None and time.monotonic() - began > 60 * budget
                bar.set_postfix_str(f"{name}, seed {seed}")
                found = None if name in done.skipped else self._cell(name, seed, rates, late, done)
                bar.update(len(rates))
                if found:
                    chosen[name] = found[0].learning_rate
                    yield found

    def _rates(self, name: str) -> Any:
        return self.rates.get(name, RATES[name])

    def _cell(
        self, name: str, seed: int, rates: list[float], late: bool, done: Comparison
    ) -> tuple[Result, bool] | None:
        made_by = self.shared | {"code": cells.code_key(STRATEGIES[name]), "rates": rates}
        path, fingerprint = self.folder / f"{name}-{seed}.json", cells.digest(made_by)
        if kept := cells.read(path, fingerprint):
            return kept, True
        if late:
            return None
        try:
            result = self._train(name, seed, rates)
        except DataError:
            raise
        except ValueError as error:  # the architecture has no place for this strategy
            done.skipped[name] = str(error).splitlines()[0]
            return None
        cells.write(path, result, fingerprint)
        return result, False

    def _train(self, name: str, seed: int, rates: list[float]) -> Result:
        result = fine_tune(
            self.model, self.dataset, name, seed=seed, learning_rate=rates,
            output_dir=self.job.output_dir, **self.settings,
        )  # fmt: skip
        model, result.model = result.model, None
        if self.asked is not None:
            result.remembers = costs.remembers(self.model, model, self.job.tokenizer, self.asked)
        if self.measure and seed == self.first:  # the others need the same
            job = dataclasses.replace(self.job, learning_rate=result.learning_rate, seed=seed)
            result.size = costs.size_on_disk(model)
            result.peak = costs.peak_memory(STRATEGIES[name], job)
        return result


@contextlib.contextmanager
def _one_bar() -> Iterator[None]:
    """Within, the trainer shows no bar of its own: it goes by transformers' level of logging."""
    from transformers.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)


def _check(
    names: Sequence[str], seeds: Sequence[int], budget: float | None, settings: dict
) -> None:
    for name in names:
        check_strategy(name)
    if unknown := settings.keys() - DEFAULTS.keys():
        raise ValueError(f"unknown setting {min(unknown)!r}: choose from {', '.join(DEFAULTS)}")
    if not len(seeds):
        raise ValueError("seeds is empty: give at least one, three for an interval that means it")
    if budget is not None and not budget > 0:
        raise ValueError(f"budget is {budget} minutes: give a positive number, or None")
