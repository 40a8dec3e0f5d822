"""O2, O6, O8, O10, P3, P4, K2: what optimizer, parameters and precision say before the first step.

One optimizer or several, wrapped by accelerate or not: their union counts. Frozen parameters may
lie in an optimizer, master copies and the loss's own parameters too. It takes no step.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import nn

from cookbook.doctor import gradients, kinds, preserve
from cookbook.doctor.checks import Skip
from cookbook.doctor.findings import Finding
from cookbook.doctor.subject import Subject

FEW = 2  # rows that tell what the loss depends on
BEGUN = 10  # steps after which a schedule has begun
TINY = 3e-8  # a rate at which Adam moves a weight by less than anybody trains with


def groups(subject: Subject) -> list[dict[str, Any]]:
    """The parameter groups of all optimizers; Skip where there is none that can be read."""
    optimizers = preserve.several(subject.optimizer)
    if subject.model is None or not optimizers:
        raise Skip("does not apply")
    if not all(hasattr(optimizer, "param_groups") for optimizer in optimizers):
        raise Skip("the optimizer has no param_groups")
    return [group for optimizer in optimizers for group in optimizer.param_groups]


def held_by_optimizers(subject: Subject) -> set[int] | None:
    """The ids of all parameters in any optimizer; None where no optimizer can be read."""
    try:
        return {id(p) for group in groups(subject) for p in group["params"]}
    except Skip:
        return None


def check_optimizer_holds_the_model(subject: Subject) -> Iterable[Finding]:
    """O6: trainable parameters that no optimizer holds, or another model's in their place."""
    if subject.model is None or not subject.trainable:
        raise Skip("does not apply")
    held = [p for group in groups(subject) for p in group["params"]]
    ids, known = {id(p) for p in held}, {id(p) for p in subject.parameters.values()}
    missing = [name for name, p in subject.trainable.items() if id(p) not in ids]
    foreign = [p for p in held if id(p) not in known | of_loss(subject)]
    if not missing or _master_copies(subject, missing, foreign):
        return
    total, measured = len(subject.trainable), {"missing": len(missing), "foreign": len(foreign)}
    told = f"{len(missing)} of {total} trainable parameters are in no optimizer, such as "
    told += ", ".join(missing[:3])
    if foreign:
        told += f", and {len(foreign)} that it holds are not the model's"
    severity = "error" if foreign or len(missing) == total else "warn"
    if severity == "warn" and _whole_parts(subject, missing) and not _in_the_loss(subject, missing):
        severity = "info"  # a second optimizer may hold the other part
    yield Finding("O6", severity, f"{told} (bound: 0)", measured=measured)


def of_loss(subject: Subject) -> set[int]:
    """Parameters of the loss: a module, or one that a function closes over."""
    loss = subject.loss_fn
    cells = [c.cell_contents for c in getattr(loss, "__closure__", None) or ()]
    parts = [loss, getattr(loss, "__self__", None), *cells]
    return {id(p) for m in parts if isinstance(m, nn.Module) for p in m.parameters()}


def _master_copies(subject: Subject, missing: list[str], foreign: list) -> bool:
    """Whether the optimizer holds fp32 copies, or flat shards, of the half-precision weights."""
    lost = [subject.trainable[name] for name in missing]
    half = all(p.dtype in (torch.float16, torch.bfloat16) for p in lost)
    shapes = sorted(tuple(p.shape) for p in foreign), sorted(tuple(p.shape) for p in lost)
    return half and all(p.dtype == torch.float32 for p in foreign) and shapes[0] == shapes[1]


def _whole_parts(subject: Subject, missing: list[str]) -> bool:
    """Whether exactly whole submodules of a plain module are left out: generator, discriminator."""
    if subject.config is not None:
        return False
    lost = {name.split(".")[0] for name in missing}
    kept = {name.split(".")[0] for name in subject.trainable if name not in set(missing)}
    return not lost & kept and all("." in name for name in missing)


def _in_the_loss(subject: Subject, missing: list[str]) -> bool:
    """Whether the loss of a training batch depends on what the optimizer lacks."""
    lost = [subject.trainable[name] for name in missing]
    try:
        with subject.mode(training=False), torch.enable_grad():
            loss = gradients.training_loss(subject, subject.batch("train", FEW))[0]
            found = gradients.gradients(lambda: loss, lost)
    except Exception:  # no data, no loss, a model that only its parts run
        return False
    return any(grad is not None and bool(grad.any()) for grad in found)


def check_rate_is_not_zero(subject: Subject) -> Iterable[Finding]:
    """O2: the rate is 0, or so small that no update is seen, for every group."""
    rates = list(_rates(subject))
    if not rates:
        raise Skip("does not apply")
    if max(rates) == 0:
        yield Finding("O2", "error", "the peak learning rate is 0 (bound: above 0)",
                      measured={"rate": 0.0})  # fmt: skip
    elif max(rates) < TINY and _adaptive(subject):
        told = f"the peak learning rate is {max(rates):.1e}: Adam moves a weight by less"
        optimizers = preserve.several(subject.optimizer)
        held = groups(subject) if optimizers else []
        eps = max((group.get("eps") or 0.0 for group in held), default=0.0)
        why = f", and its eps {eps:.0e}: they may have changed places" if eps > 1e4 * TINY else ""
        yield Finding("O2", "warn", f"{told} (bound: {TINY:g}){why}", measured={"rate": max(rates)})


