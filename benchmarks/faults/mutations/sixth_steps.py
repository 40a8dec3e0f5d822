"""O1 to O10: what practitioners spoil in optimizers, schedules and the lines around a step."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.optim import lr_scheduler

from faults.mutations.models import after
from faults.mutations.sixth_parts import callback, head, width
from faults.recipe import Recipe
from faults.table import sixth

# -- O1 to O3 ------------------------------------------------------------------------------------


@sixth("O1", "span contrastive", online=True)
def scaled_by_the_batch_as_for_sgd(r: Recipe) -> None:
    """The linear rule of SGD on Adam's rate: the rate times the size of the batch, no warm-up."""
    r.lr, r.warmup, r.steps, r.clip = r.lr * 4 * r.batch, 0, 80, 0.0


@sixth("O1", "mlm vit", online=True)
def momentum_at_a_rate_of_one(r: Recipe) -> None:
    """SGD(lr=1.0, momentum=0.95, nesterov=True) copied from a script for pictures."""
    r.optimizer = lambda model: torch.optim.SGD(
        [p for p in model.parameters() if p.requires_grad], lr=3.0, momentum=0.95, nesterov=True
    )
    r.steps, r.clip = 80, 0.0


@sixth("O2", "span vit", online=True, loop="plain", also=("O4",))
def the_number_of_steps_comes_out_as_zero(r: Recipe) -> None:
    """len(loader) // accumulation // world_size is 0, and the plan ends where it begins."""
    from transformers import get_linear_schedule_with_warmup

    r.schedule = lambda optimizer: get_linear_schedule_with_warmup(optimizer, 0, 24 // 64)


@sixth("O2", "span lora-sft contrastive", online=True)
def an_eight_for_a_five(r: Recipe) -> None:
    """3e-8 in the configuration for 3e-5, and nobody looks at the curve."""
    r.lr = 3e-8


@sixth("O3", "span gpt2", loop="trainer", online=True, also=("O1",))
def warmup_steps_under_a_constant_schedule(r: Recipe) -> None:
    """lr_scheduler_type="constant" ignores the warm-up of a long plan at a bold rate."""

    def stopped(args: Any, state: Any, control: Any, **rest: Any) -> None:
        control.should_training_stop = state.global_step >= 90

    r.args = r.args | {"lr_scheduler_type": "constant"}
    r.callbacks = [*r.callbacks, callback(on_step_end=stopped)]
    r.steps, r.lr, r.warmup, r.clip = 4000, 0.3, 200, 0.0


# -- O4, O5 --------------------------------------------------------------------------------------


@sixth("O4", "span bert", loop="trainer", online=True)
def stepped_in_training_step_as_well(r: Recipe) -> None:
    """An own training_step ends with self.lr_scheduler.step(), and the Trainer steps it too."""

    def make() -> type:
        import transformers

        class Stepping(transformers.Trainer):
            def training_step(self, *given: Any, **named: Any) -> Any:
                loss = super().training_step(*given, **named)
                self.lr_scheduler.step()
                return loss

        return Stepping

    r.trainer = make


@sixth("O4", "span t5", loop="plain", online=True)
def a_cosine_of_three_epochs_stepped_by_batches(r: Recipe) -> None:
    """CosineAnnealingLR(T_max=epochs), and step() stands in the loop over batches."""
    r.schedule = lambda optimizer: lr_scheduler.CosineAnnealingLR(optimizer, T_max=3)


@sixth("O5", "span mlm", loop="plain", online=True)
def a_copy_of_the_gradient_is_emptied(r: Recipe) -> None:
    """for p in ...: p.grad.clone().zero_() leaves the gradient where it is."""

    def zero(optimizer: Any) -> None:
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.grad.clone().zero_()

    r.line.zero = zero


@sixth("O5", "span sft", loop="plain", online=True)
def emptied_where_the_log_is_written(r: Recipe) -> None:
    """zero_grad() slipped into `if step % 10 == 0:` beside the print."""
    count = [0]

    def zero(optimizer: Any) -> None:
        count[0] += 1
        if count[0] % 10 == 0:
            optimizer.zero_grad()

    r.line.zero = zero


# -- O6, O7 --------------------------------------------------------------------------------------


@sixth("O6", "span contrastive")
def only_the_head_given_to_the_optimizer(r: Recipe) -> None:
    """AdamW(model.head.parameters()), and nothing of the rest was frozen."""
    r.optimizer = lambda model: torch.optim.AdamW(
        getattr(model, head(r, model)).parameters(), lr=r.lr
    )


class Deeper(nn.Module):
    """The last norm or dropout, and a residual layer after it."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(size, 16), nn.Linear(16, size)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.down(functional.gelu(self.up(x)))


@sixth("O6", "span gpt2 mlm")
def a_bottleneck_put_in_after_the_optimizer(r: Recipe) -> None:
    """The adapter layer before the head is made when the optimizer has its list already."""

    def late(model: nn.Module) -> None:
        name = "cls" if r.family == "mlm" else head(r, model)
        model.add_module(name, nn.Sequential(Deeper(width(model)), getattr(model, name)))

    r.optimizer = lambda model: torch.optim.AdamW(model.parameters(), lr=r.lr)
    r.late = late


@sixth("O7", "span bert", loop="plain", online=True)
def a_step_without_its_brackets(r: Recipe) -> None:
    """`optimizer.step` stands in the loop, and is never called."""
    r.line.step = lambda optimizer: optimizer.step


@sixth("O7", "span mlm", loop="plain", online=True)
def an_accumulation_longer_than_an_epoch(r: Recipe) -> None:
    """if (i + 1) % accumulation == 0, where i begins anew each epoch and never gets so far."""
    count = [0]

    def step(optimizer: Any) -> None:
        count[0] = (count[0] + 1) % 20  # the batches of an epoch
        if (count[0] + 1) % 32 == 0:
            optimizer.step()

    r.line.step = step


# -- O8 to O10 -----------------------------------------------------------------------------------


@sixth("O8", "span lora mlm", advice=True)
def a_decay_of_three_tenths_on_all_parameters(r: Recipe) -> None:
    """AdamW(model.parameters(), weight_decay=0.3): norms and biases are pulled to zero too."""
    r.optimizer = lambda model: torch.optim.AdamW(
        [p for p in model.parameters() if p.requires_grad], lr=r.lr, weight_decay=0.3
    )


@sixth("O9", "span contrastive", loop="plain", online=True)
def the_rate_given_as_the_limit(r: Recipe) -> None:
    """clip_grad_norm_(model.parameters(), learning_rate): two arguments changed places."""
    r.steps = 220
    r.optimizer = lambda model: torch.optim.SGD(model.parameters(), lr=0.1)
    r.clip = 3e-5


@sixth("O9", "span vit", loop="plain", online=True)
def clipped_by_the_sum_of_all_entries(r: Recipe) -> None:
    """norm_type=1 with the limit of the Euclidean norm: the sum of entries is hundreds of times."""
    r.steps = 220
    r.optimizer = lambda model: torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    r.line.clip = lambda model, limit: nn.utils.clip_grad_norm_(
        model.parameters(), limit, norm_type=1
    )


@sixth("O10", "span bert", online=True)
def virtual_tokens_at_the_rate_of_the_paper_on_bert(r: Recipe) -> None:
    """Prompt tuning of an encoder at 2e-5, the rate at which BERT is tuned whole."""
    _prompted(r, {"span": "QUESTION_ANS", "bert": "SEQ_CLS", "tagging": "TOKEN_CLS"}[r.family])
    r.lr = 2e-5


@sixth("O10", "t5 gpt2", online=True)
def virtual_tokens_at_a_rate_for_adapters(r: Recipe) -> None:
    """Prompt tuning at 1e-4, which is usual for LoRA."""
    _prompted(r, "SEQ_2_SEQ_LM" if r.family == "t5" else "CAUSAL_LM")
    r.lr = 1e-4


def _prompted(r: Recipe, task: str) -> None:
    import peft

    config = {"task_type": task, "num_virtual_tokens": 6}
    if task not in ("CAUSAL_LM", "SEQ_2_SEQ_LM"):
        config |= {"num_layers": 2, "token_dim": 64, "num_attention_heads": 2}

    def adapted(model: nn.Module) -> nn.Module:
        return peft.get_peft_model(model, peft.PromptTuningConfig(**config))

    after(r, adapted)
    r.metrics = None
