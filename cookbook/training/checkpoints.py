"""Complete, verified, resumable checkpoints of a training run.

A checkpoint is a folder `checkpoint-<step>`, covered by its manifest. It is filled under another
name and then renamed, so that the name `checkpoint-<step>` appears with everything in it or not
at all; nothing is read from a folder that its manifest does not cover, and nothing is unpickled.

Each file is put together in memory before it is written, so there must be room for a second copy
of the largest. One process writes to a folder; sharded checkpoints of many processes are the
matter of `scaling.distributed`.

Used by `training.loop`, by `training.trainer_checkpoints`, and by chapters 03 and 11.
"""

import contextlib
import errno
import pickle
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch

from cookbook.training import manifests, snapshots
from cookbook.training.errors import CheckpointError
from cookbook.training.manifests import MANIFEST, NAME, SCRATCH, seal, verify
from cookbook.training.snapshots import snapshot

__all__ = ["CheckpointError", "latest", "load", "prune", "save", "seal", "snapshot", "verify"]


def save(folder: str | Path, step: int, state: dict) -> Path:
    """Write `<folder>/checkpoint-<step>`, whole or not at all, and return its path.

    `state` is what `snapshot` returns. A checkpoint of the same step is replaced. Raises
    `CheckpointError` if the folder cannot be written or the disk is full; what was half written
    is removed then, and the checkpoints before it stay.

    >>> import tempfile
    >>> folder = tempfile.mkdtemp()
    >>> path = save(folder, 4, snapshot(torch.nn.Linear(2, 2)))
    >>> sorted(p.name for p in path.iterdir()), verify(path)
    (['manifest.json', 'model.safetensors', 'random.pt'], None)
    """
    folder = Path(folder)
    target, scratch = folder / f"checkpoint-{step}", folder / f"{SCRATCH}{step}"
    for path in (folder, target):
        if path.exists() and not path.is_dir():
            raise CheckpointError(f"{path} is a file, not a folder: move it away")
    with whole_or_nothing(target, scratch, needed=snapshots.bytes_of(state)):
        folder.mkdir(parents=True, exist_ok=True)
        clear_scratch(folder)
        scratch.mkdir()
        entries = {}
        for name, data in snapshots.encode(state):
            manifests.write(scratch / name, data)
            entries[name] = manifests.entry(data)
        manifests.write_manifest(scratch / MANIFEST, int(step), entries)
        manifests.sync_folder(scratch)
        put_in_place(scratch, target)
    return target


@contextlib.contextmanager
def whole_or_nothing(target: Path, scratch: Path, needed: int = 0) -> Iterator[None]:
    """Remove `scratch` if anything fails inside, and say in one line what a disk has refused.

    `needed` are the bytes that were to be written, 0 if that is not known.
    """
    try:
        yield
    except BaseException as error:
        # Before anything is removed; and torch's failed writer keeps its file open, and the room
        # taken, for as long as the error lives.
        full, room = _disk_is_full(error, target), _free(target) + _taken(scratch)
        shutil.rmtree(scratch, ignore_errors=True)
        if full:
            raise CheckpointError(_full_disk(target, needed, room)) from None
        # Errors of the network are OSErrors too, but without a number, and are not ours.
        if type(error) is CheckpointError or getattr(error, "errno", None) is None:
            raise
        raise CheckpointError(
            f"cannot write {target.name} in {target.parent} ({error.strerror}): "
            f"choose an output folder that can be written"
        ) from None


def _disk_is_full(error: BaseException, target: Path) -> bool:
    """safetensors keeps the system's message in the text of its own error.

    torch's writer raises one of several RuntimeErrors that do not name the cause; there the room
    that is left decides.
    """
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    if isinstance(error, RuntimeError):
        return _free(target) < 2**20
    return "No space left on device" in str(error)


def _free(target: Path) -> int:
    return shutil.disk_usage(next(path for path in target.parents if path.exists())).free


