"""How much do all labelled rows bring, and to whom? Five strategies on the whole of a training set.

Chapter 07 draws the curves up to 1,024 rows, because a reader waits; here are all training rows of
`docstring-topics`, the same test rows, the same strategies: full fine-tuning and the linear probe
under three seeds, LoRA, prompt tuning and a model from random weights under one. As in the chapter
the validation split chooses the rate, and counted words with a linear model stand beside. Finished
runs are kept under `build/benchmarks`. Writes `results/data_size.json`; 15 minutes of CPU.

    python benchmarks/data_size.py
    python benchmarks/data_size.py --rows 64 --steps 4      a trial, into build/benchmarks
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported

sys.path.insert(0, str(Path(__file__).parent))
import arms
import machine
import numpy as np

NAME, MODEL = "data_size", "docbert"
SEEDS = {"full": 3, "linear-probe": 3, "lora": 1, "prompt": 1, "from-scratch": 1}
SETTINGS: dict[str, Any] = {"epochs": 2, "batch_size": 16, "max_length": 32}  # length as in 07


def rows(few: int) -> Any:
    """The splits of chapter 07, with all training rows, or `few` in a trial."""
    from datasets import DatasetDict

    from cookbook import data
    from cookbook.data import splits

    labelled = data.load("docstring-topics", seed=0)
    small = splits.few(labelled, few or 256, 24 if few else 240, seed=0)
    train = small["train"] if few else labelled["train"]
    return DatasetDict(small, train=train)


def interval(right: np.ndarray) -> dict[str, float]:
    """Accuracy with its bootstrap interval over rows, and seeds where there are several."""
    from cookbook.evaluation import significance

    return significance.bootstrap_interval(right.astype(float))._asdict()


def main() -> None:
    """Compare on all rows, and write the result."""
    words = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    words.add_argument("--rows", type=int, default=0, help="0: all")
    words.add_argument("--steps", type=int, default=0, help="0: two epochs")
    asked = words.parse_args()
    from cookbook import session
    from cookbook.finetuning import baselines, compare

    precision, splits = session.fastest_precision(), rows(asked.rows)
    found: dict[str, Any] = {}
    for name, seeds in SEEDS.items():
        made = compare(
            MODEL, splits, strategies=[name], seeds=range(seeds), measure=False,
            folder=arms.CACHE / NAME, max_steps=asked.steps, precision=precision, **SETTINGS,
        )  # fmt: skip
        own = made.of(name)
        found[name] = {
            "seeds": seeds, "rate": own[0].learning_rate, "accuracy": interval(made.right(name)),
            "each": [round(run.test["accuracy"], 4) for run in own],
            "seconds": round(float(np.median([run.seconds / run.rates_tried for run in own])), 1),
        }  # fmt: skip
        print(name, found[name], flush=True)
    counted = baselines.tfidf(splits, seed=0)
    found["TF-IDF + linear"] = {"seeds": 1, "accuracy": interval(counted.right[None])}
    folder = arms.CACHE if asked.rows or asked.steps else arms.RESULTS
    sizes = {name: len(part) for name, part in splits.items()}
    result = {"what": "test accuracy on docstring-topics with all training rows", "rows": sizes}
    arms.write(
        NAME,
        result | SETTINGS | {"precision": precision, "strategies": found} | {
            "machine": machine.describe()
        },
        folder,
    )  # fmt: skip


if __name__ == "__main__":
    main()
