"""K1, before anything is saved: can the configuration build again what the weights have become?

`from_pretrained` builds a model from its configuration and then fills it. Where heads were cut or
rows were added by hand, the file no longer fits, and it is refused, or filled with random numbers.
Only the shapes inside the backbone are compared; heads and adapters have ways of their own to be
saved, and quantised layers hold packed weights.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable

import torch
from torch import nn

from cookbook.doctor import kinds
from cookbook.doctor.checkpoint_checks import backbone
from cookbook.doctor.checks import Skip
from cookbook.doctor.findings import Finding
from cookbook.doctor.subject import Subject

LARGEST = 1_000_000_000  # parameters beyond which building takes too long, even without memory


def check_configuration_builds_the_model(subject: Subject) -> Iterable[Finding]:
    """K1: a weight of the backbone has another shape than the model's own configuration gives."""
    from transformers import PreTrainedModel

    model = kinds.base_of(subject.model) if subject.model is not None else None
    if not isinstance(model, PreTrainedModel):
        raise Skip("does not apply")
    own = {name: tuple(weight.shape) for name, weight in backbone(model).items()}
    if not own or sum(w.numel() for w in model.parameters()) > LARGEST:
        raise Skip("does not apply")
    built = dict(_twin(model).named_parameters())
    other = [n for n in own if n in built and own[n] != tuple(built[n].shape)]
    if other:
        first = other[0]
        yield Finding(
            "K1", "error",
            f"{len(other)} weights of the backbone do not fit its configuration: "
            f"{first} is {own[first]}, and would be {tuple(built[first].shape)} in the model that "
            "from_pretrained makes",
            remedy="change the configuration with the weights, or save what was cut and cut the "
            "fresh model in the same way before loading",
            measured={"weights": len(other), "first": first},
        )  # fmt: skip


def _twin(model: nn.Module) -> nn.Module:
    """A model of the same class and configuration, without memory."""
    with torch.device("meta"):
        return type(model)(copy.deepcopy(model.config))


CHECKS = (check_configuration_builds_the_model,)
