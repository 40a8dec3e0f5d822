"""The healthy scripts of the sixth set."""

from __future__ import annotations

from collections.abc import Callable

from faults.recipe import Recipe

CONFIGURATIONS: dict[str, Callable[[int], Recipe]] = {}


def healthy(make: Callable[[int], Recipe]) -> Callable[[int], Recipe]:
    """Register a healthy script under its name."""
    CONFIGURATIONS[make.__name__] = make
    return make
