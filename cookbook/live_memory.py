"""How many bytes of tensors are alive, and at most: `with LiveMemory(model) as memory: …`.

It counts storages, each once, from the operation that made them until nothing refers to them any
more, on the CPU and on a GPU alike. It does not see what lies inside one operation (workspaces),
what the allocator keeps in reserve, sparse tensors, nor Python; `peak_resident_bytes` gives the
whole process. Chapters 05, 06 and 10 use it; `calculator` predicts what it measures.
"""

from __future__ import annotations

import re
import sys
import weakref
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveMemory(TorchDispatchMode):
    """A context in which every tensor that is made counts until it dies.

    `held` are modules, optimizers, tensors or nests of them that are there before: they count from
    the start, gradients and optimizer state included. `live` and `peak` are in bytes. Tensors on
    the meta device hold nothing and count nothing; fake tensors count as what they pretend to be.
    Counting costs some 20 microseconds an operation, so no time is measured inside. What autograd
    saves for the backward pass is a tensor like any other. A storage is known by its Python object,
    which torch keeps as long as the storage (torch.distributed's memory tracker does the same).

    >>> with LiveMemory() as memory:
    ...     a = torch.zeros(1000)
    ...     b = a + 1
    ...     view = b[:10]
    ...     del a
    >>> memory.peak, memory.live
    (8000, 4000)
    """

    def __init__(self, *held: Any) -> None:
        super().__init__()
        self.live = self.peak = 0
        self._sizes: dict[int, int] = {}  # by the storage object's id, while it lives
        self._graves: dict[int, weakref.finalize] = {}
        for tensor in _tensors(held):
            self._count(tensor)

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        """Run the operation, then count what it returned (torch calls this)."""
        result = function(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor):
                self._count(leaf)
        return result

    def __exit__(self, *error: Any) -> None:
        """What dies outside does not count, so `live` stays what it was at the end."""
        super().__exit__(*error)
        for grave in self._graves.values():
            grave.detach()

    def _count(self, tensor: torch.Tensor) -> None:
        try:
            storage = tensor.untyped_storage()
        except (NotImplementedError, RuntimeError):  # sparse tensors have no storage
            return
        # A fake tensor's storage is on the meta device; the tensor says where it would be.
        key, size = id(storage), 0 if tensor.device.type == "meta" else storage.nbytes()
        if key not in self._sizes:
            self._graves[key] = weakref.finalize(storage, self._bury, key)
        self.live += size - self._sizes.get(key, 0)  # a storage can grow
        self._sizes[key] = size
        self.peak = max(self.peak, self.live)

    def _bury(self, key: int) -> None:
        self.live -= self._sizes.pop(key)
        del self._graves[key]


def tensor_bytes(*held: Any) -> int:
    """Bytes of the tensors in modules, optimizers and nests of them; shared storage counts once.

    >>> tensor_bytes(torch.nn.Linear(3, 2))
    32
    """
    return LiveMemory(*held).live


def peak_resident_bytes() -> int:
    """The most memory this process has had resident so far, libraries and all, in bytes."""
    status = Path("/proc/self/status")  # Linux: `ru_maxrss` still knows the peak of the parent
    if status.is_file():
        return 1024 * int(re.search(r"^VmHWM:\s+(\d+) kB", status.read_text(), re.M)[1])
    import resource  # not on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _tensors(held: Any) -> list[torch.Tensor]:
    found = []
    for item in tree_leaves(held):
        if isinstance(item, torch.nn.Module):
            tensors = [*item.parameters(), *item.buffers()]
            found += tensors + [t.grad for t in tensors if t.grad is not None]
        elif isinstance(item, torch.optim.Optimizer):
            found += [t for t in tree_leaves(dict(item.state)) if isinstance(t, torch.Tensor)]
        elif isinstance(item, torch.Tensor):
            found += [item] + ([item.grad] if item.is_leaf and item.grad is not None else [])
    return found
