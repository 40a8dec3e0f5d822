"""The report: one primary verdict, what probably follows from it, what was and was not checked.

It shows as text, as HTML in a notebook, and as plain JSON. It ranks through `verdict` and draws
through `svg`. Chapter 13; every pitfall of the other chapters ends in one.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping
from typing import Any

from cookbook.doctor import svg, verdict
from cookbook.doctor.findings import Finding

COLOURS = {"error": "#B3261E", "warn": "#B26A00", "info": "#4D4D4D"}


class Report:
    """What an examination or a watched run found.

    `primary` is the finding that names the cause, or None; `findings` are the others, of which
    those that are no mere advice are probably its consequences. `checked` names the checks that
    ran, `not_checked` says why others did not.

    >>> print(Report([Finding("T2", "error", "31 % of the labels lie on padding")]))
    T2 · Padding in the loss  (error)
      found   31 % of the labels lie on padding
      remedy  set the labels of padding to -100
      more    13_when_training_goes_wrong.ipynb#Padding-in-the-loss
    >>> print(Report([], checked=["labels", "masks"]))
    no fault found (2 checks)
    """

    def __init__(
        self,
        findings: Iterable[Finding] = (),
        *,
        checked: Iterable[str] = (),
        not_checked: Mapping[str, str] | None = None,
    ) -> None:
        self._found = list(findings)
        self.checked = list(checked)
        self.not_checked = dict(not_checked or {})
        self.primary, self.findings = verdict.split(self._found)

    @property
    def all(self) -> list[Finding]:
        """The primary finding and the rest, in order."""
        return [self.primary, *self.findings] if self.primary else list(self.findings)

    @property
    def healthy(self) -> bool:
        """Whether there is neither an error nor a warning."""
        return self.primary is None

    def faults(self) -> list[str]:
        """The IDs of all errors and warnings, the primary one first."""
        return [found.fault for found in self.all if found.severity != "info"]

    def __add__(self, other: Report) -> Report:
        """Both reports as one, ranked together."""
        return Report(
            [*self._found, *other._found],
            checked=dict.fromkeys([*self.checked, *other.checked]),
            not_checked={**self.not_checked, **other.not_checked},
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON, as `json.dumps` takes it."""
        return {
            "primary": self.primary.to_dict() if self.primary else None,
            "findings": [found.to_dict() for found in self.findings],
            "checked": self.checked,
            "not_checked": self.not_checked,
        }

    def __str__(self) -> str:
        return "\n".join([*self._lines(), *_passed_over(self.not_checked)])

    def _lines(self) -> list[str]:
        if self.primary is None:
            count = len(self.checked)
            lines = ["no fault found" + (f" ({count} check{'s' * (count > 1)})" if count else "")]
        else:
            lines = [
                f"{self.primary.fault} · {self.primary.title}  ({self.primary.severity})",
                f"  found   {self.primary.evidence}", f"  remedy  {self.primary.remedy}",
                f"  more    {self.primary.link}",
            ]  # fmt: skip
        for heading, group in self._rest().items():
            lines += [heading, *(f"  {f.fault} {f.title}: {f.evidence}" for f in group)]
        return lines

    def _rest(self) -> dict[str, list[Finding]]:
        """The other findings under what they are: consequences, or advice."""
        kinds = {
            "probably a consequence": [f for f in self.findings if f.severity != "info"],
            "advice": [f for f in self.findings if f.severity == "info"],
        }
        return {heading: group for heading, group in kinds.items() if group}

    def __repr__(self) -> str:
        return f"<Report: {', '.join(self.faults()) or 'healthy'}>"

    def _repr_html_(self) -> str:
        parts = [_card(self.primary)] if self.primary else [_nothing(len(self.checked))]
        for heading, group in self._rest().items():
            rows = "".join(
                f"<li>{_linked(f)}: {html.escape(f.evidence)}"
                f"<br><small>{html.escape(f.remedy)}</small></li>"
                for f in group
            )
            parts.append(f"<p style='margin:8px 0 2px'><b>{heading}</b></p><ul>{rows}</ul>")
        parts.append(_folded(_passed_over(self.not_checked)))
        return f"<div style='max-width:720px;line-height:1.45'>{''.join(parts)}</div>"


def _passed_over(reasons: Mapping[str, str]) -> list[str]:
    return [f"not checked: {name} ({reason})" for name, reason in reasons.items()]


def _folded(lines: list[str]) -> str:
    """What was passed over, one line each, behind a line that opens."""
    if not lines:
        return ""
    rows = "<br>".join(html.escape(line) for line in lines)
    count = f"{len(lines)} check{'s' * (len(lines) > 1)} could not look"
    return f"<details><summary><small>{count}</small></summary><small>{rows}</small></details>"


def _linked(found: Finding) -> str:
    name = html.escape(f"{found.fault} · {found.title}")
    return f"<a href='{html.escape(found.link, quote=True)}'>{name}</a>"


def _card(found: Finding) -> str:
    colour = COLOURS[found.severity]
    picture = svg.draw(found.curve) if found.curve else ""
    return (
        f"<div style='border-left:4px solid {colour};padding:4px 12px'>"
        f"<b style='color:{colour}'>{found.severity}</b> · <b>{_linked(found)}</b>"
        f"<br>{html.escape(found.evidence)}{picture}"
        f"<br><b>remedy</b> {html.escape(found.remedy)}</div>"
    )


def _nothing(count: int) -> str:
    checks = f" in {count} check{'s' * (count > 1)}" if count else ""
    return (
        f"<div style='border-left:4px solid #009E73;padding:4px 12px'>no fault found{checks}</div>"
    )
