"""The catalogue of faults and the root-cause tree as HTML tables, for a notebook.

Each fault has an anchor, its ID, to which findings link that no section reproduces. Chapter 13.
"""

from __future__ import annotations

import html
from collections.abc import Mapping

from cookbook.doctor import verdict
from cookbook.doctor.catalogue import FAULTS, Fault

# Notebooks align the rows of a table to the right; the class stands twice to outweigh that.
CELLS = ",".join(f".faults.faults {cell}" for cell in ("tr", "td", "th"))
TABLE = f"<style>{CELLS}{{text-align:left}}</style><table class='faults'>"


def catalogue(faults: Mapping[str, Fault] = FAULTS) -> str:
    """One row a fault: what you see, what shows it, what mends it.

    >>> catalogue({"L2": FAULTS["L2"]}).count("<tr>")
    2
    """
    heads = "".join(
        f"<th>{name}</th>" for name in ("", "fault", "you see", "it shows in", "remedy")
    )
    rows = "".join(_row(fault) for fault in faults.values())
    return f"{TABLE}<tr>{heads}</tr>{rows}</table>"


def _row(fault: Fault) -> str:
    name = html.escape(fault.title)
    if fault.section:
        name = f"<a href='{_here(fault.section)}'>{name}</a>"
    cells = (name, *map(html.escape, (fault.symptom, fault.signal, fault.remedy)))
    anchor = f"<td><a id='{fault.id}'>{fault.id}</a></td>"
    return f"<tr>{anchor}{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"


def _here(section: str) -> str:
    """A section of this chapter by its anchor alone: the link holds in any copy of the page."""
    notebook, _, anchor = section.partition("#")
    near = notebook.startswith("13_")
    return html.escape(f"#{anchor}" if near else section, quote=True)


def tree() -> str:
    """The questions in the order in which they are asked, and what a no to each may mean.

    >>> tree().count("<tr>") == len(verdict.TREE) + 1
    True
    """
    heads = "<tr><th></th><th>question</th><th>if not</th></tr>"
    rows = "".join(
        f"<tr><td>{number}</td><td>{html.escape(question)}</td>"
        f"<td>{' '.join(_link(fault) for fault in level)}</td></tr>"
        for number, (question, level) in enumerate(verdict.TREE, 1)
    )
    return f"{TABLE}{heads}{rows}</table>"


def _link(fault: str) -> str:
    return f"<a href='#{fault}' title='{html.escape(FAULTS[fault].title, quote=True)}'>{fault}</a>"
