"""What the doctor found: one fault, the number that shows it, the bound it broke, the remedy.

It judges nothing and draws nothing: checks make findings, `verdict` ranks them, `report` shows
them. Chapter 13.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cookbook.doctor.catalogue import FAULTS, Fault

SEVERITIES = ("error", "warn", "info")


@dataclass(frozen=True)
class Curve:
    """Evidence to look at: named lines of (x, y) points, and the bound that one of them broke."""

    lines: Mapping[str, list[tuple[float, float]]]
    bound: float | None = None
    x_label: str = "step"
    y_label: str = "loss"


@dataclass(frozen=True)
class Finding:
    """One fault, named. `evidence` is one sentence with the measured number and its bound.

    `fault` is an ID of the catalogue; `severity` is "error" for an invariant that was contradicted,
    "warn" for a statistical sign that holds, "info" for advice. `remedy` is the catalogue's unless
    something more exact is known. `measured` holds the numbers of the evidence by name.

    >>> found = Finding("T2", "error", "31 % of the labels lie on padding (bound: none)")
    >>> found.title
    'Padding in the loss'
    >>> print(found)
    T2 Padding in the loss [error]: 31 % of the labels lie on padding (bound: none)
    """

    fault: str
    severity: str
    evidence: str
    remedy: str = ""
    measured: Mapping[str, float | int | str] = field(default_factory=dict)
    curve: Curve | None = None

    def __post_init__(self) -> None:
        if self.fault not in FAULTS:
            raise ValueError(f"no fault {self.fault!r} in the catalogue")
        if self.severity not in SEVERITIES:
            raise ValueError(f"severity {self.severity!r}: use one of {', '.join(SEVERITIES)}")
        if not self.remedy:
            object.__setattr__(self, "remedy", self.entry.remedy)

    @property
    def entry(self) -> Fault:
        """The catalogue's entry of this fault."""
        return FAULTS[self.fault]

    @property
    def title(self) -> str:
        """The fault in a few words."""
        return self.entry.title

    @property
    def link(self) -> str:
        """Where to read on: the section that reproduces the fault, else its catalogue entry."""
        return self.entry.link

    def __str__(self) -> str:
        return f"{self.fault} {self.title} [{self.severity}]: {self.evidence}"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON: strings, finite numbers, lists and dicts; what is not finite is a string."""
        plain = {
            "fault": self.fault, "title": self.title, "severity": self.severity,
            "evidence": self.evidence, "remedy": self.remedy, "link": self.link,
            "measured": {name: jsonable(value) for name, value in self.measured.items()},
        }  # fmt: skip
        if self.curve is not None:
            lines = {
                name: [[jsonable(x), jsonable(y)] for x, y in points]
                for name, points in self.curve.lines.items()
            }
            plain["curve"] = {
                "lines": lines, "bound": jsonable(self.curve.bound),
                "x_label": self.curve.x_label, "y_label": self.curve.y_label,
            }  # fmt: skip
        return plain


def jsonable(value: Any) -> Any:
    """A number as JSON can hold it: numpy's and torch's scalars as Python's, NaN as "nan".

    >>> jsonable(float("nan")), jsonable(3), jsonable(None)
    ('nan', 3, None)
    """
    if value is None or isinstance(value, str | bool | int):
        return value
    number = value.item() if hasattr(value, "item") else value
    if isinstance(number, float) and not math.isfinite(number):
        return str(number)
    return number if isinstance(number, bool | int | float) else str(number)
