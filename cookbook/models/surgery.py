"""A model changed after it was built: weights poured in, layers added, another head.

Everything says what it kept and what is new. Longer vocabularies are in `initialization`. Chapters
06 and 07 use it.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn


class KeyReport(NamedTuple):
    """What a checkpoint lacked, had in vain, and had in another shape.

    >>> print(KeyReport(["head.weight", "head.bias"], [], []))
    drawn at random: 2 (head.weight, head.bias); not used: 0; of another shape: 0
    """

    missing: Sequence[str]
    unexpected: Sequence[str]
    other_shape: Sequence[str]

    def __str__(self) -> str:
        parts = ("drawn at random", self.missing), ("not used", self.unexpected), (
            "of another shape", self.other_shape,
        )  # fmt: skip
        return "; ".join(f"{what}: {_named(keys)}" for what, keys in parts)


def _named(keys: Sequence[str], most: int = 4) -> str:
    shown = ", ".join(keys[:most]) + (", …" if len(keys) > most else "")
    return f"{len(keys)} ({shown})" if keys else "0"


def report_of(model: nn.Module) -> KeyReport:
    """The report of a model that came from `initialization.load_model`."""
    return KeyReport(model.missing_keys, model.unexpected_keys, [])


def pour(model: nn.Module, weights: Mapping[str, Tensor]) -> KeyReport:
    """Copy every weight of the same name and shape into the model, and say what was left.

    `load_state_dict(strict=False)` returns the same lists, and nobody looks at them: a prefix in
    the names, such as `module.`, and nothing at all was loaded. Raises ValueError in that case.

    >>> layer = nn.Linear(2, 3)
    >>> print(pour(layer, {"weight": torch.ones(3, 2), "scale": torch.ones(1)}))
    drawn at random: 1 (bias); not used: 1 (scale); of another shape: 0
    """
    own = model.state_dict()
    fitting = {n: w for n, w in weights.items() if n in own and w.shape == own[n].shape}
    if not fitting:
        raise ValueError(
            f"no weight fits: the model has {next(iter(own), 'none')!r} …, "
            f"the checkpoint {next(iter(weights), 'none')!r} …"
        )
    model.load_state_dict(fitting, strict=False)
    shapes = sorted(n for n in weights if n in own and n not in fitting)
    # a tied weight has two names and may be stored under one
    filled = {own[name].data_ptr() for name in fitting}
    lacking = [n for n in own if n not in weights and own[n].data_ptr() not in filled]
    return KeyReport(sorted(lacking), sorted(set(weights) - set(own)), shapes)


# Where the blocks are, and what writes into the residual stream, of models with the norm first.
BLOCKS = {
    "bert": ("bert.encoder.layer", ()), "roberta": ("roberta.encoder.layer", ()),
    "electra": ("electra.encoder.layer", ()), "distilbert": ("distilbert.transformer.layer", ()),
    "gpt2": ("transformer.h", ("attn.c_proj", "mlp.c_proj")),
    "llama": ("model.layers", ("self_attn.o_proj", "mlp.down_proj")),
}  # fmt: skip


@torch.no_grad()
def add_layers(model: nn.Module, count: int, *, start: str = "copy") -> nn.Module:
    """Put `count` layers on top of those that are there; in place, and returned.

    `start="copy"`: each is a copy of one below, the topmost last, a better start than random
    (progressive stacking, Gong et al., 2019). `start="identity"`: copies whose output projections
    are zero, so that the model computes exactly what it did; possible where the norm stands first
    (GPT-2, Llama), and Net2Net's idea (Chen et al., 2016, arXiv:1511.05641). The configuration
    counts the new layers, so saving and loading work. Raises ValueError for a model that is not
    known here, a start that it cannot have, or more layers than there are to copy.
    """
    kind = model.config.model_type
    if kind not in BLOCKS:
        raise ValueError(f"the layers of {kind!r} are not known: there are {', '.join(BLOCKS)}")
    path, writers = BLOCKS[kind]
    layers = model.get_submodule(path)
    if start not in ("copy", "identity") or (start == "identity" and not writers):
        raise ValueError(f"start {start!r} is not possible for {kind}: use 'copy'")
    if not 0 < count <= len(layers):
        raise ValueError(f"{count} layers cannot be copied from {len(layers)}: give 1 to that")
    for source in list(layers)[-count:]:
        new = copy.deepcopy(source)
        for name, module in new.named_modules():
            if hasattr(module, "layer_idx"):  # a cache of keys is filed under it
                module.layer_idx = len(layers)
            if start == "identity" and name in writers:
                for parameter in module.parameters():
                    parameter.zero_()
        layers.append(new)
    model.config.num_hidden_layers = len(layers)
    return model


def change_head(model: nn.Module, labels: Sequence[str], *, seed: int = 0) -> nn.Module:
    """A new last layer for other classes, everything before it as it was; in place, and returned.

    Weights from N(0, 0.02²), bias zero: the first loss is near ln(classes). The configuration
    learns the names. Raises ValueError for a model without a linear layer of its present number of
    classes at the end.
    """
    config = model.config
    linear = [(n, m) for n, m in model.named_modules() if isinstance(m, nn.Linear)]
    if not linear or linear[-1][1].out_features != config.num_labels:
        raise ValueError(f"{type(model).__name__} has no linear layer of its classes at its end")
    name, old = linear[-1]
    new = nn.Linear(old.in_features, len(labels), bias=old.bias is not None)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        new.weight.normal_(0, 0.02, generator=generator)
        if new.bias is not None:
            new.bias.zero_()
    holder, _, attribute = name.rpartition(".")
    setattr(model.get_submodule(holder), attribute, new.to(old.weight))
    config.id2label = dict(enumerate(labels))
    config.label2id = {label: number for number, label in enumerate(labels)}
    for place in (model, *model.modules()):
        if getattr(place, "num_labels", None) is not None:
            place.num_labels = len(labels)
    return model


def layers_of(model: Any) -> int:
    """How many layers a model of `BLOCKS` has.

    >>> from cookbook.models.registry import build
    >>> layers_of(add_layers(build("gpt2", vocab_size=50), 1))
    3
    """
    return len(model.get_submodule(BLOCKS[model.config.model_type][0]))
