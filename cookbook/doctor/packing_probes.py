"""T12: do packed rows that are declared independent read each other?

Independence is declared by positions that begin again, by an index of sequences, or by a mask in
blocks. Then a change of the first segment must not move the scores of the later ones in its row.
Rows packed without such a declaration read across documents, as in most pretraining, and pass;
where prompts are kept out of the loss they are conversations, and there is advice.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch

from cookbook.doctor import responses, tokens
from cookbook.doctor.checks import Skip
from cookbook.doctor.findings import Finding
from cookbook.doctor.model_checks import is_quantized
from cookbook.doctor.subject import Subject

# Keys that number the sequence of each token; token_type_ids and segment_ids tell A from B.
MANY = 0.1  # of the rows; a text may hold a token by chance
INDICES = ("seq_idx", "sequence_ids", "document_ids", "doc_ids", "sequence_id")


def check_packed_rows_are_apart(subject: Subject) -> Iterable[Finding]:
    """T12: a change of one packed segment moves the scores of another in the same row."""
    batch = responses.inputs(subject)
    if not isinstance(batch, Mapping) or is_quantized(subject.model):
        raise Skip("does not apply")
    ids = batch[responses.token_key(batch)]
    segments, how = declared(subject.batch("train", responses.ROWS), ids)
    if segments is None:
        raise Skip("does not apply")
    first_segment = (segments == segments[:, :1]) & (segments >= 0)
    later = (segments != segments[:, :1]) & (segments >= 0)
    if not later.any():
        raise Skip("no row of the batch holds two segments")
    changed = {**batch, "input_ids": responses.other_tokens(subject, ids, first_segment)}
    with responses.quiet(subject), without_cache(subject):
        before = responses.scores(subject, batch)
        if before.shape[:2] != ids.shape:
            raise Skip("does not apply")
        limit = responses.bound(subject, batch, before)
        gap = responses.moved(before[later], responses.scores(subject, changed)[later])
    if gap > limit:
        told = (
            f"rows are packed and {how}, yet changing the first segment moves the scores of the "
            f"others by {gap:.2g} (bound: {limit:.2g})"
        )
        measured = {"difference": gap, "bound": limit}
        yield Finding("T12", "error", told, _mend(batch), measured)


@contextlib.contextmanager
def without_cache(subject: Subject) -> Iterator[None]:
    """Within, no cache of keys is kept, as `Trainer` trains: with one, positions are not read."""
    configs = [m.config for m in subject.model.modules() if hasattr(m, "config")]
    kept = [(c, c.use_cache) for c in configs if hasattr(c, "use_cache")]
    for config, _ in kept:
        config.use_cache = False
    try:
        yield
    finally:
        for config, value in kept:
            config.use_cache = value


def _mend(batch: Mapping[str, Any]) -> str:
    if "attention_mask" in batch and batch["attention_mask"].dim() == 2:
        return "leave out the attention_mask of ones, or pass one in blocks, one for each segment"
    return ""


def declared(batch: Mapping[str, Any], ids: torch.Tensor) -> tuple[torch.Tensor | None, str]:
    """The number of each token's segment, (rows, length), -1 on padding; and who declares it."""
    for key in INDICES:
        held = batch.get(key)
        if isinstance(held, torch.Tensor) and held.shape == ids.shape:
            return held.cpu().long(), f"{key} numbers their sequences"
    mask = batch.get("attention_mask")
    if _is_square(mask, ids):
        segments = _of_blocks(mask)
        if bool((segments > segments[:, :1]).any()):
            return segments, "their mask is in blocks"
    bounds = batch.get("cu_seq_lens_q")
    if isinstance(bounds, torch.Tensor) and len(ids) == 1:
        places = torch.arange(ids.shape[1])
        return torch.bucketize(places, bounds.cpu()[1:].long(), right=True)[None], (
            "cu_seq_lens_q bounds their sequences"
        )
    return _of_positions(batch.get("position_ids"), mask, ids)


def _is_square(mask: Any, ids: torch.Tensor) -> bool:
    rows, length = ids.shape
    whole = isinstance(mask, torch.Tensor) and mask.dim() in (3, 4) and len(mask) == rows
    return whole and mask.shape[-2:] == (length, length)


def _of_positions(held: Any, mask: Any, ids: torch.Tensor) -> tuple[torch.Tensor | None, str]:
    """Segments by positions that begin again; those of padding count for nothing."""
    if not isinstance(held, torch.Tensor) or held.shape != ids.shape:
        return None, ""
    begins = torch.zeros_like(ids)
    begins[:, 1:] = (held[:, 1:] <= held[:, :-1]) & (held[:, 1:] <= 1)
    segments = begins.cumsum(1)
    if isinstance(mask, torch.Tensor) and mask.shape == ids.shape:
        segments = segments.masked_fill(mask == 0, -1)
    return _without_single_tokens(segments), "their position_ids begin again"


def _of_blocks(mask: torch.Tensor) -> torch.Tensor:
    """Segments of a mask: one ends where no token up to there is joined with a later one."""
    mask = mask.reshape(len(mask), -1, *mask.shape[-2:])[:, 0].cpu()
    seen = mask > (-1 if mask.is_floating_point() and bool((mask < 0).any()) else 0)
    seen = seen | seen.transpose(1, 2)
    places = torch.arange(seen.shape[1])
    reach = torch.where(seen, places, -1).amax(2).cummax(1).values
    begins = torch.zeros(seen.shape[:2], dtype=torch.long)
    begins[:, 1:] = (reach[:, :-1] < places[1:]).long()
    segments = begins.cumsum(1).masked_fill(~seen.diagonal(0, 1, 2), -1)
    return _without_single_tokens(segments)


def _without_single_tokens(segments: torch.Tensor) -> torch.Tensor:
    """Padding, at position 0 or joined with itself only, looks like segments of one token."""
    known = segments.clamp(min=0)
    lengths = torch.nn.functional.one_hot(known).sum(1).gather(1, known)
    return segments.masked_fill(lengths < 2, -1)


def check_conversations_in_a_row(subject: Subject) -> Iterable[Finding]:
    """T12, advice: rows with prompts and answers in which another conversation begins midway."""
    begin, *same = tokens.special_ids(subject.tokenizer, ("bos", "eos", "pad")) or [None]
    batches = tokens.batches_of(subject) if subject.kind == "causal-lm" else []
    if begin is None or begin in same or not batches:
        raise Skip("does not apply")
    rows = several = 0
    for t in (t for t in batches if t.aligned and declared(t.batch, t.ids)[0] is None):
        seen = t.attended & ~t.padding
        prompts = (seen & (t.labels == tokens.IGNORE))[:, 1:].any(1)
        rows += len(t.ids)
        several += int((prompts & (((t.ids == begin) & seen).sum(1) > 1)).sum())
    if several > MANY * rows:
        yield Finding(
            "T12", "info",
            f"{several} of {rows} rows hold several conversations under one mask, so that each "
            f"reads those before it (bound: {MANY:.0%}); some do so on purpose",
            "pass position_ids that begin again with each, and no attention_mask of ones",
            {"rows": rows, "packed": several},
        )  # fmt: skip


CHECKS = (check_packed_rows_are_apart, check_conversations_in_a_row)
