"""Does the gradient of accumulated micro-batches equal that of one large batch (fault L3)?

`compare_gradients` computes what the gradient should have been and says how far the observed one is
off; `judge` makes a finding of it. Both serve `examine` and the online doctor; neither knows how a
gradient was accumulated. The probe that lets a `Trainer` accumulate is `accumulation_probes`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from cookbook.doctor import gradients, preserve, sampling
from cookbook.doctor.findings import Finding
from cookbook.doctor.subject import Subject

BOUND = 0.02  # relative error of a gradient that is called right
LOOSE = 0.05  # beyond this the observed gradient is no multiple of the reference: no verdict
COARSE = 0.1  # error of a mean of means that is worth a warning …
UNEVEN = 2.0  # … where one micro-batch has so many times the labels of another


@dataclass(frozen=True)
class Fit:
    """observed ≈ ratio · reference. `direction` is what remains, relative; `error` is that of 1."""

    ratio: float
    direction: float
    error: float


@dataclass(frozen=True)
class Comparison:
    """An accumulated gradient against two references, over some sampled parameters.

    `per_label` is the mean over all labels of the window: the gradient of one large batch.
    `per_batch` is the mean of the micro-batches' means. `labels` counts the targets of each
    micro-batch, `labels_held` those that a count without the shift would find.
    """

    per_label: Fit
    per_batch: Fit
    labels: tuple[int, ...]
    labels_held: tuple[int, ...]
    token_level: bool

    @property
    def micro_batches(self) -> int:
        """How many micro-batches were accumulated."""
        return len(self.labels)

    @property
    def ratio(self) -> float:
        """How many times the gradient of one large batch was observed."""
        return self.per_label.ratio

    @property
    def error(self) -> float:
        """‖observed − reference‖ / ‖reference‖, the reference being one large batch."""
        return self.per_label.error


def compare_gradients(
    subject_or_model: Subject | nn.Module,
    micro_batches: Sequence[Any],
    observed: Mapping[str, torch.Tensor | None],
    *,
    loss_fn: Callable | None = None,
    random_states: Sequence[dict[str, Any]] | None = None,
    scale: float = 1.0,
) -> Comparison | None:
    """Recompute the gradient of a window of micro-batches and compare it with the observed one.

    `micro_batches` are the window's batches, dicts or (x, y) pairs; `observed` is parameter name →
    accumulated gradient before clipping and before the optimizer's step, of some trainable
    parameters (names of the wrapped or of the bare model). `random_states` are what
    `preserve.random_state()` gave before each forward pass, so that dropout falls as it fell;
    without them set the model to evaluation mode on both sides. `scale` is the loss scale of a
    `GradScaler` that has not been undone. A gradient that was averaged over ranks is not
    comparable: call it on one process only.

    The model runs in the mode it is in, under the caller's autocast; weights, `.grad`, buffers and
    random state stay as they are. None where nothing can be said: no gradient, a loss that is no
    mean over the rows (a sum, in-batch negatives), no label counted.
    """
    subject = subject_or_model
    if not isinstance(subject, Subject):
        subject = Subject(subject_or_model, loss_fn=loss_fn)
        subject.train.batches = list(micro_batches)  # the kind of task is read from them
    held = {gradients.bare_name(n): g for n, g in observed.items() if g is not None}
    chosen = {n: p for n, p in subject.bare.named_parameters() if n in held}
    if not chosen or not micro_batches or not is_mean(subject, micro_batches[0]):
        return None
    counts = [gradients.label_counts(subject, batch) for batch in micro_batches]
    total = sum(n for n, _ in counts)
    if not total:
        return None
    by_label, by_batch = 0.0, 0.0
    with gradients.undisturbed(subject.bare):
        for place, batch in enumerate(micro_batches):
            if random_states is not None:
                preserve.restore_random(random_states[place])
            one = flat(gradient(subject, batch, chosen), chosen)
            by_label = by_label + one * (counts[place][0] / total)
            by_batch = by_batch + one / len(micro_batches)
    seen = flat([held[name] for name in chosen], chosen) / scale
    if not (float(seen.norm()) and float(by_label.norm()) and bool(seen.isfinite().all())):
        return None
    labels, labels_held = zip(*counts, strict=True)
    return Comparison(
        fit(seen, by_label), fit(seen, by_batch), labels, labels_held,
        token_level=token_level(subject, micro_batches[0]),
    )  # fmt: skip


def gradient(subject: Subject, batch: Any, chosen: Mapping[str, torch.Tensor]) -> list:
    """The gradient of this batch's own mean loss for the chosen parameters."""
    return gradients.gradients(
        lambda: gradients.training_loss(subject, batch)[0], list(chosen.values())
    )


