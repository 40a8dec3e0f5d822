"""Mutations that the first reading of the other bench missed, as they were first written.

Between that reading and the next they were replaced; here they stand as they were, or as near as
can be told, and are read once more. Two are not here because they are no faults: T5 learns faster
at a hundred times its rate; and transformers asks for gradients of the input by itself when
reentrant checkpointing is switched on over a frozen embedding, so that no parameter loses its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from faults.families import Causal, Padding
from faults.mutations.data import labels_of
from faults.mutations.models import after, layers
from faults.mutations.running import Repeating, _saves
from faults.recipe import Recipe
from faults.table import fault


@fault("D4", "bert vit", online=True, also=("E3",), fresh=True)
def nearly_all_rows_of_one_class(r: Recipe) -> None:
    places = [i for i, y in enumerate(labels_of(r)) if y == 0]
    rare = [i for i, y in enumerate(labels_of(r)) if y != 0][:3]
    rows = [r.train[i] for i in [*places, *places, *rare]]
    r.train, r.lr, r.eval_every, r.steps = rows, r.lr / 3, 12, 48
    held_out = [r.eval[i] for i in range(len(r.eval))]
    zero = [
        row for row in held_out if int(row[1] if isinstance(row, tuple) else row["labels"]) == 0
    ]
    r.eval = [*zero, *held_out[: max(2, len(zero) // 6)]]


@fault("K1", "bert gpt2 mlm t5 tagging", fresh=True)
def a_buffer_that_would_not_be_saved(r: Recipe) -> None:
    """Examined only: no checkpoint has been written yet."""

    def prepare(model: nn.Module) -> None:
        head = model.get_output_embeddings() or model.classifier
        head.register_buffer("offset", torch.randn(head.weight.shape[0]), persistent=False)
        head.register_forward_hook(lambda module, given, out: out + module.offset)

    after(r, prepare)


@fault("K1", "tagging", loop="trainer", online=True, fresh=True)
def a_buffer_of_the_tagger_that_is_not_saved(r: Recipe) -> None:
    a_buffer_that_would_not_be_saved(r)
    _saves(r)


@fault("X3", "bert vit gpt2 t5 tagging", loop="plain", online=True, fresh=True)
def set_epoch_forgotten_on_one_process(r: Recipe) -> None:
    """The watch is not told the loader: it sees batches only."""
    r.train = [r.train[i] for i in range(160)]
    r.loader = {"shuffle": None, "sampler": Repeating(160, r.seed), "generator": None}


@fault("L1", "gpt2 sft lora-sft", loop="plain", fresh=True)
def rows_cut_for_a_model_that_does_not_shift(r: Recipe) -> None:
    for row in [*r.train, *r.eval]:
        labels = row.get("labels", row["input_ids"])
        row["labels"] = labels[1:]
        row["input_ids"] = row["input_ids"][:-1]
        row["attention_mask"] = row["attention_mask"][:-1]
    if isinstance(r.collate, Causal):
        r.collate = Padding(r.tokenizer.pad_token_id)


@fault("O7", "bert gpt2 sft tagging", loop="plain", online=True, fresh=True)
def weights_put_back_when_the_step_is_over(r: Recipe) -> None:
    held: list[torch.Tensor] = []

    def back(model: nn.Module, optimizer: Any) -> None:
        with torch.no_grad():
            for parameter, old in zip(model.parameters(), held, strict=True):
                parameter.copy_(old)

    r.line.to_train = lambda model: (
        held or held.extend(p.detach().clone() for p in model.parameters()), model.train()
    )  # fmt: skip
    r.line.after = back


@fault("P2", "bert gpt2 vit tagging", loop="plain", online=True, also=("P1",), fresh=True)
def an_activation_beyond_half_precision(r: Recipe) -> None:
    """fp16 under autocast; a layer normalisation hides afterwards what overflowed."""

    def forward(model: nn.Module, batch: Any) -> Any:
        with torch.autocast("cpu", dtype=torch.float16):
            return model(**batch) if isinstance(batch, Mapping) else model(batch[0])

    def prepare(model: nn.Module) -> None:
        with torch.no_grad():
            for module in layers(model)[-1].modules():
                if hasattr(module, "weight") and module.weight.dim() == 2:
                    module.weight *= 1e5

    after(r, prepare)
    r.line.forward = forward
