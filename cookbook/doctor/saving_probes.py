"""K1 before anything is saved: buffers that a checkpoint leaves out and a new model does not make.

`register_buffer(…, persistent=False)` is right for what a class computes in its `__init__`, such as
the frequencies of rotary positions. Of a buffer that was hung onto a model from outside nothing is
left after a reload. It compares with a twin without storage and asks whether the scores need it.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable

import torch
from torch import nn

from cookbook.doctor import kinds, responses
from cookbook.doctor.checks import Skip
from cookbook.doctor.findings import Finding
from cookbook.doctor.subject import Subject


def check_buffers_would_be_saved(subject: Subject) -> Iterable[Finding]:
    """K1: the scores need a buffer that is not saved and that a reloaded model will lack."""
    model = kinds.base_of(subject.model)
    config = getattr(model, "config", None)
    unsaved = left_out(model)
    if not unsaved or config is None or not hasattr(model, "save_pretrained"):
        raise Skip("does not apply")
    with torch.device("meta"):
        made = dict(type(model)(copy.deepcopy(config)).named_buffers())
    added = [name for name in unsaved if name not in made]
    if not added:
        raise Skip("does not apply")
    batch = responses.inputs(subject)
    with responses.quiet(subject), torch.no_grad():
        first = responses.scores(subject, batch)
        limit = responses.bound(subject, batch, responses.scores(subject, batch))
        for name in added:
            unsaved[name].zero_()
        gap = responses.moved(first, responses.scores(subject, batch))
    if gap > limit:
        yield Finding(
            "K1", "error",
            f"the buffer {added[0]} (one of {len(added)}) is not saved and not made by "
            f"{type(model).__name__}; without it the scores move by {gap:.2g} "
            f"(bound: {limit:.2g})",
            "register them with persistent=True and in the class's __init__",
            {"difference": gap, "bound": limit, "buffers": len(added)},
        )  # fmt: skip


def left_out(model: nn.Module) -> dict[str, torch.Tensor]:
    """Name → buffer, of floating buffers that `state_dict` does not hold.

    >>> layer = nn.Linear(2, 2)
    >>> layer.register_buffer("offset", torch.ones(2), persistent=False)
    >>> list(left_out(layer))
    ['offset']
    """
    return {
        f"{prefix}.{name}".lstrip("."): buffer
        for prefix, module in model.named_modules()
        for name, buffer in module.named_buffers(recurse=False)
        if name in module._non_persistent_buffers_set and buffer.is_floating_point()
    }


CHECKS = (check_buffers_would_be_saved,)
