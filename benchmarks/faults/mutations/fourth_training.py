"""The fourth set, continued: O1 to O10; `fourth_data` says by which rule."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.optim import lr_scheduler

from faults import material
from faults.mutations.models import after, backbone, layers
from faults.mutations.optimization import _sgd, trainable
from faults.mutations.precision import _half
from faults.recipe import Recipe
from faults.table import fourth

# -- O1, O2, O3 ----------------------------------------------------------------------------------


@fourth("O1", "bert tagging sft mlm", online=True, also=("O3",))
def scaled_by_the_rows_of_the_set(r: Recipe) -> None:
    """The linear rule, with the length of the data set where the batch belongs."""
    r.lr, r.steps = r.lr * len(r.train), 60


@fourth("O1", "bert vit gpt2 tagging", loop="plain", online=True)
def a_cycle_whose_peak_is_one(r: Recipe) -> None:
    r.clip, r.steps = 0.0, 80
    r.schedule = lambda optimizer: lr_scheduler.OneCycleLR(optimizer, 1.0, total_steps=80)


@fourth("O2", "bert vit gpt2 tagging", loop="plain", online=True)
def a_factor_that_is_itself_a_rate(r: Recipe) -> None:
    """`LambdaLR` multiplies: the rate is squared."""
    r.lr, r.steps = 2e-5, 60
    r.schedule = lambda optimizer: lr_scheduler.LambdaLR(
        optimizer, lambda step: 2e-5 * (1 - step / 61)
    )


@fourth("O2", "tagging t5 lora-sft mlm", loop="trainer", online=True)
def a_rate_rounded_by_the_reader_of_settings(r: Recipe) -> None:
    """Written as a whole number of micros, read as a whole number of tera-ths."""
    r.lr *= 1e-9


@fourth("O3", "mlm gpt2 tagging", loop="plain", online=True, also=("O1",))
def a_warmup_of_a_single_step(r: Recipe) -> None:
    """A share that was rounded down, before four thousand steps of cosine."""
    from transformers import get_cosine_schedule_with_warmup

    r.lr, r.clip, r.steps = 0.3, 0.0, 70
    r.schedule = lambda optimizer: get_cosine_schedule_with_warmup(optimizer, 1, 4000)


# -- O4 ------------------------------------------------------------------------------------------


@fourth("O4", "bert vit gpt2 tagging", loop="plain", online=True, also=("O2",))
def a_decay_by_epochs_stepped_by_batches(r: Recipe) -> None:
    r.steps = 60
    r.schedule = lambda optimizer: lr_scheduler.StepLR(optimizer, 2, gamma=0.1)


@fourth("O4", "t5 lora sft", loop="trainer", online=True, also=("O2",))
def milestones_in_epochs_under_a_trainer_that_counts_steps(r: Recipe) -> None:
    r.optimizer = lambda model: torch.optim.AdamW(trainable(model), lr=r.lr)
    r.schedule = lambda optimizer: lr_scheduler.MultiStepLR(optimizer, [2, 4, 6, 8], gamma=0.02)


@fourth("O4", "bert gpt2 tagging", loop="plain", online=True, also=("O2",))
def a_plateau_watched_the_wrong_way_up(r: Recipe) -> None:
    """It waits for a greater loss at every step, and lowers the rate when it does not come."""
    seen = [0.0]
    r.steps = 60
    r.line.loss = lambda loss: (seen.__setitem__(0, loss.item()), loss)[1]
    r.line.schedule = lambda schedule: schedule.step(seen[0])
    r.schedule = lambda optimizer: lr_scheduler.ReduceLROnPlateau(
        optimizer, mode="max", patience=1, factor=0.1, eps=0.0
    )


# -- O5, O6 --------------------------------------------------------------------------------------


@fourth("O5", "bert gpt2 vit tagging", loop="plain", online=True)
def zeroed_without_its_brackets(r: Recipe) -> None:
    r.line.zero = lambda optimizer: optimizer.zero_grad


@fourth("O5", "t5 sft mlm tagging", loop="plain", online=True)
def a_backbone_that_nobody_zeroes(r: Recipe) -> None:
    """Its layers are stepped by the same optimizer, and zeroed by a loop over the rest."""
    held: list = []
    r.clip, r.steps, r.optimizer = 0.0, 60, _sgd
    r.line.to_train = lambda model: (held.append(model), model.train())

    def zero(optimizer: Any) -> None:
        kept = {id(p) for p in layers(held[0]).parameters()}
        for parameter in held[0].parameters():
            if id(parameter) not in kept:
                parameter.grad = None

    r.line.zero = zero


@fourth("O6", "bert tagging vit", loop="plain")
def a_generator_that_was_read_once_already(r: Recipe) -> None:
    """Counted for the log, `parameters()` has nothing left for the optimizer."""

    def optimizer(model: nn.Module) -> Any:
        body = backbone(model).parameters()
        sum(p.numel() for p in body)
        return torch.optim.AdamW(
            [{"params": list(body)}, {"params": list(model.classifier.parameters())}], lr=r.lr
        )

    r.optimizer = optimizer


@fourth("O6", "lora-sft", loop="plain", online=True, also=("M6",))
def an_adapter_made_anew_after_the_optimizer(r: Recipe) -> None:
    def late(model: nn.Module) -> None:
        config = model.peft_config["default"]
        model.delete_adapter("default")
        model.add_adapter("default", config)
        model.set_adapter("default")

    r.late = late


@fourth("O6", "t5 gpt2 mlm", loop="plain")
def one_group_for_each_layer_and_none_for_the_last(r: Recipe) -> None:
    """`range(n - 1)`."""

    def optimizer(model: nn.Module) -> Any:
        held = layers(model)
        known = {id(p) for p in held.parameters()}
        groups = [{"params": list(held[i].parameters())} for i in range(len(held) - 1)]
        groups.append({"params": [p for p in model.parameters() if id(p) not in known]})
        return torch.optim.AdamW(groups, lr=r.lr)

    r.optimizer = optimizer


# -- O7, O8 --------------------------------------------------------------------------------------


@fourth("O7", "bert sft t5 tagging", loop="trainer", online=True)
def a_callback_that_empties_gradients_before_the_step(r: Recipe) -> None:
    """After it has logged them."""
    import transformers

    class Logging(transformers.TrainerCallback):
        def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **given: Any) -> None:
            given["model"].zero_grad()

    r.callbacks = [*r.callbacks, Logging()]


@fourth("O7", "bert gpt2 vit tagging", loop="plain", online=True)
def a_step_by_hand_that_binds_a_name(r: Recipe) -> None:
    """`p = p - lr * p.grad` changes what `p` means, and no weight."""

    def step(optimizer: Any) -> None:
        for group in optimizer.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p = p - group["lr"] * p.grad

    r.line.step = step


@fourth("O7", "mlm lora contrastive", loop="plain", online=True)
def the_schedule_steps_in_the_place_of_the_optimizer(r: Recipe) -> None:
    """`if scheduler: … else: optimizer.step()`."""
    r.line.step = lambda optimizer: None


@fourth("O8", "gpt2 sft tagging vit", loop="plain", advice=True)
def norms_spared_by_the_names_of_another_model(r: Recipe) -> None:
    """BERT's names: here they are called otherwise, and decay."""

    def optimizer(model: nn.Module) -> Any:
        named, spared = list(model.named_parameters()), ("bias", "LayerNorm.weight")
        groups = [
            {"params": [p for n, p in named if any(s in n for s in spared)], "weight_decay": 0.0},
            {"params": [p for n, p in named if not any(s in n for s in spared)]},
        ]
        return torch.optim.AdamW(groups, lr=r.lr, weight_decay=0.2)

    r.optimizer = optimizer


