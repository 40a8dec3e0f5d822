"""Optimizers by name over the right groups, and formulas and pairs of optimizers as optimizers.

Does: build SGD, momentum, Adam, AdamW, LAMB or Muon for a model, with layer-wise rates and with
norms and biases spared from decay; make a `torch.optim.Optimizer` of any formula in
`maths.optimizers`; step two optimizers as one. Does not: change rates over time (`schedules`).
Used by chapter 08 and by `finetuning.trials`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from torch import nn

from cookbook.maths import optimizers as by_hand
from cookbook.training.groups import hidden_matrices, layer_wise_groups


class ByHand(torch.optim.Optimizer):
    """A formula of `maths.optimizers` as an optimizer: `ByHand(groups, lamb, lr=2e-3)`.

    The formula's `rate` and `decay` are `lr` and `weight_decay` here, so that schedules and groups
    find them; `settings` are handed to it as they are. For reading and for small models: each
    parameter costs a few calls of Python.

    >>> x = nn.Parameter(torch.tensor([1.0]))
    >>> x.grad = torch.tensor([2.0])
    >>> ByHand([x], by_hand.sgd, lr=0.1).step()
    >>> x.data
    tensor([0.8000])
    """

    def __init__(
        self,
        params: Iterable,
        formula: Callable[..., torch.Tensor],
        lr: float,
        weight_decay: float = 0.0,
        **settings: Any,
    ) -> None:
        self.formula, self.settings = formula, settings
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """One update of every parameter that has a gradient."""
        for group in self.param_groups:
            settings = {"rate": group["lr"], "decay": group["weight_decay"], **self.settings}
            for x in group["params"]:
                if x.grad is not None:
                    x.copy_(self.formula(x, x.grad, self.state[x], **settings))


class Together(torch.optim.Optimizer):
    """Several optimizers, each with its own parameters, that schedules and loops see as one.

    The groups are the very dicts of the parts, so a schedule that changes a rate here changes it
    there. Raises ValueError where two parts hold the same parameter.

    >>> a, b = nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2))
    >>> both = Together(torch.optim.SGD([a], lr=0.1), torch.optim.AdamW([b], lr=0.2))
    >>> [group["lr"] for group in both.param_groups]
    [0.1, 0.2]
    """

    def __init__(self, *parts: torch.optim.Optimizer) -> None:
        self.parts = parts
        super().__init__([group for part in parts for group in part.param_groups], {})
        self._share()

    def _share(self) -> None:
        self.param_groups = [group for part in self.parts for group in part.param_groups]
        for part in self.parts:
            self.state.update(part.state)

    def step(self, closure: None = None) -> None:
        """One step of each part."""
        for part in self.parts:
            part.step()
            self.state.update(part.state)  # the same tensors, for who looks at them

    def state_dict(self) -> dict[str, Any]:
        """The states of the parts, in their order."""
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Fill each part with its own state."""
        for part, state in zip(self.parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        self.state.clear()
        self._share()


def muon(groups: list[dict], lr: float, *, matrices: set[int]) -> torch.optim.Optimizer:
    """Muon for the parameters whose `id` is in `matrices`, AdamW for all others of `groups`.

    Muon's steps are scaled to the size that AdamW's have (0.2 √max(rows, columns), Liu et al. 2025,
    arXiv:2502.16982), so that one rate serves both. Raises ValueError where torch has no Muon.
    """
    if not hasattr(torch.optim, "Muon"):
        raise ValueError(f"torch {torch.__version__} has no Muon: torch 2.9 was the first to")
    sides = [
        [
            {**group, "params": kept}
            for group in groups
            if (kept := [x for x in group["params"] if (id(x) in matrices) is inside])
        ]
        for inside in (True, False)
    ]
    parts = (partial(torch.optim.Muon, adjust_lr_fn="match_rms_adamw"), torch.optim.AdamW)
    return Together(*(part(side, lr=lr) for part, side in zip(parts, sides, strict=True) if side))


OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "SGD": torch.optim.SGD,
    "momentum": partial(torch.optim.SGD, momentum=0.9),
    "Adam": torch.optim.Adam,
    "AdamW": torch.optim.AdamW,
    "LAMB": partial(ByHand, formula=by_hand.lamb),
    "Muon": muon,
}


def build(
    model: nn.Module,
    name: str,
    rate: float,
    *,
    weight_decay: float = 0.01,
    spare_norms: bool = True,
    layer_decay: float = 1.0,
) -> torch.optim.Optimizer:
    """The optimizer `name` of `OPTIMIZERS` for the trainable parameters of `model`.

    `weight_decay` leaves norms and biases out unless `spare_norms` is False; "SGD", "momentum" and
    "Adam" couple it to the gradient. With `layer_decay` below 1 the rate shrinks with the depth
    below the head. Raises ValueError for an unknown name.

    >>> optimizer = build(nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2)), "AdamW", 1e-3)
    >>> [(len(group["params"]), group["weight_decay"]) for group in optimizer.param_groups]
    [(1, 0.01), (3, 0.0)]
    """
    if name not in OPTIMIZERS:
        raise ValueError(f"optimizer {name!r} is unknown; choose one of {', '.join(OPTIMIZERS)}")
    groups = layer_wise_groups(model, rate, layer_decay, weight_decay)
    if not spare_norms:
        groups = [{**group, "weight_decay": weight_decay} for group in groups]
    more = {}
    if name == "Muon":
        named = dict(model.named_parameters())
        more["matrices"] = {id(named[n]) for n in hidden_matrices(model)[0]}
    return OPTIMIZERS[name](groups, lr=rate, **more)


def gap(
    model: nn.Module,
    one: Callable[..., torch.optim.Optimizer],
    other: Callable[..., torch.optim.Optimizer],
    *,
    steps: int = 50,
    seed: int = 0,
) -> float:
    """The largest difference between two copies of `model` that were trained side by side.

    `one` and `other` make an optimizer of parameters. Each step both copies see the same random
    inputs (16, in) for the first linear layer, and lower the mean square of what comes out.

    >>> net = nn.Linear(3, 2)
    >>> gap(net, partial(torch.optim.SGD, lr=0.1), partial(torch.optim.SGD, lr=0.1))
    0.0
    """
    pair = [copy.deepcopy(model) for _ in range(2)]
    steppers = [build(m.parameters()) for m, build in zip(pair, (one, other), strict=True)]
    first = next(m for m in model.modules() if isinstance(m, nn.Linear))
    draw = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        x = torch.randn(16, first.in_features, generator=draw, dtype=first.weight.dtype)
        for copied, optimizer in zip(pair, steppers, strict=True):
            optimizer.zero_grad()
            copied(x).square().mean().backward()
            optimizer.step()
    weights = zip(*(m.parameters() for m in pair), strict=True)
    return max(float((a - b).detach().abs().max()) for a, b in weights)
