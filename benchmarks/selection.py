"""Does what is asked before training foretell what training then shows?

    python benchmarks/selection.py              all parts; each result is kept, and not made again
    python benchmarks/selection.py --part scores | memory | time

Three parts. **scores**: LogME, nearest neighbours and a linear probe on the frozen features of the
ten checkpoints of `candidates.py`, against their test accuracy on `docstring-topics` after
fine-tuning (512 rows of 64 tokens, three epochs, two seeds); rank correlations with bootstrap
intervals over the candidates. **memory**: predicted against measured peak of live tensor bytes in
whole runs of `fine_tune`, each in a process of its own, with its peak resident memory beside it.
**time**: predicted from a few steps against the median of three runs, in CPU seconds, which other
processes do not lengthen much, and by the wall clock.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
import arms
import candidates
import machine

NAME, WORK = "selection", arms.CACHE / "candidates"
ROWS, TEST, EPOCHS, LENGTH, SEEDS, RATE = 512, 600, 3, 64, (0, 1), 5e-4
SCORES = ("logme", "knn", "probe")
# configuration: model, strategy, batch size, longest row, precision
MEMORY = {
    "full": ("docbert", "full", 16, 128, "fp32"),
    "full, batch 32, length 64": ("docbert", "full", 32, 64, "fp32"),
    "full, bf16": ("docbert", "full", 16, 128, "bf16"),
    "full, hidden size 128": ("mini-500", "full", 32, 128, "fp32"),
    "upper half": ("docbert", "partial", 16, 128, "fp32"),
    "LoRA": ("docbert", "lora", 16, 128, "fp32"),
    "adapters": ("docbert", "pfeiffer", 16, 128, "fp32"),
    "prompt": ("docbert", "prompt", 16, 96, "fp32"),
    "linear probe": ("docbert", "linear-probe", 16, 128, "fp32"),
}
TIME = ("full", "partial", "lora", "linear-probe")


def data(rows: int, *, test: int | None = None, validation: int = 256) -> Any:
    """`docstring-topics` with few training rows, as many of each class as drawn by one seed."""
    from datasets import DatasetDict

    import cookbook

    whole = cookbook.data.load("docstring-topics")
    most = {"train": rows, "validation": validation, "test": test or len(whole["test"])}
    return DatasetDict({
        name: part.shuffle(seed=0).select(range(min(most[name], len(part))))
        for name, part in whole.items()
    })  # fmt: skip


def score(place: str, rows: Any) -> dict[str, float]:
    """The three scores of one candidate on the training rows, and the CPU seconds they took."""
    from cookbook.finetuning import selection, transferability
    from cookbook.finetuning.encoding import encode_rows
    from cookbook.models.initialization import load_tokenizer

    began, tokenizer = time.process_time(), load_tokenizer(place)
    encoded = encode_rows(rows, tokenizer, LENGTH)
    seen = selection.frozen_features(place, encoded, tokenizer)
    found = transferability.scores(seen, np.array([row["labels"] for row in encoded]))
    taken = time.process_time() - began
    return {name: getattr(found, name) for name in SCORES} | {"score_seconds": taken}


def scores(kept: dict[str, Any], save: Any) -> dict[str, Any]:
    """Scores and test accuracies of all candidates; what `kept` has is not made again."""
    from cookbook.finetuning.strategies import fine_tune
    from cookbook.session import fastest_precision

    splits = data(ROWS, test=TEST)
    for name, place in candidates.make(WORK).items():
        found = kept.setdefault(name, {"what": candidates.NAMES[name], "accuracy": {}})
        if "probe" not in found:
            found |= score(place, splits["train"])
            save()
        for seed in SEEDS:
            if str(seed) not in found["accuracy"]:
                done = fine_tune(
                    place, splits, learning_rate=RATE, seed=seed, epochs=EPOCHS,
                    max_length=LENGTH, precision=fastest_precision(),
                    output_dir=str(WORK / "fine-tuning"),
                )  # fmt: skip
                found["accuracy"][str(seed)] = done.test["accuracy"]
                save()
                print(f"{name}, seed {seed}: {done.test['accuracy']:.3f}", flush=True)
    return kept


def correlations(found: dict[str, Any], resamples: int = 4000) -> dict[str, Any]:
    """Spearman and Kendall of each score with the mean accuracy; 95 % intervals of Spearman by
    drawing the candidates again. `pairs`: of two candidates, how often the score names the better.
    """
    from scipy.stats import kendalltau, spearmanr

    accuracy = np.array([np.mean(list(each["accuracy"].values())) for each in found.values()])
    draws = np.random.default_rng(0).integers(0, len(found), (resamples, len(found)))
    result = {}
    for name in SCORES:
        values = np.array([each[name] for each in found.values()])
        again = [spearmanr(values[d], accuracy[d]).statistic for d in draws if len(set(d)) > 2]
        low, high = np.nanquantile(again, [0.025, 0.975])
        tau = float(kendalltau(values, accuracy).statistic)
        result[name] = {
            "spearman": float(spearmanr(values, accuracy).statistic),
            "low": float(low), "high": float(high), "kendall": tau, "pairs": (tau + 1) / 2,
        }  # fmt: skip
    return result


def place_of(name: str) -> str:
    """A candidate's folder; docbert goes by its name."""
    return name if name == "docbert" else str(WORK / name)


