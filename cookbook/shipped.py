"""Where the folders lie that ship with the repository: the notebooks and the small checkpoint.

It finds folders, and of files reads the results of benchmarks only. In a checkout they are where
git has them; an installed wheel carries the folders inside the package (setup.py puts them there).
Used by `models/initialization.py` and `chapters.py`, and so by every chapter whose model is
`docbert`.
"""

import json
from pathlib import Path
from typing import Any

SHIPPED = {"docbert": "data/docbert", "notebooks": "notebooks"}
PACKAGE = Path(__file__).resolve().parent


def folder(name: str) -> Path:
    """The folder called `name` in `SHIPPED`: the checkout's own, else the wheel's copy.

    Raises KeyError for a name that does not ship and FileNotFoundError for a folder that is
    in neither place, which happens for `docbert` in a checkout where it was not yet trained.

    >>> folder("notebooks").is_dir()
    True
    """
    checkout = PACKAGE.parent / SHIPPED[name]
    # A site-packages folder may hold somebody else's `notebooks`; a checkout has this file.
    in_checkout = (PACKAGE.parent / "pyproject.toml").is_file()
    found = checkout if in_checkout else PACKAGE / "_shipped" / name
    if not found.is_dir():
        raise FileNotFoundError(f"{name} is missing: expected in {found}")
    return found


def measured(name: str) -> dict[str, Any] | None:
    """What the benchmark of this name measured, as committed; None where it is not at hand.

    Results stay in the checkout: a wheel has none, and a chapter then says so.

    >>> measured("no such benchmark") is None
    True
    """
    path = PACKAGE.parent / "benchmarks" / "results" / f"{name}.json"
    in_checkout = (PACKAGE.parent / "pyproject.toml").is_file() and path.is_file()
    return json.loads(path.read_text()) if in_checkout else None
