"""What does `Doctor` cost while a model is pretrained? CPU inside its hooks, and wall clock.

The laptop's pretraining (`docbert`'s size, rows of 128, batch 32) with and without the callback, in
one process and in turns. `share` is the CPU time inside the hooks over that of the steps, after the
examination before the first step, which is timed apart; the bound is 2 %. The wall-clock ratio is
that of neighbours in a round; its interval is the least and the greatest of the rounds.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported

import arms
import machine

NAME, ROUNDS, STEPS, BATCH, BOUND = "doctor_overhead", 3, 200, 32, 0.02


def turn(corpus: arms.Corpus, steps: int, watched: bool) -> dict[str, float]:
    """One short run: wall and CPU seconds, and the doctor's own CPU seconds."""
    from cookbook import session
    from cookbook.doctor import Doctor
    from cookbook.training import pretraining

    model = arms.model(corpus.tokenizer, 0, fast=True)
    doctor = Doctor(examine=False) if watched else None
    rows = arms.whole(corpus.rows.input_ids[: steps * BATCH])
    precision = session.fastest_precision("cpu", seconds=0.5)
    with tempfile.TemporaryDirectory() as folder:
        wall, cpu = time.perf_counter(), time.process_time()
        pretraining.pretrain(
            model, corpus.tokenizer, rows, steps=steps, batch_size=BATCH, precision=precision,
            callbacks=[doctor] if doctor else [], output_dir=folder, disable_tqdm=True,
        )  # fmt: skip
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    if doctor is not None and not doctor.report.healthy:
        raise SystemExit(f"a healthy run raised an alarm: {doctor.report}")
    return {"wall": wall, "cpu": cpu, "hooks": doctor.overhead if doctor else 0.0}


def main() -> None:
    """Measure, say what breaks the bound, write the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--steps", type=int, default=STEPS)
    given = parser.parse_args()
    corpus, load = arms.corpus(), machine.load_average()
    turns = []
    for number in range(given.rounds):
        for watched in (number % 2 == 0, number % 2 == 1):  # neither is always the first
            turns.append(
                {"round": number, "watched": watched, **turn(corpus, given.steps, watched)}
            )
            print(turns[-1], flush=True)
    found = {"machine": machine.describe(), "load_before": load, "steps": given.steps,
             "batch_size": BATCH, "turns": turns} | summary(turns)  # fmt: skip
    whole = (given.rounds, given.steps) == (ROUNDS, STEPS)
    arms.write(NAME, found, arms.RESULTS if whole else arms.CACHE)
    print(f"CPU inside the hooks: {found['share']:.2%} of a step (bound: {BOUND:.0%})")


def summary(turns: list[dict]) -> dict:
    """Share of CPU time inside the hooks, and the wall-clock ratio with its interval."""
    with_it = [t for t in turns if t["watched"]]
    without = {t["round"]: t for t in turns if not t["watched"]}
    ratios = [t["wall"] / without[t["round"]]["wall"] for t in with_it]
    share = sum(t["hooks"] for t in with_it) / sum(t["cpu"] for t in with_it)
    wall = {"median": statistics.median(ratios), "min": min(ratios), "max": max(ratios)}
    return {"share": share, "wall_ratio": wall}


if __name__ == "__main__":
    main()
