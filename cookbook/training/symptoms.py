"""What shows that a run went wrong, where the curve of its loss does not.

It measures models that `mistake_runs` trained: answers on real tokens, texts that end, gradients by
layer, weights that moved, directions of embeddings. It names no cause: the doctor does. Chapter 13.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import nn

from cookbook.training.groups import layer_depths
from cookbook.training.mistake_runs import Pairs, quiet
from cookbook.training.mistakes import Rows


@torch.no_grad()
def on_text(model: nn.Module, batches: Iterable[dict], ahead: int = 1) -> tuple[float, float]:
    """Loss and accuracy of the token `ahead` places on, over text only, whatever the labels say."""
    total, right, count = 0.0, 0, 0
    training = model.training
    model.eval()
    for batch in batches:
        ids, mask = batch["input_ids"], batch["attention_mask"]
        logits = model(input_ids=ids, attention_mask=mask).logits[:, :-ahead].float()
        kept = mask[:, ahead:].bool()
        target = ids[:, ahead:][kept]
        total += float(nn.functional.cross_entropy(logits[kept], target, reduction="sum"))
        right += int((logits[kept].argmax(-1) == target).sum())
        count += len(target)
    model.train(training)
    return total / max(count, 1), right / max(count, 1)


@torch.no_grad()
def continued(
    model: Any, rows: Rows, *, given: int = 3, most: int = 32, seed: int = 0
) -> torch.Tensor:
    """The first `given` tokens of each row, continued by sampling up to `most` tokens."""
    device = next(model.parameters()).device
    ids = torch.tensor([row["input_ids"][:given] for row in rows], device=device)
    model.eval()
    draws = torch.Generator(device=device).manual_seed(seed)
    while ids.shape[1] < most:
        logits = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
        shares = logits[:, -1].float().softmax(-1)
        ids = torch.cat([ids, torch.multinomial(shares, 1, generator=draws)], 1)
    return ids


def until_the_end(ids: torch.Tensor, end: int) -> tuple[list[list[int]], float]:
    """Rows cut after their first `end`, and the share of rows that have one.

    >>> until_the_end(torch.tensor([[5, 2, 7], [5, 6, 7]]), end=2)
    ([[5, 2], [5, 6, 7]], 0.5)
    """
    rows = [row[: row.index(end) + 1] if end in row else row for row in ids.tolist()]
    return rows, float(np.mean([row[-1] == end for row in rows]))


def gradient_by_layer(model: nn.Module, batch: dict) -> dict[str, float]:
    """Norm of the gradient in the head, in each layer from the top, and in the embeddings.

    0 where there is none. Torch's remark on a checkpoint without a gradient is not printed.
    """
    depths, squares = layer_depths(model), {}
    deepest = max(depths.values())
    model.train()
    model.zero_grad()
    with quiet():
        model(**batch).loss.backward()
    for name, parameter in model.named_parameters():
        depth = depths[name]
        place = {0: "head", deepest: "embeddings"}.get(depth, f"layer {deepest - depth}")
        found = 0.0 if parameter.grad is None else float(parameter.grad.float().square().sum())
        squares[place] = squares.get(place, 0.0) + found
    model.zero_grad()
    return {place: square**0.5 for place, square in sorted(squares.items(), key=_from_the_top)}


def _from_the_top(entry: tuple[str, float]) -> tuple[int, int]:
    """Head first, then layers from the last to the first, embeddings at the end."""
    place = entry[0]
    number = int(place.split()[1]) if place.startswith("layer") else 0
    return {"head": 0, "embeddings": 2}.get(place, 1), -number


@torch.no_grad()
def unrelated_cosine(model: Pairs, batch: dict) -> float:
    """The mean cosine between second texts of different rows: 1 where all say the same."""
    training = model.training
    vectors = model.eval()(**batch)[1]
    model.train(training)
    count = len(vectors)
    return float((vectors @ vectors.T).sum() - count) / (count * (count - 1))


def adapter_norm(model: nn.Module) -> float:
    """The norm of all B of LoRA: 0 until the adapter does anything."""
    squares = [
        p.detach().float().square().sum() for n, p in model.named_parameters() if "lora_B" in n
    ]
    return float(torch.stack(squares).sum().sqrt()) if squares else 0.0


def layer_weights(model: nn.Module) -> dict[str, torch.Tensor]:
    """Copies of the weights in the layers: neither embeddings, nor head."""
    depths = layer_depths(model)
    inside = range(1, max(depths.values()))
    return {n: p.detach().clone() for n, p in model.named_parameters() if depths[n] in inside}


def share_changed(model: nn.Module, before: dict[str, torch.Tensor]) -> float:
    """Share of the numbers in `before` that are different in the model now."""
    now = dict(model.named_parameters())
    changed = sum(int((now[name] != weights).sum()) for name, weights in before.items())
    return changed / max(1, sum(weights.numel() for weights in before.values()))
