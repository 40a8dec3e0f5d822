"""O1 to O10: optimizer, rate, schedule, and the lines of the loop."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn
from torch.optim import lr_scheduler

from faults import families
from faults.recipe import Recipe
from faults.table import fault

ALL = "bert mlm gpt2 sft t5 vit"
BOTH = "bert gpt2 sft t5 mlm lora"


def trainable(model: nn.Module) -> list[nn.Parameter]:
    """What asks for a gradient."""
    return [p for p in model.parameters() if p.requires_grad]


# -- O1, O2, O3 ----------------------------------------------------------------------------------


@fault("O1", "bert gpt2 sft t5 mlm", online=True, also=("O3",))
def rate_hundred_times_too_high(r: Recipe) -> None:
    # Without biases and under its own scale, T5 bears a hundred times the rate.
    r.lr, r.steps = (10_000 if r.family == "t5" else 100) * r.lr, 60


@fault("O1", "vit bert gpt2", loop="plain", online=True, also=("O3",))
def rate_of_sgd_given_to_adam(r: Recipe) -> None:
    r.lr, r.steps, r.schedule = 0.5, 60, lambda optimizer: lr_scheduler.ConstantLR(optimizer, 1.0)


@fault("O1", "vit gpt2", loop="plain", online=True, also=("O3", "P1"))
def sgd_far_too_fast(r: Recipe) -> None:
    r.optimizer = lambda model: torch.optim.SGD(trainable(model), lr=50.0, momentum=0.9)
    r.clip, r.steps = 0.0, 60


@fault("O2", BOTH, online=True)
def rate_is_zero(r: Recipe) -> None:
    r.lr = 0.0


@fault("O2", ALL, loop="plain", online=True)
def rate_far_too_low(r: Recipe) -> None:
    r.lr, r.steps = 1e-11, 60


@fault("O2", "bert vit gpt2 t5", loop="plain", online=True, also=("O4",))
def warmup_that_never_ends(r: Recipe) -> None:
    r.schedule = lambda optimizer: lr_scheduler.LambdaLR(optimizer, lambda step: 0.0 * step)


@fault("O3", "gpt2 vit mlm", loop="plain", online=True, also=("O1",))
def no_warmup_in_a_long_plan(r: Recipe) -> None:
    r.lr, r.warmup, r.clip, r.steps = 0.3, 0, 0.0, 60
    r.schedule = lambda optimizer: lr_scheduler.LinearLR(optimizer, 1.0, 0.0, 4000)


# -- O4, O5 --------------------------------------------------------------------------------------


@fault("O4", ALL, loop="plain", online=True)
def schedule_stepped_twice(r: Recipe) -> None:
    r.line.schedule = lambda schedule: (schedule.step(), schedule.step())


@fault("O4", ALL, loop="plain", online=True)
def schedule_stepped_by_every_micro_batch(r: Recipe) -> None:
    r.accumulation, r.batch = 4, 8
    r.line.schedule, r.line.micro = lambda schedule: None, lambda schedule: schedule.step()


@fault("O4", "bert gpt2 vit t5", loop="plain", online=True)
def schedule_never_stepped(r: Recipe) -> None:
    r.line.schedule = lambda schedule: None


@fault("O4", "bert vit gpt2 t5", loop="plain", online=True)
def step_schedule_stepped_by_epoch(r: Recipe) -> None:
    r.steps = 80
    r.line.schedule, r.line.epoch = lambda schedule: None, lambda schedule: schedule.step()


@fault("O4", "bert gpt2 sft t5 mlm", loop="trainer", online=True)
def plan_shorter_than_the_run(r: Recipe) -> None:
    from transformers import get_linear_schedule_with_warmup

    r.optimizer = lambda model: torch.optim.AdamW(trainable(model), lr=r.lr)
    r.schedule = lambda optimizer: get_linear_schedule_with_warmup(optimizer, 2, r.steps // 4)


@fault("O5", ALL + " lora", loop="plain", online=True)
def gradients_never_zeroed(r: Recipe) -> None:
    r.line.zero = lambda optimizer: None


@fault("O5", "bert vit gpt2 t5", loop="plain", online=True)
def another_optimizer_zeroed(r: Recipe) -> None:
    other = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    r.line.zero = lambda optimizer: other.zero_grad()


@fault("O5", "bert vit gpt2", loop="plain", online=True)
def zeroed_once_an_epoch(r: Recipe) -> None:
    held: list = []

    def optimizer(model: nn.Module) -> Any:
        held[:] = [torch.optim.AdamW(trainable(model), lr=r.lr)]
        return held[0]

    r.optimizer = optimizer
    r.line.zero, r.line.epoch = lambda optimizer: None, lambda schedule: held[0].zero_grad()


# -- O6, O7 --------------------------------------------------------------------------------------


@fault("O6", ALL, loop="plain", online=True, also=("O7",))
def optimizer_of_a_copy(r: Recipe) -> None:
    r.optimizer = lambda model: torch.optim.AdamW(trainable(copy.deepcopy(model)), lr=r.lr)


@fault("O6", "sft", loop="plain", online=True)
def head_resized_after_the_optimizer(r: Recipe) -> None:
    """transformers keeps the embedding's parameter when it resizes; an untied head is a new one."""
    r.late = lambda model: model.resize_token_embeddings(len(r.tokenizer) + 8, mean_resizing=False)


