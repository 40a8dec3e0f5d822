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

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import arms
import machine

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
    words = ["run", chapter, "--profile", "laptop", "-o", f"{work}/{name.replace(', ', '-')}"]
    for key, value in given.items():
        words += ["-p", f"{key}={value.format(work=work)}"]
    return words


def run(name: str) -> dict[str, Any]:
    """Run it; what it measured, or the one line with which it refused."""
    done = subprocess.run(
        [sys.executable, "-m", "cookbook.cli", *command(name, str(WORK))],
        capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    said = " ".join(command(name, "build"))
    found: dict[str, Any] = {"command": f"cookbook {said}", "published": RUNS[name][2]}
    if done.returncode:
        return found | {"refused": done.stderr.strip().splitlines()[-1].replace(str(WORK), "build")}
    written = WORK / name.replace(", ", "-") / "results.json"
    values = json.loads(written.read_text())
    return found | {key: value for key, value in values.items() if key.startswith(KEPT)}


def main() -> None:
    """Run what is not there yet, and write `results/other_data.json`."""
    words = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    words.add_argument("--only", choices=list(RUNS))
    words.add_argument("--again", action="store_true", help="measure anew what is there")
    asked = words.parse_args()
    if not os.environ.get("COOKBOOK_DATA_DIR"):
        sys.exit("COOKBOOK_DATA_DIR is not set: name the folder that holds sst2, cola and the rest")
    path = arms.RESULTS / f"{NAME}.json"
    found = json.loads(path.read_text()) if path.exists() else {}
    for name in [asked.only] if asked.only else RUNS:
        if asked.again or name not in found.get("runs", {}):
            found.setdefault("runs", {})[name] = run(name)
            arms.write(NAME, found | {"machine": machine.describe()})
            print(name, json.dumps(found["runs"][name], indent=1), flush=True)


if __name__ == "__main__":
    main()
