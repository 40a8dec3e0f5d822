"""O1 to O10 as they are committed most often: rates, schedules, the order of a loop's lines."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.optim import lr_scheduler

from faults.mutations.ninth_parts import after
from faults.recipe import Recipe
from faults.table import ninth


def _constant(r: Recipe) -> None:
    r.schedule = lambda optimizer: lr_scheduler.ConstantLR(optimizer, 1.0)


# -- O1, O2, O3 ----------------------------------------------------------------------------------


@ninth("O1", "recurrent bert", loop="plain", online=True, also=("O3",))
def often_rate_of_sgd_kept_for_adam(r: Recipe) -> None:
    r.lr, r.steps, r.clip = 1.0 if r.family == "recurrent" else 0.3, 80, 0.0
    _constant(r)


@ninth("O1", "sft summary tagging", online=True, also=("O3",))
def often_exponent_of_the_rate_mistyped(r: Recipe) -> None:
    r.lr, r.steps = 0.5, 80  # 5e-1 for 5e-5


@ninth("O2", "mlm recurrent t5", online=True)
def often_rate_divided_once_too_often(r: Recipe) -> None:
    r.lr, r.steps = 5e-10, 60  # 5e-5 / 100_000 rows


@ninth("O2", "summary recurrent gpt2", online=True, also=("O4",))
def often_warmup_of_a_million_steps_from_a_pretraining_script(r: Recipe) -> None:
    r.warmup = 1_000_000
    r.steps = 60
    if r.family == "recurrent":
        r.schedule = lambda optimizer: lr_scheduler.LambdaLR(optimizer, lambda n: n / 1e6)
    else:
        r.lr, r.args = 5e-5, {"warmup_steps": 1_000_000, "lr_scheduler_type": "linear"}


@ninth("O3", "gpt2 vit", loop="plain", online=True, also=("O1",))
def often_warmup_share_cast_to_zero_steps(r: Recipe) -> None:
    from transformers import get_linear_schedule_with_warmup

    r.lr, r.clip, r.steps = 0.2, 0.0, 60
    r.schedule = lambda optimizer: get_linear_schedule_with_warmup(optimizer, int(0.06), 4000)


@ninth("O3", "recurrent mlm", loop="plain", online=True, also=("O1",))
def often_cosine_from_the_full_rate_at_once(r: Recipe) -> None:
    r.lr, r.clip, r.steps = 0.3, 0.0, 60
    r.schedule = lambda optimizer: lr_scheduler.CosineAnnealingLR(optimizer, 4000)


# -- O4, O5 --------------------------------------------------------------------------------------


@ninth("O4", "recurrent span vit", loop="plain", online=True)
def often_schedule_of_epochs_stepped_by_batches(r: Recipe) -> None:
    r.steps = 80
    r.schedule = lambda optimizer: lr_scheduler.StepLR(optimizer, step_size=3, gamma=0.1)


@ninth("O4", "recurrent t5", loop="plain", online=True)
def often_schedule_stepped_in_the_loop_of_micro_batches(r: Recipe) -> None:
    r.accumulation, r.batch = 4, 4
    r.line.schedule, r.line.micro = lambda schedule: None, lambda schedule: schedule.step()


@ninth("O4", "recurrent summary tagging", loop="plain", online=True)
def often_steps_of_one_epoch_given_as_the_plan(r: Recipe) -> None:
    from transformers import get_linear_schedule_with_warmup

    r.steps = 96
    r.schedule = lambda optimizer: get_linear_schedule_with_warmup(optimizer, 2, 384 // r.batch)


@ninth("O5", "recurrent vit mlm", loop="plain", online=True)
def often_zero_grad_left_out(r: Recipe) -> None:
    r.line.zero = lambda optimizer: None


@ninth("O5", "recurrent gpt2 lora", loop="plain", online=True)
def often_zero_grad_once_an_epoch(r: Recipe) -> None:
    held: list[Any] = []
    r.line.zero = lambda optimizer: held.append(optimizer)
    r.line.epoch = lambda schedule: held[-1].zero_grad()


# -- O6, O7 --------------------------------------------------------------------------------------


@ninth("O6", "recurrent vit", loop="plain")
def often_head_replaced_after_the_optimizer(r: Recipe) -> None:
    name = "head" if r.family == "recurrent" else "classifier"

    def replace(model: nn.Module) -> None:
        old = getattr(model, name)
        setattr(model, name, nn.Linear(old.in_features, old.out_features))

    r.late = replace


@ninth("O6", "recurrent bert tagging", loop="plain")
def often_backbone_unfrozen_after_the_optimizer_was_filtered(r: Recipe) -> None:
    def freeze(model: nn.Module) -> None:
        for name, parameter in model.named_parameters():
            parameter.requires_grad = name.startswith(("head", "classifier"))

    after(r, freeze)
    r.late = lambda model: model.requires_grad_(True)


@ninth("O6", "recurrent contrastive", loop="plain")
def often_new_module_left_out_of_the_optimizer(r: Recipe) -> None:
    left = "head" if r.family == "recurrent" else "projection"
    r.optimizer = lambda model: torch.optim.AdamW(
        [p for name, p in model.named_parameters() if not name.startswith(left)], lr=r.lr
    )


@ninth("O7", "recurrent vit t5", loop="plain", online=True)
def often_step_of_the_optimizer_left_out(r: Recipe) -> None:
    r.line.step = lambda optimizer: None


@ninth("O7", "recurrent span gpt2", loop="plain", online=True)
def often_gradients_zeroed_between_backward_and_step(r: Recipe) -> None:
    r.line.step = lambda optimizer: (optimizer.zero_grad(), optimizer.step())


# -- O8, O9, O10 ---------------------------------------------------------------------------------


@ninth("O8", "recurrent vit", loop="plain")
def often_strong_decay_on_all_parameters(r: Recipe) -> None:
    r.decay = 0.3


@ninth("O8", "gpt2 t5 sft", loop="plain")
def often_names_without_decay_are_those_of_bert(r: Recipe) -> None:
    def optimizer(model: nn.Module) -> Any:
        spared = ("bias", "LayerNorm.weight")
        if r.family == "gpt2":
            spared = ("LayerNorm.bias", "LayerNorm.weight")
        named = list(model.named_parameters())
        plain = [p for n, p in named if any(part in n for part in spared)]
        rest = [p for n, p in named if not any(part in n for part in spared)]
        groups = [{"params": rest, "weight_decay": 0.2}, {"params": plain, "weight_decay": 0.0}]
        return torch.optim.AdamW(groups, lr=r.lr)

    r.optimizer = optimizer


@ninth("O9", "recurrent gpt2", loop="plain", online=True)
def often_clipped_before_the_scaler_unscales(r: Recipe) -> None:
    scaler = torch.amp.GradScaler("cpu")
    r.optimizer = lambda model: torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    r.line.backward = lambda loss: scaler.scale(loss).backward()
    r.line.step = lambda optimizer: (scaler.step(optimizer), scaler.update())


@ninth("O9", "recurrent bert", loop="plain", online=True)
def often_clipped_to_a_thousandth_under_sgd(r: Recipe) -> None:
    r.optimizer = lambda model: torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    r.clip, r.steps = 1e-3, 220
    _constant(r)


@ninth("O10", "sft gpt2 t5", online=True)
def often_prompt_tuning_at_the_rate_of_fine_tuning(r: Recipe) -> None:
    _prompted(r, "PromptTuningConfig")


@ninth("O10", "sft gpt2", online=True)
def often_p_tuning_at_the_rate_of_fine_tuning(r: Recipe) -> None:
    _prompted(r, "PrefixTuningConfig")


def _prompted(r: Recipe, kind: str) -> None:
    import peft

    task = "SEQ_2_SEQ_LM" if r.family == "t5" else "CAUSAL_LM"
    config = getattr(peft, kind)(task_type=task, num_virtual_tokens=8)
    r.prepare = lambda model: peft.get_peft_model(model, config)
    r.lr, r.steps = 2e-5, 60
