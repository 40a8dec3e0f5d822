"""Features so simple that any learnable data set shows in one of them, and a probe over each.

Tokens: bags of words and pairs, first and last tokens, length. Numbers: the values themselves and
their spectrum. Each view is classified by kernel ridge regression in five folds, with the true
labels and with permuted ones: the distance between the two is what the labels owe to their rows.
Plain NumPy; it judges nothing (`alignment_probes` does).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

WIDTH = 1024  # columns into which tokens and pairs are hashed, and to which images are reduced
ENDS = 6  # first and last tokens whose place counts
MODULI = (2, 3, 4, 5, 7, 8, 10)
FOLDS, PERMUTATIONS = 5, 40


@dataclass(frozen=True)
class Probe:
    """One view's result. `distance` is in standard deviations of the permuted twins."""

    view: str
    accuracy: float
    permuted: float
    distance: float


def views(batch: Any) -> Iterator[tuple[str, np.ndarray]]:
    """Name and matrix (rows, columns) of each simple view of a batch of inputs.

    `batch` is a dict or a pair with tensors of equal first dimension; labels are not looked at.
    """
    ids = _field(batch, ("input_ids", "tokens", "ids"), integers=True)
    if ids is not None:
        mask = batch.get("attention_mask") if isinstance(batch, Mapping) else None
        yield from _token_views(ids.cpu().numpy(), None if mask is None else mask.cpu().numpy())
        return
    values = _field(batch, ("pixel_values", "input_values", "input_features", "x"), integers=False)
    if values is not None:
        yield from _number_views(values.float().cpu())


def _field(batch: Any, names: tuple[str, ...], *, integers: bool) -> torch.Tensor | None:
    if not isinstance(batch, Mapping):
        found = batch[0] if isinstance(batch[0], torch.Tensor) else None
    else:
        inputs = {k: v for k, v in batch.items() if isinstance(v, torch.Tensor)}
        found = next((inputs[n] for n in names if n in inputs), None)
        if found is None and not integers:
            floats = [v for v in inputs.values() if v.is_floating_point() and v.dim() > 1]
            found = floats[0] if len(floats) == 1 else None
    if found is None or found.dim() < 2:
        return None
    tokens = not found.is_floating_point() and found.dim() == 2
    return found if tokens == integers else None


def _token_views(ids: np.ndarray, mask: np.ndarray | None) -> Iterator[tuple[str, np.ndarray]]:
    real = np.ones(ids.shape, bool) if mask is None or mask.shape != ids.shape else mask > 0
    words = hashed(ids, real)
    yield "bag of tokens", words
    pairs = hashed(ids[:, :-1] * 7919 + ids[:, 1:] * 104729, real[:, :-1] & real[:, 1:])
    yield "pairs of tokens", np.concatenate([words, pairs], axis=1)
    last = real.shape[1] - 1 - real[:, ::-1].argmax(1)
    first, rows = real.argmax(1), np.arange(len(ids))
    places = [ids[rows, np.minimum(first + k, last)] * 31 + k for k in range(ENDS)]
    places += [ids[rows, np.maximum(last - k, first)] * 37 + 101 + k for k in range(ENDS)]
    ends = hashed(np.stack(places, 1) * 7919, np.ones((len(ids), 2 * ENDS), bool))
    kinds = [[len(set(row[at])), at.sum()] for row, at in zip(ids, real, strict=True)]
    yield "first and last tokens, length", np.concatenate([ends, np.array(kinds, float)], axis=1)
    yield "token numbers", _arithmetic(ids * real)


def _arithmetic(ids: np.ndarray) -> np.ndarray:
    """What toy tasks ask of token numbers: their values by place, remainders of sum and ends."""
    whole = np.concatenate([ids.sum(1, keepdims=True), ids[:, :3], ids[:, -2:]], axis=1)
    rests = [np.eye(k, dtype=np.float32)[whole % k].reshape(len(ids), -1) for k in MODULI]
    return np.concatenate([ids.astype(np.float32), *rests], axis=1)


def hashed(ids: np.ndarray, real: np.ndarray) -> np.ndarray:
    """Square roots of the counts of ids, in `WIDTH` columns."""
    places = ((ids.astype(np.int64) * 2654435761) % 2_147_483_647) % WIDTH
    counts = np.zeros((len(ids), WIDTH), np.float32)
    rows = np.broadcast_to(np.arange(len(ids))[:, None], ids.shape)
    np.add.at(counts, (rows[real], places[real]), 1.0)
    return np.sqrt(counts)


