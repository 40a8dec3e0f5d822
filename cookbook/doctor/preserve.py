"""Put everything back: parameters, buffers, gradients, optimizer, schedule, random state, flags.

A probe may run forward, backward and optimizer steps; when it is done, nothing has happened. What
is restored is restored in place and bit for bit, so that optimizers, ties and references that the
reader holds stay valid. It costs a second copy of the model and of the optimizer's state.
"""

from __future__ import annotations

import copy
import random
import types
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
import torch
from torch import nn

# Not followed on the way to generators: what holds none, or is put back by itself.
PASSED_BY = (type, types.ModuleType, nn.Module, torch.Tensor, np.ndarray)


class Snapshot:
    """The state of a model and of what trains it; `restore` brings it back, as often as asked."""

    def __init__(self, model: nn.Module | None, optimizer: Any = None, scheduler: Any = None,
                 others: tuple = ()) -> None:  # fmt: skip
        self.modules = list(model.modules()) if model is not None else []
        self.flags = [module.training for module in self.modules]
        tensors = [*model.parameters(), *model.buffers()] if model is not None else []
        lazy = nn.parameter.UninitializedTensorMixin
        kept = [tensor for tensor in tensors if not isinstance(tensor, lazy)]
        self.tensors = [(tensor, tensor.detach().clone()) for tensor in kept]
        parameters = list(model.parameters()) if model is not None else []
        self.needs = [(p, p.requires_grad) for p in parameters if not isinstance(p, lazy)]
        self.grads = [(p, p.grad, None if p.grad is None else p.grad.clone()) for p in parameters]
        self.optimizers = [(o, _optimizer_state(o)) for o in several(optimizer)]
        self.schedulers = [(s, _attributes(s)) for s in several(scheduler)]
        self.sources = [(source, _read(source)) for o in others for source in random_sources(o)]
        self.random = random_state()

    def restore(self) -> None:
        """Everything as it was when the snapshot was taken."""
        with torch.no_grad():
            for tensor, saved in self.tensors:
                tensor.copy_(saved)
        for parameter, needs in self.needs:
            parameter.requires_grad_(needs)
        for parameter, grad, saved in self.grads:
            parameter.grad = grad if grad is None else grad.copy_(saved)
        for module, flag in zip(self.modules, self.flags, strict=True):
            module.training = flag
        for optimizer, state in self.optimizers:
            _restore_optimizer(optimizer, state)
        for scheduler, attributes in self.schedulers:
            scheduler.__dict__.update(copy.deepcopy(attributes))
        for source, state in self.sources:
            _write(source, state)
        restore_random(self.random)


@contextmanager
def everything(model: nn.Module | None, optimizer: Any = None, scheduler: Any = None,
               others: tuple = ()) -> Iterator[Snapshot]:  # fmt: skip
    """Within, the model may be used and trained; afterwards nothing has happened."""
    snapshot = Snapshot(model, optimizer, scheduler, others)
    try:
        yield snapshot
    finally:
        snapshot.restore()


def unwrap(wrapped: Any) -> Any:
    """The optimizer or schedule inside accelerate's wrapper, or the thing itself."""
    for name in ("optimizer", "scheduler"):
        if type(wrapped).__module__.startswith("accelerate") and hasattr(wrapped, name):
            return getattr(wrapped, name)
    return wrapped


def several(given: Any) -> list[Any]:
    """The optimizers (or schedules) of a run, unwrapped: none, one, or those of a list."""
    if given is None:
        return []
    return [unwrap(one) for one in (given if isinstance(given, list | tuple) else [given])]


def random_state() -> dict[str, Any]:
    """The states of Python's, NumPy's and torch's generators, those of GPUs included."""
    gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {
        "python": random.getstate(), "numpy": np.random.get_state(),
        "torch": torch.get_rng_state(), "cuda": gpus,
    }  # fmt: skip


def restore_random(state: dict[str, Any]) -> None:
    """What `random_state` returned, put back."""
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    torch.set_rng_state(state["torch"])
    if state["cuda"]:
        torch.cuda.set_rng_state_all(state["cuda"])


