"""What collation does to a row: T10 a mask that does not hide padding, T7 how a row begins, E2 rows
that an evaluation's collator leaves out.

Masks of masked LMs are checked in `masking_checks`, ends of answers in `ending_checks`; whether
the model heeds its attention mask is asked by a probe, not here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch

from cookbook.doctor import kinds, responses, tokens, trial
from cookbook.doctor.checks import Skip
from cookbook.doctor.findings import Finding

ROWS, SHARE = 2, 0.05  # rows with visible padding, and their share, from which on it is no accident
BEGINNINGS = 0.5  # share of rows
LOST = 0.01  # share of evaluation rows from which on their loss is an error


# -- T10 -----------------------------------------------------------------------------------------


def check_mask_hides_padding(subject: Any) -> Iterable[Finding]:
    """T10, as far as the data show it: padding that the mask lets through, or no mask at all."""
    if subject.model is not None and "attention_mask" not in kinds.accepts(subject.bare)[0]:
        raise Skip("does not apply")
    found = [t for t in tokens.batches_of(subject) if not _flattened(t)]
    if not found:
        raise Skip("does not apply")
    padding = [_certain(subject, t) for t in found]
    seen = [p & t.mask for p, t in zip(padding, found, strict=True) if t.mask is not None]
    rows = sum(int(s.any(1).sum()) for s in seen)
    if rows >= max(ROWS, SHARE * sum(map(len, seen))):
        # Behind a causal mask nothing sees the padding at a row's end.
        severity = "warn" if decoder_only(subject) and not _left(seen) else "error"
        yield _visible(rows, sum(map(len, seen)), severity, "a mask of ones on its padding")
    bare = [
        p for p, t in zip(padding, found, strict=True) if "attention_mask" not in t.batch
    ]  # fmt: skip
    rows = sum(int(p.any(1).sum()) for p in bare)
    if rows >= max(ROWS, SHARE * sum(map(len, bare))) and subject.model is not None:
        harmless = decoder_only(subject) and not _left(bare)
        severity = "info" if harmless or trial.own_loss(subject) and not _shipped(subject) else \
            "error"  # fmt: skip
        yield _visible(rows, sum(map(len, bare)), severity, "padding and no attention mask")


def _visible(rows: int, count: int, severity: str, what: str) -> Finding:
    return Finding(
        "T10", severity, f"{rows:,} of {count:,} rows have {what} (bound: none)",
        measured={"rows_padded_visibly": rows, "rows": count},
    )  # fmt: skip


def _certain(subject: Any, t: tokens.Tokens) -> torch.Tensor:
    """Padding beyond doubt: added by the collator, or runs of an id that means nothing else."""
    pad, shared = tokens.padding_ids(subject.tokenizer)
    runs = tokens.ends(t.ids, None if shared else pad)
    return (tokens.added(t.raw, t.ids) | runs) & ~runs.all(1, keepdim=True)


def _flattened(t: tokens.Tokens) -> bool:
    """Several rows in one, told apart by position ids: nothing is padded."""
    return len(t.ids) == 1 and "position_ids" in t.batch


def _left(padding: list[torch.Tensor]) -> bool:
    return any(bool(p[:, 0].any()) for p in padding)


def _shipped(subject: Any) -> bool:
    return type(kinds.base_of(subject.bare)).__module__.startswith("transformers.")


def decoder_only(subject: Any) -> bool:
    """Whether every token sees only those before it: a family that has no masked LM."""
    if subject.kind == "causal-lm":
        return True
    from transformers.models.auto import modeling_auto

    family = getattr(subject.config, "model_type", None)
    causal = family in modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    masked = family in modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES
    both = family in modeling_auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES
    return causal and not masked and not both


# -- T7 ------------------------------------------------------------------------------------------


def check_rows_begin_once(subject: Any) -> Iterable[Finding]:
    """T7: rows that begin with two BOS, or lack the one that the tokenizer itself puts there."""
    if subject.tokenizer is None:
        raise Skip("does not apply")
    _, shared = tokens.padding_ids(subject.tokenizer)
    found = [t for t in tokens.batches_of(subject) if t.mask is not None or not shared]
    starts = [start for t in found for start in _starts(t)]
    if len(starts) < ROWS:
        raise Skip("does not apply")
    opening = _opening(subject.tokenizer)
    begins = {*tokens.special_ids(subject.tokenizer, ("bos", "cls")), opening} - {None}
    twice = sum(a == b and a in begins for a, b in starts) / len(starts)
    if twice > BEGINNINGS:
        token = subject.tokenizer.convert_ids_to_tokens(next(a for a, b in starts if a == b))
        yield Finding(
            "T7", "error",
            f"{twice:.0%} of {len(starts):,} rows begin with {token} twice (bound: "
            f"{BEGINNINGS:.0%})",
            measured={"share": twice, "rows": len(starts)},
        )  # fmt: skip
    elif again := list(_answers_that_begin(subject, found)):
        yield from again
    elif again := list(_targets_that_begin_twice(subject, begins)):
        yield from again
    elif opening is not None and subject.kind in ("causal-lm", "classifier", "seq2seq"):
        yield from _missing(subject, found, opening, len(starts))


def _answers_that_begin(subject: Any, found: list[tokens.Tokens]) -> Iterable[Finding]:
    """T7: a second BOS where the answer begins, with no end before it: no new text starts there."""
    bos, ends = getattr(subject.tokenizer, "bos_token_id", None), tokens.end_ids(subject)
    if subject.kind != "causal-lm" or bos is None or bos in ends:
        return
    rows = [row for t in found if t.aligned for row in _asked(t)]
    again = sum(_again(ids, first, bos, ends) for ids, first in rows)
    if len(rows) >= ROWS and again > BEGINNINGS * len(rows):
        token = subject.tokenizer.convert_ids_to_tokens(bos)
        yield Finding(
            "T7", "warn",
            f"{again / len(rows):.0%} of {len(rows):,} rows have {token} at their beginning and "
            f"again where the answer begins (bound: {BEGINNINGS:.0%})",
            "encode the answer with add_special_tokens=False",
            {"share": again / len(rows), "rows": len(rows)},
        )  # fmt: skip


def _targets_that_begin_twice(subject: Any, begins: set[int]) -> Iterable[Finding]:
    """T7: a decoder that reads two of them, as its start and in the labels, or twice in these."""
    if subject.kind != "seq2seq":
        return
    twice = [row for t in tokens.batches_of(subject) for row in _begun_twice(subject, t, begins)]
    share = sum(twice) / max(1, len(twice))
    if len(twice) >= ROWS and share > BEGINNINGS:
        yield Finding(
            "T7", "warn",
            f"{share:.0%} of {len(twice):,} targets begin for the decoder with the same special "
            f"token twice (bound: {BEGINNINGS:.0%}): its start, and one of the labels, or two of "
            "these",
            "keep decoder_start_token_id as it was trained, and let the tokenizer alone add tokens",
            {"share": share, "rows": len(twice)},
        )  # fmt: skip


def _begun_twice(subject: Any, t: tokens.Tokens, begins: set[int]) -> list[bool]:
    """Of each row, whether its decoder's input or its labels begin with one of these twice."""
    made = t.batch
    if "decoder_input_ids" not in t.batch:
        made = responses.decoder_inputs(subject, t.batch)
    found = torch.zeros(len(t.ids), dtype=torch.bool)
    for held in (made.get("decoder_input_ids"), t.labels):
        if isinstance(held, torch.Tensor) and held.dim() == 2 and held.shape[1] > 1:
            found |= (held[:, 0] == held[:, 1]) & tokens.isin(held[:, 0], begins)
    return found.tolist()


