"""O1 to O10 as they are mostly committed: rates, schedules, optimizers and the lines of a step."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.optim import lr_scheduler

from faults.mutations.eighth_parts import after, constant, last, trainable
from faults.recipe import Recipe
from faults.table import eighth

# -- O1, O2, O3 ----------------------------------------------------------------------------------


@eighth("O1", "bert vit tagging", loop="plain", online=True, also=("O3",))
def usual_a_tenth_given_to_adam(r: Recipe) -> None:
    r.lr, r.steps, r.schedule = 0.1, 60, constant


@eighth("O1", "sft span mlm", online=True, also=("O3",))
def usual_exponent_of_the_rate_mistyped(r: Recipe) -> None:
    r.lr, r.steps = 200 * r.lr, 80


@eighth("O2", "bert gpt2 t5", online=True)
def usual_warmup_of_a_run_that_is_far_longer(r: Recipe) -> None:
    r.warmup, r.steps = 1_000_000, 60


@eighth("O2", "lora span contrastive", online=True)
def usual_minus_five_became_minus_ten(r: Recipe) -> None:
    r.lr, r.steps = 2e-10, 60


@eighth("O3", "bert tagging mlm", loop="plain", online=True, also=("O1",))
def usual_full_rate_from_the_first_step(r: Recipe) -> None:
    r.lr, r.warmup, r.clip, r.steps = 0.05, 0, 0.0, 60
    r.schedule = lambda optimizer: lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / 4000)


@eighth("O3", "gpt2 sft", online=True, also=("O1",))
def usual_constant_schedule_that_ignores_its_warmup(r: Recipe) -> None:
    r.lr, r.steps, r.clip = 0.1 if r.family != "t5" else 1.0, 300, 0.0
    r.args = {**r.args, "lr_scheduler_type": "constant", "warmup_steps": 0}


# -- O4, O5 --------------------------------------------------------------------------------------


@eighth("O4", "bert span", loop="plain", online=True)
def usual_linear_schedule_stepped_once_an_epoch(r: Recipe) -> None:
    r.steps = 80
    r.line.schedule, r.line.epoch = lambda schedule: None, lambda schedule: schedule.step()


@eighth("O4", "bert t5 tagging", loop="plain", online=True)
def usual_plan_of_one_epoch_for_three(r: Recipe) -> None:
    from transformers import get_linear_schedule_with_warmup

    epoch = len(r.train) // r.batch
    r.steps = 3 * epoch
    r.schedule = lambda optimizer: get_linear_schedule_with_warmup(optimizer, 2, epoch)


@eighth("O4", "gpt2 contrastive mlm", loop="plain", online=True)
def usual_schedule_stepped_in_every_micro_step(r: Recipe) -> None:
    r.accumulation, r.batch = 4, 4
    r.line.schedule, r.line.micro = lambda schedule: None, lambda schedule: schedule.step()


@eighth("O5", "span contrastive vit", loop="plain", online=True)
def usual_zero_grad_missing(r: Recipe) -> None:
    r.line.zero = lambda optimizer: None


@eighth("O5", "bert gpt2 lora", loop="plain", online=True)
def usual_zeroed_only_at_the_start_of_an_epoch(r: Recipe) -> None:
    held: list = []

    def optimizer(model: nn.Module) -> Any:
        held[:] = [torch.optim.AdamW(trainable(model), lr=r.lr)]
        return held[0]

    r.optimizer, r.line.zero = optimizer, lambda optimizer: None
    r.line.epoch = lambda schedule: held[0].zero_grad()


# -- O6, O7 --------------------------------------------------------------------------------------


@eighth("O6", "bert vit tagging", loop="plain", online=True)
def usual_head_replaced_after_the_optimizer_was_built(r: Recipe) -> None:
    def late(model: nn.Module) -> None:
        holder, name = last(model)
        old = getattr(holder, name)
        setattr(holder, name, nn.Linear(old.in_features, old.out_features))

    r.late = late


@eighth("O6", "gpt2 sft mlm", loop="plain", online=True)
def usual_embeddings_resized_after_the_optimizer_was_built(r: Recipe) -> None:
    r.late = lambda model: model.resize_token_embeddings(model.config.vocab_size + 8)


@eighth("O6", "bert vit contrastive", loop="plain", online=True)
def usual_encoder_unfrozen_but_never_added_to_the_optimizer(r: Recipe) -> None:
    name = {"bert": "bert", "vit": "vit", "contrastive": "encoder"}[r.family]
    after(r, lambda model: getattr(model, name).requires_grad_(False) and None)
    r.late = lambda model: getattr(model, name).requires_grad_(True)


@eighth("O7", "t5 vit span", loop="plain", online=True)
def usual_optimizer_step_forgotten(r: Recipe) -> None:
    r.line.step = lambda optimizer: None


@eighth("O7", "mlm contrastive lora", loop="plain", online=True)
def usual_gradients_zeroed_between_backward_and_step(r: Recipe) -> None:
    r.line.step = lambda optimizer: (optimizer.zero_grad(), optimizer.step())


# -- O8, O9, O10 ---------------------------------------------------------------------------------


@eighth("O8", "bert gpt2 vit", loop="plain")
def usual_strong_decay_of_all_parameters(r: Recipe) -> None:
    r.optimizer = lambda model: torch.optim.AdamW(model.parameters(), lr=r.lr, weight_decay=0.1)


@eighth("O8", "mlm span contrastive", loop="plain", advice=True)
def usual_small_decay_of_norms_and_biases_too(r: Recipe) -> None:
    r.optimizer = lambda model: torch.optim.AdamW(model.parameters(), lr=r.lr, weight_decay=0.01)


def _momentum(model: nn.Module) -> Any:
    return torch.optim.SGD(trainable(model), lr=0.05, momentum=0.9)


def scaled(r: Recipe, scaler: Any, unscaled: bool = True, make: Any = None) -> None:
    """The lines of a loop in half precision with a loss scale."""
    held: list = []

    def optimizer(model: nn.Module) -> Any:
        held[:] = [make(model) if make else torch.optim.AdamW(trainable(model), lr=r.lr)]
        return held[0]

    def clip(model: nn.Module, limit: float) -> None:
        if unscaled:
            scaler.unscale_(held[0])
        nn.utils.clip_grad_norm_(model.parameters(), limit)

    forward = r.line.forward

    def halved(model: nn.Module, batch: Any) -> Any:
        with torch.autocast("cpu", dtype=torch.float16):
            return forward(model, batch)

    r.optimizer, r.line.forward, r.line.clip = optimizer, halved, clip
    r.line.backward = lambda loss: scaler.scale(loss).backward()
    r.line.step = lambda optimizer: (scaler.step(optimizer), scaler.update())


@eighth("O9", "bert gpt2 vit", loop="plain", online=True)
def usual_clipped_before_the_scale_was_taken_off(r: Recipe) -> None:
    scaled(r, torch.amp.GradScaler("cpu", init_scale=2.0**14), unscaled=False, make=_momentum)


@eighth("O9", "vit tagging", loop="plain", online=True)
def usual_limit_a_thousand_times_below_the_norms(r: Recipe) -> None:
    r.clip, r.steps, r.schedule = 1e-3, 220, constant
    r.optimizer = _momentum


def _prompted(r: Recipe, kind: str, **settings: Any) -> None:
    import peft

    task = {"bert": "SEQ_CLS", "t5": "SEQ_2_SEQ_LM"}.get(r.family, "CAUSAL_LM")
    config = getattr(peft, kind)(task_type=task, num_virtual_tokens=8, **settings)
    r.prepare = lambda model: peft.get_peft_model(model, config)


@eighth("O10", "sft gpt2", online=True)
def usual_prompt_tuned_at_the_rate_of_full_fine_tuning(r: Recipe) -> None:
    _prompted(r, "PromptTuningConfig")
    r.lr, r.steps = 2e-5, 100


@eighth("O10", "sft gpt2", online=True)
def usual_prefix_tuned_at_the_rate_of_full_fine_tuning(r: Recipe) -> None:
    _prompted(r, "PrefixTuningConfig")
    r.lr, r.steps = 2e-5, 100
