"""The data sets that the reader's environment already ships, harvested and cached.

Nothing is downloaded: docstrings are read from a fixed list of installed packages, digits from
scikit-learn, glyphs from the fonts of matplotlib. It builds and caches; what each set holds is
decided in the files of that name (`docstring_sets`, `docstring_tasks`, `glyphs`, `locale_names`).
All chapters use it through `cookbook.data.load`.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cookbook.data import (
    docstring_mentions,
    docstring_questions,
    docstring_sets,
    docstring_tasks,
    glyphs,
    locale_names,
    splits,
)
from cookbook.data.errors import DataError

if TYPE_CHECKING:
    from datasets import DatasetDict

# Raise it when the harvest, the splits or a set's definition changes: it keys the cache.
RECIPE = 1

# distribution -> the folder it installs; the name readers know is the key.
PACKAGES = {
    "accelerate": "accelerate", "babel": "babel", "datasets": "datasets", "evaluate": "evaluate",
    "fsspec": "fsspec", "huggingface-hub": "huggingface_hub", "ipython": "IPython",
    "jinja2": "jinja2", "matplotlib": "matplotlib", "networkx": "networkx", "numpy": "numpy",
    "pandas": "pandas", "peft": "peft", "pillow": "PIL", "pygments": "pygments",
    "scikit-learn": "sklearn", "scipy": "scipy", "sympy": "sympy", "torch": "torch",
    "tornado": "tornado", "traitlets": "traitlets", "transformers": "transformers",
}  # fmt: skip
SKIP = {"tests", "test", "testing", "site-packages", "dist-packages", "idlelib", "lib2to3",
        "__pycache__"}  # fmt: skip
# Sets that are made of `docstrings`: name -> a function of that set.
DERIVED: dict[str, Callable] = docstring_sets.DERIVED | {
    "docstring-summaries": docstring_tasks.summaries,
    "docstring-qa": docstring_questions.questions,
    "docstring-mentions": docstring_mentions.mentions,
}


def names() -> list[str]:
    """The embedded sets, by name.

    >>> "docstrings" in names()
    True
    """
    return sorted(_BUILDERS)


def build(name: str) -> DatasetDict:
    """The embedded set `name`, from the cache or made now (`docstrings`: about a minute).

    Raises DataError for an unknown name.
    """
    from datasets import load_from_disk

    if name not in _BUILDERS:
        raise DataError(f"{name!r} is not an embedded data set: choose one of {', '.join(names())}")
    folder = cache_folder() / name
    if not (folder / "dataset_dict.json").exists():
        if name in DERIVED:
            build("docstrings")  # outside the lock below: each set has a lock of its own
        _make(name, folder)
    return load_from_disk(str(folder))


def fingerprint() -> str:
    """Twelve hexadecimal digits that name the text of `docstrings` on this machine.

    They depend on the versions of the installed packages; committed figures are compared only
    where the fingerprint agrees.
    """
    build("docstrings")
    return json.loads((cache_folder() / "docstrings" / "fingerprint.json").read_text())["texts"]


def ledger(name: str) -> list[dict]:
    """What was left out of an embedded set when it was made: a dict for each step and reason.

    As `Ledger.rows()` gives them; empty for a set that takes what it finds.
    """
    build(name)
    path = cache_folder() / name / "ledger.json"
    return json.loads(path.read_text()) if path.exists() else []


def cache_folder() -> Path:
    """Where this set of package versions is cached (`COOKBOOK_CACHE_DIR` moves it)."""
    root = os.environ.get("COOKBOOK_CACHE_DIR") or (
        Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pretrained-cookbook"
    )
    key = json.dumps([RECIPE, sys.version_info[:3], versions()], sort_keys=True)
    return Path(root) / hashlib.sha256(key.encode()).hexdigest()[:12]


def versions() -> dict[str, str]:
    """Package -> installed version, `""` for one that is missing."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = ""
    return found


def _make(name: str, folder: Path) -> None:
    from filelock import FileLock

    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):  # two notebooks that start at once harvest once
        if (folder / "dataset_dict.json").exists():
            return
        made = _BUILDERS[name]()
        made, account = made if isinstance(made, tuple) else (made, None)
        temporary = folder.with_name(f"{name}.{os.getpid()}")
        shutil.rmtree(temporary, ignore_errors=True)
        made.save_to_disk(str(temporary))
        if account is not None:
            (temporary / "ledger.json").write_text(json.dumps(account.rows()))
        if name == "docstrings":
            digest = hashlib.sha256("\0".join(t for p in made.values() for t in p["text"]).encode())
            (temporary / "fingerprint.json").write_text(
                json.dumps({"texts": digest.hexdigest()[:12]})
            )
        shutil.rmtree(folder, ignore_errors=True)
        temporary.rename(folder)


