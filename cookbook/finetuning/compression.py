"""What a smaller model costs and brings: bytes on disk, time to an answer, answers that change.

Does: measure any function from a batch to logits. Does not: make models smaller
(`distillation`, `quantization`, `pruning`, `exporting` do). Used by chapter 16.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

ROUNDS = 7


def bytes_on_disk(model: nn.Module | str | Path) -> int:
    """Bytes of a model's weights as torch writes them, or of the file at a path.

    >>> bytes_on_disk(nn.Linear(1000, 10)) > 40_000
    True
    """
    if isinstance(model, str | Path):
        return Path(model).stat().st_size
    with tempfile.NamedTemporaryFile() as file:
        torch.save(model.state_dict(), file)
        file.flush()
        return Path(file.name).stat().st_size


def latency(
    ways: Mapping[str, Callable[..., Any]],
    batches: Mapping[str, Mapping[str, torch.Tensor]],
    *,
    rounds: int = ROUNDS,
) -> dict[str, dict[str, float]]:
    """Median milliseconds of every way on every batch, taken in turns: `{way: {batch: ms}}`.

    In turns, because a busy machine is busy for all of them; the median, because a pause hits one.
    Compare within one call, not between calls.
    """
    times: dict = {way: {name: [] for name in batches} for way in ways}
    with torch.no_grad():
        for round_ in range(rounds + 1):
            for way, answer in ways.items():
                for name, batch in batches.items():
                    began = time.perf_counter()
                    answer(**batch)
                    if round_:  # the first round warms up
                        times[way][name].append(time.perf_counter() - began)
    return {
        way: {name: 1000 * float(np.median(seconds)) for name, seconds in found.items()}
        for way, found in times.items()
    }


def answers(
    way: Callable[..., Any], rows: Sequence[Mapping[str, Any]], collate: Callable[[list], Any],
    *, batch_size: int = 32,
) -> np.ndarray:  # fmt: skip
    """Logits (rows, classes) of a way for encoded rows, in their order."""
    parts = []
    with torch.no_grad():
        for start in range(0, len(rows), batch_size):
            batch = collate(list(rows[start : start + batch_size]))
            out = way(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
            logits = out["logits"] if isinstance(out, Mapping) else out
            parts.append(np.asarray(logits.float().cpu() if torch.is_tensor(logits) else logits))
    return np.concatenate(parts)


def agreement(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Where two ways give the same answer: bool (rows,), from logits (rows, classes).

    >>> agreement(np.array([[0.0, 1.0], [2.0, 1.0]]), np.array([[0.2, 0.3], [0.0, 1.0]])).tolist()
    [True, False]
    """
    return np.asarray(first).argmax(-1) == np.asarray(second).argmax(-1)
