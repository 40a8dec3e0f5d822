"""Early stopping, and the right way to go back to the best weights.

Stopping is half of it: a run that waits three evaluations for a better one ends with the weights
of three evaluations too late. The best ones must be kept as a *copy*, on the way, since
`state_dict()` hands out the very tensors that go on being trained. Chapter 09.
"""

from __future__ import annotations

import math

from torch import Tensor, nn


def keep_reference(model: nn.Module) -> dict[str, Tensor]:
    """WRONG: these are the model's own tensors; a dict of them changes with every update."""
    return dict(model.state_dict())


def keep_copy(model: nn.Module) -> dict[str, Tensor]:
    """Right: the weights and buffers as they are now, whatever happens to the model.

    >>> net = nn.Linear(1, 1)
    >>> kept, same = keep_copy(net), keep_reference(net)
    >>> _ = nn.init.constant_(net.weight, 7.0)
    >>> same["weight"].item(), kept["weight"].item() == 7.0
    (7.0, False)
    """
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


class EarlyStopping:
    """Keeps the best weights so far, and says when `patience` evaluations brought no better ones.

    `see` is told each evaluation: a loss, or anything else that should fall (give an accuracy with
    a minus). `restore` puts the best back. Prechelt 1998, "Early Stopping - But When?"

    >>> net, early = nn.Linear(1, 1), EarlyStopping(patience=2)
    >>> [early.see(value, step, net) for step, value in enumerate([3.0, 1.0, 2.0, 1.5])]
    [False, False, False, True]
    >>> early.best, early.step
    (1.0, 1)
    """

    def __init__(self, patience: int = 3) -> None:
        if patience < 1:
            raise ValueError(f"patience {patience} must be at least 1 evaluation")
        self.patience, self.waited = patience, 0
        self.best, self.step, self.weights = math.inf, 0, None

    def see(self, value: float, step: int, model: nn.Module) -> bool:
        """Note an evaluation at `step`; True when it is time to stop. NaN is never better."""
        if value < self.best:
            self.best, self.step, self.waited = value, step, 0
            self.weights = keep_copy(model)
        else:
            self.waited += 1
        return self.waited >= self.patience

    def restore(self, model: nn.Module) -> nn.Module:
        """Put the best weights back into `model`, and return it. ValueError if there are none."""
        if self.weights is None:
            raise ValueError("no evaluation gave a number: there are no best weights to go back to")
        model.load_state_dict(self.weights)
        return model
