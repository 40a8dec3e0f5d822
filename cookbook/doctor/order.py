"""Is a loader meant to draw its rows in another order each epoch?

Reads the samplers of a `DataLoader`, whatever wraps it; used for the fault of a shuffled order that
repeats (X3). It draws nothing.
"""

from __future__ import annotations

from typing import Any

import torch


def shuffles(loader: Any) -> bool:
    """Whether the loader's sampler shuffles; False where nobody knows.

    >>> shuffles(torch.utils.data.DataLoader([1, 2], shuffle=True)), shuffles(None)
    (True, False)
    """
    inner = getattr(getattr(loader, "batch_sampler", None), "sampler", None)
    for held in (getattr(loader, "sampler", None), inner):
        # What is told the epoch draws by it, as torch's DistributedSampler does.
        by_epoch = callable(getattr(held, "set_epoch", None)) and getattr(held, "shuffle", True)
        drawn = isinstance(held, torch.utils.data.RandomSampler) or by_epoch
        if drawn or getattr(held, "shuffle", False) is True or "Random" in type(held).__name__:
            return True
    return False
