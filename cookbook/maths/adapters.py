"""Small changes to a frozen layer, by hand: LoRA, DoRA, IA3, bottleneck adapters, bias vectors.

Does: each method as a formula of a line or two; LoRA and the bottleneck also as modules that start
as the function they adapt. LoRA, DoRA and IA3 equal `peft` with the same weights. Does not: find
the layers of a model, or train; `finetuning.adapters` and `finetuning.peft_methods` do.
Used by chapter 07.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class LoRALinear(nn.Module):
    """A frozen linear layer plus a trainable product of rank r: `W x + b + (alpha / r) B A x`.

    A (rank, in) is random and B (out, rank) zero, so that nothing changes before the first step;
    were both zero, neither would ever get a gradient. Source: Hu et al. 2021, arXiv:2106.09685,
    section 4.1. Raises ValueError for a rank below 1.

    >>> layer = nn.Linear(4, 3)
    >>> adapted, x = LoRALinear(layer, rank=2), torch.ones(1, 4)
    >>> torch.equal(adapted(x), layer(x))
    True
    """

    def __init__(self, linear: nn.Linear, rank: int = 8, alpha: float = 16.0) -> None:
        super().__init__()
        if rank < 1:
            raise ValueError(f"rank is {rank}: a product of rank 1 is the least that can learn")
        self.linear, self.scale = linear.requires_grad_(False), alpha / rank
        self.a = nn.Parameter(linear.weight.new_empty(rank, linear.in_features))
        self.b = nn.Parameter(linear.weight.new_zeros(linear.out_features, rank))
        nn.init.kaiming_uniform_(self.a, a=math.sqrt(5))

    def forward(self, x: Tensor) -> Tensor:
        """(…, in) to (…, out); two thin products, never the matrix B A."""
        return self.linear(x) + self.scale * (x @ self.a.T @ self.b.T)

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """One ordinary layer with the weight `W + (alpha / r) B A`: no cost when it is used."""
        layer = nn.utils.skip_init(
            nn.Linear, self.linear.in_features, self.linear.out_features,
            bias=self.linear.bias is not None, device=self.a.device, dtype=self.a.dtype,
        )  # fmt: skip
        layer.weight.copy_(self.linear.weight + self.scale * self.b @ self.a)
        if self.linear.bias is not None:
            layer.bias.copy_(self.linear.bias)
        return layer


def dora_weight(weight: Tensor, a: Tensor, b: Tensor, scale: float, magnitude: Tensor) -> Tensor:
    """`m (W + s B A) / ||W + s B A||`, the norm by row: LoRA turns a row, m sets its length.

    `weight` (out, in), `a` (rank, in), `b` (out, rank), `magnitude` (out,), which starts as the
    norms of W's rows. As in the paper the norm counts as a constant for the gradient. Source: Liu
    et al. 2024, arXiv:2402.09353, equations 5 and 11.

    >>> w = torch.tensor([[3.0, 4.0]])
    >>> dora_weight(w, torch.ones(1, 2), torch.zeros(1, 1), 2.0, torch.tensor([10.0])).tolist()
    [[6.0, 8.0]]
    """
    turned = weight + scale * b @ a
    return (magnitude / turned.norm(dim=1).detach()).unsqueeze(1) * turned


def ia3(x: Tensor, weight: Tensor, bias: Tensor | None, rescale: Tensor) -> Tensor:
    """`l * (W x + b)`: one learned factor per output, all of them 1 at the start.

    `x` (…, in), `weight` (out, in), `rescale` (out,). Source: Liu et al. 2022, arXiv:2205.05638,
    section 3.3; `peft` too scales the bias along with the product.

    >>> ia3(torch.ones(2), torch.eye(2), None, torch.tensor([1.0, 3.0])).tolist()
    [1.0, 3.0]
    """
    return rescale * nn.functional.linear(x, weight, bias)


class Bottleneck(nn.Module):
    """`h + U gelu(D h)`: down to a few dimensions, a bend, up again, and h itself beside it.

    U starts at zero, so the module starts as the identity and a pretrained model keeps its answers
    when adapters are put in. Input and output (…, width). Source: Houlsby et al. 2019,
    arXiv:1902.00751, section 2.1 (which starts near zero rather than at it).

    >>> h = torch.randn(2, 5, 8)
    >>> torch.equal(Bottleneck(8, 2)(h), h)
    True
    """

    def __init__(self, width: int, size: int) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(width, size), nn.Linear(size, width)
        nn.init.normal_(self.down.weight, std=0.02)
        for zero in (self.down.bias, self.up.weight, self.up.bias):
            nn.init.zeros_(zero)

    def forward(self, h: Tensor) -> Tensor:
        """(…, width) to (…, width)."""
        return h + self.up(nn.functional.gelu(self.down(h)))


def bias_names(model: nn.Module) -> list[str]:
    """The parameters that BitFit trains: every bias vector, of linear layers and norms alike.

    Source: Ben Zaken et al. 2022, arXiv:2106.10199.

    >>> bias_names(nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2)))
    ['0.bias', '1.bias']
    """
    return [name for name, _ in model.named_parameters() if name.rpartition(".")[2] == "bias"]


def with_prompt(embedded: Tensor, mask: Tensor, prompt: Tensor) -> tuple[Tensor, Tensor]:
    """Learned vectors in front of the embedded tokens, and the attention mask grown to match.

    `embedded` (batch, length, width), `mask` (batch, length), `prompt` (tokens, width). Returns
    (batch, tokens + length, width) and (batch, tokens + length). Source: Lester et al. 2021,
    arXiv:2104.08691.

    >>> longer, mask = with_prompt(torch.zeros(2, 3, 4), torch.ones(2, 3), torch.ones(5, 4))
    >>> tuple(longer.shape), tuple(mask.shape)
    ((2, 8, 4), (2, 8))
    """
    batch, tokens = embedded.shape[0], prompt.shape[0]
    longer = torch.cat([prompt.expand(batch, -1, -1), embedded], dim=1)
    return longer, torch.cat([mask.new_ones(batch, tokens), mask], dim=1)
