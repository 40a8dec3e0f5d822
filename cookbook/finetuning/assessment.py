"""What is found out about a candidate before training, and candidates in the order of preference.

It holds, orders and prints; the questions are asked in `selection`. Chapter 06 shows it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from cookbook.finetuning.transferability import Scores
from cookbook.scaling.calculator import Memory

if TYPE_CHECKING:
    from pandas import DataFrame


@dataclass
class Assessment:
    """What is known of one candidate. Memory in bytes, time in seconds; `reasons` are sentences.

    `strategy` is empty where the candidate is refused, and then the last reason says why.
    """

    model: str
    family: str = ""
    parameters: int = 0
    unknown: float = 0.0
    pieces_per_word: float = 0.0
    scores: Scores | None = None
    strategy: str = ""
    memory: Memory | None = None
    seconds: float = 0.0
    licence: str = ""
    reasons: list[str] = field(default_factory=list)

    @property
    def refused(self) -> bool:
        """Whether it cannot be recommended at all."""
        return not self.strategy

    def refuse(self, why: str) -> Assessment:
        """Note why not, and return itself.

        >>> Assessment("m").refuse("it is too large").reasons
        ['refused: it is too large']
        """
        self.strategy = ""
        self.reasons.append(f"refused: {why}")
        return self

    def row(self) -> dict[str, Any]:
        """The findings as one row of a table."""
        score, tensors = self.scores, self.memory
        return {
            "model": self.model, "family": self.family, "unknown": self.unknown,
            "pieces a word": self.pieces_per_word, "LogME": score.logme if score else None,
            "k-NN": score.knn if score else None, "probe": score.probe if score else None,
            "strategy": self.strategy or "refused", "MB": tensors.peak / 1e6 if tensors else None,
            "minutes": self.seconds / 60 if self.strategy else None, "licence": self.licence,
        }  # fmt: skip


@dataclass
class Recommendation:
    """Candidates, the best first and the refused last; prints as text, `table` as a DataFrame.

    `baseline` is the share of the most frequent class, 0 where there are no classes.
    """

    task: str
    baseline: float
    candidates: list[Assessment]

    @property
    def best(self) -> Assessment | None:
        """The first, unless all were refused."""
        return next((found for found in self.candidates if not found.refused), None)

    def table(self) -> DataFrame:
        """One row a candidate: what was found out about it."""
        import pandas as pd

        return pd.DataFrame([found.row() for found in self.candidates]).set_index("model")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as JSON takes them."""
        return asdict(self)

    def __str__(self) -> str:
        lines = [f"task: {self.task}"]
        if self.baseline:
            lines[0] += f"; always the most frequent class is right in {self.baseline:.1%}"
        for number, found in enumerate(self.candidates, 1):
            place = " -" if found.refused else f"{number:2}"
            lines += ["", f"{place}  {found.model}", *(f"      {why}" for why in found.reasons)]
        return "\n".join(lines)


def ranked(found: Sequence[Assessment]) -> list[Assessment]:
    """By the accuracy of the probe, then what has no score, by time, then what was refused.

    Those within a standard error of the best are told so. They stay where they are: a model cut in
    half can lose nothing as a frozen reader, and much when it is fine-tuned.
    """
    scored = sorted((a for a in found if not a.refused and a.scores), key=lambda a: -a.scores.probe)
    for close in scored[1:]:
        if close.scores.probe >= scored[0].scores.probe - scored[0].scores.error:
            close.reasons.append(f"within the noise of {scored[0].model}")
    unscored = sorted((a for a in found if not a.refused and not a.scores), key=lambda a: a.seconds)
    return [*scored, *unscored, *(a for a in found if a.refused)]
