"""Does the doctor do as well on architectures that no check was written with?

The bench's own ways and healthy scripts of two families, run once with a RoBERTa in BERT's place
and a GPT-NeoX in GPT-2's (`faults/kin.py`). Ways that name a part which the relative has not are
listed and left out. Some four minutes on two cores.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported

import arms
import machine
from faults import kin, run

NAME = "doctor_kin"


def summary(results: list[dict[str, Any]]) -> dict[str, Any]:
    """Shares by relative, what was missed, the alarms, and what could not be asked."""
    mutations = run.verdicts()
    left = [row for row in results if kin.without_a_part(row)]
    kept = [row for row in results if row not in left]
    broken = [row | run.judged(row, mutations[row["name"]]) for row in kept if row["fault"]]
    fine = [row for row in kept if not row["fault"]]
    return {
        "fault_runs": run.rates(broken),
        "families": run.by_family(broken),
        "missed": [run.told(row) for row in broken if not row["detected"]],
        "wrong_primary": [run.told(r) for r in broken if r["detected"] and not r["right"]],
        "healthy": {
            "runs": len(fine),
            "false_alarms": sum(bool(row["faults"]) for row in fine),
            "alarms": [{"script": r["name"], "family": r["family"], "findings": r["all"]}
                       for r in fine if r["faults"]],
            "ended_early": sorted({f"{r['name']}: {r['error']}" for r in fine if r["error"]}),
        },
        "left_out": sorted(f"{r['name']} in {r['family']}: {r['error'][:90]}" for r in left),
    }  # fmt: skip


def main() -> None:
    """Run, say what is wrong, write the result; the first reading is never overwritten."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--reading", default="", help="its name in the result; none: only told")
    parser.add_argument("--only", default="", help="names of ways or scripts, by commas")
    given = parser.parse_args()
    load, wanted = machine.load_average(), kin.tasks()
    if given.only:
        wanted = [task for task in wanted if task.name in given.only.split(",")]
    for relative in kin.OF:
        kin.checkpoint(relative)
    pool = ProcessPoolExecutor(
        2, mp_context=multiprocessing.get_context("spawn"), initializer=run.start
    )
    with pool:
        results = list(pool.map(kin.work, wanted))
    found = {"machine": machine.describe() | {"load_before": load}} | summary(results)
    print(json.dumps({k: v for k, v in found.items() if k != "machine"}, indent=1))
    path = arms.RESULTS / f"{NAME}.json"
    kept = json.loads(path.read_text()) if path.is_file() else {}
    if given.reading and not given.only:
        assert given.reading not in kept, "a reading is not overwritten"
        arms.write(NAME, kept | {given.reading: found}, arms.RESULTS)


if __name__ == "__main__":
    main()
