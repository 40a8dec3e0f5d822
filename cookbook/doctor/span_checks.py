"""Answers as spans of a text: D8, M4, T4 where the positions contradict their own row.

A span is a first and a last token, `start_positions` and `end_positions`; both at the row's
beginning mean that it has no answer. Positions beyond the row are ignored by the loss without a
word; an end before its start, a span in the question or on a separator, or one whose tokens are
not the answer that stands in the row was counted in other units, or belongs elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from cookbook.doctor import row_keys
from cookbook.doctor.checks import Skip
from cookbook.doctor.findings import Finding

FEWEST = 16  # rows with a span
WRONG = 0.02  # share of them that may be wrong
OTHER = 0.5  # share of the spans that do not read as their row's answer
CUT, LOST = 0.3, 0.5  # share of all rows that are cut and lost their answer; of the cut ones
TOLD = 0.15  # share of all rows that are cut, tell their answer in words, and point at none
SPARED = 0.2  # the share of rows without an answer, by that of cut rows, among those that were not


@dataclass(frozen=True)
class Span:
    """A row's ids, its real length, the token types it has or None, the span, and the row."""

    ids: np.ndarray
    length: int
    types: np.ndarray | None
    start: int
    end: int
    row: Mapping[str, Any]

    @property
    def answered(self) -> bool:
        """Whether the span is an answer, not the place that says there is none."""
        return self.start > 0 or self.end > 0

    @property
    def fits(self) -> bool:
        """Whether both ends are tokens of the row."""
        return min(self.start, self.end) >= 0 and max(self.start, self.end) < self.length


def check_spans_are_of_their_rows(subject: Any) -> Iterable[Finding]:
    """M4: a position beyond the row. D8: an end before its start, in the question, another text."""
    spans = read(subject.train.rows)
    answered = [s for s in spans if s.answered]
    if len(answered) < FEWEST:
        raise Skip("does not apply")
    outside = [s for s in answered if not s.fits]
    if len(outside) > WRONG * len(answered):
        one = outside[0]
        yield Finding(
            "M4", "error",
            f"{len(outside)} of {len(answered)} spans end beyond their row, the first at "
            f"{max(one.start, one.end)} of {one.length} tokens (bound: {WRONG:.0%}): the loss "
            "ignores them", "count positions in tokens of the encoded row, not in characters or "
            "words", {"outside": len(outside), "spans": len(answered)},
        )  # fmt: skip
        return
    inside = [s for s in answered if s.fits]
    for wrong, told in _contradictions(inside, subject.tokenizer):
        if wrong > told[1] * len(inside):
            yield Finding(
                "D8", "error",
                f"{wrong} of {len(inside)} spans {told[0]} (bound: {told[1]:.0%})",
                "find the tokens by the offsets of the encoded pair, and look at decoded spans",
                {"wrong": wrong, "spans": len(inside)},
            )  # fmt: skip
            return


def _contradictions(spans: list[Span], tokenizer: Any) -> Iterable[tuple[int, tuple[str, float]]]:
    """Number of spans that are wrong, and (how, the share that may be)."""
    yield sum(s.end < s.start for s in spans), ("end before they start", WRONG)
    special = set(getattr(tokenizer, "all_special_ids", None) or ())
    on_special = sum(int(s.ids[s.start]) in special or int(s.ids[s.end]) in special for s in spans)
    yield on_special, ("begin or end on a special token", WRONG)
    typed = [s for s in spans if s.types is not None and s.types[: s.length].max() > 0]
    if len(typed) == len(spans):
        sides = [s.types[s.start] for s in spans]
        minority = min(sides.count(0), len(sides) - sides.count(0))
        across = sum(s.types[s.start] != s.types[s.end] for s in spans)
        yield across, ("begin in one text and end in the other", WRONG)
        yield minority, ("lie in the question, the others in the text", WRONG)
    told = [(s, _answers(s.row)) for s in spans]
    told = [(s, answers) for s, answers in told if answers]
    if len(told) > 0.9 * len(spans) and hasattr(tokenizer, "decode"):
        other = sum(not _reads(s, answers, tokenizer) for s, answers in told)
        yield other, ("do not read as the answer that their row holds", OTHER)