def _asked(t: tokens.Tokens) -> Iterable[tuple[list[int], int]]:
    """Ids, and the place of the first label, of each row that begins with a prompt."""
    for ids, labels, seen in zip(t.ids, t.labels, t.attended & ~t.padding, strict=True):
        has = (labels[seen] != tokens.IGNORE).tolist()
        if len(has) > 1 and True in has[1:] and not has[1]:
            yield ids[seen].tolist(), has.index(True, 1)


def _again(ids: list[int], first: int, bos: int, ends: set[int]) -> bool:
    """Whether a row that begins with BOS has it again where its labels begin, or just before."""
    places = [place for place in (first, first - 1) if place > 1 and ids[place] == bos]
    return ids[0] == bos and any(ids[place - 1] not in {*ends, bos} for place in places)


def _starts(t: tokens.Tokens) -> Iterable[tuple[int, int]]:
    """The first two tokens that are attended to, of each row."""
    for ids, seen in zip(t.ids, t.attended & ~t.padding, strict=True):
        first = ids[seen][:2].tolist()
        if len(first) == 2:
            yield first[0], first[1]


def _opening(tokenizer: Any) -> int | None:
    """The special token that the tokenizer puts before a text; None if it puts none."""
    ids = tokenizer("a")["input_ids"]
    return ids[0] if len(ids) > 1 and ids[0] in tokenizer.all_special_ids else None


