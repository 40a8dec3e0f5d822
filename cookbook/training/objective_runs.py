"""Train any model on any objective of this wing in the plain loop; measure it on held-out rows.

The loss is the model's own; the collator says what is asked. Chapter 04 compares objectives with
it: every run sees the same rows in the same order. For masked language models `pretraining` has a
faster path.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F

from cookbook.training import loop
from cookbook.training.masked_accuracy import evaluating
from cookbook.training.order import Batches, Keyed
from cookbook.training.stacking import IGNORE

Curve = list[tuple[int, float]]


def own_loss(
    model: torch.nn.Module, batch: dict[str, torch.Tensor], ahead: int = 0
) -> tuple[torch.Tensor, int]:
    """The sum of the model's own loss over its labels, and how many those are.

    `ahead` is 1 for causal models, which shift the labels themselves: the first of each row is
    never asked for, and does not count.
    """
    count = int(batch["labels"][:, ahead:].ne(IGNORE).sum())
    return model(**batch).loss * count, count


def fit(
    model: torch.nn.Module,
    rows: Sequence[Any],
    collate: Callable,
    *,
    steps: int,
    batch_size: int = 16,
    learning_rate: float = 2e-3,
    precision: str = "fp32",
    seed: int = 0,
    name: str = "training",
) -> Curve:
    """Train `model` in place; the loss of each step, as (step, nats a predicted token).

    AdamW, a tenth of the steps for warm-up, then a linear decay; no dropout unless the model has
    it. `collate.ahead` says whether the model shifts its labels; 0 where there is none. Raises
    ValueError when the rows do not fill one batch.
    """
    from tqdm.auto import tqdm

    from cookbook.training.schedules import scheduler

    batches = Batches(rows, min(batch_size, len(rows)), seed=seed, collate=collate)
    optimizer = torch.optim.AdamW(model.parameters(), learning_rate, weight_decay=0.01)
    rate = scheduler(optimizer, "linear", warmup=steps // 10, total=steps)
    with tqdm(total=steps, desc=name, leave=False) as bar:
        losses = loop.train(
            model, batches, optimizer, rate, steps=steps, precision=precision,
            loss_fn=lambda net, batch: own_loss(net, batch, getattr(collate, "ahead", 0)),
            on_step=lambda step, loss: bar.update(),
        )  # fmt: skip
    return list(enumerate(losses, 1))


def held_out_loss(
    model: torch.nn.Module, rows: Sequence[Any], collate: Callable, *, batch_size: int = 32
) -> float:
    """The mean loss over all labels of `rows`, in nats a predicted token.

    Sums over tokens, then one division; the noise is that of epoch 0, the same for every model.
    """
    keyed, device = Keyed(rows), next(model.parameters()).device
    total = count = 0
    for start in range(0, len(rows), batch_size):
        batch = collate([keyed[row] for row in range(start, min(start + batch_size, len(rows)))])
        with evaluating(model):
            loss, labels = own_loss(
                model, loop.to_device(batch, device), getattr(collate, "ahead", 0)
            )
        total, count = total + float(loss), count + labels
    return total / max(1, count)


def by_place(model: torch.nn.Module, rows: Sequence[Any], *, batch_size: int = 32) -> list[float]:
    """The mean price (nats) of the token at each place of `rows`, from the second place on.

    Rows are of one length; the model is a causal one.
    """
    ids = torch.stack([torch.as_tensor(row["input_ids"]).long() for row in rows])
    device, found = next(model.parameters()).device, []
    for part in ids.split(batch_size):
        part = part.to(device)
        with evaluating(model):
            logits = model(input_ids=part).logits[:, :-1].float()
        found.append(F.cross_entropy(logits.transpose(1, 2), part[:, 1:], reduction="none").cpu())
    return torch.cat(found).mean(0).tolist()
