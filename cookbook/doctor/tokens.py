"""Collated rows of tokens as the data checks read them: ids, labels, mask, and where padding is.

Padding is known in two ways that do not ask the attention mask, because the mask is what is
checked: from the raw rows (what the collator added), and from runs of the tokenizer's padding id at
a row's end or start. It judges nothing; it looks at no other kind of input.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from cookbook.doctor import kinds, row_keys

IGNORE = -100
ENDED = 0.95  # of the rows of a column of tokens have a special token at an end
FEW = 4  # different numbers are kinds of segments, and no tokens
AGREE = 0.6  # of the ids of a raw row must stand in the batch: masking changes up to a third


@dataclass(frozen=True)
class Tokens:
    """One batch: `ids` (rows, length), `mask` likewise bool or None, `labels` or None.

    `padding` (rows, length) says where padding is, whatever the mask says; `batch` and `raw` are
    what it was read from.
    """

    ids: torch.Tensor
    mask: torch.Tensor | None
    labels: torch.Tensor | None
    padding: torch.Tensor
    batch: Mapping[str, Any]
    raw: list[Any]

    @property
    def attended(self) -> torch.Tensor:
        """(rows, length) bool: what the mask lets through, or without a mask what is no padding."""
        return ~self.padding if self.mask is None else self.mask

    @property
    def aligned(self) -> bool:
        """Whether there is one label for each token."""
        return self.labels is not None and self.labels.shape == self.ids.shape


def batches_of(subject: Any, split: str = "train") -> list[Tokens]:
    """The token batches of a split; none where rows are no token ids."""
    names = getattr(subject.args, "label_names", None)
    found = []
    for raw, batch in getattr(subject, split).many:
        ids = batch.get("input_ids") if isinstance(batch, Mapping) else None
        if not isinstance(ids, torch.Tensor) or ids.dim() != 2 or ids.is_floating_point():
            continue
        mask, key = batch.get("attention_mask"), kinds.label_key(batch, names)
        mask = mask != 0 if isinstance(mask, torch.Tensor) and mask.shape == ids.shape else None
        labels = batch[key] if key and isinstance(batch[key], torch.Tensor) else None
        if labels is not None and labels.is_floating_point():
            labels = None
        padding = added(raw, ids) | ends(ids, *padding_ids(subject.tokenizer))
        found.append(Tokens(ids, mask, labels, padding, batch, raw))
    return found


def padding_ids(tokenizer: Any) -> tuple[int | None, bool]:
    """The padding id, and whether it is also that of another token (EOS, UNK …)."""
    pad = getattr(tokenizer, "pad_token_id", None)
    others = (
        getattr(tokenizer, f"{n}_token_id", None) for n in ("eos", "bos", "unk", "sep", "cls")
    )
    return pad, pad is not None and pad in others


def ends(ids: torch.Tensor, pad: int | None, shared: bool = False) -> torch.Tensor:
    """Where runs of `pad` stand at the end or start of rows; where it is shared, from the second.

    >>> ends(torch.tensor([[5, 0, 7, 0, 0]]), 0).tolist()
    [[False, False, False, True, True]]
    >>> ends(torch.tensor([[5, 0, 7, 0, 0]]), 0, shared=True).tolist()
    [[False, False, False, False, True]]
    """
    if pad is None:
        return torch.zeros_like(ids, dtype=torch.bool)
    right, left = run(ids.flip(1), pad).flip(1), run(ids, pad)
    if shared:
        right[:, 1:] &= right[:, :-1].clone()
        left[:, :-1] &= left[:, 1:].clone()
        right[:, 0], left[:, -1] = False, False
    return right | left


def run(ids: torch.Tensor, value: int) -> torch.Tensor:
    """Where each row's first run of `value` stands, if the row begins with it."""
    return (ids == value).long().cumprod(1).bool()


