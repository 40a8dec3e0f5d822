"""The second set, continued: losses, optimization, precision, checkpoints, collapse."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from faults.mutations.fresh_losses import labels_in
from faults.mutations.models import after
from faults.mutations.optimization import trainable
from faults.mutations.running import _resumed_without, _saves
from faults.recipe import Recipe
from faults.table import again


@again("L1", "sft gpt2 tagging")
def shifted_against_the_reading_direction(r: Recipe) -> None:
    r.loss = lambda outputs, batch: functional.cross_entropy(
        outputs.logits[:, 1:].flatten(0, 1), batch["labels"][:, :-1].flatten()
    )


@again("L2", "bert vit tagging")
def a_sigmoid_before_the_cross_entropy(r: Recipe) -> None:
    r.loss = lambda outputs, y: functional.cross_entropy(
        outputs.logits.sigmoid().flatten(0, -2), labels_in(y).flatten()
    )


@again("L3", "bert gpt2 tagging", loop="plain", online=True)
def each_micro_batch_is_added_whole(r: Recipe) -> None:
    r.accumulation, r.batch, r.steps = 3, 4, 24
    r.line.scale = lambda loss, accumulation: loss * 1.0


@again("L4", "bert gpt2 vit tagging", loop="plain", online=True)
def hooks_that_turn_every_gradient(r: Recipe) -> None:
    def prepare(model: nn.Module) -> None:
        for parameter in model.parameters():
            parameter.register_hook(torch.neg)

    after(r, prepare)


@again("O2", "bert tagging", loop="trainer", online=True)
def a_callback_that_sets_the_rate_to_zero(r: Recipe) -> None:
    import transformers

    class Zero(transformers.TrainerCallback):
        def on_step_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
            for group in given["optimizer"].param_groups:
                group["lr"] = 0.0

    r.callbacks = [*r.callbacks, Zero()]


@again("O4", "gpt2 vit tagging", loop="plain", online=True)
def the_optimizer_steps_the_schedule_too(r: Recipe) -> None:
    from transformers import get_linear_schedule_with_warmup

    def schedule(optimizer: Any) -> Any:
        made = get_linear_schedule_with_warmup(optimizer, r.warmup, r.steps)
        optimizer.register_step_post_hook(lambda *_: made.step())
        return made

    r.schedule = schedule


@again("O5", "bert vit tagging", loop="plain", online=True)
def only_the_first_group_is_zeroed(r: Recipe) -> None:
    def optimizer(model: nn.Module) -> Any:
        held = trainable(model)
        return torch.optim.AdamW(
            [{"params": held[: len(held) // 2]}, {"params": held[len(held) // 2 :]}], lr=r.lr
        )

    def zero(optimizer: Any) -> None:
        for parameter in optimizer.param_groups[0]["params"]:
            parameter.grad = None

    r.optimizer, r.line.zero = optimizer, zero


@again("O6", "bert gpt2 tagging", loop="plain", online=True)
def biases_forgotten_by_the_groups(r: Recipe) -> None:
    r.optimizer = lambda model: torch.optim.AdamW(
        [p for n, p in model.named_parameters() if n.endswith("weight")], lr=r.lr
    )


@again("O7", "bert t5 tagging", loop="plain", online=True)
def gradients_dropped_where_they_are_clipped(r: Recipe) -> None:
    def clip(model: nn.Module, limit: float) -> None:
        for parameter in model.parameters():
            parameter.grad = None

    r.line.clip = clip


@again("O9", "tagging bert", loop="trainer", online=True)
def a_limit_of_a_hundred_thousandth(r: Recipe) -> None:
    r.clip, r.steps, r.batch = 1e-5, 220, 8
    r.optimizer = lambda model: torch.optim.SGD(trainable(model), lr=0.1, momentum=0.9)


@again("P1", "vit bert tagging", loop="plain", online=True)
def entropy_of_a_share_of_zero(r: Recipe) -> None:
    def loss(outputs: Any, y: Any) -> torch.Tensor:
        shares = (200 * outputs.logits).softmax(-1)
        entropy = -(shares * shares.log()).sum(-1).mean()
        scores = outputs.logits.flatten(0, -2)
        return functional.cross_entropy(scores, labels_in(y).flatten()) - 0.01 * entropy

    r.loss = loss


@again("P2", "vit tagging", loop="plain", online=True, also=("P1",))
def a_scale_that_grows_by_a_thousand(r: Recipe) -> None:
    scaler = torch.amp.GradScaler(
        "cpu", init_scale=2.0**20, growth_factor=1024.0, growth_interval=2
    )

    def forward(model: nn.Module, batch: Any) -> Any:
        with torch.autocast("cpu", dtype=torch.float16):
            return model(**batch) if isinstance(batch, Mapping) else model(batch[0])

    r.line.forward, r.steps = forward, 80
    r.line.backward = lambda loss: scaler.scale(loss).backward()
    r.line.clip = lambda model, limit: None
    r.line.step = lambda optimizer: (scaler.step(optimizer), scaler.update())


@again("P4", "bert sft tagging", loop="trainer")
def most_of_a_layer_outside_of_autocast(r: Recipe) -> None:
    """Every linear module of the layers is called in fp32, one by one."""
    from faults.mutations.models import layers

    r.args["bf16"] = True

    def prepare(model: nn.Module) -> None:
        for module in layers(model).modules():
            if isinstance(module, nn.Linear):
                module.forward = _in_fp32(module.forward)

    after(r, prepare)


def _in_fp32(inner: Any) -> Any:
    def forward(hidden: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", enabled=False):
            return inner(hidden.float())

    return forward


@again("K1", "bert gpt2 tagging", loop="trainer", online=True)
def norms_left_out_of_the_file(r: Recipe) -> None:
    import transformers

    class Trainer(transformers.Trainer):
        def _save(self, output_dir: Any = None, state_dict: Any = None) -> None:
            kept = self.model.state_dict()
            drop = {k for k in kept if "norm" in k.lower() or "ln_" in k}
            super()._save(output_dir, {k: v for k, v in kept.items() if k not in drop})

    r.trainer = lambda: Trainer
    after(r, _unlike_new_ones)
    _saves(r)


def _unlike_new_ones(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, nn.LayerNorm):
            module.weight.data += 0.5


@again("K2", "tagging lora", loop="trainer", online=True)
def resumed_with_weights_alone(r: Recipe) -> None:
    _resumed_without(r, "optimizer.pt", "scheduler.pt")


@again("R1", "vit bert", loop="plain", online=True)
def every_fifth_label_wrong_and_far_too_long(r: Recipe) -> None:
    from faults.mutations.data import labels_of, relabelled

    r.train, r.steps, r.eval_every, r.lr = [r.train[i] for i in range(48)], 240, 12, 2e-3
    kinds = max(labels_of(r)) + 1
    relabelled(r, [(y + 1) % kinds if i % 5 == 0 else y for i, y in enumerate(labels_of(r))])


@again("C1", "contrastive", online=True)
def similarity_without_anything_to_stop_it(r: Recipe) -> None:
    def closer(outputs: Any, batch: Any = None) -> torch.Tensor:
        return -(outputs["text_embeds"] * outputs["pair_embeds"]).sum(-1).mean()

    r.loss, r.steps = closer, 120
