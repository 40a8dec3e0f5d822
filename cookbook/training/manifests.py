"""The manifest of a checkpoint: the size and the SHA-256 of every file in its folder.

`manifest.json` is written last. Without it, or with one that does not fit, a folder is not a
checkpoint: a writer was killed half-way, or the disk has changed what was written. A manifest
finds damage; it is not signed, and does not say who wrote the folder.

Used by `training.checkpoints` and `training.trainer_checkpoints`; chapter 11 breaks some.
"""

import hashlib
import json
import os
import re
from pathlib import Path

MANIFEST = "manifest.json"
_FORMAT = 1
# `.old` is what a save at the same step has just pushed aside; it counts only if a kill came
# in the instant between the two renames, or before the old one was deleted.
NAME = re.compile(r"checkpoint-(\d+)(\.old)?")
SCRATCH = ".scratch-"


def write(path: Path, data: bytes) -> None:
    """Write a file and wait until it is on the disk, not only in the memory of the system."""
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable: a rename that is only in memory can be lost."""
    if os.name == "nt":  # Windows cannot open a folder, and does not need to
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def entry(data: bytes) -> dict:
    """What a manifest says of a file with this content.

    >>> entry(b"")["size"], entry(b"")["sha256"][:8]
    (0, 'e3b0c442')
    """
    return {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def write_manifest(path: Path, step: int, files: dict) -> None:
    """Write the manifest of `step`; `files` maps names to what `entry` returns."""
    text = json.dumps({"format": _FORMAT, "step": step, "files": files}, indent=1)
    write(path, text.encode())


def seal(path: str | Path, step: int | None = None) -> None:
    """Write the manifest of a finished folder that others filled.

    The step is that of its name, `checkpoint-<step>`, unless it is given.

    Every file is flushed to the disk first: a manifest must not outlive what it vouches for.
    """
    path = Path(path)
    step = int(NAME.fullmatch(path.name)[1]) if step is None else step
    (path / MANIFEST).unlink(missing_ok=True)
    files = {}
    for name in sorted(_found(path)):
        with open(path / name, "rb+") as file:  # Windows flushes only what may be written
            os.fsync(file.fileno())
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        files[name] = {"size": (path / name).stat().st_size, "sha256": digest}
    # Written outside and moved in, else a kill could leave half a manifest.
    partial = path.with_name(f"{SCRATCH}{step}-{MANIFEST}")
    write_manifest(partial, step, files)
    sync_folder(path)
    partial.rename(path / MANIFEST)
    sync_folder(path)


def _found(path: Path) -> set[str]:
    return {
        p.relative_to(path).as_posix() for p in path.rglob("*") if p.is_symlink() or not p.is_dir()
    } - {MANIFEST}


def read(path: Path) -> dict | str:
    """The manifest, or the reason why there is none to be trusted."""
    try:
        text = (path / MANIFEST).read_text("utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return f"has no {MANIFEST}: it was never finished"
    except (OSError, UnicodeDecodeError):
        return f"has a {MANIFEST} that cannot be read"
    try:
        manifest = json.loads(text)
        files = {n: (int(e["size"]), str(e["sha256"])) for n, e in manifest["files"].items()}
        step, version = int(manifest["step"]), manifest["format"]
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"has a damaged {MANIFEST}"
    if version != _FORMAT:
        return f"has a {MANIFEST} of format {version}, not {_FORMAT}"
    return {"step": step, "files": files}


def verify(path: str | Path) -> str | None:
    """Why a folder is not a whole checkpoint, or None if it is.

    >>> verify("nowhere/checkpoint-3")
    'has no manifest.json: it was never finished'
    """
    path = Path(path)
    manifest = read(path)
    if isinstance(manifest, str):
        return manifest
    name = NAME.fullmatch(path.name)
    if name and int(name[1]) != manifest["step"]:
        return f"has the manifest of step {manifest['step']}"
    files, found = manifest["files"], _found(path)
    if missing := sorted(files.keys() - found):
        return f"lacks {missing[0]}"
    if extra := sorted(found - files.keys()):
        return f"has {extra[0]}, which its manifest does not name"
    for name, (size, digest) in files.items():
        if reason := _damage(path / name, size, digest):
            return f"has {reason} {name}"
    return None


def _damage(file: Path, size: int, digest: str) -> str | None:
    if file.is_symlink():
        return "a link in place of"
    try:
        if (actual := file.stat().st_size) != size:
            return f"{actual} of {size} bytes of"
        with open(file, "rb") as stream:
            same = hashlib.file_digest(stream, "sha256").hexdigest() == digest
    except OSError as error:
        return f"an unreadable ({error.strerror})"
    return None if same else "other contents than its manifest says in"
