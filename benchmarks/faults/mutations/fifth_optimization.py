"""O1 to O10, fifth set: rates, schedules, optimizers and the lines around `step()`."""

from __future__ import annotations

from typing import Any

import peft
import torch
import transformers
from torch import nn

from faults.mutations.models import after
from faults.recipe import Recipe
from faults.table import fifth


def _adamw(parameters: Any, lr: float, **how: Any) -> torch.optim.AdamW:
    return torch.optim.AdamW(parameters, lr=lr, **({"weight_decay": 0.0} | how))


@fifth("O1", "bert vit tagging", online=True)
def both_groups_at_the_rate_of_a_head_by_sgd(r: Recipe) -> None:
    """Groups for backbone and head, with rates of 0.1 and 1 from a script that used SGD."""
    r.clip = 0.0

    def build(model: nn.Module) -> Any:
        head = {id(p) for name, p in model.named_parameters() if "classifier" in name}
        groups = [
            {"params": [p for p in model.parameters() if id(p) not in head], "lr": 0.1},
            {"params": [p for p in model.parameters() if id(p) in head], "lr": 1.0},
        ]
        return _adamw(groups, lr=r.lr)

    r.optimizer = build


@fifth("O1", "gpt2 t5 contrastive", online=True)
def the_rate_multiplied_by_the_size_of_the_batch(r: Recipe) -> None:
    """`lr = base_lr * batch_size`, as a linear scaling rule without its divisor."""
    r.lr, r.clip = r.lr * 8 * r.batch, 0.0


@fifth("O2", "bert gpt2 contrastive")
def rate_and_epsilon_in_each_other_s_place(r: Recipe) -> None:
    """`AdamW(params, 1e-8, eps=lr)`: two numbers swapped."""
    r.optimizer = lambda model: _adamw(model.parameters(), 1e-8, eps=r.lr)


@fifth("O2", "tagging t5 vit", online=True)
def all_groups_left_at_zero_by_a_freezing_epoch(r: Recipe) -> None:
    """`group["lr"] = 0` before the first epoch, to be put back later, which no line does."""

    def build(model: nn.Module) -> Any:
        optimizer = _adamw([p for p in model.parameters() if p.requires_grad], r.lr)
        for group in optimizer.param_groups:
            group["lr"] = 0.0
        return optimizer

    r.optimizer = build


class StoppedEarly(transformers.TrainerCallback):
    """The run is looked at after its first steps and ended."""

    def on_step_end(self, args, state, control, **kwargs):
        control.should_training_stop = state.global_step >= 60


@fifth("O3", "gpt2 t5 bert", online=True, also=("O1",))
def a_constant_rate_from_the_first_step_of_a_long_plan(r: Recipe) -> None:
    """`get_constant_schedule` at a rate that needs a warm-up, in a plan of thousands of steps."""
    r.lr, r.clip, r.steps = r.lr * 30, 0.0, 2400
    r.schedule = transformers.get_constant_schedule
    r.callbacks.append(StoppedEarly())


