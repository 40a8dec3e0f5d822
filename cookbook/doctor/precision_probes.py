"""P4: does mixed precision reach the linear layers, and do weights of several types meet?

One forward pass under the autocast that the arguments ask for; what the linear layers return tells.
Where weights are of several types, whether they can be computed with at all. Neither measures
speed, nor asks anything of a run in full precision.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from cookbook.doctor import gradients, responses
from cookbook.doctor.examination import Skip
from cookbook.doctor.findings import Finding
from cookbook.doctor.subject import Subject

OTHERS = ("Conv1D",)  # what GPT-2's linear layers are
MOST = 0.5  # heads, gates and norms are often kept in fp32 on purpose
ABOUT_TYPES = ("dtype", "scalar type", "same type")  # words of torch's refusals
KINDS = {"bf16": torch.bfloat16, "fp16": torch.float16}


def check_autocast_reaches_linears(subject: Subject) -> Iterable[Finding]:
    """P4: half precision was asked for, and most linear layers compute in fp32."""
    asked = [name for name in KINDS if getattr(subject.args, name, False) is True]
    linears = [m for m in subject.model.modules() if _linear(m)]
    if not asked or not linears or responses.is_half(subject):
        raise Skip("does not apply")
    batch, seen = responses.inputs(subject), []
    hooks = _outputs(linears, seen)
    try:
        with responses.quiet(subject), torch.autocast(subject.device.type, KINDS[asked[0]]):
            _pass(subject, batch)
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


def _pass(subject: Subject, batch: Any) -> None:
    """Forward, through a `Trainer`'s own `compute_loss` where there is one."""
    if subject.trainer is None:
        subject.forward(batch)
    else:
        gradients.training_loss(subject, subject.batch("train", responses.ROWS))


def _linear(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear) or type(module).__name__ in OTHERS


def check_types_meet(subject: Subject) -> Iterable[Finding]:
    """P4: weights of several types, with which no forward pass computes, or none without an
    autocast that nobody asked for."""
    if subject.unready:
        raise Skip("does not apply")
    kinds = {p.dtype for p in subject.parameters.values() if p.is_floating_point()}
    if len(kinds) < 2:
        raise Skip("does not apply")
    errors = _refusals(subject)
    if not any(said in errors[0].lower() for said in ABOUT_TYPES):
        return
    names = " and ".join(sorted(str(kind).removeprefix("torch.") for kind in kinds))
    remedy = "keep the weights in one type, and compute in half precision by autocast"
    if all(errors):
        yield Finding(
            "P4", "error",
            f"weights are {names}, and the forward pass refuses them, under autocast as well: "
            f"{errors[0][:90]}",
            remedy,
        )  # fmt: skip
    elif not any(getattr(subject.args, name, False) is True for name in KINDS):
        ours = subject.args is not None or subject.trainer is not None
        yield Finding(
            "P4", "error" if ours else "info",  # a loop may stand under an autocast
            f"weights are {names}, and the forward pass refuses them without an autocast, which "
            f"is {'off' if ours else 'not seen here'}: {errors[0][:90]}",
            remedy,
        )  # fmt: skip


def _refusals(subject: Subject) -> list[str]:
    """What the forward pass says without an autocast, under bf16 and under fp16; "" where it runs.

    A `Trainer` whose own `compute_loss` opens one runs without.
    """
    batch, errors = responses.inputs(subject), []
    for kind in (None, *KINDS.values()):
        enabled, half = kind is not None, kind or torch.bfloat16
        try:
            with responses.quiet(subject), torch.autocast(subject.device.type, half, enabled):
                _pass(subject, batch)
            errors.append("")
        except (RuntimeError, ValueError) as error:
            errors.append(" ".join(str(error).split()) or "refused")
    return errors


check_types_meet.even_refused = True  # examined though the forward pass raises: it says why


def _outputs(linears: list[nn.Linear], seen: list[torch.dtype]) -> list[Any]:
    """Hooks that note the type of what each layer returns."""

    def note(module: nn.Module, given: Any, output: Any) -> None:
        seen.append(output.dtype)

    return [module.register_forward_hook(note) for module in linears]


CHECKS = (check_autocast_reaches_linears, check_types_meet)
