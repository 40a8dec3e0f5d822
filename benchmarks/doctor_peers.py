"""What do others find in the same runs? Four packages, and the libraries' own warnings.

On a fixed quarter of the fault runs and of the healthy runs of `doctor_faults.py`. A tool detects a
fault if it raises any alarm that it does not raise on the healthy twin: the same script and seed
without the fault. Alarms of every level count, and those of the tool's most severe level are told
beside them, because most alarms of some tools on healthy runs are advice. The doctor's own figures
on the same runs stand in the last column. The tools are installed into `build/peers`.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import warnings
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported

import arms
import machine
from faults import peer_runs, peers, run

NAME, SHARE = "doctor_peers", 0.25
MEMORY = 8 << 30  # bytes of addresses that a worker may take


def install() -> None:
    """The peers and what they need, beside what the environment has."""
    if not (peer_runs.FOLDER / "runmedic").exists():
        command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target"]
        subprocess.run([*command, str(peer_runs.FOLDER), *peers.PACKAGES], check=True)


def sample(share: float) -> tuple[list[run.Task], list[run.Task]]:
    """A fixed part of the fault runs, and of the healthy ones."""
    wanted = run.tasks()
    broken, fine = [t for t in wanted if t.fault], [t for t in wanted if not t.fault]
    draw = random.Random(1)
    return tuple(draw.sample(part, round(share * len(part))) for part in (broken, fine))


def twin_of(task: run.Task) -> run.Task:
    """The same script without its fault: named after family and loop."""
    loop = run.verdicts()[task.name].loop
    return run.Task(f"twin:{loop}", task.seed, task.family)


def recipe_of(task: run.Task) -> Any:
    """A fresh script of a task or of a twin."""
    if not task.name.startswith("twin:"):
        return run.recipe_of(task)
    from faults.families import FAMILIES

    loop = task.name.removeprefix("twin:")
    return FAMILIES[task.family](task.seed, **({"loop": loop} if loop else {}))


def start() -> None:
    """A worker; a tool that lists an endless stream raises, and does not take the machine down."""
    run.start()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


def work(task: run.Task) -> tuple[str, dict]:
    """What the tools say about one task."""
    warnings.filterwarnings("ignore")
    return task.key, peers.alarms(lambda: recipe_of(task))


def heard(wanted: list[run.Task], workers: int) -> dict[str, dict]:
    """Key → tool → alarms; what is known already is kept."""
    store = run.ROOT / "build" / "benchmarks" / f"peers-{run.fingerprint(doctor=False)}.jsonl"
    known = dict(map(json.loads, store.read_text().splitlines())) if store.exists() else {}
    left = [task for task in wanted if task.key not in known]
    print(f"{len(wanted)} runs, {len(left)} of them to do", flush=True)
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=start)
    with pool, store.open("a") as file:
        for count, done in enumerate(as_completed([pool.submit(work, t) for t in left]), 1):
            key, said = done.result()
            known[key] = said
            file.write(json.dumps([key, said]) + "\n")
            file.flush()
            if count % 25 == 0:
                print(f"{count}/{len(left)}", flush=True)
    return {task.key: known[task.key] for task in wanted}


def new_alarms(said: list, usual: list, severe: bool) -> set[tuple[str, str]]:
    """Alarms that the healthy twin does not raise; of the most severe level only if asked."""
    kept = {(what, level) for what, level in said if not severe or level in peers.SEVERE}
    return kept - {(what, level) for what, level in usual}


def summary(broken: list[run.Task], fine: list[run.Task], said: dict, ours: list[dict]) -> dict:
    """Per tool: shares of faults detected and of healthy runs with an alarm, at both levels."""
    mutations = run.verdicts()
    table: dict[str, Any] = {}
    for name in peers.NAMES:
        cell = {}
        for level, severe in (("any", False), ("severe", True)):
            found = [
                bool(new_alarms(said[task.key][name], said[twin_of(task).key][name], severe))
                for task in broken
            ]
            loud = [bool(new_alarms(said[t.key][name], [], severe)) for t in fine]
            cell[level] = {"detected": _share(found), "healthy_with_alarm": _share(loud)}
        cell["raised"] = sum(
            any(level == "raised" for _, level in told[name]) for told in said.values()
        )
        table[name] = cell
    doctor = [r | run.judged(r, mutations[r["name"]]) for r in ours if r["fault"]]
    table["cookbook.doctor"] = {"any": {
        "detected": _share([row["detected"] for row in doctor]),
        "named_as_cause": _share([row["right"] for row in doctor]),
        "healthy_with_alarm": _share([bool(r["faults"]) for r in ours if not r["fault"]]),
    }}  # fmt: skip
    return table


def by_fault(broken: list[run.Task], said: dict) -> dict[str, dict[str, str]]:
    """Fault → tool → "detected/runs", alarms of any level."""
    table: dict[str, dict[str, list[bool]]] = {}
    for task in broken:
        for name in peers.NAMES:
            found = new_alarms(said[task.key][name], said[twin_of(task).key][name], False)
            table.setdefault(task.fault, {}).setdefault(name, []).append(bool(found))
    return {
        fault: {name: f"{sum(hits)}/{len(hits)}" for name, hits in row.items()}
        for fault, row in sorted(table.items())
    }


def _share(flags: list[bool]) -> float | None:
    return round(sum(flags) / len(flags), 4) if flags else None


def main() -> None:
    """Install, run, write the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--share", type=float, default=SHARE)
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    install()
    broken, fine = sample(given.share)
    twins = list(dict.fromkeys(twin_of(task) for task in broken))
    said = heard([*broken, *twins, *fine], given.workers)
    ours = run.run([*broken, *fine], given.workers)
    found = {
        "machine": machine.describe(), "fingerprint": run.fingerprint(), "share": given.share,
        "packages": list(peers.PACKAGES), "repaired": "training-doctor 0.1.0: its callback is no "
        "TrainerCallback and raises under transformers 5; measured after deriving it from one",
        "fault_runs": len(broken), "healthy_runs": len(fine), "twins": len(twins),
        "tools": summary(broken, fine, said, ours), "by_fault": by_fault(broken, said),
    }  # fmt: skip
    print(json.dumps(found["tools"], indent=1))
    arms.write(NAME, found, arms.RESULTS if given.share >= SHARE else arms.CACHE)


if __name__ == "__main__":
    main()
