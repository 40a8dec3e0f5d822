"""X3 and K1 to K3 as they are committed most often: orders, what is saved, resumed, kept."""

from __future__ import annotations

import shutil
import tempfile
from typing import Any

import torch
from torch import nn
from torch.utils.data import DistributedSampler, Sampler

from faults import families, recurrent_family
from faults.recipe import Recipe, make_trainer
from faults.table import ninth

# -- X3 ------------------------------------------------------------------------------------------


class SameEachTime(Sampler):
    """A random order, from a seed that is set whenever an epoch begins."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Any:
        draws = torch.Generator().manual_seed(42)
        return iter(torch.randperm(self.count, generator=draws).tolist())


@ninth("X3", "recurrent vit span", loop="plain", online=True)
def often_sampler_seeded_whenever_an_epoch_begins(r: Recipe) -> None:
    r.loader, r.steps = {"sampler": SameEachTime(len(r.train)), "shuffle": False}, 80


@ninth("X3", "recurrent contrastive", loop="plain", online=True)
def often_set_epoch_not_called(r: Recipe) -> None:
    sampler = DistributedSampler(r.train, num_replicas=1, rank=0, shuffle=True)
    r.loader, r.steps = {"sampler": sampler, "shuffle": False}, 80


# -- K1 ------------------------------------------------------------------------------------------


@ninth("K1", "bert tagging")
def often_head_of_two_layers_put_into_a_library_class(r: Recipe) -> None:
    good = r.model

    def model() -> nn.Module:
        made = good()
        old = made.classifier
        made.classifier = nn.Sequential(
            nn.Linear(old.in_features, 32), nn.GELU(), nn.Linear(32, old.out_features)
        )
        return made

    r.model = model


class Weighed(recurrent_family.Reader):
    """Random features of the states, kept as a plain attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.features = torch.randn(64, 64) / 8

    def pooled(self, x: torch.Tensor) -> torch.Tensor:
        return (super().pooled(x) @ self.features).relu()


class WeighedTowers(families.Towers):
    """A random mixing of the embedding, kept as a plain attribute."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__(encoder)
        self.mixing = torch.randn(32, 32) / 6

    def embed(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return nn.functional.normalize(super().embed(ids, mask) @ self.mixing, dim=-1)


@ninth("K1", "recurrent contrastive")
def often_tensor_of_the_model_not_registered_as_a_buffer(r: Recipe) -> None:
    if r.family == "recurrent":
        r.model = Weighed
    else:
        r.model = lambda: WeighedTowers(families.load("BertModel", "bert", add_pooling_layer=False))


@ninth("K1", "lora")
def often_head_unfrozen_by_hand_beside_the_adapter(r: Recipe) -> None:
    import peft

    def prepare(model: nn.Module) -> nn.Module:
        config = peft.LoraConfig(r=4, lora_alpha=8, target_modules=["query", "value"])
        made = peft.get_peft_model(model, config)
        made.base_model.model.classifier.requires_grad_(True)
        return made

    r.prepare = prepare


# -- K2, K3 --------------------------------------------------------------------------------------


def _half_done(r: Recipe) -> tuple[nn.Module, dict, dict]:
    """The first half of the run, and what its checkpoint holds: model, optimizer, schedule."""
    first = r.model()
    model = r.prepare(first)
    optimizer = r.make_optimizer(model)
    schedule = r.make_schedule(optimizer)
    model.train()
    for batch, _ in zip(r.loaders()[0], range(20), strict=False):
        outputs = model(**batch) if isinstance(batch, dict) else model(batch[0])
        loss = outputs.loss if isinstance(batch, dict) else r.loss(outputs, batch[1])
        loss.backward()
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    return first, optimizer.state_dict(), schedule.state_dict()


@ninth("K2", "recurrent bert gpt2", loop="plain", online=True)
def often_optimizer_started_anew_under_the_old_schedule(r: Recipe) -> None:
    saved: list = []
    make_schedule = r.make_schedule

    def model() -> nn.Module:
        saved[:] = _half_done(fresh)
        return saved[0]

    def schedule(optimizer: Any) -> Any:
        r.schedule = None
        made = make_schedule(optimizer)
        made.load_state_dict(saved[2])
        return made

    fresh = Recipe(**{**vars(r)})
    r.model, r.schedule, r.steps = model, schedule, 40


@ninth("K2", "recurrent vit t5", loop="plain", online=True)
def often_schedule_started_anew_under_the_old_optimizer(r: Recipe) -> None:
    saved: list = []
    make_optimizer = r.make_optimizer

    def model() -> nn.Module:
        saved[:] = _half_done(fresh)
        return saved[0]

    def optimizer(made_for: nn.Module) -> Any:
        r.optimizer = None
        made = make_optimizer(made_for)
        made.load_state_dict(saved[1])
        return made

    fresh = Recipe(**{**vars(r)})
    r.model, r.optimizer, r.steps = model, optimizer, 40


@ninth("K2", "bert sft", loop="trainer", online=True)
def often_checkpoint_without_the_optimizer_resumed(r: Recipe) -> None:
    folder = tempfile.mkdtemp()
    first = Recipe(**{**vars(r)})
    first.steps = 20
    first.args = {"save_strategy": "steps", "save_steps": 20, "save_only_model": True}
    make_trainer(first, first.prepare(first.model()), folder).train()
    r.note["train"] = {"resume_from_checkpoint": f"{folder}/checkpoint-20"}
    r.note["after"] = lambda: shutil.rmtree(folder, ignore_errors=True)


def _best(r: Recipe, metric: str, greater: bool) -> None:
    r.eval_every = 20
    r.args = {
        "load_best_model_at_end": True,
        "metric_for_best_model": metric,
        "greater_is_better": greater,
        "save_strategy": "steps",
        "save_steps": 20,
    }


@ninth("K3", "bert summary span", loop="trainer")
def often_greater_loss_taken_for_better(r: Recipe) -> None:
    _best(r, "eval_loss", True)


@ninth("K3", "bert tagging", loop="trainer")
def often_smaller_accuracy_taken_for_better(r: Recipe) -> None:
    _best(r, "accuracy", False)
