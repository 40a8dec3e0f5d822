"""How much sooner does our recipe reach the validation loss of run_mlm.py's defaults?

Two opponents, both through transformers' own Trainer (`arms.plain_trainer`), on a BERT of 1.5
million parameters that reads packed rows of 128 tokens in batches of 8:

  defaults  run_mlm.py as it is: rate 5e-5 falling to 0, no warm-up, dropout 0.1, fp32, sdpa
  tuned     the same with a rate, warm-up and decay of weights that suit random weights

The first reads 5 million tokens, the second 1.25 million, and its loss on held-out modules is the
target. Then our recipe (`cookbook.scaling.speed_recipe`) is trained until it is there, measured
every few steps; its rate falls to 0 at a number of tokens (`OURS`) that trials showed to suffice.
Time is tokens times CPU seconds a token; the seconds are measured in turns that alternate within
one process, so that whatever else slows the machine slows all of them. `log` are recipes that
differ by one thing, after equal tokens: what helped and what did not.

Finished arms are kept in the results, and a stopped one goes on from its last whole checkpoint.
It takes 60 minutes of CPU.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported

import arms
import machine

NAME, BATCH, SEEDS = "time_to_loss", 8, 2
TOKENS = {"defaults": 5_000_000, "tuned": 1_250_000}
TUNED = {"learning_rate": 1e-3, "warmup_steps": 0.06, "weight_decay": 0.01, "adam_beta2": 0.98}
OURS = {"defaults": 90_000, "tuned": 160_000}  # that our recipe may read; it stops when there
LOG_TOKENS, ROUNDS, HELD_OUT, EVERY, TURN, FLOOR = 150_000, 5, 500, 10, 16, 4.0
# The recipe of run_mlm.py's defaults, and what is added to it, one thing after the other, until it
# is ours; then what was tried on top.
START = {
    "network": "bert", "optimizer": "AdamW", "rate": 5e-5, "warmup": 0.0, "dropout": 0.1,
    "precision": "fp32", "masked_only": False, "probability": 0.15, "weight_decay": 0.0,
}  # fmt: skip
LOG: list[tuple[str, str, dict[str, Any]]] = [
    ("run_mlm.py", "adds", {}),
    ("masked positions", "adds", {"masked_only": True}),
    ("bf16", "adds", {"precision": "bf16"}),
    ("no dropout", "adds", {"dropout": 0.0}),
    ("rate 1e-3, warm-up", "adds", {"rate": 1e-3, "warmup": 0.06, "weight_decay": 0.01}),
    ("Muon, rate 1e-2", "adds", {"optimizer": "Muon", "rate": 1e-2}),
    ("pre-norm, rotary, GeGLU", "adds", {"network": "modern"}),
    ("30 % masked", "adds", {"probability": 0.3}),
    ("half rows first", "tried", {"short": 0.5}),
    ("batch 16", "tried", {"batch_size": 16}),
    ("batch 4", "tried", {"batch_size": 4}),
    ("AdamW, rate 2e-3", "tried", {"optimizer": "AdamW", "rate": 2e-3}),
    ("rate 3e-3", "tried", {"rate": 3e-3}),
    ("rate 2e-2", "tried", {"rate": 2e-2}),
    ("dropout 0.1", "tried", {"dropout": 0.1}),
    ("40 % masked", "tried", {"probability": 0.4}),
]


def network(tokenizer: Any, seed: int) -> Any:
    """The opponents' BERT, as its configuration comes: dropout 0.1 and sdpa."""
    import transformers

    from cookbook.models import text

    transformers.set_seed(seed)
    config = text.bert_config(
        len(tokenizer), "mini", length=arms.LENGTH, pad_token_id=tokenizer.pad_token_id
    )
    return transformers.BertForMaskedLM(config)


def held_out(corpus: arms.Corpus) -> Any:
    """The rows that all are asked about: of modules that none has read."""
    return arms.whole(corpus.held_out.input_ids[:HELD_OUT])


def train_opponent(arm: str, seed: int, tokens: int, work: Path) -> dict[str, Any]:
    """Train one opponent to its end, in this process, and measure it on the held-out rows."""
    from cookbook.training import pretraining
    from cookbook.training.trainer_checkpoints import VerifiedCheckpoints, resume_point

    corpus, steps = arms.corpus(), tokens // (BATCH * arms.LENGTH)
    model = network(corpus.tokenizer, seed)
    dataset = arms.plain_dataset(corpus.rows.input_ids, corpus.tokenizer)
    trainer = arms.plain_trainer(
        model, corpus.tokenizer, dataset, callbacks=[VerifiedCheckpoints()], output_dir=str(work),
        max_steps=steps, per_device_train_batch_size=BATCH, seed=seed, save_strategy="steps",
        save_steps=500, save_total_limit=2, logging_steps=100, **(TUNED if arm == "tuned" else {}),
    )  # fmt: skip
    point = resume_point(work)
    wall, cpu = time.perf_counter(), time.process_time()
    trainer.train(resume_from_checkpoint=point)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    held_out = (
        corpus.held_out if tokens == TOKENS[arm] else arms.whole(corpus.held_out.input_ids[:64])
    )
    found = pretraining.evaluate_masked_lm(model, corpus.tokenizer, held_out)
    history = trainer.state.log_history
    return {
        "arm": arm, "seed": seed, "tokens": steps * BATCH * arms.LENGTH, **found,
        "corpus": corpus.fingerprint, "resumed": point is not None,
        "wall_minutes": round(wall / 60, 2), "cpu_minutes": round(cpu / 60, 2),
        "curve": [(entry["step"], entry["loss"]) for entry in history if "loss" in entry],
    }  # fmt: skip


