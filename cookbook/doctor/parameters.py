"""What is known of a run's parameters: which are trained, by whom, with which adapter.

Reads names, flags and optimizer groups; no values but those of LoRA's B. It judges nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import nn

from cookbook.doctor import weights

FROZEN_LOOKED_AT = 16
PROMPTS = ("PROMPT_TUNING", "P_TUNING", "PREFIX_TUNING", "MULTITASK_PROMPT_TUNING")

# Under which a layer keeps the rate of a dropout that it calls as a function.
RATES = ("dropout", "dropout_p", "dropout_rate", "attention_dropout", "activation_dropout")


def facts(model: nn.Module, optimizers: Sequence[Any]) -> dict[str, Any]:
    """Names and counts that the detectors need; see the keys."""
    named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    held = [p for o in optimizers for g in getattr(o, "param_groups", []) for p in g["params"]]
    ours, theirs = {id(p) for p in model.parameters()}, {id(p) for p in held}
    lacking = [(n, p) for n, p in named if id(p) not in theirs]
    foreign = [p for p in held if id(p) not in ours]
    wanted = Counter(tuple(p.shape) for _, p in lacking)
    alike = sum((Counter(tuple(p.shape) for p in foreign) & wanted).values())
    return {
        "trainable": len(named), "lacking": [n for n, _ in lacking], "foreign": len(foreign),
        "foreign_alike": alike, "optimizers": len(optimizers),
        "head_only": _all_before(named, theirs),
        "prompt_method": prompt_method(model), "trained_share": trained_share(model),
    }  # fmt: skip


def _all_before(named: list, theirs: set[int]) -> bool:
    """Whether the optimizer was given the last parameters and none of the first: a chosen head."""
    flags = [id(p) in theirs for _, p in named]
    return any(flags) and not flags[0] and flags == sorted(flags)


def trained_share(model: nn.Module) -> float:
    """The share of the model's numbers that is trained."""
    sizes = [(p.numel(), p.requires_grad) for p in model.parameters()]
    return sum(n for n, trained in sizes if trained) / max(1, sum(n for n, _ in sizes))


def prompt_method(model: nn.Module) -> str:
    """PEFT's name of the active prompt method, or ""."""
    config = getattr(model, "peft_config", None)
    config = config.get(getattr(model, "active_adapter", ""), None) if config else None
    name = str(getattr(getattr(config, "peft_type", ""), "value", ""))
    return name if name in PROMPTS else ""


def lora_bs(model: nn.Module) -> dict[str, torch.Tensor]:
    """B matrices of LoRA, which begin at zero, by name: of adapters that are trained in part."""
    named = dict(model.named_parameters())

    def trained(name: str) -> bool:
        both = named.get(name), named.get(name.replace(".lora_B.", ".lora_A."))
        return any(p is not None and p.requires_grad for p in both)

    return {name: p for name, p in named.items() if ".lora_B." in name and trained(name)}


class LoraBs:
    """The B matrices of LoRA around an optimizer's step: do they stay zero, are they cleared?"""

    ZERO, CLEARED = (3, 4, 8, 16), (3, 4, 5, 8)  # steps after which, and around which, one looks

    def __init__(self, model: nn.Module) -> None:
        self.held, self.empty = lora_bs(model), False

    def before(self, steps: int) -> None:
        """Before the optimizer's step."""
        self.empty = bool(self.held) and steps in self.CLEARED and not self._set()

    def after(self, steps: int, facts: dict[str, Any]) -> None:
        """After it, and before anybody else can touch them."""
        if self.held and steps in self.ZERO:
            facts["lora_zero"] = len(self.held) - self._set()
        if self.empty and self._set():
            facts["lora_cleared"] = facts.get("lora_cleared", 0) + 1

    def _set(self) -> int:
        return sum(bool(b.detach().any()) for b in self.held.values())


