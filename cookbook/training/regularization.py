"""What is added to a loss, or set in a model, so that few rows are not learnt by heart.

Does: L1, L2 and the pull toward where training started, as penalties; the soft threshold that L1
stands for; dropout set everywhere in a model; one loss for `training.loop` with any of them, label
smoothing, and targets that are shares (mixup). Does not: decoupled decay, which is the optimizer's
(`optimizers.build`); stop early (`early_stopping`); edit rows (`data.augmentation`).
Chapter 09 measures what each is worth.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cookbook.training.groups import decays

Weights = Mapping[str, Tensor]


def penalized(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """The weights that a penalty is for, by name: trainable matrices, no norms and no biases.

    >>> [name for name, _ in penalized(nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2)))]
    ['0.weight']
    """
    chosen = decays(model)
    return ((name, w) for name, w in model.named_parameters() if chosen.get(name))


def l1(model: nn.Module) -> Tensor:
    """The sum of |w|; its gradient is the sign of w, as strong for a small weight as for a large.

    0 where every weight is frozen. Tibshirani 1996, "Regression Shrinkage and Selection via the
    Lasso".

    >>> net = nn.Linear(2, 1, bias=False)
    >>> net.weight.data = torch.tensor([[3.0, -4.0]])
    >>> l1(net).item(), l2(net).item()
    (7.0, 12.5)
    """
    return sum((w.abs().sum() for _, w in penalized(model)), torch.zeros(()))


def l2(model: nn.Module) -> Tensor:
    """Half the sum of w²; its gradient is w, so with SGD it is `weight_decay`, exactly.

    With Adam it is not, because Adam divides it by the size of the gradient: Loshchilov and Hutter
    2019, arXiv:1711.05101. Hoerl and Kennard 1970, "Ridge Regression".
    """
    return sum((0.5 * w.square().sum() for _, w in penalized(model)), torch.zeros(()))


def distance(model: nn.Module, start: Weights) -> Tensor:
    """Half the squared distance from `start`, over the weights that are in it (L2-SP).

    Plain L2 pulls a pretrained weight toward 0, where it knows nothing; this one pulls it back to
    what it knew. Li, Grandvalet and Davoine 2018, arXiv:1802.01483.
    """
    gaps = ((w - start[name]).square().sum() for name, w in penalized(model) if name in start)
    return sum((0.5 * gap for gap in gaps), torch.zeros(()))


def soft_threshold(x: Tensor, amount: float) -> Tensor:
    """The exact step that L1 asks for: |x| less `amount`, and 0 for what is smaller than that.

    Steps along the gradient of |x| jump over 0 and back and make nothing 0; this does. Equal to
    `torch.nn.functional.softshrink`. Shape is kept. Beck and Teboulle 2009 (ISTA).

    >>> soft_threshold(torch.tensor([3.0, -0.5, -2.0]), 1.0).tolist()
    [2.0, 0.0, -1.0]
    """
    return torch.where(x.abs() > amount, x - amount * x.sign(), torch.zeros_like(x))


def set_dropout(model: nn.Module, p: float) -> int:
    """Set every dropout of `model` to `p`, that of attention included; how many there are.

    It serves models whose dropouts are modules, as those of BERT's family are; in transformers the
    attention reads its share from such a module too. Raises ValueError for a model without any, to
    which it would do nothing, and for a `p` that is no probability.

    >>> set_dropout(nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5)), 0.1)
    1
    """
    if not 0 <= p < 1:
        raise ValueError(f"dropout {p} must be at least 0 and below 1")
    found = [m for m in model.modules() if isinstance(m, nn.modules.dropout._DropoutNd)]
    if not found and p:
        raise ValueError(f"{type(model).__name__} has no dropout to set")
    for module in found:
        module.p = p
    return len(found)


def smoothed_targets(
    labels: Tensor, classes: int, smoothing: float, dtype: torch.dtype = torch.float32
) -> Tensor:
    """What label smoothing asks for, (n,) -> (n, classes): 1 - e on the label and e / C on all.

    Cross-entropy with these equals `label_smoothing` of torch. Szegedy et al. 2016,
    arXiv:1512.00567.

    >>> [round(share, 2) for share in smoothed_targets(torch.tensor([1]), 4, 0.2).tolist()[0]]
    [0.05, 0.85, 0.05, 0.05]
    """
    return (1 - smoothing) * F.one_hot(labels, classes).to(dtype) + smoothing / classes


def regularized_loss(
    model: nn.Module,
    *,
    smoothing: float = 0.0,
    l1_weight: float = 0.0,
    l2_weight: float = 0.0,
    anchor: float = 0.0,
) -> Callable[[nn.Module, dict], tuple[Tensor, int]]:
    """A `loss_fn` for `training.loop`: cross-entropy summed over the rows, and penalties.

    `batch["labels"]` are classes (n,), or shares (n, classes) as `mixup` makes them. The penalties
    are those of the mean loss, so they are counted once a row; `anchor` pulls toward the weights
    that `model` has now. Without any of them it equals `loop.summed_cross_entropy`.
    """
    start = {n: w.detach().clone() for n, w in penalized(model)} if anchor else {}
    parts = [(l1_weight, l1), (l2_weight, l2), (anchor, lambda net: distance(net, start))]

    def loss_fn(net: nn.Module, batch: dict) -> tuple[Tensor, int]:
        labels = batch["labels"]
        logits = net(**{k: v for k, v in batch.items() if k != "labels"}).logits
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))  # half is too coarse
        labels = labels.to(logits.dtype) if labels.is_floating_point() else labels
        loss = F.cross_entropy(logits, labels, reduction="sum", label_smoothing=smoothing)
        penalty = sum(weight * part(net).to(loss.device) for weight, part in parts if weight)
        return loss + len(labels) * penalty, len(labels)

    return loss_fn
