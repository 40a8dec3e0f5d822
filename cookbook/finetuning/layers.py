"""Where the layers of an encoder are, whatever its architecture calls them.

It finds and names; it changes nothing. The strategies that freeze, unfreeze or extend layers use
it, and so does chapter 07.
"""

from __future__ import annotations

from torch import nn


def layers_of(model: nn.Module) -> nn.ModuleList:
    """The encoder's layers, lowest first: the list with as many entries as the configuration says.

    Serves BERT, RoBERTa, ELECTRA, DistilBERT and others that keep layers in a list. Raises
    ValueError for a model that does not (ALBERT shares one layer).
    """
    count = getattr(model.config, "num_hidden_layers", 0)
    for module in model.base_model.modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return module
    raise ValueError(
        f"{type(model).__name__} has no list of {count} layers to choose from: use a strategy "
        "that needs none, such as 'full' or 'linear-probe'"
    )


def matrices(model: nn.Module) -> list[str]:
    """The names of all linear maps inside the layers: what LoRA adapts."""
    inside = {id(m) for m in layers_of(model).modules() if isinstance(m, nn.Linear)}
    return [name for name, module in model.named_modules() if id(module) in inside]


def sublayer_outputs(layer: nn.Module) -> tuple[str, str]:
    """The names, within a layer, of the last linear maps of attention and feed-forward part.

    A layer of an encoder holds query, key, value, output, up, down, in this order; the names differ
    from one architecture to the next, the order does not. Raises ValueError for other layers.

    >>> layer = nn.ModuleDict({n: nn.Linear(4, 4) for n in ("query", "key", "value", "out")})
    >>> layer.update({"up": nn.Linear(4, 8), "down": nn.Linear(8, 4)})
    >>> sublayer_outputs(layer)
    ('out', 'down')
    """
    names = [name for name, module in layer.named_modules() if isinstance(module, nn.Linear)]
    if len(names) != 6:
        raise ValueError(
            f"{type(layer).__name__} holds {len(names)} linear maps, not the six of an encoder "
            "layer: bottleneck adapters have no known place in it; use 'lora'"
        )
    return names[3], names[5]
