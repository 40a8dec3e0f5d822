"""The healthy scripts of the ninth set."""

from __future__ import annotations

from collections.abc import Callable

from faults.recipe import Recipe

CONFIGURATIONS: dict[str, Callable[[int], Recipe]] = {}
