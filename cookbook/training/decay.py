"""What weight decay takes from each weight, measured with everything else held the same.

It records the gradients of some weights in one real run, and lets formulas replay them with and
without decay: what differs then is the decay's doing. It trains nothing. Chapter 08 uses it to tell
coupled from decoupled decay.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn


@dataclass
class Recording:
    """Some weights of a model as they were, (weights,), and their gradients, (weights,) a step."""

    start: torch.Tensor
    gradients: list[torch.Tensor] = field(default_factory=list)

    @property
    def gradient_size(self) -> torch.Tensor:
        """Root mean square over the steps, (weights,)."""
        return torch.stack(self.gradients).square().mean(0).sqrt()


@contextlib.contextmanager
def recorded(
    model: nn.Module, optimizer: torch.optim.Optimizer, *, count: int = 200, seed: int = 0
) -> Iterator[Recording]:
    """Within, each step's gradients of `count` weights of every matrix are written down.

    They are recorded as the optimizer gets them. A matrix without a gradient counts as one of
    zeros, a smaller one is taken whole.

    >>> model = nn.Linear(3, 2)
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    >>> with recorded(model, optimizer) as recording:
    ...     model(torch.ones(1, 3)).sum().backward()
    ...     optimizer.step()
    >>> recording.gradients
    [tensor([1., 1., 1., 1., 1., 1.])]
    """
    draw = torch.Generator().manual_seed(seed)
    places = [
        (x, torch.randperm(x.numel(), generator=draw)[:count].to(x.device))
        for x in model.parameters()
        if x.ndim >= 2 and x.requires_grad
    ]

    def some(tensors: Iterator[torch.Tensor]) -> torch.Tensor:
        chosen = zip(tensors, places, strict=True)
        return torch.cat([t.detach().flatten()[where].cpu().float() for t, (_, where) in chosen])

    def write(*_: object) -> None:
        grads = (torch.zeros_like(x) if x.grad is None else x.grad for x, _ in places)
        recording.gradients.append(some(grads))

    recording = Recording(some(x for x, _ in places))
    hook = optimizer.register_step_pre_hook(write)
    try:
        yield recording
    finally:
        hook.remove()


def felt(
    formula: Callable[..., torch.Tensor],
    recording: Recording,
    *,
    rate: float,
    decay: float,
    **settings: Any,
) -> torch.Tensor:
    """How much of each weight the decay took, (weights,), in units of rate · decay · weight.

    `formula` is one of `maths.optimizers`; it replays the recorded gradients at a constant rate
    with and without `decay`. 1 is what decoupled decay promises to every weight, and what plain SGD
    gives; weights of exactly 0 come out as nan.

    >>> from cookbook.maths.optimizers import adamw
    >>> one = Recording(torch.tensor([2.0]), [torch.tensor([0.3])] * 5)
    >>> round(float(felt(adamw, one, rate=0.01, decay=0.1)), 6)
    1.0
    """
    plain, decayed = (
        _replay(formula, recording, rate=rate, decay=strength, **settings)
        for strength in (0.0, decay)
    )
    promised = rate * decay * decayed[:-1].sum(0)
    return ((plain[-1] - decayed[-1]) / promised).float()


def _replay(
    formula: Callable[..., torch.Tensor], recording: Recording, **settings: Any
) -> torch.Tensor:
    """The weights before each step and after the last, (steps + 1, weights)."""
    state: dict[str, Any] = {}
    path = [recording.start.double()]
    for gradient in recording.gradients:
        path.append(formula(path[-1], gradient.double(), state, **settings))
    return torch.stack(path)


def by_size(
    sizes: torch.Tensor, values: torch.Tensor, *, groups: int = 12
) -> list[tuple[float, float]]:
    """(median size, median value) of equally large groups of weights, the smallest sizes first.

    Weights with size 0 are left out: they have no place on a logarithmic axis.

    >>> by_size(torch.tensor([1.0, 2.0, 0.0, 3.0, 4.0]), torch.tensor([5.0, 5.0, 9.0, 7.0, 7.0]),
    ...         groups=2)
    [(1.0, 5.0), (3.0, 7.0)]
    """
    kept = (sizes > 0) & values.isfinite()
    order = sizes[kept].argsort()
    pairs = zip(sizes[kept][order].chunk(groups), values[kept][order].chunk(groups), strict=True)
    return [(float(size.median()), float(value.median())) for size, value in pairs]


def untouched_rows(model: nn.Module, rows: Sequence[dict[str, Any]]) -> torch.Tensor:
    """Ids of the word table's rows that no token of `rows` names, special tokens (below 5) aside.

    They get no gradient: whatever happens to them, the optimizer's decay did it.
    """
    table = model.get_input_embeddings().weight
    seen = torch.zeros(len(table), dtype=torch.bool)
    for row in rows:
        seen[torch.as_tensor(row["input_ids"])] = True
    seen[:5] = True
    return (~seen).nonzero().flatten()
