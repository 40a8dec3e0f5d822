"""Does a gradient reach every weight that is trained and that the loss depends on (fault M8)?

Two facts contradict each other where it does not: a trainable weight whose gradient is None, or
zero in every element, and a loss that moves when that weight is moved. So a pooler, a head or an
expert that nobody uses is left alone, without a list of names. The batch runs as training would run
it, with checkpointing where the arguments ask for it.
"""

from __future__ import annotations

import contextlib
import re
import warnings
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import nn

from cookbook.doctor import adapter_checks, gradients, preserve, responses
from cookbook.doctor.checks import Skip
from cookbook.doctor.findings import Finding
from cookbook.doctor.subject import Subject

ROWS = 4
AGAIN = 8  # passes in which a dropped layer may show up
FEWEST, SHARE = 2, 0.2  # matrices, and their share, whose gradients of zero are no accident
MOST = 32  # forward passes that tell which of many weights are cut
FOLLOWERS = {"teacher", "ema", "momentum"}  # copies that are moved, not trained
REENTRANT = "None of the inputs have requires_grad"


def check_cut_gradient(subject: Subject) -> Iterable[Finding]:
    """Trainable weights that the loss depends on and that get no gradient."""
    batch, trained = subject.batch(rows=ROWS), _trained(subject)
    if batch is None or not trained or adapter_checks.silenced(subject.bare):  # the last is M6
        raise Skip("does not apply")
    with subject.mode(training=True), gradients.undisturbed(subject.bare), as_trained(subject):
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            loss = gradients.training_loss(subject, batch)[0]
        if loss is None or loss.dim():
            raise Skip("does not apply")
        reentrant = any(REENTRANT in str(warning.message) for warning in said)
        if not loss.requires_grad:
            yield _no_gradient(trained, reentrant)
            return
        without = _without(subject, loss, trained)
        if len(without) == len(trained) and _leads_nowhere(loss, trained):
            yield _no_gradient(trained, reentrant)
            return
        cut = _always(subject, batch, _that_matter(subject, batch, without))
    if any(p.dim() > 1 for p in cut.values()):
        yield _cut(trained, cut, reentrant)


def _leads_nowhere(loss: torch.Tensor, trained: dict[str, nn.Parameter]) -> bool:
    """Whether no weight stands in the graph of the loss: it was made anew behind the model."""
    leaves = {id(getattr(node, "variable", None)) for node in gradients.graph(loss)}
    return not leaves & {id(p) for p in trained.values()}


def _without(
    subject: Subject, loss: torch.Tensor, trained: dict[str, nn.Parameter]
) -> dict[str, nn.Parameter]:
    """The weights to which no gradient of this loss leads, or nothing but zeros."""
    if not loss.requires_grad:
        return trained
    found = gradients.gradients(lambda: loss, list(trained.values()))
    pairs = list(zip(trained.items(), found, strict=True))
    zero = set() if _rounds(subject) else _zeroed([(n, p, g) for (n, p), g in pairs])
    return {n: p for (n, p), g in pairs if g is None or n in zero}


def _rounds(subject: Subject) -> bool:
    """Whether small gradients may be rounded to zero, in half precision."""
    try:
        return responses.computes_in_half(subject)
    except Exception:  # no inputs but those of a loss of one's own: the weights tell
        return responses.is_half(subject)


def _zeroed(found: list[tuple[str, nn.Parameter, torch.Tensor | None]]) -> set[str]:
    """Names whose gradient is zero in every element, where that is no accident.

    So it is behind a rounding or a sign, whose slope is zero. A hook may zero a gradient on
    purpose, and a loss that has no slope anywhere is at its floor.
    """
    usual = [(n, p, g) for n, p, g in found if g is not None and not p._backward_hooks]
    zero = {n for n, _, g in usual if not bool(g.any())}
    matrices = {n for n, p, _ in usual if p.dim() > 1}
    few = len(zero & matrices) < max(FEWEST, SHARE * len(matrices))
    return set() if few or len(zero) == len(usual) else zero


def _always(subject: Subject, batch: Any, cut: dict[str, nn.Parameter]) -> dict[str, nn.Parameter]:
    """Those that stay without gradient when dropped layers are drawn again."""
    for _ in range(AGAIN):
        if cut:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                cut = _still(subject, batch, cut)
    return cut


def _still(subject: Subject, batch: Any, cut: dict[str, nn.Parameter]) -> dict[str, nn.Parameter]:
    """Those of the weights whose gradient is missing, or zero, in another pass too."""
    loss = gradients.training_loss(subject, batch)[0]
    if not loss.requires_grad:
        return cut
    found = gradients.gradients(lambda: loss, list(cut.values()))
    pairs = zip(cut.items(), found, strict=True)
    return {n: p for (n, p), g in pairs if g is None or not bool(g.any())}


def _trained(subject: Subject) -> dict[str, nn.Parameter]:
    """Trainable weights, of these only the optimizer's where one is given."""
    given = subject.optimizer
    optimizers = given if isinstance(given, list | tuple) else [given]
    held = {
        id(p)
        for optimizer in map(preserve.unwrap, optimizers)
        for group in getattr(optimizer, "param_groups", [])
        for p in group["params"]
    }
    return {
        name: p for name, p in subject.bare.named_parameters()
        if p.requires_grad and (not held or id(p) in held)
        and not FOLLOWERS & set(re.split(r"[._]", name.lower()))
    }  # fmt: skip