def _docstrings() -> DatasetDict:
    missing = [package for package, folder in _roots() if not folder.is_dir()]
    if missing:
        print(f"not installed here, so not in the corpus: {', '.join(missing)}")
    rows = [row for path, found in _harvest(_files()) for row in _rows(path, found)]
    return docstring_sets.corpus(rows)


def _files() -> dict[str, tuple[str, str]]:
    """Path -> (library, module) for every source file to read, in a fixed order."""
    found = {}
    for library, root in _roots():
        for path in sorted(root.rglob("*.py")) if root.is_dir() else []:
            parts = path.relative_to(root).with_suffix("").parts
            if not SKIP.intersection(parts):
                top = () if library == "python" else (root.name,)
                module = ".".join((*top, *(p for p in parts if p != "__init__")))
                found[str(path)] = (library, module)
    return found


def _roots() -> list[tuple[str, Path]]:
    """(library, the folder of its source, which may be missing), in a fixed order."""
    roots = []
    for package, folder in sorted(PACKAGES.items()):
        try:  # asked one by one: a system Python keeps its packages in several places
            root = importlib.metadata.distribution(package).locate_file(folder)
        except importlib.metadata.PackageNotFoundError:
            root = Path(folder, "is not installed")
        roots.append((package, Path(root)))
    return [*roots, ("python", Path(sysconfig.get_paths()["stdlib"]))]


def _harvest(files: dict[str, tuple[str, str]]) -> Iterator[tuple[tuple[str, str], list]]:
    """Parse all files in worker processes; yields ((library, module), docstrings) in file order.

    Plain subprocesses: `multiprocessing` would run a reader's unguarded script a second time.
    """
    from concurrent.futures import ThreadPoolExecutor

    from tqdm.auto import tqdm

    workers = min(os.cpu_count() or 1, 8)
    paths = sorted(files, key=lambda path: -Path(path).stat().st_size)
    found: dict[str, list] = {}
    with tqdm(total=len(paths), desc="reading docstrings", unit="file") as bar:

        def read(worker: subprocess.Popen) -> int:
            for line in worker.stdout:
                path, docstrings = json.loads(line)
                found[path] = docstrings
                bar.update()
            return worker.wait()

        with ThreadPoolExecutor(workers) as pool:
            codes = list(pool.map(read, [_start_worker(paths[i::workers]) for i in range(workers)]))
    if any(codes):
        raise DataError("a process that reads docstrings failed: its message stands above")
    yield from ((files[path], found[path]) for path in files)


def _start_worker(paths: list[str]) -> subprocess.Popen:
    listing = tempfile.TemporaryFile("w+")
    listing.write("\n".join(paths))
    listing.seek(0)
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    # -P: a file called json.py in the reader's working directory must not be imported.
    command = [sys.executable, "-P", "-m", "cookbook.data.harvest"]
    return subprocess.Popen(
        command, stdin=listing, stdout=subprocess.PIPE, text=True, env=environment
    )


def _rows(where: tuple[str, str], found: list) -> Iterator[dict[str, str]]:
    library, module = where
    for name, signature, text in found:
        yield {
            "text": text, "library": library, "module": module, "name": name or module,
            "signature": signature,
        }  # fmt: skip


def _digits() -> DatasetDict:
    """scikit-learn's 1,797 digits of 8 x 8 pixels, as 8-bit images, in blocks of one writer."""
    import numpy as np
    from datasets import ClassLabel, Dataset, Features, Image
    from PIL import Image as Picture
    from sklearn.datasets import load_digits

    digits = load_digits()
    pictures = [Picture.fromarray((p * 15.9).astype(np.uint8)) for p in digits.images]
    features = Features(image=Image(), label=ClassLabel(names=[str(d) for d in range(10)]))
    rows = Dataset.from_dict({"image": pictures, "label": digits.target.tolist()}, features)
    # Neighbours in the file were written by one hand: blocks keep a writer on one side.
    return splits.split(rows, groups=[row // 40 for row in range(len(rows))])


_BUILDERS: dict[str, Callable[[], Any]] = {
    "docstrings": _docstrings,
    "digits": _digits,
    "glyphs": glyphs.build,
    "locale-names": locale_names.build,
    **{name: (lambda make=make: make(build("docstrings"))) for name, make in DERIVED.items()},
}
