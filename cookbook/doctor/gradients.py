"""Loss and gradient as training would compute them, without leaving a trace.

It runs the model outside DDP and `torch.compile`, asks a `Trainer` for its loss where there is one,
and never touches `.grad`. It judges nothing: the probes of loss, accumulation and gradient do.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from cookbook.doctor import kinds, preserve, sampling
from cookbook.doctor.subject import IGNORE, Subject

PREFIXES = ("module.", "_orig_mod.")


def forward(subject: Subject, batch: Any) -> Any:
    """The outputs of the model inside DDP and `torch.compile`: the graph can be read."""
    batch = sampling.to_device(batch, subject.device)
    if isinstance(batch, Mapping):
        return subject.bare(**kinds.accepted(subject.bare, batch))
    return subject.bare(batch[0])


def training_loss(subject: Subject, batch: Any) -> tuple[torch.Tensor | None, Any]:
    """The loss that training would descend on this batch alone, and the outputs behind it.

    A `Trainer`'s own `compute_loss` counts first, then `loss_fn`, then the model's loss.
    """
    own = getattr(subject.trainer, "compute_loss", None)
    if own is not None and isinstance(batch, Mapping):
        given = kinds.accepted(subject.bare, sampling.to_device(batch, subject.device))
        return own(subject.bare, given, return_outputs=True)
    outputs = forward(subject, batch)
    return subject.loss_of(outputs, batch), outputs


def gradients(
    compute: Callable[[], torch.Tensor], parameters: Sequence[torch.Tensor]
) -> list[torch.Tensor | None]:
    """d loss / d parameter of what `compute` returns, dense; None where no graph leads there.

    Reentrant checkpointing hides its parameters from `autograd.grad`; then one backward pass is
    run and every `.grad` is put back.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loss = compute()
        if any(type(node).__name__ == "CheckpointFunctionBackward" for node in graph(loss)):
            found = _by_backward(loss, parameters)
        else:
            found = torch.autograd.grad(loss, parameters, allow_unused=True)
    return [g.to_dense() if g is not None and g.is_sparse else g for g in found]


def _by_backward(loss: torch.Tensor, parameters: Sequence[torch.Tensor]) -> list:
    held = [(p, p.grad) for p in parameters]
    for parameter in parameters:
        parameter.grad = None
    try:
        loss.backward()
        return [parameter.grad for parameter in parameters]
    finally:
        for parameter, grad in held:
            parameter.grad = grad


def graph(tensor: torch.Tensor) -> Iterator[Any]:
    """The nodes of the autograd graph behind a tensor, from the tensor backwards."""
    todo, seen = [tensor.grad_fn], {None}
    while todo:
        node = todo.pop()
        if node not in seen:
            seen.add(node)
            yield node
            todo += [parent for parent, _ in node.next_functions]


@contextlib.contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Within, forward passes may draw random numbers and move running statistics; not after."""
    state = preserve.random_state()
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, saved in buffers:
                buffer.copy_(saved)
        preserve.restore_random(state)


def label_counts(subject: Subject, batch: Any) -> tuple[int, int]:
    """(labels that the loss averages over, labels other than -100 in the batch).

    They differ for a decoder that shifts: the first label of a row is no target.
    """
    if isinstance(batch, Mapping) and "shift_labels" in batch:
        labels = batch["shift_labels"]
        return (int((labels != IGNORE).sum()),) * 2
    labels = subject.labels(batch)
    if labels is None:
        return 0, 0
    if labels.is_floating_point():
        return len(labels), len(labels)
    held = int((labels != IGNORE).sum())
    shifts = subject.kind == "causal-lm" and subject.loss_fn is None and labels.dim() == 2
    return (int((labels[:, 1:] != IGNORE).sum()) if shifts else held), held


def sampled(model: nn.Module, count: int = 6, largest: int = 1_000_000) -> dict[str, nn.Parameter]:
    """A few trainable parameters from first to last, by name; small ones, matrices first."""
    named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    fit = [(n, p) for n, p in named if p.numel() <= largest and p.dim() > 1]
    fit = fit or [(n, p) for n, p in named if p.numel() <= largest] or named[-1:]
    step = max(1, (len(fit) - 1) // max(1, count - 1))
    return dict([*fit[::step][: count - 1], *fit[-1:]])


def bare_name(name: str) -> str:
    """A parameter's name without the prefixes of DDP and `torch.compile`.

    >>> bare_name("module._orig_mod.bert.pooler.weight")
    'bert.pooler.weight'
    """
    for prefix in PREFIXES * 2:
        name = name.removeprefix(prefix)
    return name
