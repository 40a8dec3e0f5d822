"""M2, M3, M5, H3: what a model's parameters say before anything runs.

Is anything worth training trainable, is a new head among it, does what is tied share its storage,
does the model stand where the accelerator is? Adapters have a file of their own. Deliberate
freezing is nobody's fault: bias tuning, norm tuning with a head, and prompts pass.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import torch
from torch import nn

from cookbook.doctor import checkpoint_checks, kinds
from cookbook.doctor.checks import Skip
from cookbook.doctor.findings import Finding
from cookbook.doctor.optimizer_checks import held_by_optimizers
from cookbook.doctor.subject import LAZY, Subject

HEAD = re.compile(r"(^|\.)(classifier|score|qa_outputs|classification_head|logits_proj|head)\.")
STACKS = ("encoder", "decoder")
HEADED = ("classifier", "tagger", "regression", "multi-label", "question-answering")


def check_something_is_trainable(subject: Subject) -> Iterable[Finding]:
    """M5: no parameter is trainable, or only norms are, with no head."""
    named = _unpacked(subject)
    trainable = {name: p for name, p in named.items() if p.requires_grad}
    if not trainable:
        told = f"0 of {len(named)} parameters ask for a gradient (bound: 1)"
        yield Finding("M5", "error", told, _unfreeze(subject), {"trainable": 0})
    elif _only_norms(subject, named, trainable):
        told = (
            f"all {len(trainable)} trainable parameters are one-dimensional, norms and biases, "
            f"such as {next(iter(trainable))} (bound: one matrix)"
        )
        yield Finding("M5", "warn", told, measured={"trainable": len(trainable), "matrices": 0})


def _unpacked(subject: Subject) -> dict[str, nn.Parameter]:
    """The parameters by name; Skip where there are none, or they lie in packed integers."""
    if subject.model is None or not subject.parameters:
        raise Skip("does not apply")
    if any(isinstance(p, LAZY) for p in subject.parameters.values()):
        raise Skip("does not apply")
    if is_quantized(subject.model) and not subject.trainable:
        raise Skip("a quantised model without trainable parameters is for inference")
    return subject.parameters


def _unfreeze(subject: Subject) -> str:
    if hasattr(subject.bare, "peft_config"):
        return "load the adapter with is_trainable=True, or make it with get_peft_model"
    return "set requires_grad_(True) on what is to be trained"


def _only_norms(subject: Subject, named: dict, trainable: dict) -> bool:
    if hasattr(subject.bare, "peft_config") or any(p.dim() >= 2 for p in trainable.values()):
        return False
    if not any(p.dim() >= 2 for p in named.values()):
        return False
    biases = {name for name in named if name.endswith("bias")}
    others = trainable.keys() - biases  # biases alone are trained on purpose, as BitFit does
    return bool(others) and all(is_norm(subject.model, name) for name in others)


def is_norm(model: nn.Module, parameter: str) -> bool:
    """Whether a parameter belongs to a normalising layer, by its class's name."""
    return "norm" in type(kinds.module_of(model, parameter)).__name__.lower()


def is_quantized(model: nn.Module) -> bool:
    """Whether any layer computes in packed integers: torch's, bitsandbytes', torchao's …"""
    signs = re.compile(r"quantized|bitsandbytes|torchao|gptq|awq|hqq|quanto")
    return any(signs.search(type(m).__module__) for m in model.modules()) or bool(
        getattr(kinds.base_of(model), "is_quantized", False)
    )


def check_new_head_is_trained(subject: Subject) -> Iterable[Finding]:
    """M2: a head that the checkpoint did not have is frozen, or in no optimizer."""
    if subject.model is None or not subject.trainable:
        raise Skip("does not apply")
    head = new_head(subject) if subject.kind in HEADED else new_language_head(subject)
    head = head or _last_layer(subject)
    if not head or _only_norms(subject, subject.parameters, subject.trainable):
        raise Skip("does not apply")
    frozen = [name for name, p in head.items() if not p.requires_grad]
    held = held_by_optimizers(subject)
    rest = [p for name, p in subject.trainable.items() if name not in head]
    # An optimizer that lacks all that is trainable has not forgotten the head: that is O6 or M6.
    counted = rest or subject.parameters.values()
    others = held is not None and any(id(p) in held for p in counted)
    if held is not None and held - {id(p) for p in subject.parameters.values()}:
        raise Skip("does not apply")  # it holds a head that is no longer the model's: O6
    left_out = [name for name, p in head.items() if others and id(p) not in held]
    for names, how in ((frozen, "frozen"), (left_out, "in no optimizer")):
        if len(names) == len(head):
            told = (
                f"the new head ({', '.join(names[:2])}) is {how}, while "
                f"{len(subject.trainable)} other parameters are trained (bound: none frozen)"
            )
            remedy = _mend_head(subject) if names is frozen else ""
            yield Finding("M2", "error", told, remedy, {"head": len(head), "left": len(names)})
            return


def _mend_head(subject: Subject) -> str:
    if hasattr(subject.bare, "peft_config"):
        return "name the head in modules_to_save, or set the task_type of the adapter"
    return ""


def _last_layer(subject: Subject) -> dict[str, nn.Parameter]:
    """Of a plain module in which all else is trained, the frozen linear layer that ends it."""
    layers = [(n, m) for n, m in subject.bare.named_modules() if isinstance(m, nn.Linear)]
    if subject.config is not None or subject.kind != "classifier" or len(layers) < 1:
        return {}
    name, last = layers[-1]
    head = {f"{name}.{n}": p for n, p in last.named_parameters()}
    rest = [p for n, p in subject.parameters.items() if n not in head]
    whole = rest and all(p.requires_grad for p in rest)
    return head if whole and not any(p.requires_grad for p in head.values()) else {}


