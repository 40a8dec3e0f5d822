"""A wrong line about the learning rate that trains without an error, beside its right twin.

Each is a context to train in: `around(model, optimizer, scheduler)` of `finetuning.trials`. Chapter
08 shows what the mistake costs; nothing else may import it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch


@contextlib.contextmanager
def once_for_each_process(
    optimizer: torch.optim.Optimizer, scheduler: Any, inside: Any, processes: int = 4
) -> Iterator[Any]:
    """WRONG: what a prepared scheduler does by default, for one that counts updates already.

    `accelerate` steps a scheduler once for each process, because it takes its length for the
    samples of one. Given a length in updates, the schedule ends after 1/`processes` of the run.
    `inside` is a context that looks on.
    """

    def again(*_: object) -> None:
        for _ in range(processes - 1):  # the loop itself makes the last of them
            scheduler.step()

    with inside as looking:
        hook = optimizer.register_step_post_hook(again)
        try:
            yield looking
        finally:
            hook.remove()


@contextlib.contextmanager
def once_for_each_update(
    optimizer: torch.optim.Optimizer, scheduler: Any, inside: Any
) -> Iterator[Any]:
    """Right: the loop steps the schedule after each update, and nobody else does."""
    with inside as looking:
        yield looking
