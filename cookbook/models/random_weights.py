"""Random weights at the published scale, and a look whether a model has them.

How wide the first weights are drawn decides whether signals and gradients survive the depth. This
measures; the drawing is done by each architecture, `draw_truncated` aside. Chapters 03, 04 and 06
use it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import nn


class Scale(NamedTuple):
    """One matrix: the standard deviation that was published, and the one it has."""

    parameter: str
    published: float
    measured: float
    numbers: int

    @property
    def agrees(self) -> bool:
        """Within five standard errors, σ/sqrt(2n), of what was published."""
        return abs(self.measured - self.published) <= 5 * self.published / (2 * self.numbers) ** 0.5


def _constant(std: float) -> Callable[[Any], float]:
    return lambda config: std


# By type of model: (which parameters, their standard deviation). The first that fits counts.
PUBLISHED: dict[str, list[tuple[str, Callable[[Any], float]]]] = {
    # Devlin et al., 2019: 0.02 everywhere (their code cuts at two standard deviations)
    "bert": [(r"embeddings\.weight|(query|key|value|dense|transform)\.weight", _constant(0.02))],
    # Radford et al., 2019, 2.3: what ends in the residual stream is divided by sqrt(its sublayers).
    # Positions are left out: 0.01 in their code, 0.02 in transformers.
    "gpt2": [
        (r"c_proj\.weight", lambda c: 0.02 / (2 * c.n_layer) ** 0.5),
        (r"(wte|c_attn|c_fc)\.weight", _constant(0.02)),
    ],
    # Not in the paper; the configuration that came with the weights
    "llama": [(r"(_proj|embed_tokens)\.weight", _constant(0.02))],
    # Raffel et al., 2020, in the code: 1/sqrt(inputs), and attention without 1/sqrt(d_k) elsewhere
    "t5": [
        (r"shared\.weight", _constant(1.0)),
        (r"\.q\.weight", lambda c: (c.d_model * c.d_kv) ** -0.5),
        (r"(\.k|\.v|wi)\.weight", lambda c: c.d_model**-0.5),
        (r"\.o\.weight", lambda c: (c.num_heads * c.d_kv) ** -0.5),
        (r"wo\.weight", lambda c: c.d_ff**-0.5),
    ],
}


def weight_scales(model: nn.Module) -> list[Scale]:
    """Every matrix whose scale was published, with the scale that it has in this model.

    After `build` each agrees; after training, or for a model whose library drew it otherwise, the
    ones that do not are seen at once. Raises ValueError for a type of which none is listed here.

    >>> from cookbook.models.registry import build
    >>> all(scale.agrees for scale in weight_scales(build("gpt2", "mini", vocab_size=500)))
    True
    """
    config = getattr(model, "config", None)
    kind = getattr(config, "model_type", type(model).__name__)
    if kind not in PUBLISHED:
        raise ValueError(f"no published scales for {kind!r}: there are {', '.join(PUBLISHED)}")
    found = []
    for name, tensor in model.named_parameters():
        fitting = [std for pattern, std in PUBLISHED[kind] if re.search(pattern, name)]
        if fitting and tensor.dim() == 2:
            drawn = tensor.detach()
            drawn = drawn[drawn.abs().sum(1) > 0]  # the row of the padding token is kept at zero
            measured = drawn.square().mean().sqrt().item()  # the mean is 0
            found.append(Scale(name, fitting[0](config), measured, drawn.numel()))
    return found


@torch.no_grad()
def draw_truncated(model: nn.Module, std: float = 0.02, *, seed: int = 0) -> nn.Module:
    """Draw every linear layer and embedding anew from a normal cut at two `std`; biases are zero.

    As the original BERT, ALBERT, ELECTRA and ViT do: no weight is far out. What is left has 0.88 of
    `std`. Returns the model.

    >>> layer = draw_truncated(nn.Linear(100, 100))
    >>> bool(layer.weight.abs().max() <= 0.04), layer.bias.abs().max().item()
    (True, 0.0)
    """
    generator = torch.Generator().manual_seed(seed)
    for layer in model.modules():
        if isinstance(layer, nn.Linear | nn.Embedding):
            drawn = torch.empty(layer.weight.shape)
            nn.init.trunc_normal_(drawn, std=std, a=-2 * std, b=2 * std, generator=generator)
            layer.weight.copy_(drawn)
            if isinstance(layer, nn.Linear) and layer.bias is not None:
                layer.bias.zero_()
    return model