def _no_gradient(trained: dict[str, nn.Parameter], reentrant: bool) -> Finding:
    return Finding(
        "M8", "error",
        f"the loss carries no gradient back to the model though {len(trained)} tensors are "
        f"trainable, {next(iter(trained))} first (bound: 1 that it depends on){_why(reentrant)}",
        _remedy(reentrant, "the loss"), measured={"trainable": len(trained), "without": "all"},
    )  # fmt: skip


def _cut(trained: dict, cut: dict[str, nn.Parameter], reentrant: bool) -> Finding:
    names = list(cut)
    share = sum(p.numel() for p in cut.values()) / sum(p.numel() for p in trained.values())
    return Finding(
        "M8", "error",
        f"{len(cut)} of {len(trained)} trainable tensors, {share:.0%} of the trainable weights, "
        f"get no gradient though the loss depends on them: {names[0]} to {names[-1]} (bound: "
        f"none){_why(reentrant)}", _remedy(reentrant, names[-1]),
        measured={"first": names[0], "last": names[-1], "share": share, "tensors": len(cut)},
    )  # fmt: skip


def _why(reentrant: bool) -> str:
    return "; reentrant checkpointing got inputs without gradient" if reentrant else ""


def _remedy(reentrant: bool, last: str) -> str:
    if reentrant:
        return (
            "checkpoint with use_reentrant=False, or call model.enable_input_require_grads() "
            "before training"
        )
    return f"remove the detach(), .data, no_grad() or rounding between {last} and the loss"


@torch.no_grad()
def _that_matter(
    subject: Subject, batch: Any, without: dict[str, nn.Parameter]
) -> dict[str, nn.Parameter]:
    """Those of the weights whose change moves the loss, in evaluation mode."""
    if not without:
        return {}
    with subject.mode(training=False), gradients.undisturbed(subject.bare):
        still, again = (_loss(subject, batch) for _ in range(2))
        if still != again:  # a model that draws in evaluation mode tells nothing
            return {}
        if not _moves(subject, batch, list(without.values()), still):
            return {}
        owners: dict[str, list[str]] = {}
        for name in without:
            owners.setdefault(name.rpartition(".")[0], []).append(name)
        return {n: without[n] for names in _acting(subject, batch, without, owners, still)
                for n in names}  # fmt: skip


def _acting(
    subject: Subject, batch: Any, without: dict, owners: dict[str, list[str]], still: float
) -> list[list[str]]:
    """The modules' names of weights that move the loss; of very many, every one in between too."""
    groups = list(owners.values())
    step = -(-len(groups) // MOST)
    chunks = [groups[i : i + step] for i in range(0, len(groups), step)]
    found = []
    for chunk in chunks:
        if _moves(subject, batch, [without[n] for names in chunk for n in names], still):
            found += chunk
    return found


def _moves(subject: Subject, batch: Any, moved: list[nn.Parameter], still: float) -> bool:
    saved = [p.clone() for p in moved]
    draw = torch.Generator().manual_seed(0)
    try:
        for p in moved:
            spread = float(p.float().std()) if p.numel() > 1 else 0.0
            noise = torch.randn(p.shape, generator=draw).to(p.device, p.dtype)
            p.add_(noise * (spread or 0.1))
        loss = _loss(subject, batch)
        return not abs(loss - still) <= 1e-5 * abs(still) + 1e-7
    finally:
        for p, before in zip(moved, saved, strict=True):
            p.copy_(before)


def _loss(subject: Subject, batch: Any) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return gradients.training_loss(subject, batch)[0].item()


@contextlib.contextmanager
def as_trained(subject: Subject) -> Iterator[None]:
    """Within, gradient checkpointing is on if the arguments ask for it; afterwards as before."""
    asked = getattr(subject.args, "gradient_checkpointing", False)
    asked = asked or getattr(subject.args, "activation_checkpointing", False)
    model = subject.bare
    if not asked or any(getattr(m, "gradient_checkpointing", False) for m in model.modules()):
        yield
        return
    before = [(m, dict(vars(m)), dict(m._forward_hooks)) for m in model.modules()]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _enable(model, subject.args)
        yield
    finally:
        for module, attributes, hooks in before:
            for name in vars(module).keys() - attributes.keys():
                delattr(module, name)
            vars(module).update(attributes)
            module._forward_hooks.clear()
            module._forward_hooks.update(hooks)


def _enable(model: nn.Module, args: Any) -> None:
    """Checkpointing as `Trainer` switches it on, under the name of today or of before."""
    for kind in ("activation", "gradient"):
        enable = getattr(model, f"{kind}_checkpointing_enable", None)
        if enable is not None:
            options = getattr(args, "activation_checkpointing_kwargs", None)
            options = options or getattr(args, "gradient_checkpointing_kwargs", None)
            options = {k: v for k, v in (options or {}).items() if k == "use_reentrant"}
            enable(**{f"{kind}_checkpointing_kwargs": options or None})
            return


CHECKS = (check_cut_gradient,)