def flat(grads: Sequence[torch.Tensor | None], like: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Gradients as one vector in fp64 on the CPU; None counts as zero."""
    parts = [
        torch.zeros(p.numel(), dtype=torch.float64) if g is None else _dense(g)
        for g, p in zip(grads, like.values(), strict=True)
    ]
    return torch.cat(parts)


def _dense(grad: torch.Tensor) -> torch.Tensor:
    grad = grad.detach()
    return (grad.to_dense() if grad.is_sparse else grad).flatten().to("cpu", torch.float64)


def fit(observed: torch.Tensor, reference: torch.Tensor) -> Fit:
    """The multiple of the reference that comes nearest to what was observed.

    >>> fit(torch.tensor([4.0, 8.0]), torch.tensor([1.0, 2.0]))
    Fit(ratio=4.0, direction=0.0, error=3.0)
    """
    norm = reference.norm()
    ratio = float((observed @ reference) / norm**2)
    nearest = (ratio * reference).norm().clamp_min(1e-30)
    direction = float((observed - ratio * reference).norm() / nearest)
    return Fit(ratio, direction, float((observed - reference).norm() / norm))


def is_mean(subject: Subject, batch: Any) -> bool:
    """Whether the loss is a mean over rows: the same for a batch and for that batch twice over."""
    with torch.no_grad(), subject.mode(training=False), gradients.undisturbed(subject.bare):
        once = gradients.training_loss(subject, batch)[0]
        twice = gradients.training_loss(subject, doubled(batch))[0]
    if once is None or twice is None or once.dim():
        return False
    return abs(float(twice - once)) <= 0.01 * abs(float(once)) + 1e-6


def doubled(batch: Any) -> Any:
    """The batch with each of its rows twice."""
    size = sampling.batch_size(batch)

    def twice(value: Any) -> Any:
        rows = isinstance(value, torch.Tensor) and value.dim() and len(value) == size
        return torch.cat([value, value]) if rows else value

    if isinstance(batch, Mapping):
        return {name: twice(value) for name, value in batch.items()}
    return type(batch)(twice(value) for value in batch)


def token_level(subject: Subject, batch: Any) -> bool:
    """Whether the loss averages over tokens, of which rows hold different numbers."""
    labels = subject.labels(batch)
    return labels is not None and labels.dim() > 1 and not labels.is_floating_point()


def judge(found: Comparison, *, configured: int | None = None, how: str = "") -> Finding | None:
    """L3 if the accumulated gradient is a multiple of what it should be, or of other weights.

    `configured` is the run's number of micro-batches where fewer were tried; `how` says who
    accumulates. None where the two agree, and where the observed gradient is no multiple of the
    reference at all (dropout that fell otherwise, gradients left over): that is another fault's.
    """
    best = min(found.per_label, found.per_batch, key=lambda f: f.direction)
    if best.direction > LOOSE:
        return None
    counted = sum(found.labels) / max(1, sum(found.labels_held))
    if all(abs(best.ratio / right - 1) > BOUND for right in (1.0, counted)):
        return _multiple(found, best, configured, how)
    few, many = min(found.labels), max(found.labels)
    uneven = found.token_level and many >= UNEVEN * max(1, few)
    if best is found.per_batch and uneven and found.per_label.error > COARSE:
        return _mean_of_means(found, how)
    return None


def _multiple(found: Comparison, best: Fit, configured: int | None, how: str) -> Finding:
    more = f"; the run accumulates {configured}" if (configured or 0) > found.micro_batches else ""
    return Finding(
        "L3", "error",
        f"the gradient of {found.micro_batches} accumulated micro-batches is ×{best.ratio:.3g} "
        f"({best.ratio:.2f} times) that of the same rows in one batch (bound: 2 % off){how}{more}",
        measured={"ratio": best.ratio, "relative_error": found.error,
                  "micro_batches": found.micro_batches},
    )  # fmt: skip


def _mean_of_means(found: Comparison, how: str) -> Finding:
    return Finding(
        "L3", "warn",
        f"micro-batches with {min(found.labels)} to {max(found.labels)} labels count alike: the "
        f"accumulated gradient is {found.error:.0%} off that of one batch (bound: 10 %){how}",
        measured={"ratio": found.ratio, "relative_error": found.error,
                  "micro_batches": found.micro_batches},
    )  # fmt: skip
