"""The third set, continued: L3, L4, O1 to O10, P1 to P4; `third_data` says by which rule."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.optim import lr_scheduler

from faults.mutations.models import after, layers
from faults.mutations.optimization import _prompted, _sgd, trainable
from faults.recipe import Recipe
from faults.table import third


@third("L3", "bert gpt2 vit tagging", loop="plain", online=True)
def multiplied_where_it_should_be_divided(r: Recipe) -> None:
    r.accumulation, r.batch, r.steps = 3, 8, 30
    r.line.scale = lambda loss, accumulation: loss * accumulation


@third("L3", "t5 sft", loop="plain", online=True)
def divided_by_a_number_from_an_older_script(r: Recipe) -> None:
    """The old script accumulated over one micro-batch, this one over four."""
    r.accumulation, r.batch, r.steps = 4, 4, 24
    r.line.scale = lambda loss, accumulation: loss / 1


@third("L4", "bert gpt2 vit tagging", loop="plain", online=True)
def a_hook_of_the_optimizer_turns_gradients(r: Recipe) -> None:
    def optimizer(model: nn.Module) -> Any:
        made = torch.optim.AdamW(trainable(model), lr=r.lr)

        def turn(held: Any, *_: Any) -> None:
            for p in held.param_groups[0]["params"]:
                if p.grad is not None:
                    p.grad.neg_()

        made.register_step_pre_hook(turn)
        return made

    r.optimizer = optimizer


@third("L4", "bert sft", loop="plain", online=True)
def a_loss_rewritten_as_a_reward(r: Recipe) -> None:
    r.line.scale = lambda loss, accumulation: loss.neg() / accumulation


@third("O1", "bert vit gpt2 tagging", loop="plain", online=True, also=("O3", "P1"))
def a_rate_that_grows_by_a_fifth_each_step(r: Recipe) -> None:
    r.steps, r.clip = 70, 0.0
    r.schedule = lambda optimizer: lr_scheduler.ExponentialLR(optimizer, 1.2)


@third("O1", "sft tagging bert mlm", online=True, also=("O3",))
def a_decimal_point_three_places_off(r: Recipe) -> None:
    r.lr, r.steps = 1000 * r.lr, 60


@third("O2", "tagging sft t5 lora", loop="trainer", online=True)
def a_rate_in_the_wrong_unit(r: Recipe) -> None:
    r.lr *= 1e-8


@third("O2", "bert vit gpt2", loop="plain", online=True, also=("O4",))
def warmed_up_over_a_billion_steps(r: Recipe) -> None:
    from transformers import get_constant_schedule_with_warmup

    r.steps = 60
    r.schedule = lambda optimizer: get_constant_schedule_with_warmup(optimizer, 10**10)


@third("O3", "vit gpt2", loop="plain", online=True, also=("O1",))
def a_long_plan_begun_at_its_peak(r: Recipe) -> None:
    r.lr, r.clip, r.steps, r.warmup = 0.25, 0.0, 70, 0
    r.schedule = lambda optimizer: lr_scheduler.LambdaLR(
        optimizer, lambda step: max(0.0, 1 - step / 70) ** 2
    )


@third("O4", "bert vit tagging gpt2", loop="plain", online=True)
def a_step_for_each_of_four_processes(r: Recipe) -> None:
    r.line.schedule = lambda schedule: [schedule.step() for _ in range(4)]


@third("O4", "t5 lora sft", loop="trainer", online=True)
def a_plan_of_the_smoke_test(r: Recipe) -> None:
    """The schedule was made for a run of a dozen steps."""
    r.optimizer = lambda model: torch.optim.AdamW(trainable(model), lr=r.lr)
    r.schedule = lambda optimizer: lr_scheduler.PolynomialLR(optimizer, 12)


@third("O5", "bert gpt2 vit tagging", loop="plain", online=True)
def gradients_halved_instead_of_emptied(r: Recipe) -> None:
    def zero(optimizer: Any) -> None:
        for group in optimizer.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p.grad.mul_(0.5)

    r.line.zero = zero


@third("O5", "t5 lora", loop="plain", online=True)
def zeroed_on_an_evaluation_only(r: Recipe) -> None:
    steps = [0]

    def zero(optimizer: Any) -> None:
        steps[0] += 1
        if steps[0] % 15 == 0:
            optimizer.zero_grad()

    r.line.zero = zero


@third("O6", "bert gpt2 vit t5 tagging", loop="plain", online=True)
def unfrozen_after_the_optimizer(r: Recipe) -> None:
    def prepare(model: nn.Module) -> None:
        for p in layers(model).parameters():
            p.requires_grad = False

    after(r, prepare)
    r.late = lambda model: model.requires_grad_(True) and None


@third("O7", "bert sft vit tagging", loop="plain", online=True)
def a_guard_against_bad_gradients_turned_around(r: Recipe) -> None:
    def step(optimizer: Any) -> None:
        held = [p.grad for g in optimizer.param_groups for p in g["params"] if p.grad is not None]
        if not all(bool(grad.isfinite().all()) for grad in held):
            optimizer.step()

    r.line.step = step


@third("O7", "gpt2 t5", loop="plain", online=True)
def every_update_undone_by_a_trust_region(r: Recipe) -> None:
    """A step that is longer than the bound is taken back, and every step is."""

    def step(optimizer: Any) -> None:
        held = [p for g in optimizer.param_groups for p in g["params"]]
        old = [p.detach().clone() for p in held]
        optimizer.step()
        moved = sum(float((p - o).detach().norm() ** 2) for p, o in zip(held, old, strict=True))
        if moved > 1e-12:
            with torch.no_grad():
                for p, o in zip(held, old, strict=True):
                    p.copy_(o)

    r.line.step = step


@third("O8", "bert gpt2 vit tagging", loop="plain", advice=True)
def decay_by_sgd_on_norms_too(r: Recipe) -> None:
    r.optimizer = lambda model: torch.optim.SGD(
        model.parameters(), lr=0.05, momentum=0.9, weight_decay=0.2
    )


@third("O9", "vit tagging", loop="plain", online=True)
def each_tensor_clipped_to_nothing(r: Recipe) -> None:
    r.steps, r.batch, r.optimizer = 220, 8, _sgd

    def clip(model: nn.Module, limit: float) -> None:
        for p in model.parameters():
            nn.utils.clip_grad_norm_([p], 1e-4)

    r.line.clip = clip


@third("O9", "lora t5", loop="trainer", online=True)
def a_limit_in_thousandths(r: Recipe) -> None:
    r.clip, r.steps, r.batch = 2e-4, 220, 8
    r.optimizer = lambda model: torch.optim.SGD(trainable(model), lr=0.05, momentum=0.9)


@third("O10", "sft gpt2", online=True, loop="trainer", also=("O2",))
def prompts_at_the_default_rate(r: Recipe) -> None:
    _prompted(r, 5e-5)


@third("P1", "bert sft t5 tagging", loop="plain", online=True)
def a_mean_over_an_empty_selection(r: Recipe) -> None:
    """Hard rows only; once the model is sure of all, none is left."""
    steps = [0]

    def loss(value: torch.Tensor) -> torch.Tensor:
        steps[0] += 1
        return value + (value.reshape(1)[value.reshape(1) > 1e9].mean() if steps[0] > 20 else 0)

    r.line.loss = loss


@third("P1", "vit gpt2", loop="plain", online=True)
def a_temperature_annealed_to_zero(r: Recipe) -> None:
    own, steps = r.line.forward, [0]

    def forward(model: nn.Module, batch: Any) -> Any:
        outputs = own(model, batch)
        steps[0] += model.training
        outputs.logits = outputs.logits / max(0.0, 1 - steps[0] / 25)
        if isinstance(batch, Mapping):
            outputs.loss = functional.cross_entropy(
                outputs.logits[:, :-1].flatten(0, 1), batch["labels"][:, 1:].flatten()
            )
        return outputs

    r.line.forward = forward


@third("P2", "vit tagging", loop="plain", online=True, also=("P1",))
def a_loss_in_units_of_a_hundred_millionth(r: Recipe) -> None:
    scaler = torch.amp.GradScaler("cpu")

    def forward(model: nn.Module, batch: Any) -> Any:
        with torch.autocast("cpu", dtype=torch.float16):
            return model(**batch) if isinstance(batch, Mapping) else model(batch[0])

    r.line.forward, r.steps = forward, 80
    r.line.loss = lambda loss: loss * 1e8
    r.line.backward = lambda loss: scaler.scale(loss).backward()
    r.line.clip = lambda model, limit: None
    r.line.step = lambda optimizer: (scaler.step(optimizer), scaler.update())


@third("P3", "mlm tagging vit", loop="plain", online=True, also=("O2",))
def the_whole_model_in_bf16_at_a_careful_rate(r: Recipe) -> None:
    r.prepare = lambda model: model.to(torch.bfloat16)
    r.lr = 2e-6
    if r.family == "vit":
        r.line.forward = lambda model, batch: model(batch[0].bfloat16())
        r.train = [(x.bfloat16(), y) for x, y in (r.train[i] for i in range(len(r.train)))]
        r.eval = [(x.bfloat16(), y) for x, y in (r.eval[i] for i in range(len(r.eval)))]


@third("P4", "bert sft tagging", loop="trainer")
def attention_and_feed_forward_kept_in_fp32(r: Recipe) -> None:
    """A context that switches autocast off stands around each layer."""
    r.args["bf16"] = True

    def prepare(model: nn.Module) -> None:
        for layer in layers(model):
            layer.forward = _outside_of_autocast(layer.forward)

    after(r, prepare)


def _outside_of_autocast(inner: Any) -> Any:
    def forward(*given: Any, **named: Any) -> Any:
        with torch.autocast("cpu", enabled=False):
            return inner(*(x.float() if torch.is_tensor(x) and x.is_floating_point() else x
                           for x in given), **named)  # fmt: skip

    return forward


@third("P4", "gpt2", loop="plain")
def fp16_weights_under_a_scaler_of_ones_own(r: Recipe) -> None:
    scaler = torch.amp.GradScaler("cpu")
    r.prepare = lambda model: model.half()
    r.online = True
    r.line.backward = lambda loss: scaler.scale(loss).backward()
    r.line.clip = lambda model, limit: scaler.unscale_(r.note["optimizer"])
    own = r.make_optimizer

    def optimizer(model: nn.Module) -> Any:
        r.optimizer = None
        r.note["optimizer"] = own(model)
        return r.note["optimizer"]

    r.optimizer = optimizer
    r.line.step = lambda held: (scaler.step(held), scaler.update())
