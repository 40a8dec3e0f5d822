"""Something is not finite: in which module did it begin?

One forward pass of the latest batch with a hook on each module, on copies of the buffers, the
random state put back. It runs once a run, when a number that is not finite has been seen.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from cookbook.doctor import kinds, preserve


def first(model: nn.Module, inputs: tuple[tuple, dict] | None, what: str) -> str:
    """Where it began, in words: weights, input, a module's output, the loss, or a gradient."""
    for name, parameter in model.named_parameters():
        if parameter.is_floating_point() and not bool(parameter.detach().sum().isfinite()):
            return f"the weights of {name} are not finite already"
    if inputs is None:
        return ""
    if any(not finite(t) for t in tensors(inputs)):
        return "the batch itself holds numbers that are not finite"
    found = _first_module(kinds.unwrapped(model), inputs)
    if found:
        return f"the first output that is not finite is that of {found}"
    if what == "loss":
        return "the outputs are finite: it is the loss function"
    return f"the first gradient that is not finite is that of {_first_gradient(model)}"


def _first_gradient(model: nn.Module) -> str:
    for name, parameter in model.named_parameters():
        if parameter.grad is not None and not finite(parameter.grad):
            return name
    return "no parameter any more"


def _first_module(model: nn.Module, inputs: tuple[tuple, dict]) -> str:
    found: list[str] = []

    def watch(name: str):
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            if not found and any(not finite(t) for t in tensors(output)):
                found.append(f"{name or 'the model'} ({type(module).__name__})")

        return hook

    handles = [m.register_forward_hook(watch(n)) for n, m in model.named_modules()]
    state = preserve.random_state()
    # Copies of the buffers, since a graph that awaits its backward pass may hold those in place.
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    try:
        with torch.no_grad():
            torch.func.functional_call(model, buffers, inputs[0], inputs[1])
    except Exception:  # it ran a moment ago; what stops it now is not what we look for
        return found[0] if found else ""
    finally:
        for handle in handles:
            handle.remove()
        preserve.restore_random(state)
    return found[0] if found else ""


def finite(tensor: torch.Tensor) -> bool:
    """No NaN and no +inf: a mask may well hold -inf."""
    if not tensor.is_floating_point():
        return True
    held = tensor.detach()
    return not bool((held.isnan() | held.isposinf()).any())


def tensors(held: Any) -> list[torch.Tensor]:
    """All tensors in nested tuples, lists, dicts and outputs.

    >>> [t.item() for t in tensors({"a": torch.tensor(1), "b": (torch.tensor(2), None)})]
    [1, 2]
    """
    if isinstance(held, torch.Tensor):
        return [held]
    if hasattr(held, "values"):
        held = held.values()
    if isinstance(held, str | bytes) or not hasattr(held, "__iter__"):
        return []
    return [tensor for part in held for tensor in tensors(part)]
