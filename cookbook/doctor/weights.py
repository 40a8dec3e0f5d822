"""A few hundred numbers that stand for all weights: did they move, how far, against the gradient?

Reads a strided sample of some trainable tensors before and after an optimizer step. It changes
nothing, waits for no device (what it measures stays a tensor there) and judges nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from cookbook.doctor.records import Record, Run

TENSORS, ELEMENTS = 8, 256
SMALL = 1e-3  # root mean square under which a tensor began at zero and has no relative update
HALF = (torch.float16, torch.bfloat16)


def sample(tensor: torch.Tensor) -> torch.Tensor:
    """At most `ELEMENTS` numbers spread over the tensor, as a view where its layout allows.

    >>> sample(torch.arange(1024)).shape
    torch.Size([256])
    """
    flat = tensor.detach().reshape(-1)
    return flat[:: max(1, flat.numel() // ELEMENTS)][:ELEMENTS]


def no_gradient(grad: torch.Tensor | None) -> bool:
    """Whether there is none, or a sample of it is zero; of a sparse one nobody looks.

    >>> no_gradient(None), no_gradient(torch.zeros(3)), no_gradient(torch.ones(3))
    (True, True, False)
    """
    return grad is None or grad.is_sparse or not bool(sample(grad).any())


def readable(tensor: Any) -> bool:
    """Whether a plain sample can be taken: dense, floating, whole on this device, not empty."""
    return (
        isinstance(tensor, torch.Tensor) and tensor.is_floating_point()
        and tensor.layout == torch.strided and type(tensor) in (torch.Tensor, nn.Parameter)
        and tensor.device.type != "meta" and tensor.numel() > 0
    )  # fmt: skip


def choose(
    model: nn.Module, count: int = TENSORS, among: Iterable[torch.Tensor] = ()
) -> dict[str, nn.Parameter]:
    """Trainable tensors spread over the depth, matrices that every row uses before all others.

    `among` are the optimizers' parameters: where they hold any of the model's, only those count.
    """
    tables = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    held = [
        (name, p) for name, p in model.named_parameters() if p.requires_grad and readable(p)
    ]  # fmt: skip
    theirs = {id(p) for p in among}
    held = [(n, p) for n, p in held if id(p) in theirs] or held
    held = [(name, p) for name, p in held if p.device == held[0][1].device]
    matrices = [(n, p) for n, p in held if p.dim() > 1 and id(p) not in tables]
    others = [(n, p) for n, p in held if p.dim() <= 1 or id(p) in tables]
    return dict([*spread(matrices, count), *spread(others, max(2, count - len(matrices)))])


def spread(items: list, count: int) -> list:
    """At most `count` of the items, the first and the last among them.

    >>> spread(list("abcdefg"), 3)
    ['a', 'd', 'g']
    """
    if len(items) <= count:
        return items
    return [items[round(i * (len(items) - 1) / (count - 1))] for i in range(count)]


class ByHand:
    """Do weights move between two backward passes though no optimizer made a step, and whither?

    The cosine of each such move and the gradient before it goes into the run's `by_hand`.
    """

    def __init__(self) -> None:
        self.before: tuple[nn.Parameter, torch.Tensor, torch.Tensor] | None = None

    def look(self, leaf: nn.Parameter, grad: torch.Tensor, run: Run) -> None:
        """At the beginning of a backward pass, with the gradient that it brings."""
        if run.steps:
            return
        now, came = sample(leaf).float().clone(), sample(grad).float().clone()
        if self.before is not None and self.before[0] is leaf:
            moved = now - self.before[1]
            if bool(moved.any()):
                run.facts.setdefault("by_hand", []).append(float(cosine(moved, self.before[2])))
        self.before = (leaf, now, came)


class WeightSamples:
    """Measures one optimizer step: call `before` and `after`, which fills the record."""

    def __init__(self, model: nn.Module, among: Iterable[torch.Tensor] = ()) -> None:
        self.chosen = choose(model, among=among)
        tensors = list(self.chosen.values())
        lengths = [len(sample(p)) for p in tensors]
        device = tensors[0].device if tensors else torch.device("cpu")
        self.of = torch.repeat_interleave(
            torch.arange(len(tensors)), torch.tensor(lengths, dtype=torch.long)
        ).to(device)  # fmt: skip
        self.half = torch.tensor([p.dtype in HALF for p in tensors], dtype=torch.bool).to(device)
        self.any_half = any(p.dtype in HALF for p in tensors)
        weights = self._weights()
        size = torch.bincount(self.of, minlength=len(tensors)).clamp_min(1)
        self.rooted = (self._sums(weights * weights) / size).sqrt() > SMALL
        self.scalable = bool(self.rooted.any()) if tensors else False
        self.old = self.grads = self.anchor = self.touched = self.delta = self.origin = None

    def __len__(self) -> int:
        return len(self.chosen)

    def values(self) -> torch.Tensor:
        """The sampled weights as they are, (elements,)."""
        return self._weights()

    def _weights(self) -> torch.Tensor:
        return _joined(sample(p) for p in self.chosen.values())

    def _gradients(self) -> torch.Tensor | None:
        if not any(p.grad is not None for p in self.chosen.values()):
            return None
        return _joined(
            sample(torch.zeros_like(p) if p.grad is None or p.grad.is_sparse else p.grad)
            for p in self.chosen.values()
        )

    def _sums(self, values: torch.Tensor) -> torch.Tensor:
        return values.new_zeros(len(self.chosen)).index_add_(0, self.of, values)

    def before(self) -> None:
        """Keep the weights and the gradients that the step is about to use."""
        self.old, self.grads = self._weights(), self._gradients()
        self.past, self.delta = self.delta, None
        moved = self.past is not None and self.origin is not None
        self.undone = ((self.old == self.origin).all() & (self.past != 0).any()) if moved else None

    def skip(self) -> None:
        """The coming step is not measured: what the last one did is no longer next to it."""
        self.delta = None

    def after(self, record: Record) -> None:
        """Compare: movement, relative update, angle to the gradient, swallowed updates."""
        if self.old is None or not len(self):
            return
        new, old, grads = self._weights(), self.old, self.grads
        delta = new - old
        record.moved, self.delta = (delta != 0).any(), delta
        record.undone, self.origin = self.undone, old
        if self.scalable:
            ratios = (self._sums(delta * delta) / self._sums(old * old).clamp_min(1e-24)).sqrt()
            record.update = ratios[self.rooted].median()
        if grads is None:
            record.grad = 0.0
        else:
            record.grad = grads.norm()
            record.angle = cosine(delta, grads)
            if self.past is not None:
                record.overshoot = cosine(self.past, grads)
            if self.any_half:
                self._swallowed(record, new, delta, grads)
        self.old = self.grads = None

    def _swallowed(self, record: Record, new: Any, delta: Any, grads: Any) -> None:
        asked = self.half[self.of] & (grads != 0)
        record.swallowed = (asked & (delta == 0)).sum() / asked.sum().clamp_min(1)
        if self.anchor is None:
            self.anchor, self.touched = new.clone(), asked
            return
        self.touched = self.touched | asked
        still = self.touched & (new == self.anchor)
        record.stuck = still.sum() / self.touched.sum().clamp_min(1)


def cosine(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Of two vectors; 0 where one of them is."""
    return (a * b).sum() / (a.norm() * b.norm()).clamp_min(1e-30)


def _joined(parts: Iterable[torch.Tensor]) -> torch.Tensor:
    found = [part.float() for part in parts]
    return torch.cat(found) if found else torch.zeros(0)
