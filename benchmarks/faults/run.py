"""Run the bench: every fault in every family it applies to, every healthy configuration, by seeds.

Two workers of one thread each; a run that takes too long is stopped and counted as not detected.
Finished runs are kept under `build/benchmarks`, by a fingerprint of the doctor's source and of the
bench's, so a bench that was stopped goes on where it stood. `summary` makes the table of them.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import multiprocessing
import os
import random
import signal
import statistics
import time
import warnings
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from faults import table

ROOT = Path(__file__).resolve().parents[2]
LIMIT = 120  # seconds for one run
FAULT_SEEDS, HEALTHY_SEEDS = 3, 5
LATER = table.LATER
# Families that came after the checks: a module has NAME, and the script under this name.
NEWER = ("recurrent_family", "summary_family", "span_family", "held_out_family")
APART = (*(f"{name}_" for name in ("fresh", *LATER)), "held_out_", *NEWER)


@dataclass(frozen=True)
class Task:
    """One run: a mutation (`fault` is its ID) in a family, or a healthy configuration."""

    name: str
    seed: int
    family: str = ""
    fault: str = ""

    @property
    def key(self) -> str:
        return f"{self.fault}/{self.name}/{self.family}/{self.seed}"


def tasks(seeds: int = FAULT_SEEDS, healthy_seeds: int = HEALTHY_SEEDS) -> list[Task]:
    """All runs of the bench, faults first."""
    from faults import healthy

    broken = [
        Task(m.name, seed, family, m.fault)
        for m in table.table()
        for family in m.families
        for seed in range(seeds)
    ]
    fine = [Task(c.name, s) for c in healthy.configurations() for s in range(healthy_seeds)]
    return broken + fine


def fingerprint(held_out: bool = False, doctor: bool = True) -> str:
    """Of the doctor and of what it is run on: results of other versions do not count."""
    files = [*(ROOT.glob("cookbook/doctor/*.py") if doctor else ())]
    files += ROOT.glob("benchmarks/faults/**/*.py")
    found = hashlib.sha256()
    for path in sorted(files):
        apart = path.name.startswith(APART) and not held_out
        if not path.name.startswith(("run.", "peer")) and not apart:
            found.update(path.read_bytes())
    return found.hexdigest()[:12]


# -- in a worker ---------------------------------------------------------------------------------


def start() -> None:
    """One thread, no network, silence."""
    os.environ.update(OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
    import torch
    import transformers

    if "fork" in multiprocessing.get_all_start_methods():  # as scripts start their loaders
        multiprocessing.set_start_method("fork", force=True)
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()


def recipe_of(task: Task) -> Any:
    """The script of a task, with its fault in it."""
    from faults import families

    if not task.fault:
        recipe = healthy_scripts()[task.name](task.seed)
        recipe.online = True
        return recipe
    mutation = verdicts()[task.name]
    loop = {"loop": mutation.loop} if mutation.loop else {}
    newer = [importlib.import_module(f"faults.{name}") for name in NEWER]
    scripts = families.FAMILIES | {module.NAME: getattr(module, module.NAME) for module in newer}
    recipe = scripts[task.family](task.seed, **loop)
    recipe.online = mutation.online
    mutation.apply(recipe)
    return recipe


def healthy_scripts() -> dict[str, Any]:
    """Name of a healthy script → what makes it."""
    from faults import healthy, held_out_healthy

    known = {c.name: c.make for c in healthy.configurations()}
    known |= held_out_healthy.configurations()
    for name in LATER:
        known |= importlib.import_module(f"faults.{name}_healthy").CONFIGURATIONS
    return known


def work(task: Task) -> dict[str, Any]:
    """Run one task under the doctor, within the limit."""
    from faults.recipe import outcome

    def stop(*_: Any) -> None:
        raise TimeoutError(f"stopped after {LIMIT} s")

    signal.signal(signal.SIGALRM, stop)
    signal.alarm(LIMIT)
    try:
        found = outcome(recipe_of(task))
    except Exception as raised:
        found = {
            "primary": None,
            "faults": [],
            "advice": [],
            "all": [],
            "alarms": {},
            "error": f"the bench itself: {type(raised).__name__}: {raised}",
            "cpu_s": 0,
        }
    finally:
        signal.alarm(0)
    return asdict(task) | {"key": task.key} | found


# -- all of them ---------------------------------------------------------------------------------


def run(wanted: list[Task], workers: int = 2, store: Path | None = None) -> list[dict[str, Any]]:
    """The results of these tasks, those that are already known included."""
    store = store or ROOT / "build" / "benchmarks" / f"doctor-{fingerprint()}.jsonl"
    store.parent.mkdir(parents=True, exist_ok=True)
    known = {}
    if store.exists():
        known = {found["key"]: found for found in map(json.loads, store.read_text().splitlines())}
    left = [task for task in wanted if task.key not in known]
    print(f"{len(wanted)} runs, {len(left)} of them to do", flush=True)
    began = time.perf_counter()
    with store.open("a") as file:
        for count, found in enumerate(_results(left, workers), 1):
            known[found["key"]] = found
            file.write(json.dumps(found) + "\n")
            file.flush()
            if count % 50 == 0:
                print(f"{count}/{len(left)} after {time.perf_counter() - began:.0f} s", flush=True)
    return [known[task.key] for task in wanted]


def _results(left: list[Task], workers: int) -> Iterable[dict[str, Any]]:
    if not left:
        return
    if workers == 0:
        start()
        yield from map(work, left)
        return
    # Two benches of the same machine would slow each other; the slow ones are spread evenly.
    left = random.Random(0).sample(left, len(left))
    pool = ProcessPoolExecutor(
        workers, mp_context=multiprocessing.get_context("spawn"), initializer=start
    )
    with pool:
        yield from (done.result() for done in as_completed([pool.submit(work, t) for t in left]))


# -- what they say -------------------------------------------------------------------------------


def verdicts() -> dict[str, Any]:
    """Name of a mutation → the mutation."""
    return {mutation.name: mutation for mutation in [*table.table(), *table.later_tables()]}


def judged(found: dict[str, Any], mutation: Any) -> dict[str, Any]:
    """Whether the fault was detected, and named as the cause."""
    right = {mutation.fault, *mutation.also}
    said = set(found["faults"]) | (set(found["advice"]) if mutation.advice else set())
    detected = bool(right & said)
    named = found["primary"] in right or (mutation.advice and detected and not found["primary"])
    steps = [step for fault, step in found.get("alarms", {}).items() if fault in right]
    return {"detected": detected, "right": named, "step": min(steps, default=None)}


def share(rows: list[dict[str, Any]], name: str) -> float | None:
    """The share of rows in which this is so."""
    return round(sum(row[name] for row in rows) / len(rows), 4) if rows else None


def summary(results: list[dict[str, Any]]) -> dict[str, Any]:
    """The table: faults by family, and the healthy runs."""
    mutations = verdicts()
    broken = [
        found | judged(found, mutations[found["name"]]) for found in results if found["fault"]
    ]
    return {
        "fault_runs": rates(broken),
        "families": by_family(broken),
        "faults": by_fault(broken),
        "missed": [told(row) for row in broken if not row["detected"]],
        "wrong_primary": [told(row) for row in broken if row["detected"] and not row["right"]],
        "not_in_the_bench": _absent(broken),
        "healthy": _healthy([found for found in results if not found["fault"]]),
        "cpu_minutes": round(sum(found["cpu_s"] for found in results) / 60, 1),
    }


def by_family(broken: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The shares of each family."""
    names = sorted({row["family"] for row in broken})
    return {name: rates([row for row in broken if row["family"] == name]) for name in names}


