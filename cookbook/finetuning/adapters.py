"""Strategies that add bottleneck adapters to a frozen encoder, by hand (`maths.adapters`).

Houlsby: two a layer, after attention and after the feed-forward part, with the norms trained too.
Pfeiffer: one a layer, after the feed-forward part. Both start as the identity. Used by
`strategies`, chapter 07.
"""

from __future__ import annotations

import torch
from torch import nn

from cookbook.finetuning import freezing, jobs
from cookbook.finetuning.jobs import HEAD_RATE, Job, Trained
from cookbook.finetuning.layers import layers_of, sublayer_outputs
from cookbook.maths.adapters import Bottleneck


class Adapted(nn.Module):
    """A linear map and the bottleneck behind it, in the place where the map was."""

    def __init__(self, linear: nn.Linear, size: int) -> None:
        super().__init__()
        self.linear, self.adapter = linear, Bottleneck(linear.out_features, size)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(…, in) to (…, out)."""
        return self.adapter(self.linear(x))


def houlsby(job: Job, size: int = 16) -> Trained:
    """Two adapters a layer, and the norms (Houlsby et al. 2019, arXiv:1902.00751)."""
    model = insert(jobs.classifier(job), size, after_attention=True)
    norms = [n for n, m in model.named_modules() if "norm" in type(m).__name__.lower()]
    names = {name for name, _ in model.named_parameters() if name.rpartition(".")[0] in norms}
    return jobs.train(
        job, freezing.train_only(model, names | adapter_names(model)), head_rate=HEAD_RATE
    )


def pfeiffer(job: Job, size: int = 16) -> Trained:
    """One adapter a layer (Pfeiffer et al. 2021, arXiv:2005.00247), norms frozen.

    As in Houlsby's, the residual of the adapter is its own input; the paper's search settled on the
    input of the norm before it, which differs little.
    """
    model = insert(jobs.classifier(job), size, after_attention=False)
    return jobs.train(job, freezing.train_only(model, adapter_names(model)), head_rate=HEAD_RATE)


def insert(model: nn.Module, size: int, *, after_attention: bool) -> nn.Module:
    """Put bottlenecks of `size` into each layer of `model`, in place; its answers stay the same.

    They stand behind the last linear map of the feed-forward part and, if wanted, of attention,
    before the residual is added. Raises ValueError for layers of an unknown make.
    """
    for layer in layers_of(model):
        attention, feed_forward = sublayer_outputs(layer)
        for name in (attention, feed_forward) if after_attention else (feed_forward,):
            linear = layer.get_submodule(name)
            holder, _, own = name.rpartition(".")
            setattr(
                layer.get_submodule(holder), own, Adapted(linear, size).to(linear.weight.device)
            )
    return model


def adapter_names(model: nn.Module) -> set[str]:
    """The names of the weights that `insert` brought in."""
    inserted = [name for name, module in model.named_modules() if isinstance(module, Bottleneck)]
    inside = tuple(f"{name}." for name in inserted)
    return {name for name, _ in model.named_parameters() if name.startswith(inside)}
