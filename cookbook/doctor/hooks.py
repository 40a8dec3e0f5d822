"""Hooks that leave no trace: not in copies of the model, not in checkpoints, not after the run.

A hook of ours must survive what people do to a model while it trains (`copy.deepcopy` for an
average of weights, `torch.save` of the whole thing) and must never end a run: an exception inside
it turns it off. What its calls cost is added up.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any


class Cost:
    """CPU seconds spent inside hooks, by this thread, and why a hook was turned off."""

    def __init__(self) -> None:
        self.seconds, self.calls, self.failure = 0.0, 0, ""


class Hook:
    """Calls `function` until it fails once; copies and pickles of it do nothing."""

    __torch_unserializable__ = True  # torch then saves the tensor without a warning

    def __init__(self, function: Callable | None = None, cost: Cost | None = None) -> None:
        self.function, self.cost = function, cost or Cost()

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        if self.function is None:
            return
        began = time.thread_time()
        try:
            self.function(*args, **kwargs)
        except Exception as error:  # the run is more important than what we think of it
            self.function = None
            self.cost.failure = f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
        self.cost.seconds += time.thread_time() - began
        self.cost.calls += 1

    def __deepcopy__(self, memo: dict) -> Hook:
        return Hook()

    def __reduce__(self) -> tuple:
        return Hook, ()


def intercept(thing: Any, method: str, before: Callable | None = None,
              after: Callable | None = None) -> Callable[[], None]:  # fmt: skip
    """Have `before(*args, **kwargs)` and `after(result)` called around a method of one object.

    The method is replaced on a class of the object's own, since what stands in an object's
    `__dict__` is saved with a schedule or a scaler. Returns the function that undoes it; where the
    class cannot be replaced, nothing happens.
    """
    own = type(thing)
    original = getattr(own, method)

    def called(self: Any, *args: Any, **kwargs: Any) -> Any:
        if before is not None:
            before(*args, **kwargs)
        result = original(self, *args, **kwargs)
        if after is not None:
            after(result)
        return result

    try:
        held = {method: called, "__module__": own.__module__, "__qualname__": own.__qualname__}
        thing.__class__ = type(own.__name__, (own,), held)
    except TypeError:
        return lambda: None

    def undo() -> None:
        thing.__class__ = own

    return undo


def intercept_all(kind: type, method: str, before: Callable | None = None,
                  after: Callable | None = None) -> Callable[[], None]:  # fmt: skip
    """Have `before(thing, *args, **kwargs)` and `after(thing, result)` called for all of a class.

    Returns the function that undoes it, unless somebody else has replaced the method since.
    """
    original = kind.__dict__[method]

    @functools.wraps(original)
    def called(self: Any, *args: Any, **kwargs: Any) -> Any:
        if before is not None:
            before(self, *args, **kwargs)
        result = original(self, *args, **kwargs)
        if after is not None:
            after(self, result)
        return result

    setattr(kind, method, called)

    def undo() -> None:
        if kind.__dict__.get(method) is called:
            setattr(kind, method, original)

    return undo
