"""How large each step is: learning-rate schedules, parameter groups, gradient clipping.

Does: schedules as pure functions of the step (constant, linear, cosine, inverse square root,
warm-up–stable–decay; each begins with a linear warm-up), the groups that spare norms and biases
from weight decay or give every layer its own rate, and clipping by the global norm.
Does not: schedules that look at the loss (reduce on plateau), nor optimizers themselves.
Used by the `Trainer` of this package and by chapters 03 and 08.

A schedule returns the *multiplier* of the peak learning rate for the update number `step`,
which counts from 0: the first update under warm-up has rate 0, as in `transformers`. Values
equal `transformers.get_scheduler` at every step.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from functools import partial

import torch
from torch import Tensor, nn


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
    "cosine": cosine,
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

    >>> optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    >>> scheduler(optimizer, "linear", warmup=0, total=10).get_last_lr()
    [0.1]
    """
    if name not in SCHEDULES:
        raise ValueError(f"schedule {name!r} is unknown; choose one of {', '.join(SCHEDULES)}")
    return torch.optim.lr_scheduler.LambdaLR(optimizer, partial(SCHEDULES[name], **settings))


def decays(model: nn.Module) -> dict[str, bool]:
    """Which trainable parameters take weight decay: all but those of norms, and biases.

    A norm's gain near 0 would silence its channel, and a bias has nothing to overfit with. The
    choice equals `transformers.Trainer.get_decay_parameter_names`. A parameter that two
    modules share is listed once, under its first name.

    >>> decays(nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2)))
    {'0.weight': True, '0.bias': False, '1.weight': False, '1.bias': False}
    """
    norms = {
        f"{prefix}.{name}" if prefix else name
        for prefix, module in model.named_modules()
        if "norm" in type(module).__name__.lower()
        for name, _ in module.named_parameters(recurse=False)
    }
    return {
        name: name not in norms and "bias" not in name
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict]:
    """Two groups for an optimizer: `weight_decay` on the matrices, 0 on norms and biases.

    Frozen parameters are left out; a group without a parameter is left out too.

    >>> groups = parameter_groups(nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3)), 0.01)
    >>> [(len(group["params"]), group["weight_decay"]) for group in groups]
    [(1, 0.01), (3, 0.0)]
    """
    chosen = decays(model)
    groups = [
        {
            "params": [p for name, p in model.named_parameters() if chosen.get(name) is decayed],
            "weight_decay": weight_decay if decayed else 0.0,
        }
        for decayed in (True, False)
    ]
    return [group for group in groups if group["params"]]


def layer_depths(model: nn.Module) -> dict[str, int]:
    """How far each parameter lies below the head: 0 for the head, 1 for the top layer, and so on.

    Layers are the entries of the outermost `ModuleList` (one list per tower). What comes before
    the first layer, or is called an embedding, lies one below the lowest; whatever else stands
    outside the layers (pooler, last norm, head) counts as the head.

    >>> model = nn.Module()
    >>> model.embedding = nn.Embedding(5, 2)
    >>> model.layers = nn.ModuleList(nn.Linear(2, 2, bias=False) for _ in range(3))
    >>> model.head = nn.Linear(2, 2, bias=False)
    >>> layer_depths(model)  # doctest: +NORMALIZE_WHITESPACE
    {'embedding.weight': 4, 'layers.0.weight': 3, 'layers.1.weight': 2, 'layers.2.weight': 1,
     'head.weight': 0}
    """
    lists = {n: len(m) for n, m in model.named_modules() if isinstance(m, nn.ModuleList)}
    outer = {n: k for n, k in lists.items() if not any(n.startswith(f"{o}.") for o in lists)}
    deepest = max(outer.values(), default=0)
    depths, started = {}, False
    for name, _ in model.named_parameters():
        tower = next((n for n in outer if name.startswith(f"{n}.")), None)
        if tower is not None:
            started = True
            depths[name] = outer[tower] - int(name[len(tower) + 1 :].split(".")[0])
        else:
            below = bool(outer) and (not started or re.search("embed", name) is not None)
            depths[name] = deepest + 1 if below else 0
    return depths


def layer_wise_groups(
    model: nn.Module, lr: float, decay: float, weight_decay: float = 0.0
) -> list[dict]:
    """Groups in which the rate shrinks with depth: `lr * decay ** depth`.

    The head gets `lr`, the top layer `lr * decay`, the embeddings the least: low layers hold
    what pretraining taught and should move little (Howard and Ruder, 2018, ULMFiT, with
    `decay` = 1/2.6; BERT and ELECTRA fine-tuning take 0.65 to 0.95). Norms and biases take no
    weight decay. A scheduler multiplies each group's own rate, so the ratios last.

    >>> model = nn.Module()
    >>> model.layers = nn.ModuleList(nn.Linear(2, 2, bias=False) for _ in range(2))
    >>> model.head = nn.Linear(2, 2, bias=False)
    >>> [(group["depth"], group["lr"]) for group in layer_wise_groups(model, 0.1, 0.5)]
    [(2, 0.025), (1, 0.05), (0, 0.1)]
    """
    chosen, depths, groups = decays(model), layer_depths(model), {}
    for name, parameter in model.named_parameters():
        if name in chosen:
            groups.setdefault((-depths[name], not chosen[name]), []).append(parameter)
    return [
        {
            "params": groups[key],
            "lr": lr * decay ** -key[0],
            "weight_decay": 0.0 if key[1] else weight_decay,
            "depth": -key[0],
        }
        for key in sorted(groups)
    ]


def clip_gradients(parameters: Tensor | Iterable[Tensor], max_norm: float) -> Tensor:
    """Shrink all gradients by one factor so that their joint norm is at most `max_norm`.

    One factor for all keeps the direction of the step. Works in place and returns the norm
    *before* clipping, a scalar (0 where there is no gradient): log it, its spikes warn of
    trouble. A nan or infinite norm makes every gradient nan or 0, as in torch. Equal to
    `torch.nn.utils.clip_grad_norm_`; Pascanu et al., 2013.

    >>> weight = nn.Parameter(torch.zeros(2)); weight.grad = torch.tensor([3.0, 4.0])
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
