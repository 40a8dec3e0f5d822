"""The account of a cleaning: every row that came in is kept, or dropped for one named reason.

`cleaning.clean` and `cleaning on a cluster` (`cluster`) write it, step by step; it decides
nothing. It prints as text, shows as a table in a notebook, and `plots.ledger_waterfall` draws it.
Used by chapters 00 and 01.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from pandas import DataFrame

EXAMPLES = 3  # shown for each reason


class LedgerError(ValueError):
    """Rows are unaccounted for: a fault in the cleaning, not in the data."""


class Step(NamedTuple):
    """One step: how many rows it saw, how many it passed on, and why the others stayed behind."""

    step: str
    rows_in: int
    rows_out: int
    dropped: dict[str, int]


class Example(NamedTuple):
    """One dropped row; `twin` is the row it repeats, -1 where the reason is not a repetition."""

    row: int
    text: str
    twin: int = -1


class Ledger:
    """Rows in = rows kept + rows dropped by reason, for every step.

    >>> ledger = Ledger(4)
    >>> ledger.record("empty rows", ["", "no text", "", ""])
    >>> ledger.record("exact duplicates", ["", "exact duplicate", ""])
    >>> ledger.kept.tolist(), ledger.fate(1), ledger.dropped
    ([0, 3], 'no text', {'no text': 1, 'exact duplicate': 1})
    >>> print(ledger.check())
    4 rows in = 2 kept + 1 no text + 1 exact duplicate
    """

    def __init__(self, rows_in: int) -> None:
        self.rows_in = rows_in
        self.steps: list[Step] = []
        self.changed: dict[str, int] = {}  # step -> rows whose text it rewrote
        self.notes: list[str] = []  # what was guessed, what a reader should know
        self.conflicts: list[dict] = []  # one text under several labels
        self.examples: dict[str, list[Example]] = {}
        self._kept = np.arange(rows_in)
        self._fate = np.full(rows_in, "", dtype=object)

    @property
    def kept(self) -> np.ndarray:
        """(rows kept,) int64: their numbers in the data that came in, ascending."""
        return self._kept

    @property
    def dropped(self) -> dict[str, int]:
        """Reason -> rows, over all steps, in the order in which the reasons were met."""
        total: Counter[str] = Counter()
        for step in self.steps:
            total.update(step.dropped)
        return dict(total)

    def fate(self, row: int) -> str:
        """Why row number `row` of the incoming data was dropped; `""` if it is kept."""
        return self._fate[row]

    def record(
        self,
        step: str,
        reasons: Sequence[str],
        *,
        texts: Sequence[str | None] | None = None,
        twins: Sequence[int] | None = None,
        changed: int | None = None,
    ) -> None:
        """Account for one step: a reason for each row still there, `""` for a row that stays.

        `texts` gives examples; `twins` the row (of the incoming data) that each one repeats.
        Raises LedgerError unless there is exactly one reason for each row.
        """
        if len(reasons) != len(self._kept):
            raise LedgerError(
                f"step {step!r} accounts for {len(reasons)} rows, {len(self._kept)} came in"
            )
        for place in np.flatnonzero([reason != "" for reason in reasons]):
            row, reason = int(self._kept[place]), reasons[place]
            self._fate[row] = reason
            shown = self.examples.setdefault(reason, [])
            if texts is not None and len(shown) < EXAMPLES:
                twin = -1 if twins is None else int(twins[place])
                shown.append(Example(row, str(texts[place])[:300], twin))
        stays = np.array([reason == "" for reason in reasons], dtype=bool)
        counts = dict(Counter(reason for reason in reasons if reason))
        self.steps.append(Step(step, len(self._kept), int(stays.sum()), counts))
        self._kept = self._kept[stays]
        if changed is not None:
            self.changed[step] = changed

    def check(self) -> Ledger:
        """Itself, if every row is accounted for exactly once; else raises LedgerError."""
        rows = self.rows_in
        for step in self.steps:
            if step.rows_in != rows or step.rows_out + sum(step.dropped.values()) != rows:
                raise LedgerError(f"step {step.step!r} does not balance: {rows} rows in, {step}")
            rows = step.rows_out
        fates = Counter(self._fate.tolist())
        if fates.pop("", 0) != rows or rows != len(self._kept) or dict(fates) != self.dropped:
            raise LedgerError(f"the rows' fates do not add up to the steps: {fates}, {self.steps}")
        return self

    def rows(self) -> list[dict]:
        """One plain dict for each step and reason, fit for JSON; a step without loss has one."""
        table = []
        for step in self.steps:
            for reason, count in (step.dropped or {"": 0}).items():
                table.append(
                    {
                        "step": step.step,
                        "rows_in": step.rows_in,
                        "changed": self.changed.get(step.step, 0),
                        "reason": reason,
                        "dropped": count,
                        "rows_out": step.rows_out,
                    }
                )
        return table

    def frame(self) -> DataFrame:
        """`rows()` as a pandas table."""
        from pandas import DataFrame

        columns = ["step", "rows_in", "changed", "reason", "dropped", "rows_out"]
        return DataFrame(self.rows(), columns=columns)

    def examples_frame(self) -> DataFrame:
        """Dropped rows as a pandas table: reason, row, text, and the row it repeats (twin)."""
        from pandas import DataFrame

        found = [(why, *one) for why, shown in self.examples.items() for one in shown]
        return DataFrame(found, columns=["reason", "row", "text", "twin"])

    def __str__(self) -> str:
        parts = [f"{count} {reason}" for reason, count in Counter(self.dropped).most_common()]
        return f"{self.rows_in} rows in = " + " + ".join([f"{len(self._kept)} kept", *parts])

    def __repr__(self) -> str:
        return f"Ledger({self})"

    def _repr_html_(self) -> str:
        notes = "".join(f"<li>{escape(note)}</li>" for note in self.notes)
        return f"<p>{escape(str(self))}</p><ul>{notes}</ul>{self.frame().to_html(index=False)}"
