"""How large each step is: learning-rate schedules, and gradient clipping.

Does: schedules as pure functions of the step (constant, linear, polynomial, cosine with and
without restarts, inverse square root, warm-up–stable–decay; each begins with a linear warm-up),
and clipping by the global norm.
Does not: schedules that look at the loss (reduce on plateau), nor the rates of single layers
(`groups`), nor optimizers themselves (`optimizers`).
Used by the `Trainer` of this package and by chapters 03 and 08.

A schedule returns the *multiplier* of the peak learning rate for the update number `step`,
which counts from 0: the first update under warm-up has rate 0, as in `transformers`. Values
equal `transformers.get_scheduler` at every step.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import partial

import torch
from torch import Tensor


def warm_up(step: int, warmup: int) -> float:
    """Linear rise from 0 to 1 within `warmup` steps, then 1.

    >>> [warm_up(step, 4) for step in (0, 1, 4, 9)]
    [0.0, 0.25, 1.0, 1.0]
    """
    return min(1.0, step / warmup) if warmup else 1.0


def constant(step: int, *, warmup: int = 0) -> float:
    """Warm-up, then the peak rate for ever. `constant_with_warmup` in transformers.

    >>> constant(10**6)
    1.0
    """
    return warm_up(step, warmup)


def linear(step: int, *, warmup: int = 0, total: int) -> float:
    """Warm-up, then a straight line that reaches 0 at step `total` (BERT: Devlin et al., 2019).

    >>> [linear(step, warmup=2, total=10) for step in (1, 2, 6, 10, 11)]
    [0.5, 1.0, 0.5, 0.0, 0.0]
    """
    if step < warmup:
        return warm_up(step, warmup)
    return max(0.0, (total - step) / max(1, total - warmup))


def cosine(step: int, *, warmup: int = 0, total: int, cycles: float = 0.5) -> float:
    """Warm-up, then half a cosine down to 0 at `total` (Loshchilov and Hutter, 2017, SGDR).

    `cycles` counts waves: at 0.5 the rate falls once; at more it rises again.

    >>> [round(cosine(step, total=10), 3) for step in (0, 5, 10)]
    [1.0, 0.5, 0.0]
    """
    if step < warmup:
        return warm_up(step, warmup)
    return max(0.0, _half_cosine((step - warmup) / max(1, total - warmup), cycles))


def polynomial(
    step: int, *, warmup: int = 0, total: int, power: float = 1.0, end: float = 0.0
) -> float:
    """Warm-up, then `(share of the run that is left) ** power`, down to `end` at step `total`.

    `end` is a share of the peak rate; transformers asks for the rate itself, `lr_end`, 1e-7 unless
    given. With power 1 and end 0 it is `linear`. Raises ValueError for an end above the peak.

    >>> [polynomial(step, total=10, power=2.0) for step in (0, 5, 10)]
    [1.0, 0.25, 0.0]
    """
    if end > 1:
        raise ValueError(f"end is {end}: it is a share of the peak rate, at most 1")
    if step < warmup:
        return warm_up(step, warmup)
    left = max(0.0, (total - step) / max(1, total - warmup))
    return (1 - end) * left**power + end


def cosine_with_restarts(step: int, *, warmup: int = 0, total: int, cycles: int = 1) -> float:
    """Warm-up, then `cycles` half cosines, each from the peak down (Loshchilov and Hutter, 2017).

    >>> [round(cosine_with_restarts(s, total=8, cycles=2), 3) for s in (0, 2, 4, 6, 8)]
    [1.0, 0.5, 1.0, 0.5, 0.0]
    """
    if step < warmup:
        return warm_up(step, warmup)
    progress = (step - warmup) / max(1, total - warmup)
    return max(0.0, _half_cosine(cycles * progress % 1.0)) if progress < 1 else 0.0


def inverse_square_root(step: int, *, warmup: int = 0, timescale: int | None = None) -> float:
    """Warm-up, then `1 / sqrt(1 + (step - warmup) / timescale)`: needs no end (Vaswani, 2017).

    `timescale` is `warmup` unless given (10,000 where there is no warm-up).

    >>> [inverse_square_root(step, warmup=100) for step in (50, 100, 400)]
    [0.5, 1.0, 0.5]
    """
    if step < warmup:
        return warm_up(step, warmup)
    timescale = timescale or warmup or 10_000
    return 1.0 / math.sqrt((step + timescale - warmup) / timescale)


def warmup_stable_decay(
    step: int,
    *,
    warmup: int = 0,
    total: int,
    decay: int,
    minimum: float = 0.0,
    shape: str = "cosine",
) -> float:
    """Warm-up, a plateau at the peak, then `decay` steps down to `minimum` (MiniCPM, 2024).

    The plateau can be prolonged later, since only the last steps know the end of the run.
    `shape` of the decay: "cosine", "linear" or "1-sqrt". `minimum` is also where warm-up starts.

    >>> [warmup_stable_decay(s, warmup=2, total=10, decay=4) for s in (1, 2, 6, 8, 10)]
    [0.5, 1.0, 1.0, 0.5, 0.0]
    """
    left = total - step
    if step < warmup:
        factor = warm_up(step, warmup)
    elif left > decay:
        factor = 1.0
    else:
        factor = DECAY_SHAPES[shape](1 - left / max(1, decay)) if left > 0 else 0.0
    return max(0.0, factor * (1 - minimum) + minimum)


def _half_cosine(progress: float, cycles: float = 0.5) -> float:
    return 0.5 * (1 + math.cos(math.pi * cycles * 2 * progress))


DECAY_SHAPES = {
    "cosine": _half_cosine,
    "linear": lambda progress: 1 - progress,
    "1-sqrt": lambda progress: 1 - math.sqrt(progress),
}

SCHEDULES = {
    "constant": constant,
    "linear": linear,
    "polynomial": polynomial,
    "cosine": cosine,
    "cosine_with_restarts": cosine_with_restarts,
    "inverse_sqrt": inverse_square_root,
    "warmup_stable_decay": warmup_stable_decay,
}


def scheduler(
    optimizer: torch.optim.Optimizer, name: str, **settings
) -> torch.optim.lr_scheduler.LambdaLR:
    """A torch scheduler that applies the schedule `name` of `SCHEDULES` to every group.

    `settings` are the schedule's own arguments, such as `warmup=100, total=1000`. Call `.step()`
    once per *update* of the optimizer, not once per micro-batch: stepped too often, the rate
    is at 0 long before the run ends.

    >>> optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    >>> scheduler(optimizer, "linear", warmup=0, total=10).get_last_lr()
    [0.1]
    """
    if name not in SCHEDULES:
        raise ValueError(f"schedule {name!r} is unknown; choose one of {', '.join(SCHEDULES)}")
    return torch.optim.lr_scheduler.LambdaLR(optimizer, partial(SCHEDULES[name], **settings))


def clip_gradients(parameters: Tensor | Iterable[Tensor], max_norm: float) -> Tensor:
    """Shrink all gradients by one factor so that their joint norm is at most `max_norm`.

    One factor for all keeps the direction of the step. Works in place and returns the norm
    *before* clipping, a scalar (0 where there is no gradient): log it, its spikes warn of
    trouble. A nan or infinite norm makes every gradient nan or 0, as in torch. Equal to
    `torch.nn.utils.clip_grad_norm_`; Pascanu et al., 2013.

    >>> weight = torch.nn.Parameter(torch.zeros(2)); weight.grad = torch.tensor([3.0, 4.0])
    >>> float(clip_gradients([weight], 1.0)), [round(float(g), 3) for g in weight.grad]
    (5.0, [0.6, 0.8])
    """
    parameters = [parameters] if isinstance(parameters, Tensor) else parameters
    gradients = [p.grad for p in parameters if p.grad is not None]
    if not gradients:
        return torch.tensor(0.0)
    with torch.no_grad():
        home = gradients[0].device  # a sharded model has gradients on several devices
        norm = torch.stack([gradient.norm().to(home) for gradient in gradients]).norm()
        factor = (max_norm / (norm + 1e-6)).clamp(max=1.0)
        for gradient in gradients:  # no `if norm > max_norm`: reading it would wait for the GPU
            gradient.mul_(factor.to(gradient.device))
    return norm