def added(raw: list[Any], ids: torch.Tensor, key: str = "input_ids") -> torch.Tensor:
    """(rows, length) bool: the positions that the collator added to the raw rows' `key`.

    All False where the batch is not made of these rows side by side (packed, flattened).
    """
    nothing = torch.zeros_like(ids, dtype=torch.bool)
    found = [row.get(key) if isinstance(row, Mapping) else None for row in raw]
    if len(found) != len(ids) or any(f is None or not hasattr(f, "__len__") for f in found):
        return nothing
    result = nothing.clone()
    for place, row in enumerate(found):
        row = torch.as_tensor(row).reshape(-1)
        count, width = len(row), ids.shape[1]
        if not 0 < count <= width:
            return nothing
        if _agree(row, ids[place, :count]):
            result[place, count:] = True
        elif _agree(row, ids[place, width - count :]):
            result[place, : width - count] = True
        else:
            return nothing
    return result


def _agree(row: torch.Tensor, other: torch.Tensor) -> bool:
    return bool((row == other).float().mean() >= AGREE)


def columns(rows: list[Any], tokenizer: Any) -> dict[str, list[np.ndarray]]:
    """Name → token ids of each row: `input_ids`, and columns of further texts, as a pair's second.

    These are known by a special token at an end of nearly every row: other lists of numbers (kinds
    of segments, places) have names like theirs.
    """
    special = set(special_ids(tokenizer, ("cls", "sep", "bos", "eos")))
    found: dict[str, list[np.ndarray]] = {}
    for row in rows:
        for name in row if isinstance(row, Mapping) else ():
            if name.endswith("_ids") and name not in row_keys.NO_INPUT:
                ids = np.asarray(row[name]) if not isinstance(row[name], str) else np.zeros(0)
                if ids.ndim == 1 and ids.dtype.kind in "iu":
                    found.setdefault(name, []).append(ids)
    return {
        name: held for name, held in found.items()
        if name == "input_ids" or len(held) >= ENDED * len(rows) and _are_texts(held, special)
    }  # fmt: skip


def _are_texts(held: list[np.ndarray], special: set[int]) -> bool:
    ended = sum(len(ids) > 0 and bool(special & {int(ids[0]), int(ids[-1])}) for ids in held)
    return ended >= ENDED * len(held) and len(np.unique(np.concatenate(held))) > FEW


def special_ids(tokenizer: Any, names: tuple[str, ...]) -> list[int]:
    """The ids of these special tokens, of those that the tokenizer has: ("cls", "sep", …)."""
    found = (getattr(tokenizer, f"{name}_token_id", None) for name in names)
    return [i for i in found if isinstance(i, int)]


def end_ids(subject: Any) -> set[int]:
    """Every id that ends generation: of the tokenizer, the model's two configurations."""
    generation = getattr(subject.bare, "generation_config", None)
    holders = (subject.tokenizer, generation, subject.config)
    found = set()
    for holder in holders:
        value = getattr(holder, "eos_token_id", None)
        found |= set(value if isinstance(value, list | tuple) else [value])
    return {i for i in found if isinstance(i, int)}


def isin(ids: torch.Tensor, values: Any) -> torch.Tensor:
    """Where `ids` are one of `values`."""
    return torch.isin(ids, torch.tensor(sorted(values) or [-1], device=ids.device))


def count_of(sample: Any) -> int:
    """About how many tokens all rows of a split hold, both texts of pairs; 0 where nobody knows."""
    rows = [row for row in sample.rows if isinstance(row, dict)]
    others = ("token_type", "position", "label")
    texts = [
        value for row in rows for key, value in row.items()
        if str(key).endswith("_ids") and not str(key).startswith(others)
    ]  # fmt: skip
    lengths = [len(ids) for ids in texts if isinstance(ids, list | torch.Tensor)]
    if not lengths or sample.iterable or not sample.total:
        return 0
    return round(sum(lengths) / len(rows) * sample.total)