def _taken(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _full_disk(target: Path, needed: int, room: int) -> str:
    needs = f"{target.name} needs about {needed / 1e6:.1f} MB, " if needed else f"{target.name}: "
    return (
        f"the disk is full: {needs}{room / 1e6:.1f} MB were free in {target.parent}; "
        f"earlier checkpoints are untouched: make room and run again to go on from there"
    )


def put_in_place(scratch: Path, target: Path) -> None:
    """Rename; a folder cannot be renamed onto a full one, so that one steps aside first."""
    old = target.with_name(target.name + ".old")
    if target.exists():
        if old.exists():
            shutil.rmtree(old)
        target.rename(old)
    scratch.rename(target)
    manifests.sync_folder(target.parent)
    shutil.rmtree(old, ignore_errors=True)


def clear_scratch(folder: Path) -> None:
    """Remove what earlier, killed writers left under names that nobody reads."""
    for path in folder.glob(f"{SCRATCH}*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def candidates(folder: str | Path) -> list[Path]:
    """Everything named like a checkpoint, newest step first, verified or not."""
    paths = Path(folder).iterdir() if Path(folder).is_dir() else ()
    found = [(NAME.fullmatch(path.name), path) for path in paths]
    # An `.old` comes after the one that replaced it.
    keyed = [(-int(name[1]), bool(name[2]), path) for name, path in found if name]
    return [path for *_, path in sorted(keyed)]


def latest(folder: str | Path) -> Path | None:
    """The newest checkpoint that is whole, or None; says which newer ones it passed over, and why.

    >>> latest("nowhere") is None
    True
    """
    passed, chosen = [], None
    for path in candidates(folder):
        reason = verify(path)
        if reason is None:
            chosen = path
            break
        passed.append(f"{path.name} {reason}")
    if passed:
        where = f"using {chosen.name}" if chosen else "there is no whole checkpoint"
        print(f"passed over: {'; '.join(passed)}. In {folder} {where}.")
    return chosen


def load(
    path: str | Path,
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer | None = None,
    scheduler: object | None = None,
    **parts: object,
) -> int:
    """Fill model, optimizer, scheduler and further `parts` in place, set the random states.

    Returns the step. Raises `CheckpointError` if the folder is not covered by its own manifest,
    lacks a part that is asked for, or fits another model.
    """
    path = Path(path)
    if reason := verify(path):
        raise CheckpointError(f"{path} {reason}: use an earlier checkpoint")
    parts = {"optimizer": optimizer, "scheduler": scheduler, **parts}
    wanted = {name: part for name, part in parts.items() if part is not None}
    state = _read(path, wanted)
    try:
        model.load_state_dict(state["model"])
        for name, part in wanted.items():
            part.load_state_dict(state[name])
    except (RuntimeError, ValueError, KeyError) as error:
        detail = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{path} was saved by a different set-up: {detail}") from None
    snapshots.set_random_state(state["random"])
    return manifests.read(path)["step"]


def _read(path: Path, wanted: Iterable[str]) -> dict:
    """Model, random states and the wanted parts; only files that the manifest names are opened."""
    names = manifests.read(path)["files"]
    if "model.safetensors" not in names or "random.pt" not in names:
        raise CheckpointError(f"{path} was not written by save(): let the Trainer read its own")
    if lacking := [name for name in wanted if f"{name}.pt" not in names]:
        raise CheckpointError(f"{path} holds no {lacking[0]}: it was saved without one")
    state = {
        name: _read_part(path / f"{name}.pt")
        for name in (*wanted, "random", "model_others")
        if f"{name}.pt" in names
    }
    data = (path / "model.safetensors").read_bytes()
    state["model"] = snapshots.decode_model(data, state.pop("model_others", {}))
    return state


def _read_part(path: Path) -> dict:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise CheckpointError(
            f"{path} holds more than tensors and numbers and would have to run code: "
            f"use a checkpoint that you have made yourself"
        ) from None


def prune(folder: str | Path, keep: int) -> list[Path]:
    """Delete all but the `keep` newest whole checkpoints; returns what was deleted.

    What is newer than the newest whole one is left alone, and so is everything while fewer than
    `keep` are whole. Raises ValueError for `keep` below 1.
    """
    if keep < 1:
        raise ValueError(f"keep must be at least 1, got {keep}: a run needs one to go on from")
    whole, removed = 0, []
    for path in candidates(folder):
        if whole >= keep or (whole and path.suffix == ".old"):
            # Renamed first: a kill in the middle of the deletion leaves no torn `checkpoint-N`.
            scratch = path.with_name(f"{SCRATCH}{path.name}")
            path.rename(scratch)
            shutil.rmtree(scratch)
            removed.append(path)
        else:
            whole += verify(path) is None
    return removed