def _answers(row: Mapping[str, Any]) -> list[str]:
    """The texts of a row's answers, wherever they stand."""
    for name in ("answers", "answer", "answer_text"):
        held = row.get(name)
        held = held.get("text") if isinstance(held, Mapping) else held
        texts = [held] if isinstance(held, str) else held if isinstance(held, list) else []
        found = [t for t in texts if isinstance(t, str) and t.strip()]
        if found:
            return found
    return []


def _reads(span: Span, answers: list[str], tokenizer: Any) -> bool:
    """Whether the span's tokens read as one of the answers; case, spaces and accents aside."""

    def bare(text: str) -> str:
        return "".join(c for c in text.casefold() if c.isalnum()) or text.strip()

    said = bare(tokenizer.decode(span.ids[span.start : span.end + 1].tolist()))
    return any(bare(a) in said or said in bare(a) for a in answers) if said else False


def check_answers_survive(subject: Any) -> Iterable[Finding]:
    """T4: rows that are cut have no answer any more, rows that are not have one."""
    spans = read(subject.train.rows)
    widest = max((s.length for s in spans), default=0)
    cut = [s for s in spans if s.length == widest]
    whole = [s for s in spans if s.length < widest]
    if len(spans) < FEWEST or len(cut) < FEWEST:
        raise Skip("does not apply")
    lost = sum(not s.answered for s in cut)
    without = sum(not s.answered for s in whole) / max(1, len(whole))
    share = lost / len(cut)
    if share > LOST and lost > CUT * len(spans) and without < SPARED * share:
        yield Finding(
            "T4", "warn",
            f"{lost} of {len(cut)} rows that are cut at {widest} tokens have no answer any more "
            f"(bound: {LOST:.0%}), {without:.0%} of the others",
            "cut long texts into windows with a stride, or allow more tokens",
            {"lost": lost, "cut": len(cut)},
        )  # fmt: skip


def check_told_answers_are_pointed_at(subject: Any) -> Iterable[Finding]:
    """T4: cut rows that keep their answer's text and point at none; nor does another window."""
    spans = read(subject.train.rows)
    if len(spans) < FEWEST or subject.train.total != len(spans):  # windows may not have been read
        raise Skip("does not apply")
    widest, texts = max(s.length for s in spans), [row_keys.text_of(s.row) or "" for s in spans]
    pointed = {text for s, text in zip(spans, texts, strict=True) if s.answered}
    lost = sum(
        text not in pointed and s.length == widest and any(a in text for a in _answers(s.row))
        for s, text in zip(spans, texts, strict=True)
    )
    if lost > TOLD * len(spans):
        yield Finding(
            "T4", "warn",
            f"{lost} of {len(spans)} rows are cut at {widest} tokens, have an answer in their text "
            f"and point at none (bound: {TOLD:.0%})",
            "cut long texts into windows with a stride, or allow more tokens",
            {"lost": lost, "spans": len(spans)},
        )  # fmt: skip


def read(rows: list[Any]) -> list[Span]:
    """The spans of the rows that have one token for each end; [] where there are none."""
    found = []
    for row in rows:
        held = row if isinstance(row, Mapping) else {}
        if any(name not in held for name in ("input_ids", "start_positions", "end_positions")):
            return []
        start, end = np.asarray(held["start_positions"]), np.asarray(held["end_positions"])
        ids = np.asarray(held["input_ids"]).reshape(-1)
        if start.size != 1 or end.size != 1 or not ids.size:
            return []
        mask, types = held.get("attention_mask"), held.get("token_type_ids")
        length = (
            len(ids) if mask is None else int(np.flatnonzero(np.asarray(mask)).max(initial=0)) + 1
        )
        types = None if types is None else np.asarray(types).reshape(-1)
        found.append(Span(ids, length, types, int(start.item()), int(end.item()), held))
    return found


CHECKS = (
    check_spans_are_of_their_rows, check_answers_survive, check_told_answers_are_pointed_at
)  # fmt: skip