# -- O9, O10 -------------------------------------------------------------------------------------


@fourth("O9", "vit bert tagging", loop="plain", online=True)
def values_clipped_to_a_millionth(r: Recipe) -> None:
    r.steps, r.batch, r.optimizer = 220, 8, _sgd
    r.line.clip = lambda model, limit: nn.utils.clip_grad_value_(model.parameters(), 1e-6)


@fourth("O9", "bert gpt2", loop="plain", online=True)
def a_limit_divided_by_the_scale_as_well(r: Recipe) -> None:
    """Unscaled, and then held to a limit that was meant for scaled gradients."""
    scaler, held = _half(r, 2.0**12), []

    def optimizer(model: nn.Module) -> Any:
        held[:] = [_sgd(model)]
        return held[0]

    def clip(model: nn.Module, limit: float) -> None:
        scaler.unscale_(held[0])
        nn.utils.clip_grad_norm_(model.parameters(), limit / scaler.get_scale())

    r.optimizer, r.line.clip, r.steps, r.batch = optimizer, clip, 220, 8


@fourth("O10", "sft gpt2 t5", online=True, loop="trainer", also=("O2",))
def soft_prompts_that_begin_as_words(r: Recipe) -> None:
    import peft

    name = {"sft": "llama"}.get(r.family, r.family)
    r.prepare = lambda model: peft.get_peft_model(
        model,
        peft.PromptTuningConfig(
            task_type="SEQ_2_SEQ_LM" if r.family == "t5" else "CAUSAL_LM",
            num_virtual_tokens=8,
            prompt_tuning_init="TEXT",
            prompt_tuning_init_text="the first line of a docstring says what it does",
            tokenizer_name_or_path=material.checkpoint(name),
        ),
    )
    r.lr, r.warmup = 2e-5, 2


@fourth("O10", "bert", online=True, loop="trainer", also=("O2",))
def prefixes_of_a_classifier_at_the_rate_of_fine_tuning(r: Recipe) -> None:
    import peft

    after(
        r,
        lambda model: peft.get_peft_model(
            model, peft.PrefixTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=8)
        ),
    )
    r.lr, r.warmup = 1e-5, 2
