"""The catalogue of faults: how each is called, what a reader sees, how it is mended.

An entry describes; it detects nothing. IDs are those of the specification, with `C1` for the
collapse of a contrastive run. Chapter 13 prints the catalogue, `cookbook doctor --explain ID` one
entry.
"""

from __future__ import annotations

from dataclasses import dataclass

from cookbook.doctor import catalogue_data, catalogue_model, catalogue_run

PHASES = {"s": "static", "d": "data pass", "p": "probe", "o": "online", "e": "afterwards"}
TIERS = {"A": "an invariant is contradicted", "B": "a statistical sign", "C": "advice"}


@dataclass(frozen=True)
class Fault:
    """One way in which a run goes wrong without crashing.

    `phases` are letters of `PHASES`, `tier` one of `TIERS`. `section` is "notebook.ipynb#anchor"
    where a chapter reproduces it, `source` a report or paper that describes it. `built` is False
    for a fault that is described but that the doctor does not detect yet.
    """

    id: str
    title: str
    symptom: str
    signal: str
    remedy: str
    phases: str
    tier: str
    section: str = ""
    source: str = ""
    built: bool = True

    @property
    def link(self) -> str:
        """Where to read on: the reproducing section, else this catalogue's entry."""
        return self.section or f"13_when_training_goes_wrong.ipynb#{self.id}"

    def explain(self) -> str:
        """The entry as text, for a terminal."""
        when = ", ".join(PHASES[phase] for phase in self.phases)
        lines = [
            f"{self.id} · {self.title}", f"  symptom  {self.symptom}", f"  signal   {self.signal}",
            f"  remedy   {self.remedy}", f"  when     {when} · {TIERS[self.tier]}",
            f"  more     {self.link}",
        ]  # fmt: skip
        if not self.built:
            lines.append("  so far   neither examine nor Doctor nor Watch looks for it")
        return "\n".join(lines + ([f"  source   {self.source}"] if self.source else []))


FAULTS: dict[str, Fault] = {
    entry["id"]: Fault(**entry)
    for entry in (*catalogue_data.FAULTS, *catalogue_model.FAULTS, *catalogue_run.FAULTS)
}
