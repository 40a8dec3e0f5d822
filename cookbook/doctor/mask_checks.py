"""T10 where a mask belongs to other tokens: it hides words, or is open over the padding of a pair.

Both are read from the raw rows beside their batch: what the collator added is padding, what stood
in the row is not. Masks that open on the padding of `input_ids` are checked in `collation_checks`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch

from cookbook.doctor import kinds, tokens
from cookbook.doctor.checks import Skip
from cookbook.doctor.findings import Finding

ROWS = 16  # rows that tell something
HIDING, HIDDEN = 0.5, 0.1  # share of the rows that lose words, and of all words that are lost
SHARE = 0.05  # of the rows whose padding is visible
NO_TOWER = {"input", "token_type", "position", "label", "decoder", "decoder_input", "task_type"}


def check_mask_shows_the_words(subject: Any) -> Iterable[Finding]:
    """T10: the mask ends before the row does, though the row says that all of it is to be seen."""
    if subject.model is not None and "attention_mask" not in kinds.accepts(subject.bare)[0]:
        raise Skip("does not apply")
    rows = hiding = words = hidden = 0
    for t in tokens.batches_of(subject):
        if t.mask is None or len(t.raw) != len(t.ids):
            continue
        for raw, ids, mask in zip(t.raw, t.ids, t.mask, strict=True):
            seen = _seen(raw, ids, mask)
            if seen is None:
                continue
            lost = int((~seen).sum()) if _is_beginning(seen) else 0
            lost = lost if lost > 1 else 0  # an end that is also the padding
            rows, hiding = rows + 1, hiding + (lost > 0)
            words, hidden = words + len(seen), hidden + lost
    if rows >= ROWS and hiding >= HIDING * rows and hidden >= HIDDEN * words:
        yield Finding(
            "T10", "warn",
            f"the attention mask hides the end of {hiding:,} of {rows:,} rows, "
            f"{hidden / words:.0%} of all their tokens (bound: {HIDDEN:.0%})",
            "make the mask of the same row's tokens: 1 for each of them, 0 for what was added",
            measured={"rows_hiding": hiding, "rows": rows, "hidden": hidden / words},
        )  # fmt: skip


def _seen(raw: Any, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor | None:
    """The mask over the row's own tokens; None where they are not the batch's, or hide some."""
    own = raw.get("input_ids") if isinstance(raw, Mapping) else None
    if not isinstance(own, list | torch.Tensor) or not 1 < len(own) <= len(ids):
        return None
    asked = raw.get("attention_mask")
    if asked is not None and not bool(torch.as_tensor(asked).bool().all()):
        return None
    same = (torch.as_tensor(own).reshape(-1) == ids[: len(own)]).float().mean()
    return mask[: len(own)] if same >= tokens.AGREE else None


def _is_beginning(seen: torch.Tensor) -> bool:
    """Whether what is seen is one run from the start: words dropped here and there are meant."""
    return bool(seen[0]) and bool((seen.long().diff() <= 0).all())


def check_mask_and_types_are_in_their_places(subject: Any) -> Iterable[Finding]:
    """T10: what the batch has as its mask are token types, and the mask stands in their place."""
    rows = swapped = 0
    for batch in subject.train.batches:
        held = batch if isinstance(batch, Mapping) else {}
        ids, mask, types = (held.get(n) for n in ("input_ids", "attention_mask", "token_type_ids"))
        if not all(
            isinstance(part, torch.Tensor) and part.dim() == 2 for part in (ids, mask, types)
        ):
            raise Skip("does not apply")
        # A mask begins with ones, and types with zeros; a mask that hides the first token and
        # shows others, beside types that are ones from there on, is the other one.
        begins = (mask[:, 0] == 0) & (mask.sum(1) > 0) & (types[:, 0] == 1)
        whole = (types >= mask).all(1) & (types.long().diff(dim=1) <= 0).all(1)
        rows, swapped = rows + len(ids), swapped + int((begins & whole).sum())
    if rows >= ROWS and swapped >= HIDING * rows:
        yield Finding(
            "T10", "error",
            f"in {swapped:,} of {rows:,} rows the attention mask hides the first token, and "
            "token_type_ids are ones where a mask would be (bound: none): they have changed places",
            "take what a tokenizer returns by its names, not by its order",
            measured={"rows_swapped": swapped, "rows": rows},
        )  # fmt: skip


def check_pairs_hide_their_padding(subject: Any) -> Iterable[Finding]:
    """T10: a second text of a row, with ids and a mask of its own, is masked by ones only."""
    names, anything = (set(), True) if subject.model is None else kinds.accepts(subject.bare)
    counted: dict[str, list[int]] = {}
    for raw, batch in subject.train.many:
        for key, name in _towers(batch):
            if not anything and name not in names:
                continue
            added = tokens.added(_as_inputs(raw, key), batch[key])
            visible = (added & (batch[name] != 0)).any(1)
            before = counted.setdefault(name, [0, 0])
            counted[name] = [before[0] + int(visible.sum()), before[1] + len(visible)]
    if not counted:
        raise Skip("does not apply")
    for name, (rows, count) in counted.items():
        if rows >= max(2, SHARE * count):
            yield Finding(
                "T10", "error",
                f"{rows:,} of {count:,} rows have ones in {name} on their padding (bound: none)",
                measured={"rows_padded_visibly": rows, "rows": count},
            )  # fmt: skip
            return


def _towers(batch: Any) -> Iterator[tuple[str, str]]:
    """(ids, mask) of the names of a batch, such as pair_ids and pair_mask, but input_ids."""
    keys = list(batch) if isinstance(batch, Mapping) else []
    for key in (k for k in keys if k.endswith("_ids") and k[:-4] not in NO_TOWER):
        for name in (f"{key[:-4]}_mask", f"{key[:-4]}_attention_mask"):
            ids, mask = batch[key], batch.get(name)
            if isinstance(ids, torch.Tensor) and isinstance(mask, torch.Tensor):
                if ids.dim() == 2 and ids.shape == mask.shape and not ids.is_floating_point():
                    yield key, name


def _as_inputs(raw: list[Any], key: str) -> list[dict[str, Any]]:
    return [{"input_ids": row.get(key)} if isinstance(row, Mapping) else {} for row in raw]


CHECKS = (check_mask_and_types_are_in_their_places, check_mask_shows_the_words,
          check_pairs_hide_their_padding)  # fmt: skip
