"""Does a generating model learn to stop? T1 no EOS among the labels, T4 truncation took the target.

Only where answers are taught: prompts without labels, or a decoder's targets. Rows of plain
language modelling need no EOS; but an EOS that is read and never has a label is always a fault.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from cookbook.doctor import row_keys, tokens
from cookbook.doctor.checks import Skip
from cookbook.doctor.findings import Finding

IGNORE = tokens.IGNORE
ENOUGH = 8  # rows that are not truncated
AT_MOST, LOST, ENDS_LOST = 0.1, 0.25, 0.5  # rows at the limit; target tokens lost; ends lost
CUT = 0.4  # share of a decoder's targets that are as long as the longest
SMALL, MOST = 128, 0.5  # tokens of a limit that nobody chose; share of the texts that it cuts
ANSWERS = ("completion", "answer", "response", "output", "target", "summary", "translation")


@dataclass(frozen=True)
class Row:
    """One row: token `ids` that are attended to, `targets` that have a label, and what is known."""

    ids: list[int]
    targets: list[int]
    asks: bool  # it begins with a prompt that has no label
    masked: bool  # an attention mask says what is padding
    raw: Any

    @property
    def length(self) -> int:
        """Tokens that a limit would count."""
        return len(self.ids)


def check_end_is_learnt(subject: Any) -> Iterable[Finding]:
    """T1: the share of rows whose labels hold an end token is 0."""
    rows, ends = _rows(subject), tokens.end_ids(subject)
    if not ends:
        raise Skip("neither tokenizer nor model has an end token")
    if any(ends.intersection(row.targets) for row in rows):
        yield from _never_generated(subject, rows)
        return
    read = [row for row in rows if row.masked and ends.intersection(row.ids[1:])]
    last = [row for row in read if row.ids[-1] in ends]
    if len(rows) >= ENOUGH and len(read) >= len(rows) / 2 and (len(last) >= len(read) / 2 or not
                                                              _teaches(rows)):  # fmt: skip
        yield _end(f"{len(read):,} of {len(rows):,} rows contain an end token that is attended to, "
                   f"and in none of them it has a label (bound: some)",
                   "give padding a token of its own, or set labels to -100 by the attention mask",
                   rows)  # fmt: skip
        return
    longest = max(row.length for row in rows)
    whole = [row for row in rows if row.length < longest]
    if len(whole) < ENOUGH:
        raise Skip("does not apply")  # rows of equal length: packed, or made to measure
    short = sum(len(row.targets) <= 2 for row in whole) > 0.9 * len(whole)
    taught = _teaches(whole) and not short
    yield _end(f"none of {len(whole):,} whole rows has an end token among its labels (bound: some)",
               "append EOS to every answer", whole, "error" if taught else "info")  # fmt: skip


def _never_generated(subject: Any, rows: list[Row]) -> Iterable[Finding]:
    """Ends are taught, and generation waits for another one."""
    held = getattr(getattr(subject.bare, "generation_config", None), "eos_token_id", None)
    waits = {i for i in (held if isinstance(held, list | tuple) else [held]) if isinstance(i, int)}
    if waits and len(rows) >= ENOUGH and not any(waits.intersection(row.targets) for row in rows):
        yield _end(
            f"generation_config ends at {sorted(waits)}, which is the label of none of "
            f"{len(rows):,} rows, though these have another end (bound: some)",
            "set model.generation_config.eos_token_id to the token that ends the targets", rows,
        )  # fmt: skip


def _end(evidence: str, remedy: str, rows: list[Row], severity: str = "error") -> Finding:
    return Finding("T1", severity, evidence, remedy, {"rows": len(rows), "rows_with_end": 0})


def _teaches(rows: list[Row]) -> bool:
    """Whether these rows are questions with answers, not plain text."""
    return sum(row.asks for row in rows) >= len(rows) / 2


def _rows(subject: Any) -> list[Row]:
    if subject.kind not in ("causal-lm", "seq2seq"):
        raise Skip("does not apply")
    found = [t for t in tokens.batches_of(subject) if t.labels is not None and t.labels.dim() == 2]
    if subject.kind == "causal-lm":
        rows = [row for t in found if t.aligned for row in _causal(t)]
    else:
        pad = _decoder_pad(subject)
        rows = [row for t in found for row in _decoder(t, pad)]
        if _fills_gaps(subject, rows):
            raise Skip("does not apply")
    if not rows:
        raise Skip("does not apply")
    return rows


def _causal(t: tokens.Tokens) -> Iterable[Row]:
    seen = t.attended & ~t.padding if t.mask is None else t.mask
    for i in range(len(t.ids)):
        ids, labels = t.ids[i][seen[i]].tolist(), t.labels[i][seen[i]].tolist()
        if len(ids) < 2:
            continue
        labels[0] = IGNORE  # nothing stands before it that could predict it
        kept = [label for label in labels if label != IGNORE]
        asks = labels[1] == IGNORE and bool(kept)
        raw = t.raw[i] if len(t.raw) == len(t.ids) else None
        yield Row(ids, kept, asks, t.mask is not None, raw)


def _decoder(t: tokens.Tokens, pad: int | None) -> Iterable[Row]:
    for i, labels in enumerate(t.labels.tolist()):
        kept = [label for label in labels if label != IGNORE]
        while len(kept) > 1 and kept[-1] == pad and kept[-2] == pad:
            kept.pop()
        if kept and kept[-1] == pad:
            kept.pop()
        raw = t.raw[i] if len(t.raw) == len(t.ids) else None
        yield Row(kept, kept, True, False, raw)


def _decoder_pad(subject: Any) -> int | None:
    """The padding id of targets, unless it also ends them."""
    pad, _ = tokens.padding_ids(subject.tokenizer)
    pad = getattr(subject.config, "pad_token_id", None) if pad is None else pad
    return None if pad in tokens.end_ids(subject) else pad


def _fills_gaps(subject: Any, rows: list[Row]) -> bool:
    """Span denoising: its targets name the gaps with sentinels, and may do without an end."""
    names = getattr(subject.tokenizer, "get_vocab", dict)()
    sentinels = {i for name, i in names.items() if name.startswith("<extra_id_")}
    return sum(bool(sentinels.intersection(row.targets)) for row in rows) > len(rows) / 2


def check_truncation_spares_the_target(subject: Any) -> Iterable[Finding]:
    """T4: rows pile up at the limit, and there they lack their end or much of their answer."""
    rows, ends = _rows(subject), tokens.end_ids(subject)
    longest = max(row.length for row in rows)
    full = [row for row in rows if row.length == longest]
    whole = [row for row in rows if row.length < longest]
    if not longest or len(full) <= AT_MOST * len(rows) or len(full) < 5:
        return
    if not _teaches(rows):
        yield from _cut_by_the_tokenizer(subject, rows, longest)
        return
    ended, cut = _ended(whole, ends), 1 - _ended(full, ends)
    if subject.kind == "seq2seq" and len(full) > CUT * len(rows) and len(whole) >= 2:
        yield Finding(
            "T4", "warn",
            f"{len(full) / len(rows):.0%} of the targets are {longest} tokens long, none is longer "
            f"(bound: {CUT:.0%}): the tokenizer cuts before it adds the end",
            "raise max_length of the targets",
            {"at_limit": len(full) / len(rows), "limit": longest},
        )  # fmt: skip
        return
    lost = _tokens_lost(subject, full)
    if (ended > 0.5 and cut > ENDS_LOST) or lost > LOST:
        what = (f"{cut:.0%} of them without the end token that {ended:.0%} of the shorter ones "
                f"have (bound: {ENDS_LOST:.0%})")  # fmt: skip
        if lost > LOST:
            what = f"with {lost:.0%} of their answer's tokens cut off (bound: {LOST:.0%})"
        yield Finding(
            "T4", "warn",
            f"{len(full) / len(rows):.0%} of the rows are {longest} tokens long, {what}",
            measured={"at_limit": len(full) / len(rows), "limit": longest, "ends_lost": cut,
                      "tokens_lost": lost},
        )  # fmt: skip


def _cut_by_the_tokenizer(subject: Any, rows: list[Row], longest: int) -> Iterable[Finding]:
    """T4 in plain texts: most are cut at a small limit that is the tokenizer's, not the model's."""
    limit = getattr(subject.tokenizer, "model_max_length", None)
    room = getattr(subject.config, "max_position_embeddings", 0) or 0
    at_limit = sum(row.length == longest for row in rows) / len(rows)
    if limit != longest or limit > SMALL or room < 2 * limit or at_limit <= MOST:
        return
    read, kept = 0, 0
    for row in rows[:64]:
        text = row_keys.text_of(row.raw) if isinstance(row.raw, Mapping) else None
        whole = subject.tokenizer(text, truncation=False)["input_ids"] if text else []
        same = min(len(whole), row.length) - 1
        if same < 1 or whole[:same] != row.ids[:same]:
            return  # no row is one text: blocks of a stream, or another format
        read, kept = read + len(whole), kept + min(row.length, len(whole))
    lost = 1 - kept / read
    if lost > LOST:
        yield Finding(
            "T4", "warn",
            f"{at_limit:.0%} of the rows are {limit} tokens long, which is the tokenizer's "
            f"model_max_length; {lost:.0%} of the texts' tokens are cut off (bound: {LOST:.0%}), "
            f"and the model has {room} positions",
            "pass max_length, or set tokenizer.model_max_length to what the model takes",
            {"at_limit": at_limit, "limit": limit, "tokens_lost": lost, "positions": room},
        )  # fmt: skip


def _ended(rows: list[Row], ends: set[int]) -> float:
    """The share of rows whose last label is an end."""
    ended = sum(bool(row.targets) and row.targets[-1] in ends for row in rows)
    return ended / max(1, len(rows))


def _tokens_lost(subject: Any, rows: list[Row]) -> float:
    """Of the answers that stand as text beside the ids: the share of tokens without a label."""
    wanted, kept = 0, 0
    for row in rows[:64]:
        text = _answer(row.raw)
        if text and subject.tokenizer is not None:
            whole = subject.tokenizer(text, add_special_tokens=False)["input_ids"]
            wanted, kept = wanted + len(whole), kept + min(len(row.targets), len(whole))
    return 1 - kept / wanted if wanted else 0.0


def _answer(raw: Any) -> str | None:
    if not isinstance(raw, Mapping):
        return None
    return next((raw[name] for name in ANSWERS if isinstance(raw.get(name), str)), None)


CHECKS = (check_end_is_learnt, check_truncation_spares_the_target)
