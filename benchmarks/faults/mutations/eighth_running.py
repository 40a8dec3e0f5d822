"""X3, K1 to K3, E1 to E3 as they are mostly committed: epochs, checkpoints, evaluation."""

from __future__ import annotations

import dataclasses
import random
import shutil
import tempfile
from typing import Any

import torch
import transformers
from torch import nn
from torch.utils.data import DistributedSampler, WeightedRandomSampler

from faults.mutations.eighth_parts import after, both, encoded, label, last, listed
from faults.recipe import Recipe, make_trainer
from faults.table import eighth

# -- X3 ------------------------------------------------------------------------------------------


@eighth("X3", "t5 vit contrastive", loop="plain", online=True)
def usual_distributed_sampler_without_set_epoch(r: Recipe) -> None:
    sampler = DistributedSampler(r.train, num_replicas=1, rank=0, shuffle=True)
    r.loader, r.steps = {"shuffle": False, "sampler": sampler}, 80


@eighth("X3", "bert span tagging", loop="plain", online=True)
def usual_seed_set_again_at_each_epoch(r: Recipe) -> None:
    draws = torch.Generator().manual_seed(r.seed)
    r.loader, r.steps = {"generator": draws}, 80
    r.line.epoch = lambda schedule: draws.manual_seed(r.seed)


# -- K1, K2, K3 ----------------------------------------------------------------------------------


def _saved(r: Recipe) -> None:
    r.args = {**r.args, "save_strategy": "steps", "save_steps": 20}
    r.steps = 40


@eighth("K1", "lora lora-sft", online=True)
def usual_head_unfrozen_but_not_saved_with_the_adapter(r: Recipe) -> None:
    import peft

    targets = ["query", "value"] if r.family == "lora" else ["q_proj", "v_proj"]

    def prepare(model: nn.Module) -> nn.Module:
        config = peft.LoraConfig(r=4, lora_alpha=8, target_modules=targets)
        made = peft.get_peft_model(model, config)
        holder, name = last(made.base_model.model)
        getattr(holder, name).requires_grad_(True)
        return made

    r.prepare = prepare
    _saved(r)


@eighth("K1", "bert gpt2 span", online=True)
def usual_saved_with_the_prefix_of_a_compiled_model(r: Recipe) -> None:
    class Own(transformers.Trainer):
        def _save(self, output_dir: Any = None, state_dict: Any = None) -> None:
            state = {f"_orig_mod.{k}": v for k, v in self.model.state_dict().items()}
            super()._save(output_dir, state_dict=state)

    r.trainer = lambda: Own
    _saved(r)


@eighth("K1", "bert tagging", online=True)
def usual_deeper_head_that_the_class_does_not_know(r: Recipe) -> None:
    def deepen(model: nn.Module) -> None:
        old = model.classifier
        model.classifier = nn.Sequential(
            nn.Linear(old.in_features, 32), nn.GELU(), nn.Linear(32, old.out_features)
        )

    after(r, deepen)
    _saved(r)


class Stop(transformers.TrainerCallback):
    """Ends the first part of a run."""

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        control.should_training_stop = state.global_step >= 20


@eighth("K2", "bert gpt2 sft", online=True)
def usual_resumed_from_a_checkpoint_of_the_model_only(r: Recipe) -> None:
    folder = tempfile.mkdtemp()
    only = {"save_strategy": "steps", "save_steps": 20, "save_only_model": True}
    first = dataclasses.replace(r, args={**r.args, **only}, callbacks=[Stop()], note={})
    transformers.set_seed(r.seed)
    make_trainer(first, first.prepare(first.model()), folder).train()
    r.note["train"] = {"resume_from_checkpoint": f"{folder}/checkpoint-20"}
    r.note["after"] = lambda: shutil.rmtree(folder, ignore_errors=True)


@eighth("K2", "bert t5 vit", loop="plain", online=True)
def usual_optimizer_restored_but_not_its_schedule(r: Recipe) -> None:
    model = r.model()
    first = torch.optim.AdamW(model.parameters(), lr=r.lr)
    schedule = r.make_schedule(first)
    rows, _ = r.loaders()
    for batch, _ in zip([*rows] * 2, range(30), strict=False):
        outputs = r.line.forward(model, batch)
        (r.loss(outputs, batch[1]) if r.loss else outputs.loss).backward()
        first.step(), schedule.step(), first.zero_grad()
    state = first.state_dict()

    def optimizer(again: nn.Module) -> Any:
        made = torch.optim.AdamW(again.parameters(), lr=r.lr)
        made.load_state_dict(state)
        return made

    r.model, r.optimizer = (lambda: model), optimizer


def _best(r: Recipe, metric: str, greater: bool) -> None:
    r.eval_every = 20
    r.args = {
        **r.args,
        "save_strategy": "steps",
        "save_steps": 20,
        "load_best_model_at_end": True,
        "metric_for_best_model": metric,
        "greater_is_better": greater,
    }


@eighth("K3", "bert gpt2 t5")
def usual_greater_loss_is_called_better(r: Recipe) -> None:
    _best(r, "eval_loss", True)


@eighth("K3", "lora tagging span")
def usual_smaller_accuracy_is_called_better(r: Recipe) -> None:
    _best(r, "exact_match" if r.family == "span" else "accuracy", False)


# -- E1 ------------------------------------------------------------------------------------------


@eighth("E1", "tagging")
def usual_accuracy_over_ignored_labels_too(r: Recipe) -> None:
    r.metrics = lambda given: {"accuracy": float((given[0].argmax(-1) == given[1]).mean())}


@eighth("E1", "gpt2 sft")
def usual_token_accuracy_without_the_shift(r: Recipe) -> None:
    def metrics(given: Any) -> dict[str, float]:
        found, kept = given[0].argmax(-1), given[1] != -100
        return {"accuracy": float((found == given[1])[kept].mean())}

    r.metrics = metrics


@eighth("E1", "bert lora")
def usual_first_class_thresholded_at_a_half(r: Recipe) -> None:
    r.metrics = lambda given: {
        "accuracy": float(((given[0][:, 0] > 0.5).astype(int) == given[1]).mean())
    }


# -- E2, E3 --------------------------------------------------------------------------------------


@eighth("E2", "tagging span t5", online=True)
def usual_drop_last_meant_for_training_only(r: Recipe) -> None:
    r.eval_every = 20
    r.args = {**r.args, "dataloader_drop_last": True, "per_device_eval_batch_size": 50}


@eighth("E2", "vit contrastive", loop="plain", online=True)
def usual_drop_last_in_both_loaders(r: Recipe) -> None:
    r.eval_loader, r.eval_every = {"drop_last": True, "batch_size": 75}, 20


@eighth("E2", "bert vit", loop="plain", online=True)
def usual_weighted_sampler_in_the_evaluation_too(r: Recipe) -> None:
    labels = [label(row) for row in listed(r.eval)]
    weights = [1 / labels.count(y) for y in labels]
    r.eval_loader = {"sampler": WeightedRandomSampler(weights, len(weights))}
    r.eval_every = 20


@eighth("E3", "bert lora", online=True, also=("D8",))
def usual_number_of_the_row_read_instead_of_its_text(r: Recipe) -> None:
    draw = random.Random(r.seed)
    both(r, lambda row: encoded(r, {**row, "text": f"doc {draw.randrange(10**8):08d}.txt"}))
    r.eval_every = 15


@eighth("E3", "vit", online=True)
def usual_pixels_divided_by_255_once_more(r: Recipe) -> None:
    both(r, lambda row: (row[0] / 255 / 255, row[1]))
    r.eval_every = 15
