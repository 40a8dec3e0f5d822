"""Does the fast path learn as well? Validation loss after equal tokens, against run_mlm's defaults.

Two seeds of two arms, 3 million tokens each, at batch 8 and one thread. Both arms get the same
first weights, rows, learning rate, warm-up, decay and weight decay: the question is about the path
(precision, dropout, attention kernel, where the loss is computed, how masks are drawn), and
run_mlm's own 5e-5 would make a straw man: it is meant for fine-tuning a model that is already
trained. Each arm is a process of its own that goes on from its last whole checkpoint; arms that
have finished are kept in the results, `--again` measures them anew. No speed is claimed here
(pretraining_speed.py does that): the arms run one after the other.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported

import arms
import machine

NAME, STEPS, BATCH = "pretraining_quality", 3000, 8  # 3000 x 8 x 128 = 3.07 million tokens
ORDER = [("fast", 0), ("plain", 0), ("fast", 1), ("plain", 1)]
# docbert learns at 1e-3 with batch 32; with a quarter of it, half of that (square-root scaling).
SHARED = {"learning_rate": 5e-4, "weight_decay": 0.01, "adam_beta2": 0.98, "save_steps": 250,
          "save_strategy": "steps", "save_total_limit": 2, "logging_steps": 100}  # fmt: skip
WARMUP = 0.06  # of the steps; then linear decay to 0


def train_arm(arm: str, seed: int, steps: int, work: Path) -> dict[str, Any]:
    """Train one arm to its end, in this process, and measure it on the held-out rows."""
    import torch

    from cookbook import session
    from cookbook.training import pretraining
    from cookbook.training.trainer_checkpoints import resume_point

    torch.set_num_threads(1)
    corpus = arms.corpus()
    model = arms.model(corpus.tokenizer, seed, fast=arm == "fast")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    precision = session.fastest_precision(device, seconds=1.0)
    point = resume_point(work)
    done = int(point.rsplit("-", 1)[1]) if point else 0
    wall, cpu = time.perf_counter(), time.process_time()
    curve = (_fast if arm == "fast" else _plain)(model, corpus, seed, steps, work, precision)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    held_out = corpus.held_out if steps == STEPS else arms.whole(corpus.held_out.input_ids[:64])
    found = pretraining.evaluate_masked_lm(model, corpus.tokenizer, held_out)
    return {
        "arm": arm, "seed": seed, "tokens": steps * BATCH * arms.LENGTH, **found,
        "precision": precision if arm == "fast" else "fp32", "corpus": corpus.fingerprint,
        "resumed_at_step": done, "wall_minutes_since": round(wall / 60, 2),
        "cpu_minutes_since": round(cpu / 60, 2), "curve": curve,
    }  # fmt: skip


def _fast(
    model: Any, corpus: arms.Corpus, seed: int, steps: int, work: Path, precision: str
) -> list:
    from cookbook.training import pretraining
    from cookbook.training.trainer_checkpoints import VerifiedCheckpoints

    done = pretraining.pretrain(
        model, corpus.tokenizer, corpus.rows, steps=steps, batch_size=BATCH, warmup=WARMUP,
        precision=precision, seed=seed, output_dir=work, resume=True, disable_tqdm=True,
        callbacks=[VerifiedCheckpoints()], **SHARED,
    )  # fmt: skip
    return done.curve()


def _plain(model: Any, corpus: arms.Corpus, seed: int, steps: int, work: Path, _: str) -> list:
    from cookbook.training.trainer_checkpoints import VerifiedCheckpoints, resume_point

    dataset = arms.plain_dataset(corpus.rows.input_ids, corpus.tokenizer)
    trainer = arms.plain_trainer(
        model, corpus.tokenizer, dataset, callbacks=[VerifiedCheckpoints()], output_dir=str(work),
        max_steps=steps, per_device_train_batch_size=BATCH, warmup_steps=WARMUP, seed=seed,
        **SHARED,
    )  # fmt: skip
    trainer.train(resume_from_checkpoint=resume_point(work))
    history = trainer.state.log_history
    return [(entry["step"], entry["loss"]) for entry in history if "loss" in entry]


def verdict(found: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean losses, their difference, and whether it stays within the spread of the seeds.

    The spread is the larger of the two arms' distances between their seeds.
    """
    losses = {arm: [f["loss"] for f in found if f["arm"] == arm] for arm in ("fast", "plain")}
    mean = {arm: sum(values) / len(values) for arm, values in losses.items()}
    spread = max(max(values) - min(values) for values in losses.values())
    return {
        "fast_loss": mean["fast"], "plain_loss": mean["plain"], "spread": spread,
        "difference": mean["fast"] - mean["plain"],
        "not_worse": mean["fast"] - mean["plain"] <= spread,
    }  # fmt: skip


def run(steps: int, work: Path, results: Path, again: bool) -> dict[str, Any]:
    """All arms that the results lack, one after the other; the results are written after each."""
    place = results / f"{NAME}.json"
    kept = json.loads(place.read_text())["arms"] if place.exists() and not again else []
    if again:
        shutil.rmtree(work, ignore_errors=True)
    for arm, seed in ORDER:
        if any((f["arm"], f["seed"]) == (arm, seed) for f in kept):
            continue
        print(f"{arm} path, seed {seed}: {steps} steps of {BATCH} rows", flush=True)
        folder = work / f"{arm}-{seed}"
        subprocess.run([sys.executable, __file__, "--arm", arm, "--seed", str(seed), "--steps",
                        str(steps), "--work", str(folder)], check=True)  # fmt: skip
        kept.append(json.loads((folder / "found.json").read_text()))
        arms.write(NAME, _document(kept, steps), results)
    return _document(kept, steps)


def _document(kept: list[dict[str, Any]], steps: int) -> dict[str, Any]:
    complete = len(kept) == len(ORDER)
    return {
        "what": "loss on held-out rows after equal tokens: fast path, and run_mlm's defaults",
        "steps": steps, "batch_size": BATCH, "length": arms.LENGTH, "warmup": WARMUP,
        "shared": SHARED, "complete": complete, **(verdict(kept) if complete else {}),
        "machine": machine.describe(), "arms": kept,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=STEPS, help="fewer to try it out")
    parser.add_argument("--again", action="store_true", help="measure finished arms anew")
    parser.add_argument("--arm", choices=("fast", "plain"), help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.arm:
        asked.work.mkdir(parents=True, exist_ok=True)
        arms.write("found", train_arm(asked.arm, asked.seed, asked.steps, asked.work), asked.work)
        return
    # A trial is not a result: it stays in build/.
    work = arms.CACHE / f"quality-{asked.steps}"
    found = run(asked.steps, work, arms.RESULTS if asked.steps == STEPS else work, asked.again)
    for name in ("fast_loss", "plain_loss", "difference", "spread"):
        print(f"{name:12} {found[name]:+.4f}")
    if not found["not_worse"]:
        raise SystemExit("the fast path is worse than the plain one by more than the seeds differ")


if __name__ == "__main__":
    main()
