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
_FRESH: list[Mutation] = []
_AGAIN: list[Mutation] = []
_THIRD: list[Mutation] = []
_FOURTH: list[Mutation] = []
_FIFTH: list[Mutation] = []
_SIXTH: list[Mutation] = []
AGAIN = ("again_data_and_models", "again_training")  # written after the first reading was mended
THIRD = ("third_data", "third_tokens", "third_models", "third_training", "third_running")
FOURTH = ("fourth_data", "fourth_tokens", "fourth_collation", "fourth_models", "fourth_losses",
          "fourth_training", "fourth_running")  # fmt: skip
FIFTH, SIXTH = (
    tuple(sorted(path.stem for path in (Path(__file__).parent / "mutations").glob(f"{name}_*.py")))
    for name in ("fifth", "sixth")
)


def fault(
    identifier: str, families: str, fresh: bool = False, **how: Any
) -> Callable[[Callable], Callable]:
    """Register a function of a recipe as a way to commit this fault in these families."""

    def register(apply: Callable[[Any], None]) -> Callable[[Any], None]:
        made = Mutation(identifier, apply.__name__, apply, tuple(families.split()), **how)
        (_FRESH if fresh else _TABLE).append(made)
        return apply

    return register


def _into(held: list[Mutation]) -> Callable[..., Callable]:
    """What registers a way to commit a fault in this later table."""

    def marked(identifier: str, families: str, **how: Any) -> Callable[[Callable], Callable]:
        def register(apply: Callable[[Any], None]) -> Callable[[Any], None]:
            held.append(Mutation(identifier, apply.__name__, apply, tuple(families.split()), **how))
            return apply

        return register

    return marked


again, third, fourth = _into(_AGAIN), _into(_THIRD), _into(_FOURTH)
fifth, sixth = _into(_FIFTH), _into(_SIXTH)


def _whole(groups: tuple[str, ...], held: list[Mutation], *known: Mutation) -> list[Mutation]:
    """The mutations of these modules; no name may stand twice, nor in an earlier table."""
    for group in groups:
        importlib.import_module(f"faults.mutations.{group}")
    names = [mutation.name for mutation in (*known, *held)]
    assert len(set(names)) == len(names), "a name stands twice"
    return list(held)


def table() -> list[Mutation]:
    """All mutations, in the order of the groups."""
    return _whole(GROUPS, _TABLE)


def fresh_table() -> list[Mutation]:
    """The mutations of `FRESH`, which no check was written or tuned with."""
    return _whole(FRESH, _FRESH, *table())


def again_table() -> list[Mutation]:
    """The mutations of `AGAIN`: a second set, smaller."""
    return _whole(AGAIN, _AGAIN, *table(), *fresh_table())


def third_table() -> list[Mutation]:
    """The mutations of `THIRD`: over all faults again."""
    return _whole(THIRD, _THIRD, *table(), *fresh_table(), *again_table())


def fourth_table() -> list[Mutation]:
    """The mutations of `FOURTH`: over all faults, by one who had not read the checks."""
    return _whole(FOURTH, _FOURTH, *table(), *fresh_table(), *again_table(), *third_table())


def fifth_table() -> list[Mutation]:
    """The mutations of `FIFTH`: the commonest forms, by another who had not read the checks."""
    return _whole(FIFTH, _FIFTH, *table(), *later_tables(4))


def sixth_table() -> list[Mutation]:
    """The mutations of `SIXTH`: as the fifth, by yet another, and read after its mending."""
    return _whole(SIXTH, _SIXTH, *table(), *later_tables(5))


def later_tables(first: int = 6) -> list[Mutation]:
    """The mutations of the first so many sets that no check was written with, in their order."""
    tables = (fresh_table, again_table, third_table, fourth_table, fifth_table, sixth_table)
    return [mutation for made in tables[:first] for mutation in made()]


def applicability() -> dict[str, dict[str, list[str]]]:
    """Fault → family → the names of its mutations, as plain JSON."""
    found: dict[str, dict[str, list[str]]] = {}
    for mutation in table():
        for family in mutation.families:
            found.setdefault(mutation.fault, {}).setdefault(family, []).append(mutation.name)
    return found
