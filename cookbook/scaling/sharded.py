"""Checkpoints that all ranks write together, and any number of ranks reads.

`torch.distributed.checkpoint` lets each rank write what it holds, and knows how to cut it anew.
Around it stand the rules of `training.checkpoints`: a folder appears whole or not at all, a
manifest covers every file, and nothing is unpickled that could run code. Only tensors are saved,
and the progress of the run as JSON: random states are not needed where all that is drawn depends on
the step (see `distributed`). The folder must be seen by all ranks. Chapter 11 uses it.
"""

from __future__ import annotations

import contextlib
import json
import pickle
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cookbook.scaling.world import RanksError, World
from cookbook.training import checkpoints, manifests
from cookbook.training.errors import CheckpointError

PROGRESS = "progress.json"


@dataclass
class Progress:
    """How far a run has come: the last step, the loss of each, and the steps it left out."""

    step: int = 0
    losses: list[float] = field(default_factory=list)
    skipped: list[int] = field(default_factory=list)


def save(
    folder: str | Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    progress: Progress,
    world: World,
    *,
    keep: int = 2,
) -> Path:
    """Write `<folder>/checkpoint-<step>` with all ranks; all but the newest `keep` are deleted.

    Raises CheckpointError on every rank if any of them could not write its part; the checkpoints
    before it stay.
    """
    import torch.distributed.checkpoint as dcp

    target = Path(folder) / f"checkpoint-{progress.step}"
    scratch = target.with_name(f"{manifests.SCRATCH}{progress.step}")
    with _first(world, target, scratch) as first:
        if first:
            target.parent.mkdir(parents=True, exist_ok=True)
            checkpoints.clear_scratch(target.parent)
            scratch.mkdir()
    try:
        dcp.save(_tensors(model, optimizer), storage_writer=dcp.FileSystemWriter(scratch))
    except dcp.api.CheckpointException as error:  # a BaseException, the same on all ranks
        with _first(world, target, scratch):
            raise next(iter(error.failures.values()))[0] from None
    with _first(world, target, scratch) as first:
        if first:
            manifests.write(scratch / PROGRESS, json.dumps(asdict(progress)).encode())
            manifests.seal(scratch, progress.step)
            checkpoints.put_in_place(scratch, target)
            checkpoints.prune(folder, keep)
    return target


def load(
    path: str | Path, model: nn.Module, optimizer: torch.optim.Optimizer | None = None
) -> Progress:
    """Fill the model, and the optimizer if given, each rank with its part; all ranks must call it.

    Raises CheckpointError for a folder that its manifest does not cover, and for another model.
    """
    import torch.distributed.checkpoint as dcp
    from torch.distributed.checkpoint import state_dict

    if reason := manifests.verify(path):
        raise CheckpointError(f"{path} {reason}: use an earlier checkpoint")
    held = _tensors(model, optimizer)
    try:
        dcp.load(held, storage_reader=_reader(Path(path)))
    except dcp.api.CheckpointException as error:
        detail = " ".join(str(next(iter(error.failures.values()))[0]).split())[:200]
        raise CheckpointError(f"{path} was saved by a different set-up: {detail}") from None
    state_dict.set_model_state_dict(model, held["model"])
    if optimizer is not None:
        # The rates are not the checkpoint's: the run sets them from its step.
        groups = state_dict.get_optimizer_state_dict(model, optimizer)["param_groups"]
        whole = {"state": held["optimizer"], "param_groups": groups}
        state_dict.set_optimizer_state_dict(model, optimizer, whole)
    return Progress(**json.loads((Path(path) / PROGRESS).read_text("utf-8")))


def resume(
    folder: str | Path, model: nn.Module, optimizer: torch.optim.Optimizer, world: World
) -> Progress:
    """Go on from the newest whole checkpoint in `folder`; from the start if there is none.

    Rank 0 chooses for all: each for itself could meet a folder that another is just replacing.
    """
    path = world.from_first(checkpoints.latest(folder) if world.rank == 0 else None)
    return load(path, model, optimizer) if path else Progress()


def _tensors(model: nn.Module, optimizer: torch.optim.Optimizer | None) -> dict[str, Any]:
    """What is saved, by the names of the unwrapped model; each rank holds its part of it."""
    from torch.distributed.checkpoint import state_dict

    found = {"model": state_dict.get_model_state_dict(model)}
    if optimizer is not None:
        found["optimizer"] = state_dict.get_optimizer_state_dict(model, optimizer)["state"]
    return found


@contextlib.contextmanager
def _first(world: World, target: Path, scratch: Path) -> Iterator[bool]:
    """True on rank 0, which does something for all; a failure of any rank is raised on all."""
    problem = ""
    try:
        # Rank 0 cleans up, for all; and sees how much room there was before it did.
        tidy = checkpoints.whole_or_nothing(target, scratch)
        with tidy if world.rank == 0 else contextlib.nullcontext():
            yield world.rank == 0
    except CheckpointError as error:
        problem = str(error)
    except (OSError, RuntimeError) as error:  # torch's writer does not name the cause
        problem = (
            f"cannot write {target.name} in {target.parent} ({error}): make room, or choose "
            f"another folder, and run again; earlier checkpoints are untouched"
        )
    try:
        world.together(problem)
    except RanksError as error:
        raise CheckpointError(str(error)) from None


class _OnlyMetadata(pickle.Unpickler):
    """Reads the map of a checkpoint and nothing else: a pickle names what is to be run."""

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch.distributed.checkpoint.metadata" or (module, name) in KNOWN:
            return super().find_class(module, name)
        found = getattr(torch, name, None) if module == "torch" else None
        if isinstance(found, torch.dtype | torch.layout | torch.memory_format):
            return found
        raise pickle.UnpicklingError(f"{module}.{name} has no place in a checkpoint")


FILES = "torch.distributed.checkpoint.filesystem"
KNOWN = {
    ("torch", "Size"), ("torch.serialization", "_get_layout"), (FILES, "_StorageInfo"),
    (FILES, "_StoragePrefix"), ("pathlib", "PosixPath"), ("pathlib", "WindowsPath"),
}  # fmt: skip


def _reader(path: Path) -> Any:
    import torch.distributed.checkpoint as dcp

    class Reader(dcp.FileSystemReader):
        def read_metadata(self, *_: Any, **__: Any) -> Any:
            with open(path / ".metadata", "rb") as file:
                found = _OnlyMetadata(file).load()
            found.storage_meta = found.storage_meta or dcp.metadata.StorageMeta()
            found.storage_meta.load_id = self.load_id
            return found

    return Reader(path)
