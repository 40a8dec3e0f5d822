"""The table of faults: which change to which script is which fault.

A mutation changes one line of a `Recipe`. `also` names verdicts that are as right as the fault's
own, because the change is both; `advice` means that the doctor is asked for advice only.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

GROUPS = ("data", "tokens", "models", "losses", "optimization", "precision", "running")

# Written after the checks, from the catalogue alone; run by doctor_held_out.py.
FRESH = ("fresh_data", "fresh_tokens", "fresh_models", "fresh_losses", "fresh_optimization",
         "fresh_running", "fresh_as_first_written")  # fmt: skip

# Faults that a script of seconds in one process cannot hold, and where they are proved instead.
ELSEWHERE = {
    "X1": "needs two ranks: tests/doctor",
    "X2": "needs two ranks: tests/doctor",
    "D3": "needs probabilities of models that did not see the rows: tests/doctor",
    "R2": "what remains where no other cause is found: a branch of the tree",
}


@dataclass(frozen=True)
class Mutation:
    """One way to commit a fault, and the families whose script can hold it."""

    fault: str
    name: str
    apply: Callable[[Any], None]
    families: tuple[str, ...]
    loop: str = ""
    online: bool = False
    also: tuple[str, ...] = ()
    advice: bool = False


_TABLE: list[Mutation] = []
# Sets 2 to 9.
LATER = ("again", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth")
_SETS: dict[str, list[Mutation]] = {name: [] for name in ("fresh", *LATER)}


def fault(
    identifier: str, families: str, fresh: bool = False, **how: Any
) -> Callable[[Callable], Callable]:
    """Register a function of a recipe as a way to commit this fault in these families."""

    def register(apply: Callable[[Any], None]) -> Callable[[Any], None]:
        made = Mutation(identifier, apply.__name__, apply, tuple(families.split()), **how)
        (_SETS["fresh"] if fresh else _TABLE).append(made)
        return apply

    return register


def _into(name: str) -> Callable[..., Callable]:
    """What registers a way to commit a fault in this later set."""

    def marked(identifier: str, families: str, **how: Any) -> Callable[[Callable], Callable]:
        def register(apply: Callable[[Any], None]) -> Callable[[Any], None]:
            made = Mutation(identifier, apply.__name__, apply, tuple(families.split()), **how)
            _SETS[name].append(made)
            return apply

        return register

    return marked


again, third, fourth, fifth, sixth, seventh, eighth, ninth = map(_into, LATER)


def _whole(groups: tuple[str, ...], held: list[Mutation]) -> list[Mutation]:
    for group in groups:
        importlib.import_module(f"faults.mutations.{group}")
    return list(held)


def table() -> list[Mutation]:
    """All mutations, in the order of the groups."""
    return _whole(GROUPS, _TABLE)


def written_later(name: str) -> list[Mutation]:
    """The mutations of one set that was written after the checks (`fresh` or one of `LATER`).

    They stand in `mutations/NAME_*.py`; of which author and from what, benchmarks/README.md says.
    """
    folder = Path(__file__).parent / "mutations"
    groups = tuple(sorted(path.stem for path in folder.glob(f"{name}_*.py")))
    return _whole(FRESH if name == "fresh" else groups, _SETS[name])


def later_tables() -> list[Mutation]:
    """The mutations of all sets that no check was written with; no name stands twice."""
    found = [mutation for name in _SETS for mutation in written_later(name)]
    names = [mutation.name for mutation in (*table(), *found)]
    assert len(set(names)) == len(names), "a name stands twice"
    return found


def applicability() -> dict[str, dict[str, list[str]]]:
    """Fault → family → the names of its mutations, as plain JSON."""
    found: dict[str, dict[str, list[str]]] = {}
    for mutation in table():
        for family in mutation.families:
            found.setdefault(mutation.fault, {}).setdefault(family, []).append(mutation.name)
    return found
