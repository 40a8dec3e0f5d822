"""Frozen features and a linear head on them: the encoder reads each row once, whoever asks.

It keeps what an encoder says about rows in memory, for other seeds and learning rates, and trains
a head on it. It does not train the encoder. Used by the linear probe in `strategies`, chapter 07.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import Any

import numpy as np
import torch
from torch import nn

from cookbook.finetuning.encoding import mean_pool, predict

KEPT = 12  # sets of rows; of 10,000 rows and 256 features one set takes 10 MB
STEPS, LOOK = 300, 10  # of the head, and after how many of them validation is asked

_cache: OrderedDict[tuple, np.ndarray] = OrderedDict()


class Probe(nn.Module):
    """A frozen encoder, the mean of its last hidden states over the tokens, and a linear head.

    The mean, and not [CLS]: masked language modelling never asked anything of [CLS], so in a
    model pretrained by it alone that position says little about the text. It takes a batch and
    returns `logits` (batch, classes), as a classifier of transformers does. The encoder stays in
    evaluation mode, so that its features in training and in use are the same.
    """

    def __init__(self, encoder: nn.Module, head: nn.Linear) -> None:
        super().__init__()
        self.encoder, self.head = encoder.requires_grad_(False), head

    def train(self, mode: bool = True) -> Probe:
        """Only the head can be in training mode."""
        super().train(mode)
        self.encoder.eval()
        return self

    def forward(self, labels: torch.Tensor | None = None, **batch: torch.Tensor) -> dict[str, Any]:
        """`input_ids`, `attention_mask` … (batch, length), and `labels` (batch,) for a loss."""
        with torch.no_grad():
            hidden = self.encoder(**batch)[0]
        logits = self.head(mean_pool(hidden, batch["attention_mask"]))
        loss = {} if labels is None else {"loss": nn.functional.cross_entropy(logits, labels)}
        return loss | {"logits": logits}


def cached(
    encoder: nn.Module, rows: list[dict[str, Any]], tokenizer: Any, precision: str = "fp32"
) -> np.ndarray:
    """Features (rows, hidden) float32, computed once for these weights, rows and precision.

    The key is the content of weights and rows, not their names, so it cannot be out of date.
    Do not change the array.
    """
    key = (weights_key(encoder), rows_key(rows), precision)
    if key not in _cache:
        _cache[key] = predict(encoder, rows, tokenizer, precision=precision, features=True)
        _cache[key].setflags(write=False)
    _cache.move_to_end(key)
    while len(_cache) > KEPT:
        _cache.popitem(last=False)
    return _cache[key]


def weights_key(module: nn.Module) -> str:
    """A digest of every weight and buffer of `module`.

    >>> weights_key(nn.Linear(2, 2)) == weights_key(nn.Linear(2, 2))
    False
    """
    digest = hashlib.sha256()
    for name, tensor in module.state_dict().items():
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def rows_key(rows: list[dict[str, Any]]) -> str:
    """A digest of what an encoder reads of `rows`: all but their labels.

    >>> rows_key([{"input_ids": [1, 2], "labels": 0}]) == rows_key([{"input_ids": [1, 2]}])
    True
    """
    digest = hashlib.sha256()
    for row in rows:
        seen = {name: list(values) for name, values in row.items() if name != "labels"}
        digest.update(repr(sorted(seen.items())).encode())
    return digest.hexdigest()


def fit_head(
    features: np.ndarray,
    labels: np.ndarray,
    validation: tuple[np.ndarray, np.ndarray],
    *,
    classes: int,
    learning_rate: float,
    seed: int,
) -> tuple[nn.Linear, list[tuple[int, float]]]:
    """Multinomial logistic regression by full-batch AdamW: the head, and its (step, loss) pairs.

    300 steps; of every tenth the head with the best accuracy on `validation` (features and labels)
    is kept, the first among equals. Features are standardised for training, which makes one
    learning rate fit every encoder, and the head that is returned takes them as they are.

    >>> x, y = np.array([[0.0], [1.0], [2.0], [3.0]]), np.array([0, 0, 1, 1])
    >>> head, _ = fit_head(x, y, (x, y), classes=2, learning_rate=0.1, seed=0)
    >>> head(torch.tensor([[0.5], [2.5]])).argmax(-1).tolist()
    [0, 1]
    """
    x, held_out = (torch.tensor(part, dtype=torch.float32) for part in (features, validation[0]))
    y, mean, spread = torch.from_numpy(labels), x.mean(0), x.std(0, correction=0) + 1e-6
    x, held_out = (x - mean) / spread, (held_out - mean) / spread
    torch.manual_seed(seed)
    head = nn.Linear(x.shape[1], classes)
    optimizer = torch.optim.AdamW(head.parameters(), lr=learning_rate, weight_decay=0.01)
    history, best, weights = [], -1.0, {}
    for step in range(1, STEPS + 1):
        loss = nn.functional.cross_entropy(head(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.append((step, loss.item()))
        if step % LOOK == 0:
            with torch.no_grad():
                found = float(np.mean(head(held_out).argmax(-1).numpy() == validation[1]))
            if found > best:
                best, weights = found, {k: v.clone() for k, v in head.state_dict().items()}
    head.load_state_dict(weights)
    return _unstandardised(head, mean, spread), history


@torch.no_grad()
def _unstandardised(head: nn.Linear, mean: torch.Tensor, spread: torch.Tensor) -> nn.Linear:
    """The same function of features as they are: w·(x - m)/s + b = (w/s)·x + (b - (w/s)·m)."""
    head.weight.div_(spread)
    head.bias.sub_(head.weight @ mean)
    return head
