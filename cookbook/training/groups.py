"""Which weights get which rate, and which are spared from weight decay: an optimizer's groups.

Does: the groups that spare norms and biases, those in which every layer has its own rate, and the
parting of the hidden matrices (for Muon) from all the rest. Does not: build optimizers
(`optimizers` does), or change rates over time (`schedules`).
Used by `optimizers`, by the strategies of fine-tuning and by chapter 08.
"""

from __future__ import annotations

import re

from torch import nn


def decays(model: nn.Module) -> dict[str, bool]:
    """Which trainable parameters take weight decay: all but those of norms, and biases.

    A norm's gain near 0 would silence its channel, and a bias has nothing to overfit with. The
    choice equals `transformers.Trainer.get_decay_parameter_names`. A parameter that two
    modules share is listed once, under its first name.

    >>> decays(nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2)))
    {'0.weight': True, '0.bias': False, '1.weight': False, '1.bias': False}
    """
    norms = {
        f"{prefix}.{name}" if prefix else name
        for prefix, module in model.named_modules()
        if "norm" in type(module).__name__.lower()
        for name, _ in module.named_parameters(recurse=False)
    }
    return {
        name: name not in norms and "bias" not in name
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict]:
    """Two groups for an optimizer: `weight_decay` on the matrices, 0 on norms and biases.

    Frozen parameters are left out; a group without a parameter is left out too.

    >>> groups = parameter_groups(nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3)), 0.01)
    >>> [(len(group["params"]), group["weight_decay"]) for group in groups]
    [(1, 0.01), (3, 0.0)]
    """
    chosen = decays(model)
    groups = [
        {
            "params": [p for name, p in model.named_parameters() if chosen.get(name) is decayed],
            "weight_decay": weight_decay if decayed else 0.0,
        }
        for decayed in (True, False)
    ]
    return [group for group in groups if group["params"]]


def layer_depths(model: nn.Module) -> dict[str, int]:
    """How far each parameter lies below the head: 0 for the head, 1 for the top layer, and so on.

    Layers are the entries of the outermost `ModuleList` (one list per tower). What comes before
    the first layer, or is called an embedding, lies one below the lowest; whatever else stands
    outside the layers (pooler, last norm, head) counts as the head.

    >>> model = nn.Module()
    >>> model.embedding = nn.Embedding(5, 2)
    >>> model.layers = nn.ModuleList(nn.Linear(2, 2, bias=False) for _ in range(3))
    >>> model.head = nn.Linear(2, 2, bias=False)
    >>> layer_depths(model)  # doctest: +NORMALIZE_WHITESPACE
    {'embedding.weight': 4, 'layers.0.weight': 3, 'layers.1.weight': 2, 'layers.2.weight': 1,
     'head.weight': 0}
    """
    lists = {n: len(m) for n, m in model.named_modules() if isinstance(m, nn.ModuleList)}
    outer = {n: k for n, k in lists.items() if not any(n.startswith(f"{o}.") for o in lists)}
    deepest = max(outer.values(), default=0)
    depths, started = {}, False
    for name, _ in model.named_parameters():
        tower = next((n for n in outer if name.startswith(f"{n}.")), None)
        if tower is not None:
            started = True
            depths[name] = outer[tower] - int(name[len(tower) + 1 :].split(".")[0])
        else:
            below = bool(outer) and (not started or re.search("embed", name) is not None)
            depths[name] = deepest + 1 if below else 0
    return depths


def layer_wise_groups(
    model: nn.Module, lr: float, decay: float, weight_decay: float = 0.0
) -> list[dict]:
    """Groups in which the rate shrinks with depth: `lr * decay ** depth`.

    The head gets `lr`, the top layer `lr * decay`, the embeddings the least: low layers hold
    what pretraining taught and should move little (Howard and Ruder, 2018, ULMFiT, with
    `decay` = 1/2.6; BERT and ELECTRA fine-tuning take 0.65 to 0.95). Norms and biases take no
    weight decay. A scheduler multiplies each group's own rate, so the ratios last.

    >>> model = nn.Module()
    >>> model.layers = nn.ModuleList(nn.Linear(2, 2, bias=False) for _ in range(2))
    >>> model.head = nn.Linear(2, 2, bias=False)
    >>> [(group["depth"], group["lr"]) for group in layer_wise_groups(model, 0.1, 0.5)]
    [(2, 0.025), (1, 0.05), (0, 0.1)]
    """
    chosen, depths, groups = decays(model), layer_depths(model), {}
    for name, parameter in model.named_parameters():
        if name in chosen:
            groups.setdefault((-depths[name], not chosen[name]), []).append(parameter)
    return [
        {
            "params": groups[key],
            "lr": lr * decay ** -key[0],
            "weight_decay": 0.0 if key[1] else weight_decay,
            "depth": -key[0],
        }
        for key in sorted(groups)
    ]


def hidden_matrices(model: nn.Module) -> tuple[list[str], list[str]]:
    """Names of the 2-D weights inside the layers, and of every other trainable parameter.

    Muon orthogonalises the first. Embeddings are tables of rows and the head is a list of class
    vectors, norms and biases are no matrices: these stay with AdamW (Jordan, 2024). Where the
    model has no list of layers, every 2-D weight that is no embedding counts as inside.

    >>> model = nn.Module()
    >>> model.embedding = nn.Embedding(5, 2)
    >>> model.layers = nn.ModuleList([nn.Linear(2, 2)])
    >>> hidden_matrices(model)
    (['layers.0.weight'], ['embedding.weight', 'layers.0.bias'])
    """
    tables = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    depths, inside, rest = layer_depths(model), [], []
    layered = range(1, max(depths.values(), default=0)) or range(1)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            matrix = parameter.ndim == 2 and id(parameter) not in tables
            (inside if matrix and depths[name] in layered else rest).append(name)
    return inside, rest