def rates(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Runs, and the shares detected and rightly named."""
    return {"runs": len(rows), "detected": share(rows, "detected"), "right": share(rows, "right")}


def told(row: dict[str, Any]) -> str:
    """A run and what was said of it, in a line."""
    said = ", ".join(row["faults"]) or row["error"] or "nothing"
    return f"{row['fault']} {row['name']} in {row['family']}, seed {row['seed']}: {said}"


def by_fault(broken: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Fault → family → its shares, the ways it was committed, steps until the alarm."""
    table: dict[str, dict[str, Any]] = {}
    for row in broken:
        table.setdefault(row["fault"], {}).setdefault(row["family"], []).append(row)
    return {
        fault: {family: _cell(rows) for family, rows in found.items()}
        for fault, found in table.items()
    }


def _cell(rows: list[dict[str, Any]]) -> dict[str, Any]:
    steps = [row["step"] for row in rows if row["step"] is not None]
    wrong: dict[str, int] = {}
    for row in rows:
        if row["detected"] and not row["right"]:
            wrong[row["primary"]] = wrong.get(row["primary"], 0) + 1
    cell = rates(rows) | {"ways": sorted({row["name"] for row in rows})}
    cell |= {"steps_until_alarm": statistics.median(steps)} if steps else {}
    return cell | ({"wrong": wrong} if wrong else {})


def _absent(broken: list[dict[str, Any]]) -> list[str]:
    from cookbook.doctor.catalogue import FAULTS

    return sorted(set(FAULTS) - {row["fault"] for row in broken})


def tell(found: dict[str, Any]) -> None:
    """Print what a summary found wrong: faults missed or misnamed, alarms, runs that broke off."""
    print(*found["missed"], *found["wrong_primary"], sep="\n")
    for name, said in (("alarms", "false alarm:"), ("ended_early", "ended early:")):
        for line in found["healthy"][name]:
            print(said, line)


def _healthy(rows: list[dict[str, Any]]) -> dict[str, Any]:
    from faults import healthy

    held = {c.name for c in healthy.configurations() if c.held_out}
    parts = {
        "all": rows,
        "held_out": [row for row in rows if row["name"] in held],
        "tuned": [row for row in rows if row["name"] not in held],
    }
    counted = {
        part: {
            "runs": len(some),
            "configurations": len({row["name"] for row in some}),
            "false_alarms": sum(bool(row["faults"]) for row in some),
        }
        for part, some in parts.items()
    }
    alarms = [
        {
            "configuration": row["name"],
            "seed": row["seed"],
            "held_out": row["name"] in held,
            "findings": row["all"],
        }
        for row in rows
        if row["faults"]
    ]
    broken = sorted({f"{row['name']}: {row['error']}" for row in rows if row["error"]})
    return counted | {"alarms": alarms, "ended_early": broken}
