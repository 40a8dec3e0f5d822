"""K1 before anything is saved: would the scores be the same after `save_pretrained` and a reload?

`from_pretrained` makes a model of the same class and configuration and fills it with the file's
tensors. What was changed by hand is gone then: a deeper head, another activation, a hook that
scales, a layer that was cut out. A twin is made in that way, without memory of its own, and asked
for the same scores. `register_buffer(…, persistent=False)` is right for what a class computes in
its `__init__`, such as the frequencies of rotary positions, and not for what was hung on later.
"""

from __future__ import annotations

import contextlib
import copy
import re
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from cookbook.doctor import kinds, responses, sampling
from cookbook.doctor.checks import Skip
from cookbook.doctor.findings import Finding
from cookbook.doctor.model_checks import is_quantized
from cookbook.doctor.subject import Subject

LARGEST = 1_000_000_000  # parameters beyond which building takes too long, even without memory
_ADDED = re.compile(r"lora_|ia3_|vera_|hada_|lokr_|oft_|boft_|prompt_encoder|trainable_tokens")
COARSE = 0.5  # of the scores' deviation, where one side may compute in half precision


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


def check_a_reload_scores_the_same(subject: Subject) -> Iterable[Finding]:
    """K1: a model that is made of the class, the configuration and the saved tensors has others.

    Advice where no `Trainer` saves, and where a model only grew: there loading may be one's own.
    """
    model = kinds.base_of(subject.model)
    _must_be_plain(model)
    twin, unknown, drawn = _reloaded(model, hasattr(subject.bare, "peft_config"))
    batch = responses.inputs(subject)
    without = getattr(subject.bare, "disable_adapter", contextlib.nullcontext)
    with responses.quiet(subject):
        limit = responses.bound(subject, batch, responses.scores(subject, batch))
        with without():
            first = _scores(subject, model, batch)
        other = _of_twin(subject, twin.eval(), batch)
    if other.shape != first.shape:
        raise Skip("does not apply")
    if responses.computes_in_half(subject):
        limit = max(limit, COARSE * float(first[first.isfinite()].std(correction=0)))
    gap = responses.moved(first, other)
    if gap > limit:
        saves = subject.args is not None or subject.trainer is not None
        grown = unknown and not drawn  # whoever adds weights of their own knows that they did
        yield Finding(
            "K1", "warn" if saves and not grown else "info",
            f"a fresh {type(model).__name__} of this configuration, filled with the tensors that "
            f"would be saved, gives other scores, by {gap:.2g} (bound: {limit:.2g})"
            f"{_why(unknown, drawn)}",
            "make the change in a subclass, in its __init__ and forward, or say it in the "
            "configuration: what is put in by hand is gone after from_pretrained",
            {"difference": gap, "bound": limit, "unknown": len(unknown), "drawn": len(drawn)},
        )  # fmt: skip


def _why(unknown: list[str], drawn: list[str]) -> str:
    parts = [
        f"{len(names)} tensors {what}, such as {names[0]}"
        for names, what in ((unknown, "have no place in it"), (drawn, "are drawn anew"))
        if names
    ]  # fmt: skip
    return (
        f": {', '.join(parts)}" if parts else ": a module, a forward or a hook is not the class's"
    )


def _must_be_plain(model: Any) -> None:
    """Skip where loading is no plain matter: no transformers model, packed or derived weights."""
    from transformers import PreTrainedModel

    if not isinstance(model, PreTrainedModel) or is_quantized(model):
        raise Skip("does not apply")
    spread = torch.distributed.is_initialized() or hasattr(model, "_hf_hook")
    if spread or sum(p.numel() for p in model.parameters()) > LARGEST:
        raise Skip("does not apply")
    for module in model.modules():  # pruned and normalised weights are made plain before saving
        pruned = any(hasattr(h, "_tensor_name") for h in module._forward_pre_hooks.values())
        if pruned or hasattr(module, "parametrizations"):
            raise Skip("does not apply")


def _reloaded(model: nn.Module, adapted: bool) -> tuple[nn.Module, list[str], list[str]]:
    """The model as a reload makes it, on this one's storage; what it has no place for; what it
    draws. Of adapters nothing counts: they are saved in their own way."""
    state = _plain(model.state_dict(keep_vars=True))
    try:
        with torch.device("meta"):
            twin = type(model)(copy.deepcopy(model.config))
    except Exception as error:  # a class of one's own may ask for more than a configuration
        raise Skip("does not apply") from error
    own = twin.state_dict()
    if any(name in own and own[name].shape != tensor.shape for name, tensor in state.items()):
        raise Skip("does not apply")  # loading refuses it aloud
    unknown = [name for name in state if name not in own]
    frozen = any(isinstance(state[n], nn.Parameter) and not state[n].requires_grad for n in unknown)
    if frozen and not adapted:
        raise Skip("does not apply")  # adapters by hand around frozen weights have their own file
    # Detached: a parameter that is handed over as it is would be thawed in the model, too.
    held = {name: tensor.detach() for name, tensor in state.items() if name in own}
    twin.load_state_dict(held, strict=False, assign=True)
    return twin, unknown, _fill(twin, model)


def _plain(named: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Names as they are without PEFT; what PEFT added is left out."""
    kept = {n: t for n, t in named.items() if ".modules_to_save." not in n and not _ADDED.search(n)}
    return {re.sub(r"\.(base_layer|original_module)(?=\.)", "", n): t for n, t in kept.items()}


def _fill(twin: nn.Module, model: nn.Module) -> list[str]:
    """Gives storage to what was not loaded: buffers as the model made them, weights drawn; tells
    the names of these weights."""
    made, drawn = _plain(dict(model.named_buffers())), []
    device = next(model.parameters()).device
    for prefix, module in twin.named_modules():
        for name, buffer in module._buffers.items():
            if buffer is not None and buffer.is_meta:
                if f"{prefix}.{name}".lstrip(".") not in made:
                    raise Skip("does not apply")
                module._buffers[name] = made[f"{prefix}.{name}".lstrip(".")]
        for name, weight in module._parameters.items():
            if weight is not None and weight.is_meta:
                fresh = torch.empty_like(weight, device=device).normal_(0.0, 0.02)
                module._parameters[name] = nn.Parameter(fresh, requires_grad=False)
                drawn.append(f"{prefix}.{name}".lstrip("."))
    return drawn


def _scores(subject: Subject, model: nn.Module, batch: Any) -> torch.Tensor:
    """The scores of this model for the batch, in fp32 on the CPU; Skip where there are none."""
    batch = sampling.to_device(batch, subject.device)
    whole = isinstance(batch, Mapping)
    outputs = model(**kinds.accepted(model, batch)) if whole else model(batch[0])
    found = responses.of_outputs(subject, outputs)
    if found is None or not found.is_floating_point():
        raise Skip("does not apply")
    return found.detach().float().cpu()


def _of_twin(subject: Subject, twin: nn.Module, batch: Any) -> torch.Tensor:
    try:
        return _scores(subject, twin, batch)
    except (RuntimeError, NotImplementedError, ValueError) as error:
        # A tensor that is no buffer has no values where the model was made without memory.
        raise Skip("does not apply") from error


CHECKS = (check_buffers_would_be_saved, check_a_reload_scores_the_same)