def _number_views(values: torch.Tensor) -> Iterator[tuple[str, np.ndarray]]:
    if values.dim() == 4 and values[0].numel() > 4 * WIDTH:
        values = torch.nn.functional.adaptive_avg_pool2d(values, 24)
    flat = values.flatten(1).numpy()
    yield "raw values", flat
    if flat.shape[1] <= 48:
        first, second = np.triu_indices(flat.shape[1])
        yield "products of values", np.concatenate([flat, flat[:, first] * flat[:, second]], 1)
    if values.shape[-1] >= 32:
        spectrum = np.log1p(np.abs(np.fft.rfft(values.numpy(), axis=-1)))
        yield "spectrum", spectrum.reshape(len(flat), -1)


def kernels(view: str, columns: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """The linear and the Gaussian kernel (rows, rows) of a view's standardised columns."""
    columns = columns.astype(np.float32)
    columns = columns - columns.mean(0)
    spread = columns.std(0)
    columns = columns[:, spread > 1e-6] / spread[spread > 1e-6]
    if not columns.shape[1]:
        return
    linear = columns @ columns.T / columns.shape[1]
    yield view, linear
    squares = np.diag(linear)
    apart = np.maximum(squares[:, None] + squares[None] - 2 * linear, 0)
    yield f"{view}, Gaussian", np.exp(-apart / (np.median(apart) + 1e-9))


def probe(
    view: str, kernel: np.ndarray, labels: np.ndarray, seed: int = 0, *,
    orders: list[np.ndarray] | None = None, fold: np.ndarray | None = None,
) -> Probe:  # fmt: skip
    """Accuracy on held-out folds of ridge regression, with true and with permuted labels.

    `labels` (rows,) are class numbers from 0. `orders` are permutations (rows,) and `fold` the
    number (rows,) of each row's fold, both drawn unless given. The distance is that of the mean
    score of the right class, which shows a weak dependence before accuracy does.
    """
    draw = np.random.default_rng(seed)
    hot = np.eye(labels.max() + 1, dtype=np.float32)[labels]
    if orders is None:
        orders = [draw.permutation(len(labels)) for _ in range(PERMUTATIONS)]
    wanted = np.stack([hot, *(hot[order] for order in orders)])
    centred = wanted - hot.mean(0)
    scores = np.zeros_like(centred)
    fold = draw.permutation(len(labels)) % FOLDS if fold is None else fold
    for k in range(FOLDS):
        seen, held = fold != k, fold == k
        weights = _ridge(kernel, seen, held)
        scores[:, held] = weights @ centred[:, seen]
    right = (scores * centred).sum((1, 2)) / len(labels)
    hits = (scores.argmax(2) == wanted.argmax(2)).mean(1)
    distance = (right[0] - right[1:].mean()) / (right[1:].std() + 1e-12)
    return Probe(view, float(hits[0]), float(hits[1:].mean()), float(distance))


def _ridge(kernel: np.ndarray, seen: np.ndarray, held: np.ndarray) -> np.ndarray:
    """The weight (held, seen) of each seen row in what ridge regression says of a held one."""
    ridge = kernel[np.ix_(seen, seen)].copy()
    ridge[np.diag_indices_from(ridge)] += 0.1 * ridge.trace() / len(ridge) + 1e-6
    return np.linalg.solve(ridge, kernel[np.ix_(seen, held)]).T


def transfer(view: str, kernel: np.ndarray, labels: np.ndarray, held: np.ndarray) -> Probe:
    """Ridge regression on the rows that are not `held`, asked about those that are.

    `kernel` (rows, rows), `labels` (rows,) class numbers from 0, `held` a mask (rows,). What is
    permuted are the labels of the held rows, so the distance says what these owe to their rows.
    """
    draw, seen = np.random.default_rng(0), ~held
    hot = np.eye(labels.max() + 1, dtype=np.float32)[labels]
    scores = _ridge(kernel, seen, held) @ (hot[seen] - hot[seen].mean(0))
    orders = [np.arange(held.sum()), *(draw.permutation(held.sum()) for _ in range(PERMUTATIONS))]
    wanted = np.stack([hot[held][order] for order in orders])
    right = (scores * (wanted - hot[held].mean(0))).sum((1, 2)) / held.sum()
    hits = (scores.argmax(1) == wanted.argmax(2)).mean(1)
    distance = (right[0] - right[1:].mean()) / (right[1:].std() + 1e-12)
    return Probe(view, float(hits[0]), float(hits[1:].mean()), float(distance))
