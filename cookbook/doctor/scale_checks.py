"""D6: evaluation inputs that are scaled otherwise than those of training.

Pixels from 0 to 255 beside pixels from 0 to 1, a table that was standardised once and not the other
time: the transform of one split lacks a line. Means and deviations of the numbers say so; another
domain moves them a little, another scale by a factor.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch

from cookbook.doctor import row_keys
from cookbook.doctor.checks import Skip
from cookbook.doctor.findings import Finding

FEWEST, READ = 16, 200  # rows of each split
FACTOR, APART = 4.0, 3.0  # of the deviations; of the means, in deviations of training


def check_splits_have_one_scale(subject: Any) -> Iterable[Finding]:
    """D6: mean and deviation of all numbers of the training rows and of the evaluation rows."""
    splits = [_numbers(sample.rows) for sample in (subject.train, subject.eval)]
    if any(part is None for part in splits):
        raise Skip("does not apply")
    (mean, spread), (other, own) = ((part.mean(), part.std()) for part in splits)
    if not spread or not own or not np.isfinite([mean, spread, other, own]).all():
        raise Skip("does not apply")
    factor = own / spread
    if max(factor, 1 / factor) > FACTOR or abs(other - mean) > APART * max(spread, own):
        yield Finding(
            "D6", "warn",
            f"the numbers of the training rows are {mean:.3g} ± {spread:.3g}, those of the "
            f"evaluation rows {other:.3g} ± {own:.3g} (bound: deviations within a factor of "
            f"{FACTOR:g})",
            "scale both splits by one transform, fitted to the training rows",
            {"mean": float(mean), "deviation": float(spread), "evaluation_mean": float(other),
             "evaluation_deviation": float(own)},
        )  # fmt: skip


def _numbers(rows: list[Any]) -> np.ndarray | None:
    """All input numbers of up to `READ` rows; None where they are few, or no float arrays."""
    step = max(1, len(rows) // READ)
    found = [_array(row) for row in rows[::step][:READ]]
    found = [array for array in found if array is not None and array.size > 1]
    return np.concatenate([a.reshape(-1) for a in found]) if len(found) >= FEWEST else None


def _array(row: Any) -> np.ndarray | None:
    if isinstance(row, Mapping):
        value = next((row[key] for key in row_keys.PIXELS if row.get(key) is not None), None)
    else:
        value = row[0] if isinstance(row, list | tuple) and row else None
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().numpy() if value.dtype != torch.bfloat16 else None
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "fu":
        return None
    return value.astype(np.float64)


CHECKS = (check_splits_have_one_scale,)
