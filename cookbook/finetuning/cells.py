"""Finished runs of a comparison, kept on disk, and when one may be used again.

A cell is one strategy under one seed. It is used again only if its fingerprint agrees: code, data,
checkpoint, settings and versions. Models are not kept. Used by `comparison`, chapter 07.
"""

from __future__ import annotations

import ast
import dataclasses
import hashlib
import importlib.metadata
import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from cookbook.finetuning import costs, encoding, features, jobs, layers, strategies
from cookbook.finetuning.results import Result
from cookbook.maths import adapters as formulas
from cookbook.models.initialization import load_model
from cookbook.session import write_whole
from cookbook.training import groups

if TYPE_CHECKING:
    from datasets import DatasetDict

LIBRARIES = ("torch", "transformers", "peft", "accelerate", "numpy")


def code_key(strategy: Callable) -> str:
    """A digest of the code that makes a cell; comments and layout do not count, docstrings do."""
    from cookbook.training import trainer

    home = inspect.getmodule(inspect.unwrap(strategy))
    parts = {costs, encoding, features, jobs, layers, formulas, trainer, home} - {strategies, None}
    sources = [inspect.getsource(part) for part in sorted(parts, key=lambda part: part.__name__)]
    sources += [
        inspect.getsource(f) for f in (strategies.fine_tune, strategies.prepare, groups.decays)
    ]
    if home is strategies:
        sources.append(inspect.getsource(strategy))
    return digest([ast.dump(ast.parse(source)) for source in sources])


def data_key(dataset: DatasetDict) -> str:
    """A digest of all rows: texts, second texts and labels of every split, in order."""
    names = ("text", "text_pair", "label")
    return digest(
        [[split, name, list(part[name])] for split, part in sorted(dataset.items())
         for name in names if name in part.column_names]
    )  # fmt: skip


def model_key(model: str) -> str:
    """A digest of a checkpoint's weights, whatever it is called and wherever it lies."""
    return features.weights_key(load_model(model, "encoder", seed=0))


def versions() -> dict[str, str]:
    """Of the libraries that compute, and the kind of device that they compute on."""
    cuda = torch.cuda.is_available()
    device = torch.cuda.get_device_name() if cuda else "cpu"
    return {name: importlib.metadata.version(name) for name in LIBRARIES} | {"device": device}


def digest(content: Any) -> str:
    """A short digest of anything that JSON can hold.

    >>> digest([1, "a"]) == digest((1, "a")), len(digest("b"))
    (True, 16)
    """
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def read(path: Path, fingerprint: str) -> Result | None:
    """The finished cell, or None: not there, made under another fingerprint, or damaged."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        if kept.pop("fingerprint") != fingerprint:
            return None
        kept["history"] = [tuple(point) for point in kept["history"]]
        arrays = {name: np.array(kept.pop(name)) for name in ("predictions", "labels")}
        return Result(**kept, **arrays)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def write(path: Path, result: Result, fingerprint: str) -> None:
    """Keep a cell, without its model; the file appears whole or not at all."""
    kept = dataclasses.asdict(dataclasses.replace(result, model=None))
    del kept["model"]
    kept |= {name: kept[name].tolist() for name in ("predictions", "labels")}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps({"fingerprint": fingerprint, **kept}))
