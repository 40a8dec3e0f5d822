"""M2: weights that make the scores and that no list of the model's parameters holds.

Layers in a Python list or dict, or outside the class, are in no `parameters()`: no optimizer gets
them, nothing moves them to another device, no checkpoint saves them. They are found in the graph
behind the scores, as leaves. What asks for no gradient, and what an optimizer or the loss holds, is
kept out of the model on purpose; so is a pretrained model whose features are used.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from cookbook.doctor import contrastive, gradients, preserve, responses, sampling
from cookbook.doctor.checks import Skip
from cookbook.doctor.findings import Finding
from cookbook.doctor.optimizer_checks import held_by_optimizers, of_loss
from cookbook.doctor.subject import Subject


def check_weights_are_listed(subject: Subject) -> Iterable[Finding]:
    """M2: parameters behind the scores that are neither the model's nor in an optimizer."""
    held = _held(subject)
    batch = responses.inputs(subject)
    with subject.mode(training=False), torch.enable_grad():
        outputs = gradients.forward(subject, batch)
    known = {id(p) for p in subject.model.parameters()} | held | of_loss(subject)
    leaves = {
        id(node.variable): node.variable
        for tensor in _answers(subject, outputs, batch)
        for node in gradients.graph(tensor)
        if isinstance(getattr(node, "variable", None), nn.Parameter)
    }
    kept = _places(subject.bare)
    hidden = {
        key: leaf for key, leaf in leaves.items()
        if key not in known and not getattr(leaf, "_is_hf_initialized", False)
    }  # fmt: skip
    if hidden:
        where = sorted({kept[key] for key in hidden if key in kept})
        at = f" (they lie in the plain Python object {where[0]})" if where else ""
        yield Finding(
            "M2", "warn",
            f"{len(hidden)} weights make the scores, ask for a gradient and are in no list of the "
            f"model's parameters{at}: no optimizer will move them (bound: 0)",
            "keep layers in nn.ModuleList or nn.ModuleDict, or set them as attributes",
            {"hidden": len(hidden), "numbers": sum(p.numel() for p in hidden.values())},
        )  # fmt: skip


def _held(subject: Subject) -> set[int]:
    """What the optimizers hold; Skip where nobody knows what they will be given."""
    if preserve.several(subject.optimizer):
        held = held_by_optimizers(subject)
        if held is None:
            raise Skip("does not apply")
        return held
    own = getattr(type(subject.trainer), "create_optimizer", None)
    stock = own is None or own.__module__.startswith("transformers.")
    if subject.args is None or not stock:
        raise Skip("does not apply")
    return set()


def _answers(subject: Subject, outputs: Any, batch: Any) -> list[torch.Tensor]:
    """The scores, or the embeddings, that have a graph."""
    found = responses.of_outputs(subject, outputs)
    sides = contrastive.embeddings_of(outputs, sampling.batch_size(batch))
    answers = [found] if found is not None else sides
    return [answer for answer in answers if answer.requires_grad]


def _places(model: nn.Module) -> dict[int, str]:
    """Parameter → the attribute of lists, tuples, dicts that holds its module or itself."""
    found = {}
    for prefix, module in model.named_modules():
        for name, value in vars(module).items():
            if name.startswith("_") or not isinstance(value, list | tuple | Mapping):
                continue
            for item in value.values() if isinstance(value, Mapping) else value:
                own = [item] if isinstance(item, nn.Parameter) else []
                inner = item.parameters() if isinstance(item, nn.Module) else own
                found |= {id(p): f"{prefix}.{name}".lstrip(".") for p in inner}
    return found


CHECKS = (check_weights_are_listed,)
