"""M5 and M6 of adapters: declared targets that match nothing, adapters that are off or frozen.

It reads PEFT's configuration and layers; it runs nothing. A model without PEFT does not apply.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from torch import nn

from cookbook.doctor.checks import Skip
from cookbook.doctor.findings import Finding
from cookbook.doctor.subject import Subject

# What PEFT puts into the names of the modules that it wraps, or trains whole.
PEFTS = re.compile(r"\.base_layer|\.modules_to_save\.[^.]+")


def check_targets_are_matched(subject: Subject) -> Iterable[Finding]:
    """M5: names in `target_modules` that no module of the model bears."""
    for config in _adapters(subject).values():
        targets = getattr(config, "target_modules", None)
        if not isinstance(targets, list | tuple | set) or _by_default(subject, config, targets):
            continue
        names = [PEFTS.sub("", name) for name, _ in subject.bare.named_modules()]
        lost = sorted(t for t in targets if not any(f".{n}".endswith(f".{t}") for n in names))
        if lost:
            told = (
                f"{len(lost)} of {len(targets)} names in target_modules match no module: "
                f"{', '.join(lost[:4])} (bound: 0)"
            )
            yield Finding("M5", "warn", told, measured={"unmatched": len(lost)})


def _adapters(subject: Subject) -> dict[str, Any]:
    """Adapter → its configuration; Skip without PEFT."""
    found = getattr(subject.bare, "peft_config", None)
    if not isinstance(found, dict):
        raise Skip("does not apply")
    return found


def _by_default(subject: Subject, config: Any, targets: Iterable[str]) -> bool:
    """Whether the names are PEFT's own for this architecture: those may name more than is there."""
    from peft.utils import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as usual

    kind = getattr(subject.config, "model_type", None)
    return set(targets) == set(usual.get(kind, ()))


def check_adapter_is_on(subject: Subject) -> Iterable[Finding]:
    """M6: the adapter is switched off, scaled to nothing, or frozen while others are trained."""
    configs = _adapters(subject)
    layers = [m for m in subject.bare.modules() if _is_layer(m)]
    active = _active(subject.bare)
    if not active or (layers and all(layer.disable_adapters for layer in layers)):
        told = f"none of the {len(configs)} adapters is active: the base model computes alone"
        yield Finding("M6", "error", f"{told} (bound: 1)", "call set_adapter, enable_adapters")
        return
    scales = [s for layer in layers for name, s in _scaling(layer).items() if name in active]
    if scales and all(scale == 0 for scale in scales):
        told = f"all {len(scales)} adapter layers are scaled by 0 (bound: above 0)"
        yield Finding("M6", "error", told, "set lora_alpha above 0")
        return
    silent = silenced(subject.bare)
    if silent:
        yield Finding("M6", "error", silent[0], silent[1])
    elif subject.trainable:  # where nothing is, that is another finding
        yield from _frozen(subject, active)


def silenced(model: nn.Module) -> tuple[str, str] | None:
    """(what is seen, its remedy) where no layer of an adapter lets its weights learn, else None.

    Merged layers compute with the sum, of which the adapter's factors are no part any more; a
    dropout of 1 leaves nothing of the adapter's input.
    """
    # A head that is trained whole is wrapped as well: it has nothing to merge.
    layers = [m for m in model.modules() if _is_layer(m) and hasattr(type(m), "merged")]
    if not layers:
        return None
    if all(layer.merged for layer in layers):
        told = f"all {len(layers)} adapter layers are merged into the weights they adapt"
        return f"{told}: their own factors are not computed with (bound: 0)", (
            "call unmerge_adapter() before training goes on"
        )
    rates = [_dropout(layer) for layer in layers]
    if min(rates) >= 1:
        told = f"the dropout before all {len(layers)} adapter layers is {min(rates):g}"
        return f"{told}: nothing reaches the adapter (bound: below 1)", (
            "lora_dropout is the share that is dropped: 0.05 to 0.1 is usual"
        )
    return None


def _dropout(layer: nn.Module) -> float:
    """The least rate of dropout before the adapters of a layer; 0 where there is none."""
    held = getattr(layer, "lora_dropout", None)
    return min((getattr(part, "p", 0.0) for part in held.values()), default=0.0) if held else 0.0


def _is_layer(module: nn.Module) -> bool:
    # transformers' own models have methods of these names.
    switch = getattr(module, "disable_adapters", None)
    return isinstance(switch, bool) and hasattr(module, "active_adapters")


def _active(model: nn.Module) -> list[str]:
    names = getattr(model, "active_adapters", None)
    names = names() if callable(names) else names  # transformers' own integration has a method
    return [names] if isinstance(names, str) else list(names or [])


def _scaling(layer: nn.Module) -> dict[str, float]:
    held = getattr(layer, "scaling", None)
    return {k: v for k, v in held.items() if isinstance(v, int | float)} if held else {}


def _frozen(subject: Subject, active: list[str]) -> Iterable[Finding]:
    """Adapter weights of which none asks for a gradient: as loading for inference leaves them."""
    named = subject.parameters
    own = {n: p for n, p in named.items() if _of_adapter(n) and set(n.split(".")) & set(active)}
    if own and not any(p.requires_grad for p in own.values()):
        modes = [getattr(subject.bare.peft_config[a], "inference_mode", False) for a in active]
        why = ", and the adapter was loaded for inference" if any(modes) else ""
        told = f"0 of {len(own)} weights of the active adapter ask for a gradient{why} (bound: 1)"
        remedy = "PeftModel.from_pretrained(model, folder, is_trainable=True), or set_adapter"
        yield Finding("M6", "error", told, remedy, {"adapter_weights": len(own), "trainable": 0})


def _of_adapter(name: str) -> bool:
    return any(sign in name for sign in ("lora_", "ia3_", "vera_", "hada_", "oft_", "prompt_"))


CHECKS = (check_targets_are_matched, check_adapter_is_on)
