"""Sentence vectors that are trained by contrast: SimCSE without labels, and with pairs.

Does: pool an encoder into unit vectors, collate texts with their pairs and hard negatives, train
for steps or for seconds, encode any number of texts. Does not: the loss (`maths.contrastive`), the
evaluation (`evaluation.retrieval`), images. Chapter 05 and `cookbook search` use it.
Sources: Gao, Yao and Chen 2021, arXiv:2104.08821 (SimCSE); Reimers and Gurevych 2019,
arXiv:1908.10084 (one encoder, mean pooling).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from cookbook.maths.contrastive import info_nce, mean_pool, unit
from cookbook.training import gradient_cache
from cookbook.training.loop import autocast, to_device
from cookbook.training.masked_accuracy import evaluating

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SIDES = {"text": "input", "text_pair": "pair", "negative": "negative"}  # column -> name in a batch


class PairEncoder(nn.Module):
    """One encoder for all sides of a row: unit vectors (rows, d), the mean over the tokens.

    A row without a pair is its own pair: it is encoded a second time, and dropout makes the two
    passes differ. That is all of unsupervised SimCSE.
    """

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        pair_ids: Tensor | None = None,
        pair_mask: Tensor | None = None,
        negative_ids: Tensor | None = None,
        negative_mask: Tensor | None = None,
        groups: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        """Ids and masks (rows, length) -> two matrices, or three with negatives; groups: unused."""
        if pair_ids is None:
            pair_ids, pair_mask = input_ids, attention_mask
        sides = [self.vectors(input_ids, attention_mask), self.vectors(pair_ids, pair_mask)]
        if negative_ids is not None:
            sides.append(self.vectors(negative_ids, negative_mask))
        return tuple(sides)

    def vectors(self, ids: Tensor, mask: Tensor) -> Tensor:
        """(rows, length) -> unit vectors (rows, d), in fp32 under autocast too."""
        hidden = self.encoder(input_ids=ids, attention_mask=mask)[0]
        return unit(mean_pool(hidden.float(), mask))


class ContrastiveLoss:
    """`info_nce` of a `PairEncoder`'s outputs, as a `loss_fn(outputs, batch)`.

    >>> same = torch.ones(4, 2)
    >>> round(float(ContrastiveLoss(0.05)((same, same), {})), 4)  # ln 4
    1.3863
    """

    def __init__(self, temperature: float = 0.05, *, symmetric: bool = False) -> None:
        self.temperature, self.symmetric = temperature, symmetric

    def __call__(self, outputs: Sequence[Tensor], batch: dict[str, Tensor]) -> Tensor:
        negatives = outputs[2] if len(outputs) > 2 else None
        return info_nce(
            outputs[0], outputs[1], temperature=self.temperature, negatives=negatives,
            groups=batch.get("groups"), symmetric=self.symmetric,
        )  # fmt: skip


def pair_rows(
    dataset: Any, tokenizer: PreTrainedTokenizerBase, lengths: tuple[int, int] = (32, 64)
) -> list[dict[str, Any]]:
    """Rows of `input_ids`, and `pair_ids` and `negative_ids` where the data has such a column.

    The columns are `text`, `text_pair` and `negative`. `lengths` are the longest text and the
    longest pair or negative, in tokens. `groups` numbers the different texts, so that a loss can
    know which rows are no negatives of one another. A row's names are those of the model's inputs.
    """
    columns = {name: side for name, side in SIDES.items() if name in dataset.column_names}
    coded = {
        f"{side}_ids": tokenizer(
            list(dataset[name]), truncation=True, max_length=lengths[side != "input"]
        )["input_ids"]
        for name, side in columns.items()
    }  # fmt: skip
    numbers = {text: number for number, text in enumerate(dict.fromkeys(dataset["text"]))}
    coded["groups"] = [numbers[text] for text in dataset["text"]]
    return [dict(zip(coded, row, strict=True)) for row in zip(*coded.values(), strict=True)]


class PairCollator:
    """Rows of `pair_rows` as a batch of `PairEncoder`, each side padded to its own longest.

    `groups=True` hands the loss which rows repeat a text; without it a repetition is a negative.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, *, groups: bool = False) -> None:
        self.tokenizer, self.groups = tokenizer, groups

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        batch = {}
        for side in (side for side in SIDES.values() if f"{side}_ids" in rows[0]):
            ids = [{"input_ids": row[f"{side}_ids"]} for row in rows]
            padded = self.tokenizer.pad(ids, return_tensors="pt")
            batch[f"{side}_ids"] = padded["input_ids"]
            mask = "attention_mask" if side == "input" else f"{side}_mask"
            batch[mask] = padded["attention_mask"]
        if self.groups:
            batch["groups"] = torch.tensor([row["groups"] for row in rows])
        return batch