def _few(length: int, batch: int, place: str) -> tuple[Any, Any, Any, Any]:
    """Splits, tokenizer, configuration and encoded rows for a short run."""
    from cookbook.finetuning.encoding import encode_rows
    from cookbook.models.initialization import load_config, load_tokenizer

    splits, tokenizer = data(6 * batch, test=16, validation=64), load_tokenizer(place)
    rows = {name: encode_rows(part, tokenizer, length) for name, part in splits.items()}
    return splits, tokenizer, load_config(place), rows


def measure_memory(name: str) -> dict[str, Any]:
    """One configuration, predicted, then run whole under `LiveMemory`, in this process."""
    from cookbook.finetuning import forecasts
    from cookbook.finetuning.strategies import fine_tune
    from cookbook.live_memory import LiveMemory, peak_resident_bytes

    model, strategy, batch, length, precision = MEMORY[name]
    place = place_of(model)
    splits, tokenizer, config, rows = _few(length, batch, place)
    longest = sorted(rows["train"], key=lambda row: -len(row["input_ids"]))[:batch]
    shapes = forecasts.batch_for(longest, tokenizer, config)
    predicted = forecasts.memory(config, strategy, shapes, classes=8, precision=precision)
    before = peak_resident_bytes()
    with LiveMemory() as memory:
        fine_tune(
            place, splits, strategy, learning_rate=1e-3, epochs=2, batch_size=batch,
            max_length=length, precision=precision, output_dir=str(WORK / "memory"),
        )  # fmt: skip
    return {
        "predicted": predicted.to_dict(), "measured": memory.peak,
        "ratio": predicted.peak / memory.peak, "resident": peak_resident_bytes(),
        "resident_before": before,
    }  # fmt: skip


def measure_time(strategy: str, rounds: int = 3) -> dict[str, Any]:
    """Predicted seconds of a run of docbert, and those of three runs; by CPU and wall clock."""
    from cookbook.finetuning import features, forecasts
    from cookbook.finetuning.encoding import encode_rows
    from cookbook.finetuning.strategies import fine_tune
    from cookbook.models.initialization import load_config, load_tokenizer

    splits, tokenizer = data(320, test=16, validation=128), load_tokenizer("docbert")
    rows = {name: encode_rows(part, tokenizer, arms.LENGTH) for name, part in splits.items()}
    clocks, found = {"cpu": time.process_time, "wall": time.perf_counter}, {}
    for name, clock in clocks.items():
        found[f"predicted_{name}"] = forecasts.seconds(
            load_config("docbert"), strategy, rows, tokenizer, classes=8, epochs=2, clock=clock
        )
    runs: dict[str, list[float]] = {name: [] for name in clocks}
    for _ in range(rounds):
        features._cache.clear()  # or the second probe would read nothing
        began = {name: clock() for name, clock in clocks.items()}
        fine_tune("docbert", splits, strategy, learning_rate=1e-3, epochs=2,
                  output_dir=str(WORK / "time"))  # fmt: skip
        for name, clock in clocks.items():
            runs[name].append(clock() - began[name])
    for name, taken in runs.items():
        found |= {f"runs_{name}": taken, f"measured_{name}": float(np.median(taken))}
        found[f"ratio_{name}"] = found[f"predicted_{name}"] / found[f"measured_{name}"]
    return found | {"load": machine.load_average()}


def isolated(part: str, name: str) -> dict[str, Any]:
    """One measurement in a process of its own."""
    command = [sys.executable, __file__, "--part", part, "--only", name]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def run(parts: tuple[str, ...], again: bool) -> dict[str, Any]:
    """The parts that are asked for; the results are written after each measurement."""
    place = arms.RESULTS / f"{NAME}.json"
    old = {} if again or not place.exists() else json.loads(place.read_text())
    found = {part: old.get(part, {}) for part in ("scores", "memory", "time")}

    def save() -> None:
        complete = [
            each for each in found["scores"].values() if len(each["accuracy"]) == len(SEEDS)
        ]
        arms.write(NAME, {
            "what": "scores before training against accuracy after it; memory and time predicted",
            "data": "docstring-topics", "corpus": arms.corpus().fingerprint,
            "rows": ROWS, "epochs": EPOCHS, "max_length": LENGTH, "learning_rate": RATE,
            "machine": machine.describe(),
            "correlations": correlations(found["scores"]) if len(complete) > 3 and
            len(complete) == len(found["scores"]) else {}, **found,
        })  # fmt: skip

    if "scores" in parts:
        scores(found["scores"], save)
        save()
    for part, names in (("memory", MEMORY), ("time", TIME)):
        for name in names if part in parts else ():
            if name not in found[part]:
                found[part][name] = isolated(part, name)
                save()
                print(part, name, found[part][name], flush=True)
    return found


def main() -> None:
    """Parse, run, print."""
    import torch

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", choices=("scores", "memory", "time"))
    parser.add_argument("--only", help="one measurement, printed as JSON and not kept")
    parser.add_argument("--again", action="store_true", help="measure anew what is kept")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    if asked.only:
        measure = {"memory": measure_memory, "time": measure_time}[asked.part]
        print(json.dumps(measure(asked.only)))
        return
    found = run((asked.part,) if asked.part else ("scores", "memory", "time"), asked.again)
    for name, each in correlations(found["scores"]).items() if found["scores"] else ():
        print(f"{name:6} Spearman {each['spearman']:.2f} ({each['low']:.2f} to {each['high']:.2f})")


if __name__ == "__main__":
    main()
