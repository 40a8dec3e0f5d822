"""P4: does mixed precision, where it was asked for, reach the linear layers?

One forward pass under the autocast that the arguments ask for; what the linear layers return tells.
It measures no speed, and asks nothing of a run in full precision or of weights that are half.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from cookbook.doctor import responses
from cookbook.doctor.examination import Skip
from cookbook.doctor.findings import Finding
from cookbook.doctor.subject import Subject

LINEAR = ("Linear", "Conv1D")  # GPT-2's layers are the latter
MOST = 0.5  # heads, gates and norms are often kept in fp32 on purpose
KINDS = {"bf16": torch.bfloat16, "fp16": torch.float16}


def check_autocast_reaches_linears(subject: Subject) -> Iterable[Finding]:
    """P4: half precision was asked for, and most linear layers compute in fp32."""
    asked = [name for name in KINDS if getattr(subject.args, name, False) is True]
    linears = [m for m in subject.model.modules() if type(m).__name__ in LINEAR]
    if not asked or not linears or responses.is_half(subject):
        raise Skip("does not apply")
    batch, seen = responses.inputs(subject), []
    hooks = _outputs(linears, seen)
    try:
        with responses.quiet(subject), torch.autocast(subject.device.type, KINDS[asked[0]]):
            subject.forward(batch)
    finally:
        for hook in hooks:
            hook.remove()
    full = sum(dtype == torch.float32 for dtype in seen)
    if full > MOST * len(seen):
        told = f"{asked[0]}=True, yet {full} of {len(seen)} outputs of linear layers are fp32"
        remedy = "remove the autocast(enabled=False) or the .float() around the model's layers"
        yield Finding(
            "P4",
            "warn",
            f"{told} (bound: {MOST:.0%})",
            remedy,
            {"full": full, "outputs": len(seen)},
        )


def _outputs(linears: list[nn.Linear], seen: list[torch.dtype]) -> list[Any]:
    """Hooks that note the type of what each layer returns."""

    def note(module: nn.Module, given: Any, output: Any) -> None:
        seen.append(output.dtype)

    return [module.register_forward_hook(note) for module in linears]


CHECKS = (check_autocast_reaches_linears,)
