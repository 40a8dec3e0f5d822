"""Chapter 14 on MNIST, which it was not written for, by parameters alone.

    COOKBOOK_DATA_DIR=... python benchmarks/mnist.py

One shell command, `cookbook run 14 -p dataset=mnist ...`; the command and what it wrote into its
`results.json` are the result. The copy holds 15,000 training and 10,000 test images, a quarter of
the published training set; a part of the training images goes to validation, which chooses the
network. Images are scaled from 28 to 16 pixels, which makes a step of the CNN three times cheaper;
without `image_size` they stay as they are. The figures beside ours are those of LeCun et al. 1998,
on 60,000 images of 28 pixels without distortions; the linear model of the chapter reads 5,000 rows.
Needs COOKBOOK_DATA_DIR with `mnist`; ten minutes
of CPU.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import arms
import by_parameters
import machine

NAME = "mnist"
GIVEN = {"dataset": "mnist", "image_size": "16", "steps": "1000", "networks": "cnn vit"}
PUBLISHED = {"LeNet-5": 0.9905, "one layer, linear": 0.88, "training images": 60_000}
KEPT = ("accuracy_", "test_", "few_", "shifted_", "map_", "answers", "clip_", "drawn_", "described")


def command(folder: str) -> list[str]:
    """The words of the shell command, after `cookbook`."""
    return by_parameters.command("14", GIVEN, folder)


def written(folder: str) -> str:
    """The command as a reader types it."""
    words = (f"'{word}'" if " " in word else word for word in command(folder))
    return f"cookbook {' '.join(words)}"


def measure() -> dict[str, Any]:
    """Run the chapter; what it measured, and the CPU time that it took."""
    work = arms.CACHE / NAME
    began = os.times()
    measured = by_parameters.measure(command(str(work)), work)
    if "refused" in measured:
        sys.exit(measured["refused"])
    now = os.times()
    return {
        "command": written("build/mnist"),
        "measured": {name: round(x, 4) for name, x in measured.items() if name.startswith(KEPT)},
        "published": PUBLISHED,
        "cpu_minutes": round((now.children_user - began.children_user) / 60, 1),
        "date": time.strftime("%Y-%m-%d"),
    }


def main() -> None:
    """Run it, and write `results/mnist.json`."""
    if not os.environ.get("COOKBOOK_DATA_DIR"):
        sys.exit("COOKBOOK_DATA_DIR is not set: name the folder that holds mnist")
    found = measure()
    arms.write(NAME, found | {"machine": machine.describe()})
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