def train(
    model: nn.Module,
    batches: Any,
    loss_fn: Callable,
    *,
    steps: int,
    learning_rate: float = 5e-4,
    seconds: float = float("inf"),
    warmup: float = 0.1,
    chunk: int = 0,
    precision: str = "fp32",
    on_step: Callable[[int, float], object] = lambda step, loss: None,
) -> list[float]:
    """Train for `steps` or `seconds`, whichever ends first; returns the loss of each step.

    `batches[k]` is batch k (`training.order.Batches`). The rate of AdamW rises over the share
    `warmup` of the budget and falls to 0 at its end, whichever of the two budgets binds. `chunk`
    rows are encoded at a time (`gradient_cache`); 0 takes the batch whole.
    """
    device, losses, began = next(model.parameters()).device, [], time.monotonic()
    weights = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(weights, learning_rate, weight_decay=0.01)
    model.train()
    for step in range(steps):
        spent = max(step / steps, (time.monotonic() - began) / seconds)
        if spent >= 1:
            break
        # Half a step late, or the first rate would be 0 and its step wasted.
        rise = (spent + 0.5 / steps) / warmup if warmup else 1.0
        optimizer.param_groups[0]["lr"] = learning_rate * min(rise, (1 - spent) / (1 - warmup), 1)
        batch = to_device(batches[step], device)
        losses.append(float(backward(model, batch, loss_fn, chunk, precision)))
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        on_step(step + 1, losses[-1])
    return losses


def backward(
    model: nn.Module,
    batch: dict[str, Tensor],
    loss_fn: Callable,
    chunk: int = 0,
    precision: str = "fp32",
) -> Tensor:
    """Add the gradient of a batch, whole or `chunk` rows at a time; returns the loss."""
    if chunk:
        return gradient_cache.backward(model, batch, loss_fn, chunk=chunk, precision=precision)
    with autocast(next(model.parameters()).device, precision):
        outputs = model(**batch)
    loss = loss_fn(outputs, batch)
    loss.backward()
    return loss.detach()


def encode(
    model: PairEncoder,
    texts: Iterable[str],
    tokenizer: PreTrainedTokenizerBase,
    *,
    length: int = 64,
    batch_size: int = 128,
    precision: str = "fp32",
    on_rows: Callable[[int], object] = lambda rows: None,
) -> np.ndarray:
    """Unit vectors (texts, d) float32 in the order of `texts`, dropout off.

    Texts of like length go together, so that little is padded; padding does not change a vector.
    `on_rows(n)` hears of every n finished.
    """
    texts = list(texts)
    if not texts:
        return np.zeros((0, 0), np.float32)
    coded = tokenizer(texts, truncation=True, max_length=length)["input_ids"]
    order = sorted(range(len(coded)), key=lambda i: len(coded[i]))
    device, parts = next(model.parameters()).device, []
    for start in range(0, len(order), batch_size):
        rows = [{"input_ids": coded[i]} for i in order[start : start + batch_size]]
        batch = tokenizer.pad(rows, return_tensors="pt").to(device)
        with evaluating(model), autocast(device, precision):
            found = model.vectors(batch["input_ids"], batch["attention_mask"])
        parts.append(found.float().cpu().numpy())
        on_rows(len(rows))
    return np.concatenate(parts)[np.argsort(order)]
