"""The losses that pretraining and fine-tuning minimise, written out by hand.

Does: cross-entropy (label smoothing, ignored positions), binary and multi-label
cross-entropy, mean squared error. Values and gradients equal `torch.nn.functional`, so that a
chapter can show the formula and then go on with the library's faster version.
Also the loss of distillation, against the softened answers of a teacher. Does not: class weights;
contrastive losses are in `contrastive`. Used by chapters 02 (derivation), 03 (what an average over
masked positions means) and 07 (distillation).
"""

from __future__ import annotations

import torch
from torch import Tensor

REDUCTIONS = ("mean", "sum", "none")


def log_sum_exp(scores: Tensor, dim: int = -1) -> Tensor:
    """Logarithm of a sum of exponentials which cannot overflow: `m + log(sum(exp(x - m)))`.

    `m` is the largest score, so the largest exponential is exactly 1. Any `m` gives the same
    value, hence no gradient needs to flow through it. A row of `-inf` gives nan, as in
    `torch.log_softmax`. Shape `(..., C)` -> `(...)`. Equal to `torch.logsumexp`.

    >>> round(float(log_sum_exp(torch.tensor([1000.0, 1000.0]))), 2)  # 1000 + log 2
    1000.69
    """
    largest = scores.detach().amax(dim, keepdim=True)
    return (scores - largest).exp().sum(dim).log() + largest.squeeze(dim)


def log_softmax(scores: Tensor, dim: int = -1) -> Tensor:
    """Log-probabilities: scores minus their log-sum-exp. Shape is kept.

    The largest score is taken off first: `(x - m) - log_sum_exp(x - m)` keeps the digits that
    `x - log_sum_exp(x)` loses when the scores are large (at 1e4, fp32 resolves only 1e-3).

    >>> log_softmax(torch.tensor([0.0, 0.0])).exp().tolist()
    [0.5, 0.5]
    """
    shifted = scores - scores.detach().amax(dim, keepdim=True)
    return shifted - log_sum_exp(shifted, dim).unsqueeze(dim)


