"""Several ranks: do they see different rows (X1), do their weights stay equal (X2)?

Gathers hashes of the first batches once, and checksums of sampled weights now and then, where the
model is one that `DistributedDataParallel` keeps equal. Sharded models are left alone. On one
process it does nothing.
"""

from __future__ import annotations

import gc
from typing import Any

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

FIRST_BATCHES, BATCHES_AT = 3, 4  # how many hashes, and after which step they are gathered
EVERY, EARLY = 50, (4, 10, 20)


class Ranks:
    """`look` after each optimizer step; every rank must call it, as every rank makes the step."""

    def __init__(self, model: nn.Module) -> None:
        several = distributed.is_available() and distributed.is_initialized()
        self.active = several and distributed.get_world_size() > 1 and replicated(model)

    def look(self, steps: int, run: Any, weights: torch.Tensor) -> None:
        """After `steps` optimizer steps, with a sample of the weights (elements,)."""
        if not self.active or not (steps in EARLY or steps % EVERY == 0):
            return
        held = run.facts.setdefault("ranks", {"batches": [], "drift": []})
        if steps == BATCHES_AT and len(run.batches) >= FIRST_BATCHES:
            mine = [int(h[:12], 16) for h in run.batches[:FIRST_BATCHES]]
            device = weights.device
            everyone = gathered(torch.tensor(mine, dtype=torch.int64, device=device))
            held["batches"] = [list(column) for column in zip(*everyone.tolist(), strict=True)]
        everyone = gathered(weights.double())
        size = float(everyone[0].norm()) or 1.0
        off = max(float((other - everyone[0]).norm()) for other in everyone)
        held["drift"].append((steps, off / size))


def gathered(values: torch.Tensor) -> torch.Tensor:
    """The values of all ranks, (ranks, …)."""
    parts = [torch.empty_like(values) for _ in range(distributed.get_world_size())]
    distributed.all_gather(parts, values.contiguous())
    return torch.stack(parts)


def replicated(model: nn.Module) -> bool:
    """Whether `DistributedDataParallel` is there to keep this model's replicas equal."""
    if isinstance(model, DistributedDataParallel):
        return True
    wrappers = (o for o in gc.get_objects() if isinstance(o, DistributedDataParallel))
    return any(w.module is model for w in wrappers)