def dropouts(model: nn.Module) -> list[nn.Module]:
    """Dropout that something trainable stands beside: its mode matters to training.

    A backbone that was frozen may rest in evaluation mode, so the dropout between frozen weights
    does not count; nor does that of the model's own level, unless everything is trainable.
    """
    whole = all(p.requires_grad for p in model.parameters())
    found = []
    for name, module in model.named_modules():
        learns = whole or (name and any(p.requires_grad for p in module.parameters()))
        if learns:
            found += [c for c in module.children() if is_dropout(c) and _may_learn(c)]
    return found


def _may_learn(module: nn.Module) -> bool:
    weights = list(module.parameters())
    return not weights or any(p.requires_grad for p in weights)


def is_dropout(module: nn.Module) -> bool:
    """A dropout layer with a rate above 0, or a layer that holds such a rate, as BART's do."""
    if isinstance(module, nn.modules.dropout._DropoutNd):
        return module.p > 0
    rates = (getattr(module, name, None) for name in RATES)
    return any(isinstance(rate, float) and 0 < rate < 1 for rate in rates)


def batch_norms(model: nn.Module) -> list[nn.Module]:
    """Layers that learn statistics of batches while training and use them in evaluation."""
    kind = nn.modules.batchnorm._BatchNorm
    return [m for m in model.modules() if isinstance(m, kind) and m.running_mean is not None]


def frozen_samples(groups: Iterable[dict]) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """(weight, its sample) of some weights without requires_grad that an optimizer could move."""
    found = [
        p for g in groups for p in g["params"]
        if not p.requires_grad and p.grad is not None and weights.readable(p)
    ]  # fmt: skip
    return [(p, weights.sample(p).clone()) for p in weights.spread(found, FROZEN_LOOKED_AT)]


def name_of(model: nn.Module, parameter: torch.Tensor) -> str:
    """The parameter's name in the model, or "a parameter"."""
    return next((n for n, p in model.named_parameters() if p is parameter), "a parameter")


class Lacking:
    """Trainable parameters that no optimizer holds: do they get gradients, does somebody move
    them? Looked at after a few steps only. What was frozen at first and thaws is looked at later.
    """

    LOOKS = (1, 3, 6)

    def __init__(self, model: nn.Module, names: Sequence[str]) -> None:
        wanted = set(names)
        held = [(n, p) for n, p in model.named_parameters() if n in wanted and weights.readable(p)]
        self.held, self.before = held, []
        self.frozen = [(n, p) for n, p in model.named_parameters() if not p.requires_grad]

    def look(self, steps: int, facts: dict[str, Any], groups: Iterable[dict] = ()) -> None:
        """Before an optimizer's step, with its gradients still there."""
        thawed = [(n, p) for n, p in self.frozen if p.requires_grad and p.grad is not None]
        if thawed:  # it may have been added to a group in the meantime
            theirs = {id(p) for group in groups for p in group["params"]}
            facts["thawed"] = [n for n, p in thawed if id(p) not in theirs]
            facts["thawed_looks"] = facts.get("thawed_looks", 0) + bool(facts["thawed"])
        if not self.held or steps not in self.LOOKS:
            return
        if not self.before:
            self.before = [(p, weights.sample(p).clone()) for _, p in weights.spread(self.held, 16)]
        facts["lacking_graded"] = [n for n, p in self.held if p.grad is not None]
        facts["lacking_moved"] = any(
            not torch.equal(weights.sample(p), old) for p, old in self.before
        )


def main_optimizer(optimizers: Sequence[Any], weights: Iterable[nn.Parameter]) -> Any:
    """The optimizer that holds most of these weights: its steps are the run's. None without one."""
    ours = {id(p) for p in weights}

    def held(optimizer: Any) -> int:
        return sum(id(p) in ours for g in optimizer.param_groups for p in g["params"])

    return max((o for o in optimizers if isinstance(o, torch.optim.Optimizer)), key=held,
               default=None)  # fmt: skip
