"""What `examine` is given: taken as it is, or refused in one line that says what to give instead.

Only what would be read wrongly in silence is refused: a path letter by letter, a table by the names
of its columns.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn


def model_or_trainer(given: Any) -> Any:
    """The model (or None), or the `Trainer`; TypeError for anything else."""
    trainer = isinstance(getattr(given, "model", None), nn.Module)
    if given is None or isinstance(given, nn.Module) or trainer:
        return given
    raise TypeError(
        f"examine takes a torch.nn.Module or a transformers Trainer, and was given {_named(given)}"
    )


def rows(name: str, dataset: Any) -> Any:
    """The data set; of several by name, as a `Trainer` evaluates on, the first.

    `name` is the argument's, for the error: TypeError for a path, a table, an array, columns.

    >>> rows("eval_dataset", {"news": [{"text": "a"}], "books": []})
    [{'text': 'a'}]
    """
    if isinstance(dataset, str | bytes | os.PathLike):
        instead = "rows; cookbook.data.load and datasets.load_dataset read files"
    elif hasattr(dataset, "iloc"):
        instead = "rows: datasets.Dataset.from_pandas(frame), or frame.to_dict('records')"
    elif isinstance(dataset, torch.Tensor | np.ndarray):
        instead = "pairs or dicts: torch.utils.data.TensorDataset(x, y) makes pairs"
    elif not isinstance(dataset, Mapping):
        return dataset
    elif name == "eval_dataset" and dataset and all(map(_is_data, dataset.values())):
        return next(iter(dataset.values()))
    elif dataset and all(map(_is_data, dataset.values())):
        instead = f"one of its splits: {', '.join(map(str, dataset))}"
    else:
        instead = "rows: datasets.Dataset.from_dict(columns) makes them of columns"
    raise TypeError(f"{name} is {_named(dataset)}: give {instead}")


def _is_data(held: Any) -> bool:
    """Whether this is a set of rows, and not a column."""
    if hasattr(held, "column_names") or hasattr(held, "dataset"):
        return True
    if isinstance(held, list | tuple):
        return not held or isinstance(held[0], Mapping | tuple)
    return not hasattr(held, "shape") and not isinstance(held, str | Mapping)


def _named(given: Any) -> str:
    kind = type(given).__name__
    shown = f" {given!r}" if isinstance(given, str | os.PathLike) and len(str(given)) < 60 else ""
    return f"{'an' if kind[0].lower() in 'aeiou' else 'a'} {kind}{shown}"