def _rates(subject: Subject) -> Iterator[float]:
    """The peak rate of each group; a schedule that warms up has written it into `initial_lr`."""
    try:
        for group in groups(subject):
            rates = [group.get("lr"), group.get("initial_lr"), group.get("max_lr")]
            known = [float(rate) for rate in rates if rate is not None]
            if known:
                yield max(known)
    except Skip:
        rate = getattr(subject.args, "learning_rate", None)
        if isinstance(rate, int | float) and subject.optimizer is None:
            yield float(rate)


def _adaptive(subject: Subject) -> bool:
    names = [type(o).__name__.lower() for o in preserve.several(subject.optimizer)]
    return all("adam" in name for name in names)


def check_schedule_goes_on(subject: Subject) -> Iterable[Finding]:
    """K2: the optimizer has made steps, and the schedule stands before its warm-up.

    Without one a schedule may begin anew on purpose: the second stage of a training.
    """
    last = getattr(subject.lr_scheduler, "last_epoch", None)
    warms = any(g["lr"] < 0.9 * g.get("initial_lr", g["lr"]) for g in groups(subject))
    steps = [
        float(state["step"]) for optimizer in preserve.several(subject.optimizer)
        for state in optimizer.state.values() if isinstance(state, dict) and "step" in state
    ]  # fmt: skip
    if last is None:
        raise Skip("does not apply")
    if last >= BEGUN and _has_forgotten(subject):
        yield Finding(
            "K2", "warn",
            f"the schedule has made {last} steps and its optimizer none: the moments of the "
            f"gradient begin anew (bound: under {BEGUN} steps)",
            "load the optimizer's state_dict as well as the scheduler's",
            {"steps": last},
        )  # fmt: skip
    if not steps:
        return
    if last == 0 and warms and max(steps) >= BEGUN:
        yield Finding(
            "K2", "warn",
            f"the optimizer has made {max(steps):.0f} steps and its schedule 0: the rate would "
            f"warm up anew (bound: under {BEGUN} steps)",
            "load the scheduler's state_dict as well as the optimizer's",
            {"steps": max(steps)},
        )  # fmt: skip


def _has_forgotten(subject: Subject) -> bool:
    """Whether all optimizers keep moments of the gradient, as plain descent does not, and have
    none."""
    held = [preserve.unwrap(optimizer) for optimizer in preserve.several(subject.optimizer)]
    keep = all(any(n in g for n in ("betas", "alpha")) or g.get("momentum")
               for optimizer in held for g in optimizer.param_groups)  # fmt: skip
    return keep and not any(optimizer.state for optimizer in held)


def check_decay_spares_norms(subject: Subject) -> Iterable[Finding]:
    """O8: strong weight decay on norms and biases."""
    decays = {id(p): g.get("weight_decay", 0) or 0 for g in groups(subject) for p in g["params"]}
    flat = {n: p for n, p in subject.trainable.items() if p.dim() == 1 and id(p) in decays}
    hit = [name for name, p in flat.items() if decays[id(p)] > 0.01]
    if not hit:
        return
    worst = max(float(decays[id(flat[name])]) for name in hit)
    norms = any("norm" in type(kinds.module_of(subject.model, n)).__name__.lower() for n in hit)
    severity = "warn" if worst >= 0.1 and norms else "info"
    told = f"weight decay {worst:g} lies on {len(hit)} norms and biases, such as {hit[0]}"
    yield Finding("O8", severity, f"{told} (bound: 0.1)", measured={"decay": worst})


def check_prompts_have_a_high_rate(subject: Subject) -> Iterable[Finding]:
    """O10: prompt or prefix tuning with a rate made for fine-tuning; advice until it is flat."""
    configs = getattr(subject.bare, "peft_config", None) if subject.model is not None else None
    if not isinstance(configs, dict) or not all(_prompts(c) for c in configs.values()):
        raise Skip("does not apply")
    rates = list(_rates(subject))
    if rates and 0 < max(rates) < 1e-3:
        told = f"prompts are tuned with a rate of {max(rates):.1e} (usual: 1e-2 to 3e-1)"
        yield Finding("O10", "info", told, measured={"rate": max(rates)})


def _prompts(config: Any) -> bool:
    return bool(getattr(config, "is_prompt_learning", False))


def check_precision_is_consistent(subject: Subject) -> Iterable[Finding]:
    """P4: trainable fp16 weights under a gradient scaler; P3: bf16 weights and a tiny rate."""
    if subject.model is None or not subject.trainable:
        raise Skip("does not apply")
    dtypes = [p.dtype for p in subject.trainable.values()]
    half = dtypes.count(torch.float16)
    if half and getattr(subject.args, "fp16", False) is True:
        told = f"{half} of {len(dtypes)} trainable parameters are fp16 while fp16=True scales"
        remedy = "load the model in fp32 and let autocast compute in fp16, or use bf16"
        yield Finding("P4", "error", f"{told} their gradients (bound: 0)", remedy, {"half": half})
    rates = list(_rates(subject))
    if rates and 0 < max(rates) < 1e-4 and all(d == torch.bfloat16 for d in dtypes):
        told = f"all trainable weights are bf16, which swallows updates at a rate of {max(rates):g}"
        yield Finding("P3", "info", f"{told} (bound: 2^-9 of a weight)")


CHECKS = (
    check_optimizer_holds_the_model,
    check_rate_is_not_zero,
    check_schedule_goes_on,
    check_decay_spares_norms,
    check_prompts_have_a_high_rate,
    check_precision_is_consistent,
)
