"""Run a chapter on other data from a shell, by parameters alone, and keep what it measured.

What the benches share that are nothing but commands, `other_data.py` and `tasks.py`: the words of
`cookbook run`, its `results.json`, the one line of a refusal, and results kept run by run.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import arms
import machine


def command(chapter: str, given: Mapping[str, str], folder: str) -> list[str]:
    """The words of the shell command, after `cookbook`; `folder` is where the chapter writes."""
    words = ["run", chapter, "--profile", "laptop", "-o", folder]
    return words + [word for key, value in given.items() for word in ("-p", f"{key}={value}")]


def measure(words: list[str], work: Path) -> dict[str, Any]:
    """Run them; the chapter's results, or "refused": the one line with which it ended."""
    done = subprocess.run(
        [sys.executable, "-m", "cookbook.cli", *words], capture_output=True, text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    if done.returncode:
        return {"refused": done.stderr.strip().splitlines()[-1].replace(str(work), "build")}
    return json.loads((Path(words[words.index("-o") + 1]) / "results.json").read_text())


def main(name: str, runs: Iterable[str], run: Callable[[str], dict[str, Any]], about: str) -> None:
    """Run what is not in `results/<name>.json` yet, or all `--again`, or `--only` one."""
    parser = argparse.ArgumentParser(description=about.splitlines()[0])
    parser.add_argument("--only", choices=list(runs))
    parser.add_argument("--again", action="store_true", help="measure anew what is there")
    asked = parser.parse_args()
    if not os.environ.get("COOKBOOK_DATA_DIR"):
        sys.exit(f"COOKBOOK_DATA_DIR is not set: name the folder that holds {', '.join(runs)}")
    path = arms.RESULTS / f"{name}.json"
    found = json.loads(path.read_text()) if path.exists() else {}
    for one in [asked.only] if asked.only else runs:
        if asked.again or one not in found.get("runs", {}):
            found.setdefault("runs", {})[one] = run(one)
            arms.write(name, found | {"machine": machine.describe()})
            print(one, json.dumps(found["runs"][one], indent=1), flush=True)