def _missing(subject: Any, found: list[tokens.Tokens], opening: int,
             rows: int) -> Iterable[Finding]:  # fmt: skip
    """No row has it anywhere, and rows differ in length: they are texts, not a cut stream."""
    lengths = {int(n) for t in found for n in (t.attended & ~t.padding).sum(1)}
    if len(lengths) < 3 or any(bool((t.ids == opening).any()) for t in found):
        return
    yield Finding(
        "T7", "warn",
        f"none of {rows:,} rows begins with {subject.tokenizer.convert_ids_to_tokens(opening)}, "
        "which the tokenizer puts before every text (bound: half of them)",
        "encode with add_special_tokens=True, or let the template add it",
        measured={"share": 0.0, "rows": rows},
    )  # fmt: skip


# -- E2 ------------------------------------------------------------------------------------------


def check_evaluation_keeps_its_rows(subject: Any) -> Iterable[Finding]:
    """E2: batches of evaluation hold fewer rows than were given, and some are in none of them.

    Only where each row of a batch is one of the given rows: what packs, flattens or splits rows
    makes others of them. A row without a label has nothing to score.
    """
    if subject.eval_dataset is None or subject.kind == "contrastive":
        raise Skip("does not apply")
    given = lost = 0
    names = getattr(subject.args, "label_names", None)
    for raw, batch in subject.eval.many:
        left = _left_out(raw, batch)
        if left is None:
            raise Skip("does not apply")
        given += len(raw)
        lost += sum(_labelled(row, names) for row in left)
    if lost:
        yield Finding(
            "E2", "error" if lost >= LOST * given else "warn",
            f"the collator leaves out {lost:,} of {given:,} evaluation rows: they are never scored "
            "(bound: 0)",
            "cut or pad long rows in the evaluation's collator, and leave out none",
            measured={"lost": lost, "rows": given},
        )  # fmt: skip


def _left_out(raw: list[Any], batch: Any) -> list[Any] | None:
    """The rows that are not in their batch; None where a row of the batch is none of them."""
    found = _inputs(batch)
    if found is None:
        return None
    left = [(row, _input(row)) for row in raw]
    if len(found) >= len(raw) or any(one is None for _, one in left):
        return [] if len(found) == len(raw) else None
    for one in found:
        place = next((i for i, (_, other) in enumerate(left) if _begins(one, other)), None)
        if place is None:
            return None
        del left[place]
    return [row for row, _ in left]


def _inputs(batch: Any) -> list[torch.Tensor] | None:
    """The rows of a batch: token ids without padding, or the first of a pair."""
    if isinstance(batch, Mapping):
        ids, mask = batch.get("input_ids"), batch.get("attention_mask")
        if not isinstance(ids, torch.Tensor) or ids.dim() != 2:
            return None
        if not isinstance(mask, torch.Tensor) or mask.shape != ids.shape:
            return None
        return [row[seen != 0] for row, seen in zip(ids, mask, strict=True)]
    pair = isinstance(batch, list | tuple) and len(batch) == 2
    return list(batch[0]) if pair and isinstance(batch[0], torch.Tensor) else None


def _input(row: Any) -> torch.Tensor | None:
    if isinstance(row, list | tuple) and len(row) == 2 and isinstance(row[0], torch.Tensor):
        return row[0]
    ids = row.get("input_ids") if isinstance(row, Mapping) else None
    return None if ids is None else torch.as_tensor(ids)


def _begins(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether a batch's row is this one, perhaps cut: rows of numbers are compared as they are."""
    if one.dim() != 1 or one.is_floating_point():
        return one.shape == other.shape and torch.equal(one, other)
    other = other.reshape(-1)
    return 0 < len(one) <= len(other) and torch.equal(one, other[: len(one)])


def _labelled(row: Any, names: Any) -> bool:
    """Whether a row has something to score; a language model's row may have no labels yet."""
    if isinstance(row, Mapping):
        key = kinds.label_key(row, names)
        label = row[key] if key else row["input_ids"]
    else:
        label = row[1]
    if not isinstance(label, int | float | list | torch.Tensor):
        return label is not None
    return bool((torch.as_tensor(label) != tokens.IGNORE).any())


CHECKS = (check_mask_hides_padding, check_rows_begin_once, check_evaluation_keeps_its_rows)
