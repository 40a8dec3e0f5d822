"""The ladder of speed: what each thing that makes training faster brings on this machine.

The same small BERT is trained by every rung of `cookbook.scaling.speed.ladder` in turns within one
process: padded rows, rows of like length together, packed rows, attention that stays inside a
document, fused attention, half precision, logits at masked positions only, fused AdamW, a larger
batch, and beside it accumulation, activation checkpointing, torch.compile and a worker process.
For each: useful tokens a second with the ratio to the rung it stands on, the peak of live tensor
bytes, and the share of this machine's own rate of matrix products, for the operations that the
objective needs (nominal) and those that were done (executed).

Rungs that change what is computed are also trained to equal tokens, and their held-out losses
compared. There the logits are taken at masked positions only, which changes no gradient. With the
defaults it takes six minutes of CPU.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import statistics
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported

import arms
import machine

NAME, TEXTS, ROUNDS, TURN, LOSS_TOKENS, SEEDS = "speed_ladder", 4000, 5, 8192, 150_000, (0, 1)
CHANGES = ("padded", "length-sorted", "packed", "document masks", "half", "larger batch")


def measure(rounds: int, turn: int, loss_tokens: int, size: str) -> dict[str, Any]:
    """The ladder climbed, and the losses of the rungs that change the mathematics."""
    import torch

    from cookbook import session
    from cookbook.data import embedded
    from cookbook.scaling import speed

    torch.set_num_threads(1)
    load, device = machine.load_average(), "cuda" if torch.cuda.is_available() else "cpu"
    preferred, corpus = session.fastest_precision(device, seconds=1.0), arms.corpus()
    half = "bf16" if preferred == "fp32" else preferred
    texts = embedded.build("docstrings")["train"].shuffle(seed=0)["text"][:TEXTS]
    material = speed.Material.of(texts, corpus.tokenizer, arms.LENGTH)
    build = speed.builder(corpus.tokenizer, size, length=arms.LENGTH)
    rungs = speed.ladder(half, compiled=speed.has_compiler())
    climbed = speed.climb(rungs, material, build, rounds=rounds, tokens=turn, device=device)
    held_out = arms.whole(corpus.held_out.input_ids[:500])
    losses: dict[str, list[float]] = {}
    for name in [half if name == "half" else name for name in CHANGES]:
        setup = dataclasses.replace(rungs[name][0], masked_only=True)
        losses[name] = [
            speed.loss_at(setup, material, build, held_out, tokens=loss_tokens, rate=2e-3,
                          device=device, seed=seed) for seed in SEEDS
        ]  # fmt: skip
        print(f"{name:18} {statistics.mean(losses[name]):.3f}", flush=True)
    return {
        "what": "useful tokens a second of CPU (on a GPU: of the wall clock), by rung and round",
        "preferred_precision": preferred, "half": half, "size": size, "rounds": rounds,
        "tokens_per_turn": turn, "loss_tokens": loss_tokens, "corpus": corpus.fingerprint,
        "load_before": load, "machine": machine.describe(),
        "matmul_rate": {p: speed.matmul_rate(p, device) for p in ("fp32", half)},
        "compiled": speed.has_compiler(), "rungs": [rung.to_dict() for rung in climbed],
        "losses": losses,
    }  # fmt: skip


def show(found: dict[str, Any]) -> None:
    """The table that a reader wants."""
    print(
        f"{'rung':18} {'tokens/s':>9} {'times':>18} {'peak MB':>8} {'nominal':>8} {'executed':>8}"
    )
    for rung in found["rungs"]:
        ratios = rung["ratios"]
        times = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        peak = f"{rung['peak'] / 1e6:.0f}" if rung["peak"] else "-"
        print(f"{rung['name']:18} {statistics.median(rung['speeds']):9,.0f} {times:>18} {peak:>8} "
              f"{rung['utilisation']:8.1%} {rung['occupation']:8.1%}")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--tokens", type=int, default=TURN, help="useful tokens of a turn")
    parser.add_argument("--loss-tokens", type=int, default=LOSS_TOKENS)
    parser.add_argument("--size", default="mini", help="of the model: mini, small, base")
    asked = parser.parse_args()
    found = measure(asked.rounds, asked.tokens, asked.loss_tokens, asked.size)
    full = asked.rounds >= ROUNDS and asked.tokens >= TURN and asked.loss_tokens >= LOSS_TOKENS
    arms.write(NAME, found, arms.RESULTS if full and asked.size == "mini" else arms.CACHE)
    show(found)


if __name__ == "__main__":
    main()
