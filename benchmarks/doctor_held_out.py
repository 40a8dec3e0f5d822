"""How does the doctor do on faults and healthy runs that were written after its checks?

Families no check was tuned on (taggers, `faults/held_out_family.py`; for the sixth set, answers as
spans, `faults/span_family.py`; for the seventh, summaries by a BART, `faults/summary_family.py`;
for the ninth, words read by a GRU, `faults/recurrent_family.py`),
fresh ways to commit each fault (`faults/mutations/fresh_*.py` and the later sets beside them), and
fresh healthy scripts; all of them written from the catalogue of faults alone, committed, and then
read. The first reading of a set is the figure that counts, and is never overwritten. Later readings
stand beside it and are no longer blind.
Three seeds, about fifteen minutes on two cores; stopped, it goes on where it stood.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported

import arms
import machine
from faults import held_out_healthy, run, table

NAME = "doctor_held_out"
FIRST_WRITTEN = "fresh_as_first_written"


def tasks(seeds: int, number: int = 1) -> list[run.Task]:
    """Every fresh mutation in its families, and every healthy script that was held out.

    `number`: those of the first set, or of a later one.
    """
    named = ("fresh", *run.LATER)[number - 1]
    broken = [
        run.Task(m.name, seed, family, m.fault)
        for m in table.written_later(named)
        for family in m.families
        for seed in range(seeds)
    ]
    if number == 1:
        fine = held_out_healthy.configurations()
    else:
        fine = importlib.import_module(f"faults.{named}_healthy").CONFIGURATIONS
    return broken + [run.Task(name, seed) for name in fine for seed in range(seeds)]


def summary(results: list[dict[str, Any]]) -> dict[str, Any]:
    """Shares by family and by fault, what was missed, and every false alarm."""
    mutations = run.verdicts()
    broken = [row | run.judged(row, mutations[row["name"]]) for row in results if row["fault"]]
    rewritten = [r for r in broken if mutations[r["name"]].apply.__module__.endswith(FIRST_WRITTEN)]
    fresh = [row for row in broken if row not in rewritten]
    fine = [row for row in results if not row["fault"]]
    seen = {row["family"] for row in broken}
    newest = [importlib.import_module(f"faults.{name}").NAME for name in run.NEWER]
    family = next((name for name in newest if name in seen), newest[-1])
    return {
        "fault_runs": run.rates(broken),
        "fresh_in_the_new_family": {"name": family}
        | run.rates([row for row in fresh if row["family"] == family]),
        "fresh_in_the_older_families": run.rates([r for r in fresh if r["family"] != family]),
        "as_first_written": run.rates(rewritten),
        "families": run.by_family(broken),
        "faults": run.by_fault(broken),
        "missed": [run.told(row) for row in broken if not row["detected"]],
        "wrong_primary": [run.told(r) for r in broken if r["detected"] and not r["right"]],
        "healthy": {
            "runs": len(fine),
            "configurations": len({row["name"] for row in fine}),
            "false_alarms": sum(bool(row["faults"]) for row in fine),
            "alarms": [
                {"configuration": row["name"], "seed": row["seed"], "findings": row["all"]}
                for row in fine
                if row["faults"]
            ],
            "ended_early": sorted({f"{r['name']}: {r['error']}" for r in fine if r["error"]}),
        },
        "cpu_minutes": round(sum(row["cpu_s"] for row in results) / 60, 1),
    }


def main() -> None:
    """Run, say what is wrong, add the reading to the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--reading", default="again", help="its name in the result")
    numbers = range(1, 2 + len(table.LATER))
    parser.add_argument("--set", type=int, default=1, choices=numbers, help="which set")
    parser.add_argument("--only", default="", help="IDs of faults or names of scripts, by commas")
    parser.add_argument("--seeds", type=int, default=run.FAULT_SEEDS)
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    load, wanted = machine.load_average(), tasks(given.seeds, given.set)
    if given.only:
        names = set(given.only.split(","))
        wanted = [task for task in wanted if names & {task.fault, task.name, task.family}]
    mark = run.fingerprint(held_out=True)
    store = arms.CACHE / f"doctor-held-out-{mark}.jsonl"
    results = run.run(wanted, given.workers, store)
    about = machine.describe() | {"load_before": load, "workers": given.workers}
    found = {"machine": about, "fingerprint": mark, "seeds": given.seeds} | summary(results)
    run.tell(found)
    print(
        {k: v for k, v in found.items() if isinstance(v, dict) and "runs" in v and k != "healthy"}
    )
    print({k: v for k, v in found["healthy"].items() if k != "alarms"})
    if given.only or given.reading == "again" and given.seeds != run.FAULT_SEEDS:
        arms.write(NAME, found, arms.CACHE)
        return
    path = arms.RESULTS / f"{NAME}.json"
    kept = json.loads(path.read_text()) if path.is_file() else {}
    assert given.reading not in kept or given.reading == "again", "a reading is not overwritten"
    arms.write(NAME, kept | {given.reading: found}, arms.RESULTS)


if __name__ == "__main__":
    main()
