"""Are loss and gradient of the first batch finite, and do activations fit into fp16 (P1, P2)?

The module whose output is the first to go wrong is named. Inputs that are not finite and batches
without a label are the data's faults, and left to its checks.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import nn

from cookbook.doctor import gradients
from cookbook.doctor.checks import Skip
from cookbook.doctor.findings import Finding
from cookbook.doctor.subject import Subject

ROWS = 8
LARGEST_HALF = 65504.0
# What autocast computes in half precision.
HALVED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Bilinear)


def check_finite(subject: Subject) -> Iterable[Finding]:
    """NaN or infinity in the weights, the loss or the gradient of the first batch."""
    for name, parameter in subject.parameters.items():
        if parameter.is_floating_point() and not bool(parameter.isfinite().all()):
            bad = float((~parameter.isfinite()).float().mean())
            yield _finding(f"{bad:.1%} of the weight {name} are not finite", "weight", name)
            return
    batch = subject.batch(rows=ROWS)
    if batch is None or not _sound(subject, batch):
        raise Skip("does not apply")
    first: list[tuple[str, str]] = []
    with subject.mode(training=False), _outputs(subject.bare, _first_bad(first)):
        loss = gradients.training_loss(subject, batch)[0]
    if loss is None or loss.dim():
        raise Skip("does not apply")
    if not bool(loss.isfinite()):
        name, value = first[0] if first else ("the loss itself", "not finite")
        told = f"the loss of the first batch is {loss.item()}: {name} is the first to be {value}"
        yield _finding(told, "module", name)
    elif loss.requires_grad:
        yield from _gradient(subject, loss)


def _gradient(subject: Subject, loss: torch.Tensor) -> Iterable[Finding]:
    trained = {n: p for n, p in subject.bare.named_parameters() if p.requires_grad}
    grads = gradients.gradients(lambda: loss, list(trained.values()))
    bad = [
        name for name, grad in zip(trained, grads, strict=True)
        if grad is not None and not bool(grad.isfinite().all())
    ]  # fmt: skip
    if bad:
        told = (
            f"the loss {loss.item():.4g} is finite, its gradient is not for {len(bad)} of "
            f"{len(trained)} tensors, {bad[-1]} nearest to the loss"
        )
        yield _finding(told, "parameter", bad[-1])


def _finding(told: str, what: str, name: str) -> Finding:
    return Finding("P1", "error", f"{told} (bound: finite)", measured={what: name})


def _sound(subject: Subject, batch: Any) -> bool:
    """Finite inputs, each row with something to attend to, and at least one label."""
    values = list(batch.values() if isinstance(batch, Mapping) else batch)
    for value in values:
        if isinstance(value, torch.Tensor) and value.is_floating_point():
            if not bool(value.isfinite().all()):
                return False
    mask = batch.get("attention_mask") if isinstance(batch, Mapping) else None
    if isinstance(mask, torch.Tensor) and mask.dim() == 2 and bool((mask.sum(1) == 0).any()):
        return False
    return subject.labels(batch) is None or gradients.label_counts(subject, batch)[0] > 0


def _first_bad(found: list[tuple[str, str]]) -> Callable[[str, nn.Module, torch.Tensor], None]:
    def look(name: str, module: nn.Module, output: torch.Tensor) -> None:
        # A mask may put -inf into scores on purpose; NaN and +inf nobody wants.
        if not found and bool(output.isnan().any()):
            found.append((f"{name} ({type(module).__name__})", "NaN"))
        elif not found and bool((output == float("inf")).any()):
            found.append((f"{name} ({type(module).__name__})", "infinite"))

    return look


@contextlib.contextmanager
def _outputs(
    model: nn.Module, look: Callable[[str, nn.Module, torch.Tensor], None]
) -> Iterator[None]:
    """Within, `look(name, module, output)` sees what every module returns, in order."""

    def hook(name: str) -> Callable:
        def seen(module: nn.Module, _: Any, output: Any) -> None:
            parts = output.values() if isinstance(output, Mapping) else output
            for part in parts if isinstance(parts, tuple | list) else [parts]:
                if isinstance(part, torch.Tensor) and part.is_floating_point():
                    look(name, module, part.detach())

        return seen

    handles = [
        module.register_forward_hook(hook(name or "the model"))
        for name, module in model.named_modules()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def check_fits_half(subject: Subject) -> Iterable[Finding]:
    """The largest activation of a matrix product against what fp16 can hold."""
    batch = subject.batch(rows=ROWS)
    if not getattr(subject.args, "fp16", False) or batch is None or not _sound(subject, batch):
        raise Skip("does not apply")
    largest: dict[str, float] = {}

    def look(name: str, module: nn.Module, output: torch.Tensor) -> None:
        if isinstance(module, HALVED) or type(module).__name__ == "Conv1D":
            largest[name] = max(largest.get(name, 0.0), float(output.abs().max()))

    with torch.no_grad(), subject.mode(training=False), _outputs(subject.bare, look):
        gradients.training_loss(subject, batch)
    name = max(largest, key=lambda n: largest[n], default="")
    if name and largest[name] > LARGEST_HALF:
        yield Finding(
            "P2", "error",
            f"fp16 is asked for, and {name} returns {largest[name]:.4g} (bound: 65,504, the "
            "largest number that fp16 holds)", measured={"activation": largest[name]},
        )  # fmt: skip


CHECKS = (check_finite, check_fits_half)
