"""Half precision by hand: rounding to fp16 and bf16, loss scaling, full-precision master weights.

Does: round as the hardware does, scale a loss as `torch.amp.GradScaler` does, keep fp32 copies that
take the updates of a model in half precision. Does not: compute anything faster (`torch.autocast`
does). Chapter 10 shows these and goes on with torch's own.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

FORMATS = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def number_format(name: str) -> dict[str, float]:
    """Bits and limits of "fp32", "fp16" or "bf16", from `torch.finfo`.

    `exponent` and `fraction` are bits beside the sign; `spacing` is that of the numbers just above
    1; below `smallest normal` digits are lost, below half of `smallest` everything is.

    >>> found = number_format("fp16")
    >>> found["largest"], found["exponent"], found["fraction"]
    (65504.0, 5, 10)
    """
    about = torch.finfo(FORMATS[name])
    fraction = round(-torch.log2(torch.tensor(about.eps, dtype=torch.float64)).item())
    return {
        "bits": about.bits, "exponent": about.bits - 1 - fraction, "fraction": fraction,
        "largest": about.max, "smallest normal": about.smallest_normal,
        "smallest": about.smallest_normal * about.eps, "spacing": about.eps,
    }  # fmt: skip


def rounded(x: torch.Tensor, name: str) -> torch.Tensor:
    """`x` as the nearest number of a format, in float64: `x.to(dtype).double()`, by hand.

    A number of size 2^e lies on a grid of 2^(e - fraction); below the smallest normal number the
    grid gets no finer. Ties go to the even neighbour; what would exceed the largest is infinite.

    >>> rounded(torch.tensor([1.004, 70000.0, 1e-8]), "fp16").tolist()
    [1.00390625, inf, 0.0]
    >>> rounded(torch.tensor([1.003, 70000.0, 1e-8]), "bf16").tolist()[:2]
    [1.0, 70144.0]
    """
    about = number_format(name)
    x = x.double()
    _, exponent = torch.frexp(x.abs().clamp(min=about["smallest normal"]))
    grid = torch.ldexp(torch.ones_like(x), exponent - 1 - int(about["fraction"]))
    nearest = (x / grid).round() * grid  # torch.round takes ties to the even neighbour
    limit = torch.full_like(x, torch.inf).copysign(x)
    return torch.where(nearest.abs() > about["largest"], limit, nearest)


def share_lost(values: torch.Tensor, name: str, scale: float = 1.0) -> float:
    """Share of the numbers other than 0 that become 0, or infinite, when `scale` times them is
    written in a format.

    >>> share_lost(torch.tensor([1e-9, 1e-3]), "fp16"), share_lost(torch.tensor([1e-9]), "bf16")
    (0.5, 0.0)
    """
    given = values[values != 0].float()
    written = (given * scale).to(FORMATS[name])
    return float(((written == 0) | ~written.isfinite()).float().mean())


class LossScaler:
    """Multiply the loss, so that small gradients survive fp16, and divide the gradients again.

    A step whose gradients are not all finite is skipped and halves the scale; `interval` good ones
    in a row double it. Equal to `torch.amp.GradScaler`; Micikevicius et al. 2018, arXiv:1710.03740.

    >>> x = nn.Parameter(torch.tensor([1.0]))
    >>> scaler = LossScaler(scale=1024.0)
    >>> scaler.scale((2 * x).sum()).backward()
    >>> x.grad.item()
    2048.0
    >>> scaler.step(torch.optim.SGD([x], lr=0.1))
    True
    >>> round(x.item(), 4)
    0.8
    """

    def __init__(self, scale: float = 65536.0, *, interval: int = 2000) -> None:
        self.factor, self.interval, self.good = scale, interval, 0

    def scale(self, loss: torch.Tensor) -> torch.Tensor:
        """The loss to call `backward` on."""
        return loss * self.factor

    def step(self, optimizer: torch.optim.Optimizer) -> bool:
        """Divide the gradients and step, unless one is not finite; whether it stepped."""
        gradients = [
            x.grad for group in optimizer.param_groups for x in group["params"]
            if x.grad is not None
        ]  # fmt: skip
        for gradient in gradients:
            gradient.mul_(1 / self.factor)
        if not all(bool(gradient.isfinite().all()) for gradient in gradients):
            self.factor, self.good = self.factor / 2, 0
            return False
        optimizer.step()
        self.good += 1
        if self.good == self.interval:
            self.factor, self.good = self.factor * 2, 0
        return True


class MasterWeights:
    """Updates go to fp32 copies; the model, in half precision, gets them rounded after each step.

    `build` makes the optimizer of the copies. Source: Micikevicius et al. 2018, section 3.1.

    >>> layer = nn.Linear(1, 1, bias=False).to(torch.bfloat16)
    >>> _ = layer.weight.data.fill_(1.0)
    >>> master = MasterWeights(layer, lambda weights: torch.optim.SGD(weights, lr=1e-3))
    >>> for _ in range(4):
    ...     layer.weight.grad = torch.ones_like(layer.weight)
    ...     master.step()
    >>> round(master.copies[0].item(), 4), layer.weight.item()  # below 1 the grid is 1/256
    (0.996, 0.99609375)
    """

    def __init__(self, model: nn.Module, build: Callable[..., torch.optim.Optimizer]) -> None:
        self.weights = [x for x in model.parameters() if x.requires_grad]
        self.copies = [x.detach().float().clone().requires_grad_() for x in self.weights]
        self.optimizer = build(self.copies)

    @torch.no_grad()
    def step(self) -> None:
        """Step the copies by the model's gradients, and round them into the model."""
        for weight, copy in zip(self.weights, self.copies, strict=True):
            copy.grad = None if weight.grad is None else weight.grad.float()
        self.optimizer.step()
        for weight, copy in zip(self.weights, self.copies, strict=True):
            weight.copy_(copy)

    def zero_grad(self) -> None:
        """Forget the model's gradients."""
        for weight in self.weights:
            weight.grad = None
