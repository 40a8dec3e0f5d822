"""SGD, momentum, Adam, AdamW, LAMB and Muon as formulas of a few lines, equal to the libraries'.

An update is a function `(parameter, gradient, state, …) -> new parameter`; `state` is a dict that
it fills and the caller keeps, one for each parameter. They are for reading: they loop in Python and
know nothing of groups. `training.optimizers.ByHand` makes an optimizer of any of them; chapter 08
shows them and goes on with `torch.optim`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

State = dict[str, torch.Tensor | int]


def sgd(
    x: torch.Tensor,
    gradient: torch.Tensor,
    state: State,
    *,
    rate: float,
    momentum: float = 0.0,
    decay: float = 0.0,
) -> torch.Tensor:
    """Steepest descent: x - rate · v, where v = momentum · v + g; `decay` adds decay · x to g.

    The velocity starts as the first gradient (Polyak 1964, as `torch.optim.SGD` does it). `x` and
    `gradient` have one shape, which the result has too.

    >>> sgd(torch.tensor([1.0]), torch.tensor([2.0]), {}, rate=0.1)
    tensor([0.8000])
    """
    gradient = gradient + decay * x
    state["velocity"] = momentum * state["velocity"] + gradient if state else gradient
    return x - rate * state["velocity"]


def adam(
    x: torch.Tensor,
    gradient: torch.Tensor,
    state: State,
    *,
    rate: float = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    decay: float = 0.0,
) -> torch.Tensor:
    """Each weight by its own scale: x - rate · m / (√v + eps) (Kingma and Ba 2015).

    `decay` is *coupled*: it is added to the gradient, and so divided by √v like the rest, which is
    the pitfall that `adamw` mends.

    >>> adam(torch.tensor([1.0]), torch.tensor([250.0]), {}, rate=0.1)  # a step of `rate` at first
    tensor([0.9000])
    """
    m, v = moments(gradient + decay * x, state, betas)
    return x - rate * m / (v.sqrt() + eps)


def adamw(
    x: torch.Tensor,
    gradient: torch.Tensor,
    state: State,
    *,
    rate: float = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    decay: float = 0.01,
) -> torch.Tensor:
    """Adam with *decoupled* decay: the weight shrinks by rate · decay, whatever its gradient.

    Source: Loshchilov and Hutter 2019, arXiv:1711.05101.

    >>> adamw(torch.tensor([1.0]), torch.tensor([0.0]), {}, rate=0.1, decay=0.5)
    tensor([0.9500])
    """
    return adam(x - rate * decay * x, gradient, state, rate=rate, betas=betas, eps=eps)


def lamb(
    x: torch.Tensor,
    gradient: torch.Tensor,
    state: State,
    *,
    rate: float = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-6,
    decay: float = 0.01,
    debias: bool = True,
    longest: float = float("inf"),
    decoupled: bool = False,
) -> torch.Tensor:
    """Adam's direction, as long as the layer's weights: x - rate · ‖x‖ / ‖u‖ · u.

    u = m / (√v + eps) + decay · x. `x` is one layer's tensor: the norms are over all of it. With
    the defaults as in Algorithm 2 of You et al. 2020, arXiv:1904.00962. What the library
    `pytorch_optimizer` does otherwise is switched on by `debias=False` (only the first moment is
    corrected, and outside the trust ratio, so that the first steps are longer), `longest` (a bound
    on ‖x‖) and `decoupled` (decay outside u).

    >>> x = torch.tensor([3.0, 4.0])
    >>> (x - lamb(x, torch.tensor([1.0, 1.0]), {}, rate=0.1, decay=0.0)).norm()  # 10 % of ‖x‖ = 5
    tensor(0.5000)
    """
    if decoupled:
        x, decay = x - rate * decay * x, 0.0
    m, v = moments(gradient, state, betas, debias)
    update = m / (v.sqrt() + eps) + decay * x
    rate = rate if debias else rate / (1 - betas[0] ** state["step"])
    return x - rate * trust_ratio(x, update, longest) * update


def muon(
    x: torch.Tensor,
    gradient: torch.Tensor,
    state: State,
    *,
    rate: float = 1e-3,
    momentum: float = 0.95,
    decay: float = 0.1,
    rounds: int = 5,
    precision: torch.dtype = torch.bfloat16,
) -> torch.Tensor:
    """A step of the same length in every direction that the gradient names: x - rate · s · O.

    O is the orthogonalised momentum (`orthogonalize`), with Nesterov's look ahead, and s is
    √max(1, rows / columns). `x` is a matrix (rows, columns); decay is decoupled. Source: Jordan et
    al. 2024, https://kellerjordan.github.io/posts/muon/; equal to `torch.optim.Muon`.

    >>> x = torch.eye(2)
    >>> (x - muon(x, torch.diag(torch.tensor([100.0, 1.0])), {}, rate=0.1, decay=0.0)).norm() < 0.17
    tensor(True)
    """
    m = state["m"] = state.get("m", torch.zeros_like(gradient)).lerp(gradient, 1 - momentum)
    ahead = gradient.lerp(m, momentum)
    scale = max(1.0, x.shape[0] / x.shape[1]) ** 0.5
    update = orthogonalize(ahead, rounds=rounds, precision=precision).to(x.dtype)
    return x - rate * decay * x - rate * scale * update


def orthogonalize(
    matrix: torch.Tensor, *, rounds: int = 5, precision: torch.dtype = torch.bfloat16
) -> torch.Tensor:
    """All singular values brought near 1, the directions kept: about U Vᵀ for U S Vᵀ.

    Newton and Schulz: each round maps every singular value s to 3.4445 s - 4.775 s³ + 2.0315 s⁵,
    by products of matrices alone. The coefficients trade an exact 1 (the result lies in 0.7 to
    1.2) for speed at small values. `matrix` (rows, columns); so is the result, in `precision`.

    >>> orthogonal = orthogonalize(torch.diag(torch.tensor([5.0, 0.5])), precision=torch.float32)
    >>> [0.6 < s < 1.3 for s in torch.linalg.svdvals(orthogonal).tolist()]
    [True, True]
    """
    tall = matrix.shape[0] > matrix.shape[1]
    x = (matrix.T if tall else matrix).to(precision)
    x = x / x.norm().clamp(min=1e-7)  # no singular value above 1, or the iteration would diverge
    for _ in range(rounds):
        square = x @ x.T
        # addmm rounds once where a product and a sum round twice: in bf16 that can be seen
        slope = torch.addmm(square, square, square, beta=-4.775, alpha=2.0315)
        x = torch.addmm(x, slope, x, beta=3.4445)  # 3.4445 x + (-4.775 S + 2.0315 S²) x
    return x.T if tall else x


def trust_ratio(
    x: torch.Tensor, update: torch.Tensor, longest: float = float("inf")
) -> torch.Tensor:
    """‖x‖ / ‖update‖, a scalar; 1 where either is zero.

    >>> trust_ratio(torch.tensor([3.0, 4.0]), torch.tensor([0.0, 2.0]))
    tensor(2.5000)
    """
    weights, step = x.norm().clamp(max=longest), update.norm()
    return torch.where((weights > 0) & (step > 0), weights / step, torch.ones_like(step))


def moments(
    gradient: torch.Tensor, state: State, betas: tuple[float, float], debias: bool = True
) -> tuple[torch.Tensor, torch.Tensor]:
    """Running means of g and g², kept in `state`; corrected for having started at zero.

    >>> m, v = moments(torch.tensor([3.0]), {}, (0.9, 0.999))
    >>> round(m.item(), 4), round(v.item(), 4)
    (3.0, 9.0)
    """
    one, two = betas
    zero = torch.zeros_like(gradient)
    state["step"] = state.get("step", 0) + 1
    state["m"] = one * state.get("m", zero) + (1 - one) * gradient
    state["v"] = two * state.get("v", zero) + (1 - two) * gradient.square()
    if not debias:
        return state["m"], state["v"]
    return state["m"] / (1 - one ** state["step"]), state["v"] / (1 - two ** state["step"])


def descend(
    update: Callable[..., torch.Tensor],
    parameters: Sequence[torch.Tensor],
    states: list[State],
    **settings: float,
) -> None:
    """One step in place for parameters that hold their `grad`; `states` has one dict for each.

    >>> x = torch.nn.Parameter(torch.tensor([1.0]))
    >>> x.grad = torch.tensor([2.0])
    >>> descend(sgd, [x], [{}], rate=0.1)
    >>> x.data
    tensor([0.8000])
    """
    with torch.no_grad():
        for parameter, state in zip(parameters, states, strict=True):
            if parameter.grad is not None:
                parameter.copy_(update(parameter, parameter.grad, state, **settings))