def random_sources(thing: Any, depth: int = 6) -> list[Any]:
    """The generators that an object holds: a data set, a loader and its data set, a transform.

    Attributes are followed a few levels down, and short lists of them; rows and tensors are not.
    """
    kinds = (torch.Generator, np.random.Generator, np.random.RandomState, random.Random)
    found, seen, level = [], set(), [thing]
    for _ in range(depth):
        below = []
        for value in [v for v in level if id(v) not in seen]:
            seen.add(id(value))
            if isinstance(value, kinds):
                found.append(value)
            elif isinstance(value, list | tuple):
                below += value if len(value) <= 16 else []
            elif not isinstance(value, PASSED_BY):
                below += [*getattr(value, "__dict__", {}).values(), *_closed_over(value)]
        level = below
    return found


def _closed_over(value: Any) -> Iterator[Any]:
    """What a function sees of the function around it, a bound method or a `partial` of its own."""
    for cell in getattr(value, "__closure__", None) or ():
        with suppress(ValueError):  # a name that has no value yet
            yield cell.cell_contents
    for name in ("__self__", "func", "args", "keywords"):
        held = getattr(value, name, None) if callable(value) else None
        if held is not None:
            yield list(held.values()) if isinstance(held, dict) else held


@contextmanager
def attributes(thing: Any, before: dict[str, Any] | None = None) -> Iterator[None]:
    """Within, an object may get other attributes; afterwards it has its own again.

    So a collator that makes its generator when first called has none again, and each worker makes
    one by itself. With `before`, it has these attributes within.
    """
    if not hasattr(thing, "__dict__") or isinstance(thing, PASSED_BY):
        yield
        return
    own = dict(vars(thing))
    try:
        if before is not None:
            _set(thing, before)
        yield
    finally:
        _set(thing, own)


def _set(thing: Any, held: dict[str, Any]) -> None:
    for name in vars(thing).keys() - held.keys():
        del vars(thing)[name]
    vars(thing).update(held)


def _read(source: Any) -> Any:
    if isinstance(source, torch.Generator):
        return source.get_state()
    if isinstance(source, np.random.Generator):
        return copy.deepcopy(source.bit_generator.state)
    return source.get_state() if hasattr(source, "get_state") else source.getstate()


def _write(source: Any, state: Any) -> None:
    if isinstance(source, np.random.Generator):
        source.bit_generator.state = state
    elif hasattr(source, "set_state"):
        source.set_state(state)
    else:
        source.setstate(state)


def _optimizer_state(optimizer: Any) -> Any:
    """[(parameter, {name: (the object, a copy of its content)})] and the groups' values."""
    if not isinstance(optimizer, torch.optim.Optimizer):
        return None
    state = [
        (parameter, {name: (value, copy.deepcopy(value)) for name, value in held.items()})
        for parameter, held in optimizer.state.items()
    ]
    groups = [
        {name: copy.copy(value) for name, value in group.items() if name != "params"}
        for group in optimizer.param_groups
    ]
    return state, groups


def _restore_optimizer(optimizer: Any, saved: Any) -> None:
    if saved is None:
        return
    state, groups = saved
    optimizer.state.clear()
    for parameter, held in state:
        for name, (value, content) in held.items():
            if isinstance(value, torch.Tensor):
                optimizer.state[parameter][name] = value.copy_(content)
            else:
                optimizer.state[parameter][name] = copy.deepcopy(content)
    for group, values in zip(optimizer.param_groups, groups, strict=True):
        for name in group.keys() - values.keys() - {"params"}:
            del group[name]
        group.update({name: copy.copy(value) for name, value in values.items()})


def _attributes(scheduler: Any) -> dict[str, Any]:
    """What a schedule counts: its plain attributes, not its optimizer and not its functions."""
    plain = (int, float, str, bool, list, tuple, type(None))
    held = getattr(scheduler, "__dict__", {})
    return {
        k: copy.deepcopy(v) for k, v in held.items() if isinstance(v, plain) and k != "optimizer"
    }
