"""Does the doctor find every fault, name the cause, and keep silent on healthy runs?

Every fault of the catalogue that a run of seconds can hold is committed in every family of scripts
it applies to (`faults/mutations`), by three seeds; and more than a hundred healthy scripts
(`faults/healthy*.py`) run by five. What was detected, what was named as the cause, after how many
steps, and each false alarm go into `results/doctor_faults.json`. A quarter of the healthy scripts
was never used to set a threshold and is reported apart; faults that were held out are the matter of
`doctor_held_out.py`. Takes about half an hour on two cores; stopped, it goes on where it stood. A
slice is written to `build/benchmarks`.
"""

from __future__ import annotations

import argparse
import os
import random

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported

import arms
import machine
from faults import run

NAME = "doctor_faults"
# Of the fault runs detected and rightly named.
FLOORS = {"detected": 0.95, "right": 0.85}


def missed(found: dict) -> list[str]:
    """The floors that the result does not hold, in words."""
    told = [
        f"{name} in {found['fault_runs'][name]:.1%} of the fault runs: the floor is {floor:.0%}"
        for name, floor in FLOORS.items()
        if found["fault_runs"][name] < floor
    ]
    alarms = found["healthy"]["all"]["false_alarms"]
    return told + ([f"{alarms} false alarms on healthy runs: the bound is 0"] if alarms else [])


def chosen(given: argparse.Namespace) -> list[run.Task]:
    """The tasks that the options leave."""
    wanted = run.tasks(given.seeds or run.FAULT_SEEDS, given.healthy_seeds or run.HEALTHY_SEEDS)
    if given.only:
        names = set(given.only.split(","))
        wanted = [t for t in wanted if names & {t.fault, t.name}]
    if given.family:
        wanted = [t for t in wanted if not t.fault or t.family in given.family.split(",")]
    if given.faults:
        wanted = [t for t in wanted if t.fault]
    if given.healthy:
        wanted = [t for t in wanted if not t.fault]
    if given.sample:
        wanted = random.Random(0).sample(wanted, max(1, round(given.sample * len(wanted))))
    return wanted


def main() -> None:
    """Run, say what is wrong, write the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="IDs of faults or names of scripts, by commas")
    parser.add_argument("--family", default="", help="families of the fault runs, by commas")
    parser.add_argument("--faults", action="store_true", help="no healthy runs")
    parser.add_argument("--healthy", action="store_true", help="only healthy runs")
    parser.add_argument("--seeds", type=int, default=0, help="seeds of the fault runs")
    parser.add_argument("--healthy-seeds", type=int, default=0, help="seeds of the healthy runs")
    parser.add_argument("--sample", type=float, default=0.0, help="this share of the runs")
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    whole = not any(v for k, v in vars(given).items() if k != "workers")
    load = machine.load_average()
    results = run.run(chosen(given), given.workers)
    about = machine.describe() | {"load_before": load, "workers": given.workers}
    found = {"machine": about, "fingerprint": run.fingerprint()} | run.summary(results)
    run.tell(found)
    print({k: found[k] for k in ("fault_runs", "families", "cpu_minutes")})
    print({k: found["healthy"][k] for k in ("all", "tuned", "held_out")})
    arms.write(NAME, found, arms.RESULTS if whole else arms.CACHE)
    print("\n".join(missed(found)) if whole else "a slice: written to build/benchmarks")


if __name__ == "__main__":
    main()
