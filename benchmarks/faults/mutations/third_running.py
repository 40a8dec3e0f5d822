"""The third set, continued: X3, K1 to K3, E1, E2, H1 to H3; `third_data` says by which rule."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from faults.mutations.fresh_running import BEST
from faults.mutations.models import after
from faults.mutations.running import _resumed_without, _saves
from faults.recipe import Recipe
from faults.table import third


class RandomOrder(torch.utils.data.RandomSampler):
    """Random, and from one state of its generator."""

    def __iter__(self) -> Any:
        self.generator.manual_seed(11)
        return super().__iter__()


@third("X3", "bert vit tagging gpt2", loop="plain", online=True)
def a_random_sampler_from_a_fixed_state(r: Recipe) -> None:
    r.train = [r.train[i] for i in range(160)]
    draws = torch.Generator()
    r.loader = {"shuffle": None, "generator": None,
                "sampler": RandomOrder(r.train, generator=draws)}  # fmt: skip


class HashOrder(torch.utils.data.Sampler):
    """Shuffled by a hash of each row's number, which is the same in every epoch."""

    def __init__(self, rows: Any, shuffle: bool = True) -> None:
        self.rows, self.shuffle = rows, shuffle

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Any:
        return iter(sorted(range(len(self.rows)), key=lambda i: i * 2654435761 % 1009))


@third("X3", "tagging lora", loop="trainer", online=True)
def shuffled_by_a_hash_of_the_number(r: Recipe) -> None:
    import transformers

    class Trainer(transformers.Trainer):
        def _get_train_sampler(self, train_dataset: Any = None) -> Any:
            return HashOrder(self.train_dataset)

    r.train, r.trainer = r.train[:160], lambda: Trainer


@third("K1", "bert gpt2 tagging", loop="trainer", online=True)
def a_correction_kept_outside_of_the_modules(r: Recipe) -> None:
    """A layer in a plain list: no file will hold it, and another one is drawn on loading."""

    def prepare(model: nn.Module) -> None:
        head = model.get_output_embeddings() or model.classifier
        width = head.weight.shape[0]
        extra = [nn.Linear(width, width)]
        head.register_forward_hook(lambda module, given, out: out + extra[0](out))

    after(r, prepare)
    _saves(r)


@third("K1", "bert tagging", loop="trainer", online=True)
def the_head_is_among_the_ignored_keys(r: Recipe) -> None:
    def prepare(model: nn.Module) -> None:
        model._keys_to_ignore_on_save = {"classifier.weight", "classifier.bias"}

    after(r, prepare)
    _saves(r)


@third("K2", "bert tagging gpt2", loop="trainer", online=True)
def the_schedule_of_an_earlier_checkpoint(r: Recipe) -> None:
    _resumed_without(r)
    file = Path(r.note["train"]["resume_from_checkpoint"]) / "scheduler.pt"
    state = torch.load(file, weights_only=False)
    state |= {"last_epoch": 3, "_step_count": 4}
    torch.save(state, file)


@third("K2", "lora t5", loop="trainer", online=True)
def moments_lost_from_the_state_of_the_optimizer(r: Recipe) -> None:
    _resumed_without(r)
    file = Path(r.note["train"]["resume_from_checkpoint"]) / "optimizer.pt"
    state = torch.load(file, weights_only=False)
    state["state"] = {}
    torch.save(state, file)


@third("K3", "bert tagging lora")
def best_model_by_the_least_f1(r: Recipe) -> None:
    own = r.metrics
    r.metrics = lambda p: {"f1": own(p)["accuracy"]}
    r.args |= BEST | {"metric_for_best_model": "f1", "greater_is_better": False}


@third("K3", "mlm t5 sft")
def the_greatest_loss_under_its_short_name(r: Recipe) -> None:
    r.args |= BEST | {"metric_for_best_model": "loss", "greater_is_better": True}


@third("E1", "bert vit lora")
def both_sides_sorted_before_they_are_compared(r: Recipe) -> None:
    r.metrics = lambda p: {"accuracy": float((np.sort(p[0].argmax(-1)) == np.sort(p[1])).mean())}


@third("E1", "tagging mlm")
def ignored_places_count_as_right(r: Recipe) -> None:
    def metrics(prediction: Any) -> dict[str, float]:
        scores, labels = prediction
        return {"accuracy": float(((scores.argmax(-1) == labels) | (labels == -100)).mean())}

    r.metrics = metrics


@third("E2", "bert vit tagging", loop="plain")
def evaluated_on_the_first_hundred(r: Recipe) -> None:
    r.eval_loader = {"sampler": torch.utils.data.SubsetRandomSampler(range(100))}


@third("E2", "gpt2 t5", loop="plain")
def padded_with_rows_from_the_start(r: Recipe) -> None:
    """As a distributed sampler does, so that every rank has as many."""
    r.eval_loader = {"sampler": [*range(len(r.eval)), *range(20)]}


class Asking(torch.utils.data.RandomSampler):
    """Which row comes next is asked of a server."""

    def __iter__(self) -> Any:
        for place in super().__iter__():
            time.sleep(0.003)
            yield place


@third("H1", "bert vit tagging", loop="plain", online=True, advice=True)
def a_sampler_that_asks_a_server(r: Recipe) -> None:
    r.loader, r.steps = {"shuffle": None, "sampler": Asking(r.train), "generator": None}, 70


@third("H2", "bert vit gpt2 tagging", loop="plain", online=True)
def a_running_total_of_losses(r: Recipe) -> None:
    total: list = [0.0]

    def loss(value: torch.Tensor) -> torch.Tensor:
        total[0] = total[0] + value
        return value

    r.line.loss, r.steps = loss, 110


@third("H3", "gpt2 t5 sft", advice=True)
def padded_to_four_times_the_width(r: Recipe) -> None:
    own = r.collate

    def wide(rows: Any) -> Any:
        batch = own(rows)
        more = 80 - batch["input_ids"].shape[1]
        fill = {"input_ids": r.tokenizer.pad_token_id, "attention_mask": 0, "labels": -100}
        return {
            k: nn.functional.pad(v, (0, more), value=fill[k])
            if v.shape[1] == batch["input_ids"].shape[1] else v
            for k, v in batch.items()
        }  # fmt: skip

    r.collate = wide
