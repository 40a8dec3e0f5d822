"""Healthy runs of the older families that are odd in ways no check was tuned on.

Registered beside the taggers of `held_out_healthy`; read once.
"""

from __future__ import annotations

import copy
import random
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.optim import lr_scheduler

from faults import families
from faults.families import bert, contrastive, gpt2, t5, vit
from faults.healthy import changed, evaluated
from faults.healthy_tasks import Net
from faults.held_out_healthy import healthy
from faults.mutations.models import after
from faults.recipe import Recipe

# -- weights that move by other hands ------------------------------------------------------------


@healthy
def an_average_of_the_weights_beside(seed: int) -> Recipe:
    r, shadow = bert(seed, "plain"), []

    def average(model: nn.Module, optimizer: Any) -> None:
        shadow or shadow.append(copy.deepcopy(model))
        with torch.no_grad():
            for old, new in zip(shadow[0].parameters(), model.parameters(), strict=True):
                old.lerp_(new, 0.1)

    r.line.after = average
    return r


class Momentum(nn.Module):
    """The second tower is a frozen average of the first, as in MoCo."""

    def __init__(self) -> None:
        super().__init__()
        self.query = families.Towers(families.load("BertModel", "bert", add_pooling_layer=False))
        self.key = copy.deepcopy(self.query).requires_grad_(False)

    def forward(self, input_ids: Any, attention_mask: Any, pair_ids: Any, pair_mask: Any) -> Any:
        with torch.no_grad():
            keys = self.key.embed(pair_ids, pair_mask)
        return {"text_embeds": self.query.embed(input_ids, attention_mask), "pair_embeds": keys}


@healthy
def a_momentum_encoder(seed: int) -> Recipe:
    r = changed(contrastive(seed), model=Momentum, steps=60)

    def follow(model: nn.Module, optimizer: Any) -> None:
        with torch.no_grad():
            pairs = zip(model.key.parameters(), model.query.parameters(), strict=True)
            for old, new in pairs:
                old.lerp_(new, 0.05)

    r.line.after = follow
    return r


@healthy
def noise_added_to_the_gradients(seed: int) -> Recipe:
    r = vit(seed)

    def step(optimizer: Any) -> None:
        for group in optimizer.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p.grad += 1e-4 * torch.randn_like(p.grad)
        optimizer.step()

    r.line.step = step
    return r


@healthy
def unfrozen_little_by_little(seed: int) -> Recipe:
    """Only the head at first; the backbone joins at step 20. The optimizer holds all of it."""
    r, calls = bert(seed, "plain"), [0]
    held: list = []

    def late(model: nn.Module) -> None:
        held.append(model)
        model.bert.requires_grad_(False)

    def join(model: nn.Module, optimizer: Any) -> None:
        calls[0] += 1
        if calls[0] == 20:
            model.bert.requires_grad_(True)

    r.late, r.line.after = late, join
    return changed(r, lr=1e-3)


@healthy
def layers_dropped_at_random(seed: int) -> Recipe:
    """Stochastic depth: a layer that is skipped has no gradient in that step."""
    r = vit(seed)

    def prepare(model: nn.Module) -> None:
        for layer in model.vit.encoder.layer if hasattr(model.vit, "encoder") else model.vit.layers:
            layer.forward = _skipping(layer, layer.forward)

    after(r, prepare)
    return changed(r, steps=80)


def _skipping(layer: nn.Module, inner: Any) -> Any:
    def forward(hidden: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        if layer.training and random.random() < 0.2:
            return hidden
        return inner(hidden, *args, **kwargs)

    return forward


# -- rates and optimizers ------------------------------------------------------------------------


@healthy
def rmsprop(seed: int) -> Recipe:
    return changed(
        vit(seed), optimizer=lambda m: torch.optim.RMSprop(m.parameters(), lr=1e-3, momentum=0.9)
    )


@healthy
def nadam_under_the_trainer(seed: int) -> Recipe:
    return changed(gpt2(seed), optimizer=lambda m: torch.optim.NAdam(m.parameters(), lr=1e-3))


@healthy
def triangles_of_the_rate(seed: int) -> Recipe:
    return changed(
        vit(seed),
        steps=80,
        schedule=lambda o: lr_scheduler.CyclicLR(o, 1e-4, 5e-3, 10, cycle_momentum=False),
    )


@healthy
def warmup_then_a_square_root(seed: int) -> Recipe:
    return changed(
        t5(seed), args={"lr_scheduler_type": "inverse_sqrt"}, warmup=8, decay=0.05
    )  # fmt: skip


@healthy
def rate_lowered_on_a_plateau(seed: int) -> Recipe:
    r = evaluated(vit(seed), 15)
    r.schedule = lambda o: lr_scheduler.ReduceLROnPlateau(o, patience=1)
    r.line.schedule = lambda schedule: None
    r.line.epoch = lambda schedule: schedule.step(1.0)
    return r


# -- other losses --------------------------------------------------------------------------------


@healthy
def mixed_pictures(seed: int) -> Recipe:
    r = vit(seed)

    def collate(rows: list) -> tuple[torch.Tensor, torch.Tensor]:
        x = torch.stack([x for x, _ in rows])
        y = functional.one_hot(torch.stack([y for _, y in rows]), 10).float()
        part = random.betavariate(0.4, 0.4)
        return part * x + (1 - part) * x.flip(0), part * y + (1 - part) * y.flip(0)

    return changed(
        r, collate=collate, metrics=None, loss=lambda o, y: functional.cross_entropy(o.logits, y)
    )


@healthy
def margins_of_classes(seed: int) -> Recipe:
    return changed(
        vit(seed), loss=lambda o, y: functional.multi_margin_loss(o.logits, y), metrics=None
    )


@healthy
def two_passes_that_must_agree(seed: int) -> Recipe:
    """R-Drop: the row is read twice under other dropout."""
    r = bert(seed, "plain")

    def forward(model: nn.Module, batch: Any) -> Any:
        first, second = model(**batch), model(**batch)
        pair = first.logits.log_softmax(-1), second.logits.softmax(-1)
        first.loss = (first.loss + second.loss) / 2 + functional.kl_div(*pair).clamp(min=0)
        return first

    r.line.forward = forward
    return r


@healthy
def poisson_counts(seed: int) -> Recipe:
    return changed(
        vit(seed), model=lambda: Net(1), metrics=None,
        loss=lambda out, y: functional.poisson_nll_loss(out[:, 0], y.float()),
    )  # fmt: skip


class Taught(nn.Module):
    """A student that carries its frozen teacher, which stays in evaluation mode."""

    def __init__(self) -> None:
        super().__init__()
        self.student = nn.Sequential(nn.Flatten(), nn.Linear(64, 48), nn.ReLU(), nn.Dropout(0.1),
                                     nn.Linear(48, 10))  # fmt: skip
        self.teacher = Net().requires_grad_(False)

    def train(self, mode: bool = True) -> nn.Module:
        super().train(mode)
        self.teacher.eval()
        return self

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.student(x)


@healthy
def taught_by_a_frozen_part(seed: int) -> Recipe:
    return changed(vit(seed), model=Taught, loss=nn.CrossEntropyLoss(), metrics=None)
