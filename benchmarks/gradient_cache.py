"""Does gradient caching keep its promise: a batch of 32 times the rows in the memory of one?

Compares one contrastive step on 32 pairs of docstrings (`docbert`, dropout on, the batch whole)
with one on 1,024 pairs in chunks of 32. Three claims: the peak of live tensor bytes is at most 1.2
times that of the small batch, weights, gradients and inputs included; a pair takes at most 1.5
times as long; and the gradient is that of the whole batch to 1e-4 of its largest entry, with the
same dropout masks. On a CPU the peak comes from the allocation events of torch.profiler, on a GPU
from the allocator. The two steps take turns, a ratio is taken within a turn, and CPU time is
judged: on a busy machine the wall says more about the neighbours. Writes
`results/gradient_cache.json`; three minutes.

    python benchmarks/gradient_cache.py
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported

import arms
import machine
import torch

NAME, SMALL, TIMES, ROUNDS = "gradient_cache", 32, 32, 3
LENGTHS = (32, 64)
BOUNDS = {"memory_ratio": 1.2, "time_ratio": 1.5, "gradient_difference": 1e-4}


def setting(rows: int) -> tuple[Any, dict[str, torch.Tensor], Any]:
    """The model in training mode, a batch of `rows` pairs all of full length, and the loss."""
    from cookbook.data import load
    from cookbook.models import load_model, load_tokenizer
    from cookbook.training import ContrastiveLoss, PairCollator, PairEncoder
    from cookbook.training.contrastive import pair_rows

    tokenizer = load_tokenizer("docbert")
    pairs = load("docstring-pairs")["train"].shuffle(seed=0).select(range(8 * rows))
    full = [
        row
        for row in pair_rows(pairs, tokenizer, LENGTHS)
        if (len(row["input_ids"]), len(row["pair_ids"])) == LENGTHS
    ]
    if len(full) < rows:
        raise SystemExit(f"only {len(full)} pairs are long enough for a batch of {rows}")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = PairEncoder(load_model("docbert", "encoder")).to(device).train()
    batch = {k: v.to(device) for k, v in PairCollator(tokenizer)(full[:rows]).items()}
    return model, batch, ContrastiveLoss(symmetric=True)


def peak(step: Callable[[], object], held: int) -> int:
    """The most bytes of tensors alive during `step`, `held` bytes from before it included."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        step()
        return torch.cuda.max_memory_allocated()
    with torch.profiler.profile(profile_memory=True, activities=[
        torch.profiler.ProfilerActivity.CPU
    ]) as profile:  # fmt: skip
        step()
    events = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]
    live = most = held
    for event in sorted(events, key=lambda e: e.start_ns()):
        live += event.nbytes()  # a release is negative
        most = max(most, live)
    return most


def gradient_difference(rows: int, precision: str) -> float:
    """Largest difference to one graph over all chunks, by the gradient's largest entry."""
    from cookbook.training import gradient_cache
    from cookbook.training.loop import autocast

    model, batch, loss = setting(rows)
    device = next(model.parameters()).device
    torch.manual_seed(0)
    kept = []
    for part in gradient_cache.split(batch, SMALL):
        with autocast(device, precision):
            kept.append(model(**part))
    loss([torch.cat(side) for side in zip(*kept, strict=True)], batch).backward()
    whole = flat_gradient(model)
    model.zero_grad()
    torch.manual_seed(0)
    gradient_cache.backward(model, batch, loss, chunk=SMALL, precision=precision)
    return float((flat_gradient(model) - whole).abs().max() / whole.abs().max())


def flat_gradient(model: torch.nn.Module) -> torch.Tensor:
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def measure(times: int, rounds: int) -> dict[str, Any]:
    """Peaks and times of both steps, and the gradient's difference."""
    from cookbook.live_memory import tensor_bytes
    from cookbook.session import fastest_precision
    from cookbook.training.contrastive import backward

    torch.set_num_threads(1)
    precision = fastest_precision("cuda" if torch.cuda.is_available() else "cpu", seconds=1.0)
    model, large, loss = setting(SMALL * times)
    small = {name: value[:SMALL].clone() for name, value in large.items()}

    def step(batch: dict[str, torch.Tensor], chunk: int) -> None:
        model.zero_grad()
        backward(model, batch, loss, chunk, precision)

    steps = {"small": lambda: step(small, 0), "large": lambda: step(large, SMALL)}
    step(small, 0)  # lazily made buffers; gradients are then freed by zero_grad
    model.zero_grad()
    held = {"small": tensor_bytes(model, small), "large": tensor_bytes(model, large)}
    peaks = {}
    for name in steps:
        model.zero_grad()  # or the profiler would see old gradients freed that it never saw made
        peaks[name] = peak(steps[name], held[name])
    turns = []
    for number in range(rounds):
        for name, pairs, repeat in (("small", SMALL, 6), ("large", SMALL * times, 1)):
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            wall, cpu = time.perf_counter(), time.process_time()
            for _ in range(repeat):
                steps[name]()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            took = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
            turns.append({"round": number, "step": name,
                          **{k: v / (pairs * repeat) for k, v in took.items()}})  # fmt: skip
    return {
        "precision": precision, "peak_bytes": peaks, "turns": turns,
        "gradient_difference": gradient_difference(min(4, times) * SMALL, "fp32"),
        **summary(peaks, turns),
    }  # fmt: skip


def summary(peaks: dict[str, int], turns: list[dict[str, Any]]) -> dict[str, float]:
    """The ratios that are judged, from what was measured."""
    clock = "wall" if torch.cuda.is_available() else "cpu"
    ratios = {
        kind: statistics.median(
            large[kind] / small[kind]
            for small in turns for large in turns
            if small["round"] == large["round"]
            and (small["step"], large["step"]) == ("small", "large")
        )
        for kind in ("wall", "cpu")
    }  # fmt: skip
    return {
        "memory_ratio": peaks["large"] / peaks["small"],
        "time_ratio": ratios[clock], "wall_ratio": ratios["wall"],
    }  # fmt: skip


def missed(found: dict[str, Any]) -> list[str]:
    """The bounds that do not hold, in words."""
    return [
        f"{name} is {found[name]:.3g}: the bound is {bound}"
        for name, bound in BOUNDS.items()
        if not found[name] <= bound
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=TIMES, help="fewer to try it out")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    asked = parser.parse_args()
    load = machine.load_average()
    found = {
        "what": "a contrastive step of 32 times the pairs, in chunks, against one of 32 pairs",
        "pairs": SMALL, "times": asked.times, "lengths": LENGTHS, "bounds": BOUNDS,
        **measure(asked.times, asked.rounds), "load_before": load, "machine": machine.describe(),
    }  # fmt: skip
    whole = (asked.times, asked.rounds) == (TIMES, ROUNDS)
    arms.write(NAME, found, arms.RESULTS if whole else arms.CACHE)
    for name in (*BOUNDS, "wall_ratio"):
        print(f"{name:20} {found[name]:.3g}")
    if missed(found):
        raise SystemExit("; ".join(missed(found)))


if __name__ == "__main__":
    main()