def cross_entropy(
    logits: Tensor,
    target: Tensor,
    *,
    label_smoothing: float = 0.0,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> Tensor:
    """Cross-entropy in nats between class scores and class indices.

    With smoothing e over C classes the target distribution is `(1-e) * one_hot + e / C`, so

        loss = -(1 - e) * log p[target] - e * mean_c(log p[c])

    `logits` has shape `(..., C)` (classes last, unlike torch's `(N, C, ...)`), `target` `(...)`
    with integers in `[0, C)` or `ignore_index`. "mean" divides by the positions that are *kept*,
    not by all: the difference is the pitfall of chapter 03. "none" gives `(...)`, 0 where
    ignored.

    When every position is ignored, "mean" is 0/0 = nan with a zero gradient, as in torch. A
    silent 0 would hide a batch without a single label, so the collator has to prevent it.

    Raises ValueError on mismatched shapes, on a target that is no class, and on an unknown
    reduction. Equal to `torch.nn.functional.cross_entropy`; label smoothing after Szegedy et
    al., 2016, "Rethinking the Inception Architecture", section 7.

    >>> logits = torch.zeros(3, 8)  # knows nothing: log 8, whatever the target
    >>> round(float(cross_entropy(logits, torch.tensor([0, 5, -100]))), 4)
    2.0794
    """
    kept = _kept_positions(logits, target, ignore_index)
    log_probs = log_softmax(logits[kept])
    picked = log_probs.gather(-1, target[kept].unsqueeze(-1)).squeeze(-1)
    loss = -picked
    if label_smoothing:
        loss = (1 - label_smoothing) * loss - label_smoothing * log_probs.mean(-1)
    return _reduce(loss, reduction, kept)


def binary_cross_entropy(
    logits: Tensor, target: Tensor, *, mask: Tensor | None = None, reduction: str = "mean"
) -> Tensor:
    """Binary cross-entropy in nats from scores; with one column per label, multi-label.

    A binary classifier is a softmax over two classes of which one has its score pinned to 0:

        loss = -(y * log p1 + (1 - y) * log p0),   (log p0, log p1) = log_softmax((0, x))

    which stays finite for any score, and has the right gradient (1/2 - y) at x = 0, where a new
    head starts. `logits` and `target` share a shape, targets lie in [0, 1]; `mask` (bool, same
    shape) drops positions from the loss and from its mean. Equal to
    `torch.nn.functional.binary_cross_entropy_with_logits`.

    >>> float(binary_cross_entropy(torch.tensor([1000.0]), torch.tensor([0.0])))
    1000.0
    """
    _same_shape(logits, target)
    log_p0, log_p1 = log_softmax(torch.stack((torch.zeros_like(logits), logits), -1)).unbind(-1)
    loss = -(target * log_p1 + (1 - target) * log_p0)
    return _reduce_masked(loss, mask, reduction)


def mean_squared_error(
    prediction: Tensor, target: Tensor, *, mask: Tensor | None = None, reduction: str = "mean"
) -> Tensor:
    """Squared error, for regression: `(prediction - target) ** 2`, averaged.

    The shapes must be the same: `(N, 1)` against `(N,)` would broadcast to `(N, N)` and train
    on nonsense, which torch only warns about. `mask` (bool) drops positions from the loss and
    from its mean. Unit: that of the target, squared. Equal to `torch.nn.functional.mse_loss`.

    >>> float(mean_squared_error(torch.tensor([1.0, 5.0]), torch.tensor([0.0, 2.0])))
    5.0
    """
    _same_shape(prediction, target)
    return _reduce_masked((prediction - target) ** 2, mask, reduction)


def distillation(student: Tensor, teacher: Tensor, temperature: float = 2.0) -> Tensor:
    """`T^2 KL(p_teacher || p_student)` of distributions softened by T, averaged over rows.

    Both are logits (..., C); the teacher gets no gradient. A temperature above 1 shows which wrong
    answers the teacher finds less wrong. It also shrinks the gradient by T^2, which the factor
    undoes, so that the weight of this loss beside another means the same at every T. Equal to
    `T**2 * kl_div(..., reduction="batchmean")`. Source: Hinton, Vinyals and Dean 2015,
    arXiv:1503.02531, section 2. Raises ValueError for a temperature that is not above 0.

    >>> float(distillation(torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 4.0]])))
    0.0
    """
    _same_shape(student, teacher)
    if temperature <= 0:
        raise ValueError(f"temperature is {temperature}: it must be above 0; 1 softens nothing")
    ours, theirs = (log_softmax(x / temperature) for x in (student, teacher.detach()))
    return temperature**2 * (theirs.exp() * (theirs - ours)).sum(-1).mean()


def _kept_positions(logits: Tensor, target: Tensor, ignore_index: int) -> Tensor:
    if logits.shape[:-1] != target.shape:
        raise ValueError(
            f"logits {tuple(logits.shape)} need targets of shape {tuple(logits.shape[:-1])}, "
            f"found {tuple(target.shape)}; classes are the last dimension of the logits"
        )
    kept = target != ignore_index
    outside = kept & ((target < 0) | (target >= logits.shape[-1]))
    if outside.any():
        raise ValueError(
            f"target {int(target[outside][0])} is none of the {logits.shape[-1]} classes; "
            f"classes count from 0, positions without a label carry {ignore_index}"
        )
    return kept


def _same_shape(prediction: Tensor, target: Tensor) -> None:
    if prediction.shape != target.shape:
        raise ValueError(
            f"predictions {tuple(prediction.shape)} and targets {tuple(target.shape)} "
            "must have the same shape; reshape one, broadcasting would pair them wrongly"
        )


def _reduce_masked(loss: Tensor, mask: Tensor | None, reduction: str) -> Tensor:
    kept = torch.ones_like(loss, dtype=torch.bool) if mask is None else mask.bool()
    _same_shape(loss, kept)
    return _reduce(loss[kept], reduction, kept)


def _reduce(loss: Tensor, reduction: str, kept: Tensor) -> Tensor:
    """Reduce the losses of the kept positions, `(kept.sum(),)`; "none" restores the shape."""
    if reduction not in REDUCTIONS:
        raise ValueError(f"reduction {reduction!r} is unknown; choose one of {REDUCTIONS}")
    if reduction == "none":
        return torch.zeros_like(kept, dtype=loss.dtype).masked_scatter(kept, loss)
    # sum / count and not .mean(): with nothing kept it is 0/0 = nan, and its gradient still 0
    return loss.sum() / kept.sum() if reduction == "mean" else loss.sum()
