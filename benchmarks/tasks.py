"""Chapters 15 and 12 on data that nobody here wrote, by parameters alone, beside published figures.

    COOKBOOK_DATA_DIR=... python benchmarks/tasks.py                 all runs
    COOKBOOK_DATA_DIR=... python benchmarks/tasks.py --only wnut17   one of them

Each run is a shell command, `cookbook run 15 -p dataset=NAME ...`, and nothing else; the command
and what it wrote into its `results.json` are the result. Wrong labels are chapter 12's. Ours are
five million weights that read docstrings only, and for translation 0.3 million from random weights,
trained for minutes; the size of each published model stands beside its figure. Results are kept run
by run; `--again` measures anew. Needs COOKBOOK_DATA_DIR; 25 minutes of CPU.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import arms
import by_parameters

NAME, WORK = "tasks", arms.CACHE / "tasks"
# run: parameters beside the data set, and what is published: figure, model, millions of weights
RUNS: dict[str, tuple[dict[str, str], list[tuple[str, str, int]]]] = {
    "wnut17": (
        {"rows": "3394", "test_rows": "1287", "epochs": "4", "learning_rate": "3e-4"},
        [
            ("entity F1 0.40 to 0.48, model cards of the hub", "BERT-base", 110),
            ("entity F1 0.565", "BERTweet", 135),
        ],
    ),
    "tatoeba_en_zh": (
        {"rows": "24783", "test_rows": "1000", "epochs": "5"},
        [("BLEU 31.4 on Tatoeba's own test set", "OPUS-MT en-zh, millions of pairs", 78)],
    ),
    "stsb": ({}, [("Spearman 0.843", "supervised SimCSE, BERT-base", 110)]),
    "snli_small": ({}, [("accuracy 0.905, trained on all 550,000 pairs", "BERT-base", 110)]),
    "xquad_en": ({}, [("exact match 0.722, F1 0.835, trained on SQuAD", "mBERT", 178)]),
    "xquad_zh": ({}, []),  # an encoder that has read no Chinese, and says what it is worth
    "imdb_label_errors": (
        {"text_column": "text", "label_column": "given", "verdict": "verdict=label_error"},
        [],  # the set itself is what others listed: 173 of 1,310 are wrong by a majority of people
    ),
}
CHAPTER = {"imdb_label_errors": "12"}  # of all others 15


def command(name: str, work: str) -> list[str]:
    """The words of the shell command of a run, after `cookbook`."""
    return by_parameters.command(
        CHAPTER.get(name, "15"), {"dataset": name} | RUNS[name][0], f"{work}/{name}"
    )


def run(name: str) -> dict[str, Any]:
    """Run it; what it measured, or the one line with which it refused."""
    found: dict[str, Any] = {
        "command": " ".join(["cookbook", *command(name, "build")]),
        "published": [
            {"figure": figure, "model": model, "million weights": size}
            for figure, model, size in RUNS[name][1]
        ],
    }
    values = by_parameters.measure(command(name, str(WORK)), WORK)
    return found | {k: v for k, v in values.items() if not k.startswith("claim.")}


if __name__ == "__main__":
    by_parameters.main(NAME, RUNS, run, __doc__)
