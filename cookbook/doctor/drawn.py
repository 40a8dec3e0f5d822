"""Does a weight look freshly drawn, and is it like another one?

Statistics of one tensor or two; they know no model and no file. `checkpoint_checks` asks them.
"""

from __future__ import annotations

import math

import torch


def cosine(one: torch.Tensor, other: torch.Tensor) -> float:
    """The cosine between two weights, or two slopes, of one shape; it reads them, from any device.

    Of weights it is near 1 when one was trained from the other, near 0 when it was drawn.
    """
    pair = (part.detach().float().cpu().flatten() for part in (one, other))
    return float(torch.nn.functional.cosine_similarity(*pair, dim=0))


def looks_drawn(weight: torch.Tensor, deviation: float | None = None) -> bool:
    """Whether a matrix looks freshly drawn: mean 0, the kurtosis of a (cut) normal or uniform.

    With `deviation`, its standard deviation must also be that, within 2 % or the sampling error.
    """
    values = weight.detach().float().flatten()
    count, spread = values.numel(), float(values.std())
    if not spread > 0:
        return False
    unit = (values - values.mean()) / spread
    excess = float(unit.pow(4).mean()) - 3
    centred = abs(float(values.mean())) < 4 * spread / math.sqrt(count)
    slack = max(0.1, 4 * math.sqrt(24 / count))
    normal, uniform = abs(excess) < slack, abs(excess + 1.2) < slack
    bound = max(0.02, 3 / math.sqrt(2 * count))
    near = deviation is None or abs(spread / deviation - 1) <= bound
    return centred and near and (normal or uniform)
