"""What every architecture costs and whether it learns, measured where it is run.

One small batch, trained until it is nearly known by heart: a check that gradients arrive
everywhere, and the time and memory of a step. It says nothing of quality on new data. Chapters 04
and 14 use it.
"""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from cookbook.live_memory import LiveMemory
from cookbook.models.initialization import count_parameters
from cookbook.models.registry import ARCHITECTURES, Architecture, build

if TYPE_CHECKING:
    import pandas as pd

# As few as the samples need: with 8,192 words a tiny model would be nothing but its table.
SMALL = {"vocab_size": 512, "length": 32}


def training_step(
    model: nn.Module, batch: dict[str, Any], optimizer: torch.optim.Optimizer
) -> float:
    """One step on one batch, its gradient clipped to a norm of 1; the loss before it."""
    optimizer.zero_grad()
    loss = model(**batch).loss
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return loss.item()  # waits for the device, so that a clock sees all of the step


def overfit(
    model: nn.Module, batch: dict[str, Any], *, steps: int = 40, rate: float = 5e-3
) -> tuple[list[float], list[float]]:
    """Train on one batch; the losses (steps + 1, the last after the last step) and the seconds.

    Adam at a constant rate. A model that cannot learn one batch by heart will learn nothing from
    many: try this before the first long run.

    >>> entry = ARCHITECTURES[0]
    >>> losses, seconds = overfit(trainable(entry), entry.batch(), rate=entry.rate)
    >>> losses[-1] < losses[0] / 2, len(seconds)
    (True, 40)
    """
    optimizer = _adam(model, rate)
    losses, seconds = [], []
    model.train()
    for _ in range(steps):
        began = time.perf_counter()
        losses.append(training_step(model, batch, optimizer))
        seconds.append(time.perf_counter() - began)
    with torch.no_grad():
        losses.append(model(**batch).loss.item())
    return losses, seconds


def peak_bytes(model: nn.Module, batch: dict[str, Any]) -> int:
    """The most bytes of tensors alive at once in a training step, on whatever device.

    Weights, gradients, Adam's two moments, activations and what the optimizer needs in between;
    not what lies inside one operation, nor what an allocator keeps in reserve. Trains the model for
    two steps: the moments are there from the second on.
    """
    optimizer = _adam(model, 0.0)
    model.zero_grad()
    with LiveMemory(model) as memory:
        for _ in range(2):
            training_step(model, batch, optimizer)
    return memory.peak


def architecture_table(
    size: str = "tiny", seed: int = 0, *, steps: int = 40, only: str = ""
) -> pd.DataFrame:
    """One row per architecture, each built, trained and measured here and now; none is skipped.

    `loss_before` and `loss_after` `steps` steps on one batch of some ten examples, in nats or in
    what the objective is measured in: compare along a row, never down a column. `step_ms` is the
    median time of a training step, `peak_mb` (10^6 bytes) what `peak_bytes` says. Without dropout.
    `only` is "text", "images", "both", or empty for all. Raises ValueError for another.
    """
    import pandas as pd
    from tqdm.auto import tqdm

    chosen = [entry for entry in ARCHITECTURES if not only or entry.reads == only]
    if not chosen:
        raise ValueError(f"only={only!r} chooses nothing: it is 'text', 'images', 'both' or ''")
    rows = [_row(entry, size, seed, steps) for entry in tqdm(chosen, desc="architectures")]
    return pd.DataFrame(rows)


def trainable(entry: Architecture, size: str = "tiny", seed: int = 0) -> nn.Module:
    """The architecture without dropout, with the small vocabulary of its sample batch."""
    settings = {} if entry.reads == "images" else SMALL
    return build(entry.name, size, seed=seed, dropout=0.0, **settings)


def _row(entry: Architecture, size: str, seed: int, steps: int) -> dict[str, Any]:
    model = trainable(entry, size, seed)
    batch = entry.batch(seed)
    total, _ = count_parameters(model)
    losses, seconds = overfit(model, batch, steps=steps, rate=entry.rate)
    peak = peak_bytes(model, batch)
    return {
        "name": entry.name, "family": entry.family, "objective": entry.objective,
        "parameters": total, "loss_before": losses[0], "loss_after": losses[-1],
        "step_ms": 1000 * statistics.median(seconds), "peak_mb": peak / 1e6,
        "good_for": entry.good_for,
    }  # fmt: skip


def _adam(model: nn.Module, rate: float) -> torch.optim.Optimizer:
    return torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=rate)
