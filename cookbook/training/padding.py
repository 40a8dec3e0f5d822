"""What padding does to a masked language model: nothing, if the attention mask says where it is.

Does: widens a batch by columns of padding and measures the loss where tokens were asked for, with
the attention mask and without. Does not: repair anything; collators pass the mask by themselves.
Used by chapter 02, whose pitfall is the mask that was left out.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from cookbook.training.loop import to_device
from cookbook.training.masked_accuracy import Batch, evaluating
from cookbook.training.objectives import IGNORE
from cookbook.training.trainer import masked_lm_loss

FILL = {"labels": IGNORE, "attention_mask": 0, "token_type_ids": 0}


def widen(batch: Batch, columns: int, pad_id: int) -> Batch:
    """A copy of a batch with `columns` more positions of padding on the right of every row.

    >>> batch = {"input_ids": torch.tensor([[2, 9]]), "attention_mask": torch.tensor([[1, 1]])}
    >>> {name: value.tolist() for name, value in widen(batch, 1, pad_id=0).items()}
    {'input_ids': [[2, 9, 0]], 'attention_mask': [[1, 1, 0]]}
    """
    return {
        name: F.pad(value, (0, columns), value=FILL.get(name, pad_id))
        for name, value in batch.items()
    }


def without_mask(batch: Batch) -> Batch:
    """WRONG: a copy of a batch in which padding is said to be text, as when no mask is passed.

    >>> without_mask({"attention_mask": torch.tensor([[1, 0]])})["attention_mask"].tolist()
    [[1, 1]]
    """
    return {**batch, "attention_mask": torch.ones_like(batch["attention_mask"])}


def losses_by_padding(
    model: torch.nn.Module,
    batch: Batch,
    columns: Sequence[int],
    pad_id: int,
    *,
    masked: bool = True,
) -> dict[str, list[tuple[int, float]]]:
    """`{"loss": [(columns, nats)], "changed": [(columns, share)]}` at the positions asked for.

    The same questions each time; only the number of padding columns differs, and `masked=False`
    leaves the attention mask out. "changed" is the share of answers (the likeliest token) that are
    not the ones the model gives to the batch as it is, with its mask.
    """
    batch = to_device(batch, next(model.parameters()).device)
    _, answers = _ask(model, batch)
    found: dict[str, list[tuple[int, float]]] = {"loss": [], "changed": []}
    for more in columns:
        wide = widen(batch, more, pad_id)
        loss, others = _ask(model, wide if masked else without_mask(wide))
        found["loss"].append((more, loss))
        found["changed"].append((more, float((others != answers).float().mean())))
    return found


def _ask(model: torch.nn.Module, batch: Batch) -> tuple[float, torch.Tensor]:
    """The loss where tokens are asked for, and the likeliest token at each such place."""
    with evaluating(model):
        loss, logits = masked_lm_loss(model, batch)
    return float(loss), logits.argmax(-1)
