"""Chapter 07 on data and models that it was not written for, by parameters alone.

    COOKBOOK_DATA_DIR=... python benchmarks/other_data.py              all runs
    COOKBOOK_DATA_DIR=... python benchmarks/other_data.py --only cola  one of them

Each run is a shell command, `cookbook run NAME -p … `, and nothing else; the command and what it
wrote into its `results.json` are the result. `sst2`, `banking77`, `cola` from docbert, which read
docstrings only; `waimai_zh`, which docbert's tokenizer must refuse in one line, from a checkpoint
that chapter 03 makes of `zh_wiki`; `docstring-topics` from a folder with a checkpoint of another
size. Five million parameters and one or two thousand rows: the published figures beside ours are of
BERT-base, with a hundred and ten million, on all rows. Results are kept run by run; `--again`
measures anew. Needs COOKBOOK_DATA_DIR; 25 minutes of CPU.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import arms
import by_parameters

NAME, WORK = "other_data", arms.CACHE / "other_data"
SOME = "full,linear-probe"
# run: chapter, parameters ({work} is the folder of the runs), published figure (data/INDEX.md)
RUNS: dict[str, tuple[str, dict[str, str], str]] = {
    "sst2": (
        "07",
        {"dataset": "sst2", "training_rows": "2000", "strategies_to_run": f"{SOME},lora"},
        "accuracy 0.92 to 0.93",
    ),
    "banking77": ("07", {"dataset": "banking77", "training_rows": "1000"}, "accuracy 0.93 to 0.94"),
    "cola": ("07", {"dataset": "cola", "training_rows": "1000"}, "MCC 0.56 to 0.60"),
    "waimai_zh, docbert": ("07", {"dataset": "waimai_zh", "training_rows": "1000"}, ""),
    "zh_wiki": ("03", {"dataset": "zh_wiki", "steps": "200"}, ""),
    "waimai_zh": (
        "07",
        {"dataset": "waimai_zh", "training_rows": "1000", "model": "{work}/zh_wiki/checkpoint"},
        "accuracy 0.90 to 0.91",
    ),
    "another size": ("07", {"model": "{work}/../candidates/mini-500", "training_rows": "256"}, ""),
}
KEPT = ("accuracy", "macro_F1", "MCC", "trainable", "pieces_per_word", "unknown", "test_perplexity")


def command(name: str, work: str) -> list[str]:
    """The words of the shell command of a run, after `cookbook`."""
    chapter, given, _ = RUNS[name]
    given = ({"strategies_to_run": SOME} if chapter == "07" else {}) | given
    given = {key: value.format(work=work) for key, value in given.items()}
    return by_parameters.command(chapter, given, f"{work}/{name.replace(', ', '-')}")


def run(name: str) -> dict[str, Any]:
    """Run it; what it measured, or the one line with which it refused."""
    said = " ".join(command(name, "build"))
    values = by_parameters.measure(command(name, str(WORK)), WORK)
    kept = {key: value for key, value in values.items() if key.startswith((*KEPT, "refused"))}
    return {"command": f"cookbook {said}", "published": RUNS[name][2]} | kept


if __name__ == "__main__":
    by_parameters.main(NAME, RUNS, run, __doc__)
