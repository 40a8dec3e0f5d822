"""Fewer weights: the smallest set to zero, or whole attention heads cut out.

Does: global magnitude pruning, the importance of each head, heads really removed, with saving and
reloading (transformers 5 has dropped it). Does not: train afterwards (`strategies` does). Zeros
alone make a model neither smaller on disk nor faster; cut heads do both. Used by chapter 16.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from cookbook.finetuning.layers import layers_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel

CUT = "cut_heads.json"  # beside the weights: which heads of which layers are gone


def prune_smallest(model: nn.Module, share: float) -> float:
    """Set the `share` of all weights of the layers' linear maps that is smallest to 0, in place.

    One threshold for all matrices, so that a matrix of small weights loses more. Returns the share
    that is zero afterwards. Equal to `torch.nn.utils.prune.global_unstructured` with
    `L1Unstructured`. Raises ValueError for a share outside 0 to 1. Source: Han et al. 2015,
    arXiv:1506.02626.
    """
    if not 0 <= share < 1:
        raise ValueError(f"share {share} must lie from 0 to below 1")
    weights = [m.weight for m in layers_of(model).modules() if isinstance(m, nn.Linear)]
    sizes = torch.cat([w.detach().abs().flatten() for w in weights])
    fewest = torch.zeros_like(sizes, dtype=torch.bool)
    fewest[sizes.topk(round(share * len(sizes)), largest=False).indices] = True
    with torch.no_grad():
        for weight, gone in zip(weights, fewest.split([w.numel() for w in weights]), strict=True):
            weight.masked_fill_(gone.view_as(weight), 0.0)
    return float(torch.cat([(w == 0).flatten() for w in weights]).float().mean())


def head_importance(model: PreTrainedModel, batches: Iterable[Mapping[str, Any]]) -> torch.Tensor:
    """How much the loss would change without each head: (layers, heads), from gradients.

        I_h = mean over rows of | h . dL/dh |

    with h the head's output before the projection. Weights and gradients stay as they were. Source:
    Michel, Levy and Neubig 2019, arXiv:1905.10650, equation 2. `batches` carry labels.
    """
    outputs: list[torch.Tensor] = []
    found = [_keep_input(attention(layer)[1], outputs) for layer in layers_of(model)]
    training, total, rows = model.training, 0.0, 0
    model.eval()
    try:
        for batch in batches:
            outputs.clear()
            loss = model(**batch)["loss"] * len(batch["labels"])  # a sum: rows do not share it
            slopes = torch.autograd.grad(loss, outputs)
            size = attention(layers_of(model)[0])[0].attention_head_size
            each = [
                (h * g).unflatten(-1, (-1, size)).sum((1, 3)).abs().sum(0)
                for h, g in zip(outputs, slopes, strict=True)
            ]
            total, rows = total + torch.stack(each).detach().float(), rows + len(batch["labels"])
    finally:
        model.train(training)
        for handle in found:
            handle.remove()
    return total / max(1, rows)


def cut_heads(model: PreTrainedModel, heads: Mapping[int, Iterable[int]]) -> PreTrainedModel:
    """Remove attention heads, `{layer: heads}`, in place.

    Rows of query, key and value go, and the columns of the projection that read them.
    What is left computes what the model computed with these heads at zero. At least one head stays
    in each layer. Numbers are those of the uncut model, also on a second cut. Serves BERT-like
    encoders. Raises ValueError for a head that is not there and for a layer without a head.
    """
    gone = {int(k): sorted(set(v)) for k, v in getattr(model, "cut_heads", {}).items()}
    for number, wanted in heads.items():
        own, output = attention(layers_of(model)[number])
        before = [
            h for h in range(model.config.num_attention_heads) if h not in gone.get(number, [])
        ]
        missing = sorted(set(wanted) - set(before))
        if missing:
            raise ValueError(f"layer {number} has no head {missing[0]}: there are {before}")
        kept = [place for place, h in enumerate(before) if h not in set(wanted)]
        if not kept:
            raise ValueError(f"layer {number} would lose all its heads: leave one")
        _shrink(own, output, kept)
        gone[number] = sorted({*gone.get(number, []), *wanted})
    model.cut_heads = gone
    return model


def save_cut(model: PreTrainedModel, folder: str | Path) -> Path:
    """`save_pretrained`, and beside the weights the list of heads that are gone."""
    target = Path(folder)
    model.save_pretrained(target)
    (target / CUT).write_text(json.dumps(getattr(model, "cut_heads", {})), encoding="utf-8")
    return target


def load_cut(folder: str | Path, factory: Any) -> PreTrainedModel:
    """The model that `save_cut` wrote. `factory` is its class, `BertForSequenceClassification` say.

    Raises ValueError where the list of heads is missing and where a weight does not fit.
    """
    from safetensors.torch import load_file

    source = Path(folder)
    if not (source / CUT).exists():
        raise ValueError(f"{source.name} has no {CUT}: it was not written by save_cut")
    heads = json.loads((source / CUT).read_text(encoding="utf-8"))
    model = factory(factory.config_class.from_pretrained(source))
    cut_heads(model, {int(number): gone for number, gone in heads.items()})
    weights = load_file(source / "model.safetensors")
    missing, unexpected = model.load_state_dict(weights, strict=False)
    tied = {name for name in missing if name in getattr(model, "all_tied_weights_keys", {})}
    if unexpected or set(missing) - tied:
        raise ValueError(f"weights do not fit: {[*unexpected, *missing][0]} is on one side only")
    model.tie_weights()
    return model.eval()


def attention(layer: nn.Module) -> tuple[nn.Module, nn.Linear]:
    """The self-attention of a BERT-like layer, and the linear map that reads its heads."""
    for module in layer.modules():
        if hasattr(module, "self") and hasattr(module, "output"):
            return module.self, module.output.dense
    raise ValueError(f"{type(layer).__name__} is no BERT-like layer: its heads cannot be cut here")


def _shrink(own: nn.Module, output: nn.Linear, kept: list[int]) -> None:
    size = own.attention_head_size
    entries = torch.cat([torch.arange(size) + place * size for place in kept])
    for linear in (own.query, own.key, own.value):
        linear.weight = nn.Parameter(linear.weight.detach()[entries].clone())
        linear.bias = nn.Parameter(linear.bias.detach()[entries].clone())
        linear.out_features = len(entries)
    output.weight = nn.Parameter(output.weight.detach()[:, entries].clone())
    output.in_features = len(entries)
    own.num_attention_heads, own.all_head_size = len(kept), len(entries)


def _keep_input(linear: nn.Linear, kept: list) -> Any:
    return linear.register_forward_pre_hook(lambda _, inputs: kept.append(inputs[0]))
