"""O6 and O10: what the optimizer holds of two halves and one embedding; prompts of the encoder."""

from __future__ import annotations

import copy

import torch
from torch import nn

from faults.families import adapted
from faults.recipe import Recipe
from faults.table import seventh


@seventh("O6", "summary", loop="plain", online=True, also=("M2",))
def writer_head_replaced_after_the_optimizer(r: Recipe) -> None:
    def late(model: nn.Module) -> None:
        model.lm_head = nn.Linear(model.config.d_model, model.config.vocab_size, bias=False)

    r.late = late


@seventh("O6", "summary", loop="plain", online=True, also=("M6", "M2"))
def writer_adapter_added_after_the_optimizer(r: Recipe) -> None:
    r.late = lambda model: adapted(model, "SEQ_2_SEQ_LM")


@seventh("O6", "summary", loop="plain", online=True)
def writer_optimizer_of_the_decoder_only(r: Recipe) -> None:  # own form
    """The encoder asks for gradients and is in nobody's hands."""
    r.optimizer = lambda model: torch.optim.AdamW(model.get_decoder().parameters(), lr=r.lr)


@seventh("O6", "summary", loop="plain", online=True)
def writer_decoder_rebuilt_after_the_optimizer(r: Recipe) -> None:  # own form
    def late(model: nn.Module) -> None:
        model.model.decoder.layers = copy.deepcopy(model.model.decoder.layers)

    r.late = late


@seventh("O10", "summary", online=True, also=("O2",))
def writer_prompt_tuning_at_the_rate_of_fine_tuning(r: Recipe) -> None:
    import peft

    r.prepare = lambda model: peft.get_peft_model(
        model, peft.PromptTuningConfig(task_type="SEQ_2_SEQ_LM", num_virtual_tokens=8)
    )
    r.lr, r.warmup = 2e-5, 2


@seventh("O10", "summary", online=True, loop="plain", also=("O2",))
def writer_prefix_tuning_at_the_rate_of_fine_tuning(r: Recipe) -> None:
    import peft

    r.prepare = lambda model: peft.get_peft_model(
        model, peft.PrefixTuningConfig(task_type="SEQ_2_SEQ_LM", num_virtual_tokens=8)
    )
    r.lr, r.warmup = 1e-5, 2
