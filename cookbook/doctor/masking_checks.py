"""T13: is the masking of a masked LM right? How many labels, on what, and is the answer hidden?

What share should be masked says the collator's own attribute; without one a wide band is allowed.
Labels on padding are `label_checks`' T2.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch

from cookbook.doctor import tokens
from cookbook.doctor.checks import Skip
from cookbook.doctor.findings import Finding

IGNORE = tokens.IGNORE
PROBABILITIES = ("mlm_probability", "probability", "mask_probability", "masking_probability",
                 "mlm_prob", "mask_prob")  # fmt: skip
OFF, BAND, MOST = 0.3, (0.05, 0.45), 0.6  # from the stated share; without one; and at most
ENOUGH, ALL, SHOWN = 2000, 0.9, 0.9  # tokens; share labelled; labelled inputs that are unchanged
PIECES = 3  # tokens a word, where whole words are masked
FEW = 12  # labels that tell whether the mask token stands in for them
SPECIAL = 0.05  # share of [CLS], [SEP] … with a label
VARIES = 0.2  # standard deviation of the rows' shares where the rate itself is drawn


@dataclass(frozen=True)
class Masking:
    """What was counted over all batches; one number a row in `ordinary` and `labelled`."""

    ordinary: torch.Tensor
    labelled: torch.Tensor
    inputs: torch.Tensor  # at the labelled positions
    labels: torch.Tensor
    specials: int
    specials_labelled: int

    @property
    def share(self) -> float:
        """Labelled of all ordinary tokens."""
        return float(self.labelled.sum() / self.ordinary.sum().clamp(min=1))

    @property
    def unchanged(self) -> float:
        """Labelled positions whose input is the answer."""
        return float((self.inputs == self.labels).float().mean())


def check_masking(subject: Any) -> Iterable[Finding]:
    """T13: the first thing that is wrong with the masks of a masked LM."""
    if not _masked(subject):
        raise Skip("does not apply")
    found = [t for t in tokens.batches_of(subject) if t.aligned]
    if not found:
        raise Skip("does not apply")
    masking, stated = _count(subject, found), _stated(subject)
    if not len(masking.labels) or int(masking.labels.max()) > 1:  # 0 and 1: a discriminator
        first = (_none, _everything, _shown, _rows_without, _share, _specials)
        findings = (look(masking, subject, stated) for look in first)
        yield from [f for f in findings if f is not None][:1]


def _masked(subject: Any) -> bool:
    collator = subject.train.collator
    says = getattr(collator, "mlm", False) or getattr(collator, "mlm_probability", None)
    return subject.kind == "masked-lm" or bool(
        subject.kind == "other" and says and getattr(subject.tokenizer, "mask_token_id", None)
    )


def _stated(subject: Any) -> float | None:
    """The share that the collator says it masks."""
    return _says([subject.train.collator])


def _called(subject: Any) -> float | None:
    """The share that a collator inside says: in a closure, a partial, or an attribute."""
    collator = subject.train.collator
    cells = (cell.cell_contents for cell in getattr(collator, "__closure__", None) or ())
    inside = [*cells, getattr(collator, "func", None), *getattr(collator, "__dict__", {}).values()]
    return _says([found for found in inside if callable(found) and not isinstance(found, type)])


def _says(collators: list[Any]) -> float | None:
    values = (getattr(found, name, None) for found in collators for name in PROBABILITIES)
    return next((v for v in values if isinstance(v, float) and 0 < v <= 1), None)


def _count(subject: Any, found: list[tokens.Tokens]) -> Masking:
    special = tokens.special_ids(subject.tokenizer, ("cls", "sep", "bos", "eos"))
    pad = tokens.special_ids(subject.tokenizer, ("pad",))
    parts = []
    for t in found:
        has_label = t.labels != IGNORE
        original = torch.where(has_label, t.labels, t.ids)
        seen = t.attended & ~t.padding
        is_special = tokens.isin(original, special) & seen
        ordinary = seen & ~tokens.isin(original, [*special, *pad])
        labelled = ordinary & has_label
        parts.append((
            ordinary.sum(1), labelled.sum(1), t.ids[labelled], t.labels[labelled],
            is_special.sum()[None], (is_special & has_label).sum()[None],
        ))  # fmt: skip
    joined = [torch.cat(part) for part in zip(*parts, strict=True)]
    return Masking(*joined[:4], *(int(part.sum()) for part in joined[4:]))


def _wrong(severity: str, evidence: str, masking: Masking) -> Finding:
    return Finding("T13", severity, evidence, measured={
        "share": masking.share, "tokens": int(masking.ordinary.sum()),
    })  # fmt: skip


def _none(masking: Masking, subject: Any, stated: float | None) -> Finding | None:
    if masking.labelled.sum() or masking.ordinary.sum() < 100:
        return None
    count = int(masking.ordinary.sum())
    return _wrong("error", f"none of {count:,} tokens has a label (bound: some)", masking)


def _everything(masking: Masking, subject: Any, stated: float | None) -> Finding | None:
    if masking.share < ALL:
        return None
    evidence = (
        f"{masking.share:.0%} of the ordinary tokens have a label, and {masking.unchanged:.0%} of "
        f"these stand unmasked in the input: copying them is enough (bound: {MOST:.0%} labelled)"
    )
    return _wrong("error", evidence, masking)


def _shown(masking: Masking, subject: Any, stated: float | None) -> Finding | None:
    """Labelled positions must mostly hold the mask token."""
    if len(masking.labels) < FEW or getattr(subject.train.collator, "mask_replace_prob", 1) == 0:
        return None
    mask = getattr(subject.tokenizer, "mask_token_id", None)
    masked = 0.0 if mask is None else float((masking.inputs == mask).float().mean())
    if masked >= 0.1:
        return None
    if masking.unchanged >= SHOWN:
        evidence = (
            f"{masking.unchanged:.0%} of the labelled tokens stand unmasked in the input: the "
            "answer is shown (usual: 10 %)"
        )
        return _wrong("error", evidence, masking)
    token, count = torch.unique(masking.inputs, return_counts=True)
    if mask is None or count.max() < 0.3 * len(masking.inputs):
        return None
    used = subject.tokenizer.convert_ids_to_tokens(int(token[count.argmax()]))
    evidence = (
        f"{masked:.0%} of the labelled tokens are masked with {subject.tokenizer.mask_token}, but "
        f"{count.max().item() / len(masking.inputs):.0%} with {used}"
    )
    return _wrong("error", evidence, masking)


def _rows_without(masking: Masking, subject: Any, stated: float | None) -> Finding | None:
    """More rows without a label than chance leaves, also where words are masked whole."""
    if stated is None and _other_task(masking):
        return None
    rate, rows = min(stated or masking.share, 0.99), len(masking.ordinary)
    chance = (1 - rate) ** (masking.ordinary.float() / PIECES)
    by_chance, without = float(chance.sum()), int((masking.labelled == 0).sum())
    if without < 2 * by_chance + 5 * by_chance**0.5 + max(2, 0.01 * rows):
        return None
    evidence = (
        f"{without:,} of {rows:,} rows have no mask, where chance leaves at most {by_chance:.0f}"
    )
    return _wrong("error", evidence, masking)


def _share(masking: Masking, subject: Any, stated: float | None) -> Finding | None:
    """The labelled share, where enough tokens were seen and the rate is one rate."""
    if masking.ordinary.sum() < ENOUGH or (stated is None and _other_task(masking)):
        return None
    told = _called(subject) if stated is None else stated
    low, high = BAND if told is None else (told * (1 - OFF), min(MOST, told * (1 + OFF)))
    if stated is None:
        low, high = max(low, BAND[0]), min(high, BAND[1])
    if low <= masking.share <= high:
        return None
    said = "" if told is None else f", the collator says {told:.0%}"
    bounds = f"bounds: {low:.0%} to {high:.0%}" if low < high else f"bound: {high:.0%}"
    evidence = f"{masking.share:.1%} of the ordinary tokens have a label{said} ({bounds})"
    return _wrong("warn", evidence, masking)


def _other_task(masking: Masking) -> bool:
    """One or two blanks in every row (a cloze), or a rate that is drawn anew for each row."""
    rows = masking.ordinary > 0
    shares = masking.labelled[rows] / masking.ordinary[rows]
    cloze = 1 <= int(masking.labelled[rows].min()) and int(masking.labelled[rows].max()) <= 2
    return cloze or (float(shares.std()) > VARIES and float(masking.ordinary.float().mean()) > 16)


def _specials(masking: Masking, subject: Any, stated: float | None) -> Finding | None:
    share = masking.specials_labelled / max(1, masking.specials)
    if masking.specials_labelled < 5 or share < SPECIAL:
        return None
    evidence = (
        f"{share:.0%} of the special tokens ([CLS], [SEP] and the like) have a label (bound: none)"
    )
    return _wrong("warn", evidence, masking)


CHECKS = (check_masking,)
