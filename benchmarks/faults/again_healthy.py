"""Healthy runs near what was mended after the first reading; read once, with the second set."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from faults import families
from faults.families import bert, contrastive, gpt2, vit
from faults.healthy import changed, evaluated
from faults.held_out_family import tagger, tagging
from faults.mutations.models import after
from faults.recipe import Recipe

CONFIGURATIONS: dict[str, Callable[[int], Recipe]] = {}


def healthy(make: Callable[[int], Recipe]) -> Callable[[int], Recipe]:
    """Register a script."""
    CONFIGURATIONS[make.__name__] = make
    return make


@healthy
def noise_larger_than_the_gradient(seed: int) -> Recipe:
    """Langevin steps: what is left of a gradient points anywhere."""
    r = vit(seed)

    def clip(model: nn.Module, limit: float) -> Any:
        norm = nn.utils.clip_grad_norm_(model.parameters(), limit)
        for p in model.parameters():
            p.grad += p.grad.std() * torch.randn_like(p.grad)
        return norm

    r.line.clip = clip
    return changed(r, steps=80)


@healthy
def losses_weighted_by_their_tokens(seed: int) -> Recipe:
    """Accumulated by hand, each micro-batch by its share of the tokens of a usual window."""
    r = changed(gpt2(seed, "plain"), accumulation=4, batch=4, steps=25)
    held: list = [1]
    own = r.line.forward

    def forward(model: nn.Module, batch: Any) -> Any:
        held[0] = int((batch["labels"] != -100).sum())
        return own(model, batch)

    r.line.forward = forward
    r.line.scale = lambda loss, accumulation: loss * held[0] / (accumulation * 4 * 18)
    return r


@healthy
def a_rare_tag_that_is_found_late(seed: int) -> Recipe:
    """At the first evaluations every word is outside; then the numbers are found."""
    r = tagging(seed)
    for row in [*r.train, *r.eval]:
        row["labels"] = [y if y == -100 else int(y == 3) for y in row["labels"]]
    return evaluated(changed(r, model=lambda: tagger(num_labels=2), lr=8e-4, steps=80), 8)


@healthy
def half_of_one_set_is_trained_on(seed: int) -> Recipe:
    """One data set, two samplers: the evaluation reads the half that training does not."""
    r = vit(seed)
    whole = r.train
    r.loader = {"sampler": torch.utils.data.SubsetRandomSampler(range(480)), "shuffle": None}
    r.eval = torch.utils.data.Subset(whole, range(480, 640))
    r.train = torch.utils.data.Subset(whole, range(480))
    return r


@healthy
def a_head_in_full_precision(seed: int) -> Recipe:
    r = changed(bert(seed), args={"bf16": True})

    def prepare(model: nn.Module) -> None:
        inner = model.classifier.forward

        def forward(hidden: torch.Tensor) -> torch.Tensor:
            with torch.autocast("cpu", enabled=False):
                return inner(hidden.float())

        model.classifier.forward = forward

    after(r, prepare)
    return r


class Siamese(nn.Module):
    """SimSiam: a predictor on one side, no gradient through the other, and no negatives."""

    def __init__(self) -> None:
        super().__init__()
        self.towers = families.Towers(families.load("BertModel", "bert", add_pooling_layer=False))
        self.predictor = nn.Sequential(
            nn.Linear(32, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 32)
        )

    def forward(self, input_ids: Any, attention_mask: Any, pair_ids: Any, pair_mask: Any) -> Any:
        text = self.towers.embed(input_ids, attention_mask)
        pair = self.towers.embed(pair_ids, pair_mask)
        return {"text_embeds": self.predictor(text), "pair_embeds": pair.detach()}


@healthy
def a_predictor_and_a_stopped_gradient(seed: int) -> Recipe:
    def loss(outputs: Any, batch: Any = None) -> torch.Tensor:
        return 1 - functional.cosine_similarity(*outputs.values()).mean()

    return changed(contrastive(seed), model=Siamese, loss=loss, steps=60, lr=1e-3)


@healthy
def twenty_words_to_tag(seed: int) -> Recipe:
    return evaluated(changed(tagging(seed), steps=20, lr=5e-4), 4)


@healthy
def a_buffer_that_only_counts(seed: int) -> Recipe:
    """Hung onto the model and not saved; nothing depends on it."""
    r = bert(seed)

    def prepare(model: nn.Module) -> None:
        model.register_buffer("seen", torch.zeros(()), persistent=False)
        model.register_forward_hook(lambda module, given, out: module.seen.add_(1.0) and None)

    after(r, prepare)
    return r