def new_head(subject: Subject) -> dict[str, nn.Parameter]:
    """Name → parameter of a head that was drawn for this run: by the file's keys, else its looks.

    Only transformers models are looked at here.
    """
    base = kinds.base_of(subject.model)
    if getattr(base, "config", None) is None:
        return {}
    found = {n: p for n, p in base.named_parameters() if HEAD.search(n) and "lora_" not in n}
    # PEFT trains a copy of a head that it saves, and leaves the original alone.
    copies = {n: p for n, p in found.items() if "modules_to_save." in n}
    found = copies or found
    weights = [p for p in found.values() if p.dim() >= 2 and p.numel() > 1]
    if not weights or any(getattr(p, "_is_hf_initialized", False) for p in found.values()):
        return {}
    files = checkpoint_checks.weight_files(checkpoint_checks.checkpoint_name(base))
    if files is not None:
        plain = {n: re.sub(r"modules_to_save\.\w+\.", "", n) for n in found}
        stored = [checkpoint_checks.stored_key(files, base, name) for name in plain.values()]
        return {} if any(stored) else found
    biases = [p for n, p in found.items() if n.endswith("bias")]
    drawn = biases and all(not p.detach().any() for p in biases)
    return found if drawn else {}


def new_language_head(subject: Subject) -> dict[str, nn.Parameter]:
    """Name → parameter of a language model's own head that the checkpoint's file does not have."""
    base = kinds.base_of(subject.model)
    files = checkpoint_checks.weight_files(checkpoint_checks.checkpoint_name(base))
    if files is None or subject.kind not in checkpoint_checks.LANGUAGE:
        return {}
    try:
        head, table = base.get_output_embeddings(), base.get_input_embeddings()
    except (AttributeError, NotImplementedError):
        return {}
    weight = getattr(head, "weight", None)
    if weight is None or weight is getattr(table, "weight", None):
        return {}
    if getattr(weight, "_is_hf_initialized", False):  # loaded, perhaps under another name
        return {}
    found = {n: p for n, p in base.named_parameters() if p is weight}
    stored = [checkpoint_checks.stored_key(files, base, name) for name in found]
    return {} if any(stored) or not checkpoint_checks.looks_drawn(weight) else found


def check_ties_hold(subject: Subject) -> Iterable[Finding]:
    """M3: the configuration ties weights that lie in two storages."""
    base = kinds.base_of(subject.model) if subject.model is not None else None
    config = getattr(base, "config", None)
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    if not getattr(text, "tie_word_embeddings", False) or is_quantized(base):
        raise Skip("does not apply")
    apart = [pair for pair in _tied_pairs(base) if _two_storages(*pair[1])]
    if apart:
        (one, other), (first, second) = apart[0]
        gap = float((first - second).abs().max()) if first.shape == second.shape else -1.0
        differ = f"differ by at most {gap:.2g}" if gap >= 0 else "have two shapes"
        told = f"tie_word_embeddings is set, yet {one} and {other} lie in two storages and {differ}"
        yield Finding("M3", "error", f"{told} (bound: one storage)", measured={"gap": gap})


def _tied_pairs(model: nn.Module) -> Iterable[tuple[tuple[str, str], tuple]]:
    """((name, name), (weight, weight)) of what the class ties; empty where it ties nothing.

    PEFT's copies, adapters around an embedding and parametrisations are apart on purpose: they have
    other names.
    """
    ties = getattr(model, "_tied_weights_keys", None)
    if not isinstance(ties, Mapping):
        return
    named = {n: p.detach() for n, p in model.named_parameters(remove_duplicate=False)}
    for one, other in ties.items():
        if one in named and other in named:
            yield (one, other), (named[one], named[other])
    try:
        tables = [m.get_input_embeddings() for m in _stacks(model)]
    except (AttributeError, NotImplementedError):
        return
    whole = named.get(next(iter(ties.values()), ""))
    for place, table in enumerate(tables):  # BART's own do not stand among its ties
        own = getattr(table, "weight", None)
        plain = isinstance(table, nn.Embedding) and not hasattr(table, "parametrizations")
        if plain and whole is not None and whole.shape == own.shape:
            yield (f"the embedding of the {STACKS[place]}", "the shared one"), (own.detach(), whole)


def _stacks(model: nn.Module) -> list[nn.Module]:
    """Encoder and decoder, where a model has both."""
    found = [getattr(model, f"get_{name}", lambda: None)() for name in STACKS]
    both = all(isinstance(m, nn.Module) and m is not model for m in found)
    return found if both and getattr(model.config, "is_encoder_decoder", False) else []


def _two_storages(one: torch.Tensor, other: torch.Tensor) -> bool:
    if one.is_meta or other.is_meta or not (one.is_floating_point() and other.is_floating_point()):
        return False
    return one.data_ptr() != other.data_ptr()


def check_accelerator_is_used(subject: Subject) -> Iterable[Finding]:
    """H3: there is an accelerator, and a plain loop's model lies on the CPU."""
    if subject.model is None or subject.args is not None or subject.trainer is not None:
        raise Skip("does not apply")  # a Trainer moves the model itself
    if not torch.cuda.is_available() or subject.device.type != "cpu":
        raise Skip("does not apply")
    count = sum(p.numel() for p in subject.parameters.values())
    if count and subject.optimizer is not None:
        told = f"a GPU is there and all {count / 1e6:.1f} M parameters are on the CPU"
        yield Finding("H3", "warn" if count > 2e7 else "info", told, measured={"parameters": count})


CHECKS = (
    check_something_is_trainable,
    check_new_head_is_trained,
    check_ties_hold,
    check_accelerator_is_used,
)