def opponents(tokens: dict[str, int], seeds: int, work: Path) -> list[dict[str, Any]]:
    """Both opponents by each seed, in processes of their own; finished ones are read."""
    found = []
    for arm, seed in ((arm, seed) for seed in range(seeds) for arm in tokens):
        folder = work / f"{arm}-{seed}"
        if not (folder / "found.json").exists():
            print(f"{arm}, seed {seed}: {tokens[arm]:,} tokens", flush=True)
            subprocess.run([sys.executable, __file__, "--arm", arm, "--seed", str(seed), "--tokens",
                            str(tokens[arm]), "--work", str(folder)], check=True)  # fmt: skip
        found.append(json.loads((folder / "found.json").read_text()))
    return found


def ours(corpus: arms.Corpus, targets: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Our recipe, by the seed of each target, until its loss is there or its tokens are read."""
    from cookbook.scaling.speed_recipe import Recipe, follow, reached

    found = []
    for target in targets:
        _, points = follow(
            Recipe(precision=precision()), corpus.tokenizer, corpus.rows, held_out(corpus),
            tokens=OURS[target["arm"]], measure_every=EVERY, stop_at=target["loss"],
            seed=target["seed"],
        )  # fmt: skip
        there = reached(points, target["loss"])
        found.append({
            "target": target["arm"], "seed": target["seed"], "loss": points[-1].loss,
            "reached": there is not None, "tokens": points[-1].tokens,
            "cpu_minutes": round(points[-1].cpu / 60, 3), "points": points,
        })  # fmt: skip
        print(f"ours to {target['arm']}, seed {target['seed']}: {found[-1]['tokens']:,} tokens",
              flush=True)  # fmt: skip
    return found


def seconds_a_token(corpus: arms.Corpus, rounds: int) -> list[dict[str, float]]:
    """CPU seconds a token of run_mlm.py's path and of ours, in turns: `{"plain": …, "ours": …}`.

    Building the models is not counted; reading rows, masking, clipping and the schedule are.
    """
    from cookbook.scaling.speed_recipe import Recipe, follow

    few = arms.whole(corpus.held_out.input_ids[:8])
    found = []
    for number in range(rounds):
        turn = {"plain": _plain_turn(corpus, number)}
        _, points = follow(
            Recipe(precision=precision()), corpus.tokenizer, corpus.rows, few,
            tokens=TURN * 4 * BATCH * arms.LENGTH, measure_every=10**9, seed=number,
        )  # fmt: skip
        turn["ours"] = points[-1].cpu / points[-1].tokens
        found.append(turn)
    return found


def _plain_turn(corpus: arms.Corpus, seed: int) -> float:
    from pretraining_speed import stopwatch

    watch = stopwatch(2, 2 + TURN)
    dataset = arms.plain_dataset(corpus.rows.input_ids[:1000], corpus.tokenizer)
    with tempfile.TemporaryDirectory() as folder:
        arms.plain_trainer(
            network(corpus.tokenizer, seed), corpus.tokenizer, dataset, callbacks=[watch],
            output_dir=folder, max_steps=2 + TURN, per_device_train_batch_size=BATCH, seed=seed,
            save_strategy="no", logging_steps=500,
        ).train()  # fmt: skip
    return watch.seconds()[1] / (TURN * BATCH * arms.LENGTH)


def log(corpus: arms.Corpus, tokens: int, work: Path) -> list[dict[str, Any]]:
    """Loss and CPU seconds of every recipe of `LOG` after equal tokens; what is there is kept."""
    from cookbook.scaling.speed_recipe import Recipe, follow

    place = work / f"log-{tokens}.json"
    kept = json.loads(place.read_text()) if place.exists() else {}
    before = Recipe(**START)
    for name, kind, change in LOG:
        base = before if kind == "adds" else Recipe(precision=precision())
        recipe = dataclasses.replace(base, **change)
        before = recipe if kind == "adds" else before
        if name not in kept:
            if recipe.precision == "bf16":
                recipe = dataclasses.replace(recipe, precision=precision())
            _, points = follow(recipe, corpus.tokenizer, corpus.rows, held_out(corpus),
                               tokens=tokens, measure_every=10**9)  # fmt: skip
            kept[name] = {"name": name, "kind": kind, "loss": points[-1].loss,
                          "tokens": points[-1].tokens, "cpu_seconds": points[-1].cpu}  # fmt: skip
            place.write_text(json.dumps(kept))
        print(f"{name:24} {kept[name]['loss']:.3f} {kept[name]['cpu_seconds']:6.1f} s", flush=True)
    return [kept[name] for name, *_ in LOG]


def precision() -> str:
    """What the probe prefers here."""
    import torch

    from cookbook import session

    return session.fastest_precision("cuda" if torch.cuda.is_available() else "cpu", seconds=1.0)


def summary(
    targets: list[dict[str, Any]], found: list[dict[str, Any]], turns: list[dict[str, float]]
) -> dict[str, Any]:
    """Ratios of the times to a loss, by opponent: median over seeds and rounds, least, greatest."""
    ratios: dict[str, Any] = {}
    for arm in TOKENS:
        read = {t["seed"]: t["tokens"] for t in targets if t["arm"] == arm}
        mine = {f["seed"]: f["tokens"] for f in found if f["target"] == arm and f["reached"]}
        each = [
            read[seed] * turn["plain"] / (mine[seed] * turn["ours"])
            for seed in mine for turn in turns
        ]  # fmt: skip
        if each:
            ratios[arm] = {
                "median": round(statistics.median(each), 2), "min": round(min(each), 2),
                "max": round(max(each), 2), "seeds": len(mine),
                "tokens": round(statistics.median(read[s] / mine[s] for s in mine), 2),
            }  # fmt: skip
    each = [turn["plain"] / turn["ours"] for turn in turns]
    cost = {"median": round(statistics.median(each), 2), "min": round(min(each), 2),
            "max": round(max(each), 2)}  # fmt: skip
    return {"ratios": ratios, "cheaper_a_token": cost}


def measure(
    tokens: dict[str, int], work: Path, rounds: int, log_tokens: int, seeds: int
) -> dict[str, Any]:
    """Everything, in the order in which it has to be known."""
    import torch

    torch.set_num_threads(1)
    load, corpus = machine.load_average(), arms.corpus()
    targets = opponents(tokens, seeds, work)
    found, turns = ours(corpus, targets), seconds_a_token(corpus, rounds)
    return {
        "what": "times tokens: CPU seconds until a held-out loss is reached, opponent / ours",
        "precision": precision(), "asked_tokens": tokens, "size": "mini",
        "held_out_rows": HELD_OUT, "corpus": corpus.fingerprint, "load_before": load,
        "machine": machine.describe(), **summary(targets, found, turns),
        "opponents": targets, "ours": found, "turns": turns, "log": log(corpus, log_tokens, work),
    }  # fmt: skip


def show(found: dict[str, Any]) -> None:
    """What a reader wants to know."""
    for arm, ratio in found["ratios"].items():
        print("run_mlm.py, {}: {median} times longer ({min} to {max}; {seeds} seeds); it reads "
              "{tokens} times the tokens".format(arm, **ratio))  # fmt: skip
    print("a token costs {median} times less ({min} to {max})".format(**found["cheaper_a_token"]))


def missed(found: dict[str, Any]) -> list[str]:
    """The floor of the ratio to the defaults holds where the probe prefers bf16."""
    ratio = found["ratios"].get("defaults", {"median": 0.0})["median"]
    if found["precision"] != "bf16" or ratio >= FLOOR:
        return []
    return [f"{ratio} times sooner than run_mlm.py's defaults: the floor is {FLOOR}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--arm", choices=[*TOKENS], help="train this opponent only")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tokens", type=int, help="that the opponents read")
    parser.add_argument("--work", type=Path, default=arms.CACHE / NAME)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--log-tokens", type=int, default=LOG_TOKENS)
    asked = parser.parse_args()
    if asked.arm:
        asked.work.mkdir(parents=True, exist_ok=True)
        found = train_opponent(asked.arm, asked.seed, asked.tokens or TOKENS[asked.arm], asked.work)
        (asked.work / "found.json").write_text(json.dumps(found))
        return
    tokens = TOKENS if asked.tokens is None else dict.fromkeys(TOKENS, asked.tokens)
    if tokens != TOKENS:
        asked.work = asked.work / str(asked.tokens)
    asked.work.mkdir(parents=True, exist_ok=True)
    found = measure(tokens, asked.work, asked.rounds, asked.log_tokens, asked.seeds)
    full = tokens == TOKENS and asked.rounds >= ROUNDS and asked.log_tokens >= LOG_TOKENS
    arms.write(NAME, found, arms.RESULTS if full else arms.CACHE)
    show(found)
    if fell_short := missed(found):
        raise SystemExit("\n".join(fell_short))


if __name__ == "__main__":
    main()
