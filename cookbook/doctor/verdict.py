"""The root-cause tree: of all findings, the one that names the cause; what it explains.

Findings are ranked, never made here. The order is that of the questions in the specification: is
the input sound, does a gradient arrive, does it move the weights, can one batch be fitted, can the
data be fitted, does evaluation follow? What comes earlier explains what comes later.
"""

from __future__ import annotations

from collections.abc import Sequence

from cookbook.doctor.findings import SEVERITIES, Finding

# Each level asks one question; within a level the more specific cause stands first.
TREE: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("does the input reach the model as it should?",
     ("T14", "M4", "T9", "D9", "T3", "T2", "T13", "T1", "T7", "T8", "T10", "T12", "D6", "D7")),
    ("does the model answer what it is asked?",
     ("M9", "M10", "L1", "L2", "M3", "T6", "M1")),
    ("does a gradient arrive, and is it the right one?",
     ("M5", "M8", "M2", "M6", "O6", "L3", "L4", "O5")),
    ("does it move the weights?",
     ("O4", "O2", "O10", "P3", "P4", "P2", "O7", "O9")),
    ("do the devices agree?",
     ("X1", "X2", "X3", "K2")),
    ("can one batch be fitted, and the data?",
     ("O3", "O1", "P1", "C1", "M7", "D8", "D5", "D2", "D3", "D4", "T4", "T5", "R2")),
    ("does evaluation follow?",
     ("D1", "E1", "E2", "K3", "R1", "E3", "T11", "K1")),
    ("is it fast enough?", ("H2", "H1", "H3", "O8")),
)  # fmt: skip
ORDER = {fault: place for place, fault in enumerate(f for _, level in TREE for f in level)}
# Contradicted invariants come before statistical signs, but not these: they spoil the measurement,
# not the training, so a run that does not learn has another cause.
AFTERWARDS = {fault for question, level in TREE[-2:] for fault in level}
# What a present finding explains though it stands further down: signs that are only statistical and
# still the cause of a contradiction; and models that mix rows or positions, which no mask can mend.
EXPLAINS = {
    "O1": ("P1", "P2"), "O3": ("P1", "P2", "O1"), "D5": ("X3", "O1", "O3"), "R1": ("E3",),
    "T4": ("T1", "T3"),  # what is cut away are the end, and in some rows every label
    "D8": ("O1", "C1"),  # judged before training: no rate makes other rows fit, no pairs meet
    "T10": ("T2", "D9"),  # a wrong mask puts labels on padding, and leaves a full row none
    "T13": ("T2",), "T5": ("T6",), "T6": ("T1",),  # padding; words unknown; another end
    "L1": ("T1", "T7"),  # a shift loses the end, or puts a second beginning before the first
    "P4": ("M4",),  # what the forward pass refuses is not the labels
    "K2": ("O4",),  # a schedule that goes on under an optimizer that begins
    "P2": ("L4",),  # gradients that overflow point nowhere
    "O9": ("O2",),  # clipped to nothing, every step is small
    "M9": ("T10", "T12"), "M10": ("T10", "T12", "M9"), "M5": ("M2",), "M6": ("M5", "M2"),
}  # fmt: skip


def rank(findings: Sequence[Finding]) -> list[Finding]:
    """Findings with the cause first: errors by the tree, then warnings, then advice.

    One finding a fault is kept, the most severe. What a present finding explains stands behind it.
    """
    worst: dict[str, Finding] = {}
    for found in findings:
        known = worst.get(found.fault)
        if known is None or severity(found) < severity(known):
            worst[found.fault] = found
    ranked = sorted(worst.values(), key=_place)
    for cause in [f for f in ranked if f.fault in EXPLAINS and f.severity != "info"]:
        places = [ranked.index(f) for f in ranked if f.fault in EXPLAINS[cause.fault]]
        if places and min(places) < ranked.index(cause):
            ranked.remove(cause)
            ranked.insert(min(places), cause)
    return ranked


def _place(found: Finding) -> tuple[bool, bool, int]:
    sign = found.severity == "warn" or found.fault in AFTERWARDS
    return found.severity == "info", sign, ORDER[found.fault]


def severity(found: Finding) -> int:
    """0 for an error, 1 for a warning, 2 for advice."""
    return SEVERITIES.index(found.severity)


def split(findings: Sequence[Finding]) -> tuple[Finding | None, list[Finding]]:
    """The primary finding, or None where there is only advice; and the rest, in order."""
    ranked = rank(findings)
    if ranked and ranked[0].severity != "info":
        return ranked[0], ranked[1:]
    return None, ranked
