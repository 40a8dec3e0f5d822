"""Does any strategy want a higher rate than its grid offers?

Every strategy of `finetuning.strategies`, on chapter 07's rows and with its settings, by one seed:
the rates of its grid and one about three times above the highest. If the rate above has the best
validation accuracy, the grid ends too early. Takes 15 minutes of CPU; finished runs are kept in
`build/`, `--again` measures anew.

    .venv/bin/python benchmarks/rate_edges.py
"""

from __future__ import annotations

import argparse
import json
import os
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported

import arms
import machine

NAME, STORE = "rate_edges", arms.CACHE / "rate_edges.json"
ROWS, HELD_OUT, LENGTH, EPOCHS, BATCH = 256, 240, 32, 4, 16  # chapter 07's under laptop


def above(rate: float) -> float:
    """The next of 1, 3, 10 …

    >>> above(0.01), above(0.03), above(1.0)
    (0.03, 0.1, 3.0)
    """
    return float(f"{rate * (3 if f'{rate:e}'[0] == '1' else 10 / 3):.0e}")


def tried(name: str, rate: float, known: dict[str, Any], data: Any) -> dict[str, float]:
    """Accuracy on validation and test rows of one strategy at one rate; kept once it is known."""
    from cookbook import session
    from cookbook.finetuning import fine_tune

    key = f"{name} {rate:g}"
    if key not in known:
        found = fine_tune(
            "docbert", data, name, seed=0, learning_rate=rate, max_length=LENGTH, epochs=EPOCHS,
            batch_size=BATCH, precision=session.fastest_precision("cpu"),
            output_dir=str(arms.CACHE / NAME),
        )  # fmt: skip
        known[key] = {part: getattr(found, part)["accuracy"] for part in ("validation", "test")}
        STORE.write_text(json.dumps(known, indent=1))
        print(key, known[key], flush=True)
    return known[key]


def main() -> None:
    """Every strategy, its grid and one rate above."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--again", action="store_true", help="measure anew what is there")
    again = parser.parse_args().again

    from cookbook.data import load, splits
    from cookbook.finetuning.strategies import RATES

    arms.CACHE.mkdir(parents=True, exist_ok=True)
    known = json.loads(STORE.read_text()) if STORE.exists() and not again else {}
    data, table = splits.few(load("docstring-topics"), ROWS, HELD_OUT, seed=0), {}
    for name, rates in RATES.items():
        grid = {f"{rate:g}": tried(name, rate, known, data) for rate in rates}
        higher = above(rates[-1])
        best = max(one["validation"] for one in grid.values())
        beyond = tried(name, higher, known, data)
        table[name] = {"grid": grid, "above": {f"{higher:g}": beyond},
                       "ends_too_early": beyond["validation"] > best}  # fmt: skip
    early = [name for name, row in table.items() if row["ends_too_early"]]
    print(f"of {len(table)} grids {len(early)} end too early", *early)
    arms.write(NAME, {"machine": machine.describe(), "strategies": table})


if __name__ == "__main__":
    main()