@fifth("O4", "bert vit contrastive", online=True)
def the_plan_is_of_one_epoch_and_the_run_of_three(r: Recipe) -> None:
    """`num_training_steps=len(loader)`, and the epochs were not multiplied in."""
    steps = max(1, len(r.train) // r.batch)
    r.steps = 3 * steps
    r.schedule = lambda optimizer: transformers.get_linear_schedule_with_warmup(
        optimizer, 2, steps
    )  # fmt: skip


@fifth("O4", "gpt2 lora-sft tagging", online=True)
def training_step_moves_the_schedule_as_well(r: Recipe) -> None:
    """`self.lr_scheduler.step()` in an overridden `training_step`; the `Trainer` does it too."""

    def trainer() -> type:
        class SteppingTrainer(transformers.Trainer):
            def training_step(self, *args, **kwargs):
                loss = super().training_step(*args, **kwargs)
                self.lr_scheduler.step()
                return loss

        return SteppingTrainer

    r.trainer = trainer


@fifth("O5", "vit contrastive tagging", loop="plain", online=True)
def zeroed_before_the_loop_and_never_in_it(r: Recipe) -> None:
    """`optimizer.zero_grad()` stands above `for batch in loader`, one indent too far left."""

    def nothing(optimizer: Any) -> None:
        """The line is not in the loop."""

    r.line.zero = nothing


@fifth("O5", "gpt2 t5 mlm", loop="plain", online=True)
def the_gradients_of_the_head_alone_are_zeroed(r: Recipe) -> None:
    """`model.lm_head.zero_grad()`, from the time when only the head was trained."""
    held: dict[str, nn.Module] = {}

    def keep(model: nn.Module) -> None:
        held["head"] = model.get_output_embeddings()

    after(r, keep)

    def zero(optimizer: Any) -> None:
        held["head"].zero_grad()

    r.line.zero = zero


@fifth("O6", "bert gpt2")
def only_matrices_reach_the_optimizer(r: Recipe) -> None:
    """`[p for p in model.parameters() if p.ndim >= 2]` for Muon, and no second optimizer."""
    r.optimizer = lambda model: _adamw([p for p in model.parameters() if p.ndim >= 2], r.lr)


@fifth("O6", "contrastive tagging vit")
def the_last_child_alone_is_optimized(r: Recipe) -> None:
    """`list(model.children())[-1].parameters()` from a linear probe; all was to be tuned."""
    r.optimizer = lambda model: _adamw(list(model.children())[-1].parameters(), r.lr)


@fifth("O6", "sft mlm", loop="plain")
def the_model_read_again_for_the_next_fold(r: Recipe) -> None:
    """The optimizer was made above the loop over folds, and the model is read anew in it."""
    made = r.model
    r.optimizer = lambda model: _adamw(made().parameters(), r.lr)


@fifth("O7", "gpt2 vit tagging", loop="plain", online=True, also=("O5",))
def more_micro_batches_than_an_epoch_has(r: Recipe) -> None:
    """`if (i + 1) % 32 == 0: step()`, where `i` begins anew each epoch and ends at 24."""

    def never(*_: Any) -> None:
        """Not reached."""

    r.line.step = r.line.zero = r.line.schedule = never


@fifth("O7", "lora-sft mlm lora", online=True)
def training_step_that_clears_its_gradients(r: Recipe) -> None:
    """`model.zero_grad()` at the end of an overridden `training_step`, before the update."""

    def trainer() -> type:
        class TidyTrainer(transformers.Trainer):
            def training_step(self, model, *args, **kwargs):
                loss = super().training_step(model, *args, **kwargs)
                model.zero_grad()
                return loss

        return TidyTrainer

    r.trainer = trainer


@fifth("O8", "vit contrastive gpt2", advice=True)
def three_tenths_of_decay_for_all_parameters(r: Recipe) -> None:
    """`AdamW(model.parameters(), weight_decay=0.3)`: norms and biases decay too."""
    r.optimizer = lambda model: _adamw(model.parameters(), r.lr, weight_decay=0.3)


@fifth("O9", "vit contrastive", loop="plain", online=True)
def a_limit_of_a_thousandth_under_sgd(r: Recipe) -> None:
    """`clip_grad_norm_(params, 0.001)` with SGD: each update is a thousandth of the rate."""
    r.clip, r.steps = 0.001, 80
    r.optimizer = lambda model: torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)


@fifth("O9", "tagging mlm", online=True)
def max_grad_norm_mistaken_for_the_rate(r: Recipe) -> None:
    """`max_grad_norm=2e-5` under SGD: the rate was written into the wrong argument."""
    r.clip, r.steps, r.lr = 2e-5, 80, 0.1
    r.args |= {"optim": "sgd"}


@fifth("O10", "gpt2 sft", online=True)
def p_tuning_at_the_rate_of_full_fine_tuning(r: Recipe) -> None:
    """A prompt encoder with the 5e-5 that the arguments have by default."""
    r.lr = 5e-5
    after(
        r,
        lambda model: peft.get_peft_model(
            model,
            peft.PromptEncoderConfig(
                task_type="CAUSAL_LM", num_virtual_tokens=8, encoder_hidden_size=32
            ),
        ),
    )


@fifth("O10", "t5", online=True)
def prompts_of_an_encoder_decoder_at_two_hundred_thousandths(r: Recipe) -> None:
    """Prompt tuning of T5 with 2e-5, as all other scripts of the folder have it."""
    r.lr = 2e-5
    config = peft.PromptTuningConfig(task_type="SEQ_2_SEQ_LM", num_virtual_tokens=8)
    after(r, lambda model: peft.get_peft_model(model, config))
