"""Fresh ways to commit O1 to O10; `fresh_data` says by which rule."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.optim import lr_scheduler

from faults.mutations.models import backbone, layers
from faults.mutations.optimization import trainable
from faults.recipe import Recipe
from faults.table import fault


@fault("O1", "gpt2 bert vit tagging", loop="plain", online=True, also=("O3",), fresh=True)
def a_factor_that_counts_steps(r: Recipe) -> None:
    """The schedule's function returns the step where a share of the rate is meant."""
    r.clip, r.steps = 0.0, 80
    r.schedule = lambda optimizer: lr_scheduler.LambdaLR(optimizer, lambda step: 1.0 + 4 * step)


@fault("O1", "bert tagging", loop="plain", online=True, also=("O3",), fresh=True)
def backbone_at_the_rate_of_the_head(r: Recipe) -> None:
    def optimizer(model: nn.Module) -> Any:
        return torch.optim.AdamW(
            [
                {"params": list(backbone(model).parameters()), "lr": 0.5},
                {"params": list(model.classifier.parameters()), "lr": 1e-3},
            ]
        )

    r.optimizer, r.clip, r.steps, r.schedule = optimizer, 0.0, 60, _constant


def _constant(optimizer: Any) -> Any:
    return lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)


@fault("O2", "bert vit gpt2 tagging", loop="plain", online=True, also=("O4",), fresh=True)
def a_whole_number_division_in_the_schedule(r: Recipe) -> None:
    r.schedule = lambda optimizer: lr_scheduler.LambdaLR(optimizer, lambda step: 1 // (step + 2))


@fault("O2", "mlm sft t5 tagging", loop="trainer", online=True, fresh=True)
def an_exponent_too_many(r: Recipe) -> None:
    r.lr, r.steps = 3e-11, 60


@fault("O3", "bert gpt2 tagging", loop="trainer", online=True, also=("O1",), fresh=True)
def full_rate_at_the_first_step_of_a_long_run(r: Recipe) -> None:
    from faults.mutations.running import _stop_at

    r.lr, r.warmup, r.clip, r.steps = 0.3, 0, 0.0, 4000
    r.callbacks = [*r.callbacks, _stop_at(60)]


@fault("O4", "bert gpt2 vit tagging", loop="plain", online=True, fresh=True)
def plan_counted_in_epochs(r: Recipe) -> None:
    from transformers import get_linear_schedule_with_warmup

    r.schedule = lambda optimizer: get_linear_schedule_with_warmup(optimizer, 0, 3)


@fault("O4", "bert sft t5 tagging", loop="trainer", online=True, fresh=True)
def a_callback_steps_the_schedule_as_well(r: Recipe) -> None:
    import transformers

    class Stepper(transformers.TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
            given["lr_scheduler"].step()

    r.callbacks = [*r.callbacks, Stepper()]


@fault("O5", "bert vit tagging", loop="plain", online=True, fresh=True)
def only_the_head_is_zeroed(r: Recipe) -> None:
    held: list = []
    r.line.to_train = lambda model: (held.append(model), model.train())
    r.line.zero = lambda optimizer: held[0].classifier.zero_grad()


@fault("O5", "gpt2 sft t5 tagging", loop="plain", online=True, fresh=True)
def zeroed_at_every_third_step(r: Recipe) -> None:
    calls = [0]

    def zero(optimizer: Any) -> None:
        calls[0] += 1
        if calls[0] % 3 == 0:
            optimizer.zero_grad()

    r.line.zero = zero


@fault("O6", "bert vit tagging", loop="plain", online=True, also=("M2",), fresh=True)
def head_normalised_after_the_optimizer(r: Recipe) -> None:
    """A parametrization makes new parameters of the old one."""
    r.late = lambda model: (
        torch.nn.utils.parametrizations.weight_norm(model.classifier, "weight") and None
    )


@fault("O6", "gpt2 sft t5 tagging", loop="plain", online=True, fresh=True)
def a_layer_copied_after_the_optimizer(r: Recipe) -> None:
    def late(model: nn.Module) -> None:
        held = layers(model)
        held[0] = copy.deepcopy(held[0])

    r.late = late


@fault("O7", "bert vit gpt2 t5 tagging", loop="plain", online=True, fresh=True)
def an_average_that_is_never_updated(r: Recipe) -> None:
    """Weights of an average with decay 1 are copied into the model after every step."""
    held: dict[str, torch.Tensor] = {}
    r.line.to_train = lambda model: (
        held or held.update({k: v.clone() for k, v in model.state_dict().items()}), model.train()
    )  # fmt: skip
    r.line.after = lambda model, optimizer: model.load_state_dict(held) and None


@fault("O7", "bert sft tagging", loop="trainer", online=True, fresh=True)
def a_callback_restores_the_best_weights_too_often(r: Recipe) -> None:
    import transformers

    class Restore(transformers.TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
            self.best = {k: v.clone() for k, v in given["model"].state_dict().items()}

        def on_step_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
            given["model"].load_state_dict(self.best)

    r.callbacks = [*r.callbacks, Restore()]


@fault("O8", "bert gpt2 tagging", loop="plain", advice=True, fresh=True)
def groups_that_all_decay(r: Recipe) -> None:
    def optimizer(model: nn.Module) -> Any:
        named = list(model.named_parameters())
        groups = [
            {"params": [p for n, p in named if n.endswith("bias")], "weight_decay": 0.2},
            {"params": [p for n, p in named if not n.endswith("bias")], "weight_decay": 0.2},
        ]
        return torch.optim.AdamW(groups, lr=r.lr)

    r.optimizer = optimizer


@fault("O9", "bert gpt2 vit tagging", loop="plain", online=True, fresh=True)
def clipped_before_it_is_unscaled(r: Recipe) -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**12)

    def forward(model: nn.Module, batch: Any) -> Any:
        with torch.autocast("cpu", dtype=torch.float16):
            return model(**batch) if isinstance(batch, Mapping) else model(batch[0])

    r.line.forward, r.steps = forward, 40
    r.line.backward = lambda loss: scaler.scale(loss).backward()
    r.line.clip = lambda model, limit: nn.utils.clip_grad_norm_(model.parameters(), limit)
    r.line.step = lambda optimizer: (scaler.step(optimizer), scaler.update())


@fault("O9", "sft mlm tagging", loop="plain", online=True, fresh=True)
def clipped_by_the_length_of_a_mean(r: Recipe) -> None:
    """The norm is divided by the number of weights before it is compared with the limit."""

    def clip(model: nn.Module, limit: float) -> Any:
        held = [p for p in model.parameters() if p.grad is not None]
        count = sum(p.numel() for p in held)
        return nn.utils.clip_grad_norm_(held, 10 * limit / count)

    r.line.clip, r.steps, r.batch = clip, 220, 8
    r.optimizer = lambda model: torch.optim.SGD(trainable(model), lr=0.1)


@fault("O10", "sft gpt2", online=True, also=("O2",), fresh=True)
def p_tuning_at_the_rate_of_fine_tuning(r: Recipe) -> None:
    import peft

    r.prepare = lambda model: peft.get_peft_model(
        model,
        peft.PromptEncoderConfig(
            task_type="CAUSAL_LM", num_virtual_tokens=6, encoder_hidden_size=32
        ),
    )
    r.lr, r.warmup = 1e-5, 2