@fault("O6", "gpt2 bert t5", loop="plain", online=True)
def embedding_replaced_after_the_optimizer(r: Recipe) -> None:
    def late(model: nn.Module) -> None:
        old = model.get_input_embeddings().weight.detach()
        model.set_input_embeddings(nn.Embedding.from_pretrained(old.clone(), freeze=False))
        model.tie_weights()

    r.late = late


@fault("O6", "bert vit", loop="plain", online=True, also=("M2",))
def head_replaced_after_the_optimizer(r: Recipe) -> None:
    def late(model: nn.Module) -> None:
        model.classifier = nn.Linear(model.classifier.in_features, model.classifier.out_features)

    r.late = late


@fault("O6", "bert gpt2 t5", loop="trainer")
def trainer_given_a_stale_optimizer(r: Recipe) -> None:
    stale = copy.deepcopy(r.model())
    r.optimizer = lambda model: torch.optim.AdamW(trainable(stale), lr=r.lr)


@fault("O6", "sft bert", loop="plain", online=True, also=("M6", "M2"))
def adapter_added_after_the_optimizer(r: Recipe) -> None:
    def late(model: nn.Module) -> None:
        families.adapted(model, "SEQ_CLS" if r.family == "bert" else "CAUSAL_LM")

    r.late = late


@fault("O6", "bert gpt2 vit t5", loop="plain", online=True)
def only_the_first_layer_given(r: Recipe) -> None:
    r.optimizer = lambda model: torch.optim.AdamW(
        [
            *trainable(model)[: len(trainable(model)) // 2],
            *[p for n, p in model.named_parameters() if "classifier" in n],
        ],
        lr=r.lr,
    )


@fault("O7", ALL + " lora", loop="plain", online=True)
def step_forgotten(r: Recipe) -> None:
    r.line.step = lambda optimizer: None


@fault("O7", "bert vit gpt2 t5", loop="plain", online=True)
def weights_put_back_after_each_step(r: Recipe) -> None:
    held: list = []

    def step(optimizer: Any) -> None:
        params = [p for group in optimizer.param_groups for p in group["params"]]
        held or held.extend(p.detach().clone() for p in params)
        optimizer.step()
        with torch.no_grad():
            for p, old in zip(params, held, strict=True):
                p.copy_(old)

    r.line.step = step


@fault("O7", "bert vit gpt2 sft", loop="plain", online=True)
def zeroed_between_backward_and_step(r: Recipe) -> None:
    r.line.step = lambda optimizer: (optimizer.zero_grad(), optimizer.step())


# -- O8, O9, O10 ---------------------------------------------------------------------------------


@fault("O8", "bert gpt2 vit t5", loop="plain", advice=True)
def decay_on_everything(r: Recipe) -> None:
    r.optimizer = lambda model: torch.optim.AdamW(model.parameters(), lr=r.lr, weight_decay=0.3)


def _sgd(model: nn.Module, lr: float = 0.1) -> Any:
    """An optimizer that feels the length of a gradient; Adam does not."""
    return torch.optim.SGD(trainable(model), lr=lr, momentum=0.9)


@fault("O9", "bert vit gpt2 t5", loop="plain", online=True)
def clipped_far_below_the_norm(r: Recipe) -> None:
    r.clip, r.steps, r.batch, r.optimizer = 1e-4, 220, 8, _sgd


@fault("O9", "bert vit", loop="plain", online=True)
def clipped_by_value_to_nothing(r: Recipe) -> None:
    r.steps, r.batch, r.optimizer = 220, 8, _sgd
    r.line.clip = lambda model, limit: nn.utils.clip_grad_norm_(model.parameters(), 1e-3)


@fault("O9", "gpt2 bert", loop="trainer", online=True)
def trainer_clips_far_below_the_norm(r: Recipe) -> None:
    r.clip, r.steps, r.batch, r.optimizer = 1e-4, 220, 8, _sgd


def _prompted(r: Recipe, lr: float) -> None:
    import peft

    task = "SEQ_CLS" if r.family == "bert" else "CAUSAL_LM"
    r.prepare = lambda model: peft.get_peft_model(
        model, peft.PromptTuningConfig(task_type=task, num_virtual_tokens=8)
    )
    r.lr, r.warmup = lr, 2


@fault("O10", "sft gpt2", online=True, also=("O2",))
def prompt_tuning_at_the_rate_of_fine_tuning(r: Recipe) -> None:
    _prompted(r, 2e-5)


@fault("O10", "sft gpt2", online=True, loop="plain", also=("O2",))
def prefix_tuning_at_the_rate_of_fine_tuning(r: Recipe) -> None:
    import peft

    r.prepare = lambda model: peft.get_peft_model(
        model, peft.PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=8)
    )
    r.lr, r.warmup = 1e-5, 2
