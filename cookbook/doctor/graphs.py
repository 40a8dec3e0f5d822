"""Whose graph is still in memory when training is long past it (H2), or differentiated again (L3)?

A token hangs on the earliest node of a pass: whoever keeps the loss, the outputs or anything in
between keeps that node, and with it the token. It keeps nothing alive itself and judges nothing.
"""

from __future__ import annotations

import gc
import weakref
from collections import deque
from typing import Any

import torch

from cookbook.doctor.records import Run

KEPT = 64  # passes that are remembered, every second one
CYCLES = 14  # of them alive, at which Python is asked once to look for what nobody holds
COUNTED = 16  # steps in which the backward passes of a forward pass are counted
LEAF = "AccumulateGrad"
DEEPEST = 2000  # nodes that are walked at most
# What turns a weight, or its type, before it is used: nothing of a pass hangs on it.
SHAPES = {"TBackward0", "ViewBackward0", "UnsafeViewBackward0", "TransposeBackward0",
          "PermuteBackward0", "UnsqueezeBackward0", "ExpandBackward0", "AliasBackward0",
          "ToCopyBackward0", "SliceBackward0"}  # fmt: skip


class Graphs:
    """Counts in `run.graphs` how many of the latest passes somebody still holds."""

    def __init__(self, run: Run) -> None:
        self.run, self.tokens, self.passes = run, deque(maxlen=KEPT), 0

    def _count(self, tensor: torch.Tensor) -> None:
        """Note in `run.again` whenever a gradient comes back to a pass, and newer ones exist."""
        self.passes += 1
        number, came = self.passes, []

        def comes(grad: torch.Tensor) -> None:
            came.append(self.passes)
            self.run.again += len(came) > 1 and self.passes > number

        tensor.register_hook(comes)

    def remember(self, tensor: torch.Tensor) -> None:
        """A token that lives as long as anything that was computed on the way to this tensor."""
        if self.run.steps < COUNTED:
            self._count(tensor)
        if tensor.grad_fn is None or self.run.forwards % 2:
            return
        token = _Token()
        earliest(tensor.grad_fn).metadata["doctor"] = token
        self.tokens.append(weakref.ref(token))
        held = sum(known() is not None for known in self.tokens)
        if held == CYCLES == len(self.tokens):  # nobody may hold them but rubbish that goes round
            gc.collect()
            held = sum(known() is not None for known in self.tokens)
        self.run.graphs = (held, len(self.tokens))


def earliest(node: Any) -> Any:
    """The first node of the graph behind this one, by the order in which they were made.

    >>> a = torch.ones(2, requires_grad=True)
    >>> type(earliest((((a * 2).exp() + 1).sum() * a.sum()).grad_fn)).__name__
    'MulBackward0'
    """
    for _ in range(DEEPEST):
        before = [n for n, _ in node.next_functions if n is not None and not _of_a_weight(n)]
        if not before:
            break
        node = min(before, key=lambda n: n._sequence_nr())
    return node


def _of_a_weight(node: Any) -> bool:
    """Whether this is a weight, as it is or turned."""
    while type(node).__name__ in SHAPES and node.next_functions[0][0] is not None:
        node = node.next_functions[0][0]
    return type(node).__name__ == LEAF


class _Token:
    __slots__ = ("__weakref__",)
