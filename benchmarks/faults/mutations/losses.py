"""L1 to L4: what can be wrong with the loss."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from faults.families import Causal, Padding
from faults.mutations.models import after
from faults.mutations.tokens import then
from faults.recipe import Recipe
from faults.table import fault


def shifted(labels: torch.Tensor) -> torch.Tensor:
    """The labels of the next position."""
    return torch.cat([labels[:, 1:], torch.full_like(labels[:, :1], -100)], 1)


@fault("L1", "gpt2 sft lora-sft mlm")
def collator_shifts_what_the_model_shifts(r: Recipe) -> None:
    then(r, lambda batch: {"labels": shifted(batch["labels"])})


@fault("L1", "gpt2 sft")
def own_loss_without_a_shift(r: Recipe) -> None:
    r.loss = lambda outputs, batch: functional.cross_entropy(
        outputs.logits.flatten(0, 1), batch["labels"].flatten()
    )


@fault("L1", "gpt2 sft")
def own_loss_shifted_twice(r: Recipe) -> None:
    r.loss = lambda outputs, batch: functional.cross_entropy(
        outputs.logits[:, :-2].flatten(0, 1), batch["labels"][:, 2:].flatten()
    )


@fault("L1", "t5", also=("M9",))
def decoder_inputs_are_the_labels(r: Recipe) -> None:
    pad = r.tokenizer.pad_token_id
    then(r, lambda b: {"decoder_input_ids": b["labels"].masked_fill(b["labels"] == -100, pad)})


@fault("L1", "gpt2 sft")
def rows_cut_into_inputs_and_targets(r: Recipe) -> None:
    """As for a model that does not shift: ids[:-1] and ids[1:]."""
    for row in [*r.train, *r.eval]:
        labels = row.get("labels", row["input_ids"])
        row.update(
            input_ids=row["input_ids"][:-1],
            attention_mask=row["attention_mask"][:-1],
            labels=labels[1:],
        )
    if isinstance(r.collate, Causal):
        r.collate = Padding(r.tokenizer.pad_token_id)


@fault("L2", "bert vit lora")
def softmax_at_the_end_of_the_model(r: Recipe) -> None:
    def prepare(model: nn.Module) -> None:
        head = model.get_base_model() if hasattr(model, "get_base_model") else model
        head.classifier.register_forward_hook(lambda module, given, out: out.softmax(-1))

    after(r, prepare)


@fault("L2", "bert vit")
def softmax_in_the_loss(r: Recipe) -> None:
    r.loss = lambda outputs, y: functional.cross_entropy(
        outputs.logits.softmax(-1), y["labels"] if isinstance(y, dict) else y
    )


class Probabilities(nn.Module):
    """A plain network that ends in softmax."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x).softmax(1)


@fault("L2", "vit")
def plain_network_returns_probabilities(r: Recipe) -> None:
    r.model, r.loss, r.metrics = Probabilities, nn.CrossEntropyLoss(), None


@fault("L3", "bert mlm t5 lora", loop="trainer", online=True)
def accumulation_under_the_library_trainer(r: Recipe) -> None:
    r.accumulation, r.batch, r.steps = 4, 4, 20


@fault("L3", "gpt2 sft bert", loop="trainer", online=True)
def own_loss_ignores_the_count(r: Recipe) -> None:
    import transformers

    class Trainer(transformers.Trainer):
        def compute_loss(
            self, model: Any, inputs: Any, return_outputs: bool = False, **_: Any
        ) -> Any:
            outputs = model(**inputs)
            logits, labels = outputs.logits, inputs["labels"]
            if logits.dim() == 3:
                logits, labels = logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten()
            loss = functional.cross_entropy(logits, labels)
            return (loss, outputs) if return_outputs else loss

    r.trainer, r.accumulation, r.batch, r.steps = lambda: Trainer, 4, 4, 20


@fault("L3", "bert vit gpt2 sft", loop="plain", online=True)
def not_divided_by_the_micro_batches(r: Recipe) -> None:
    r.accumulation, r.steps, r.batch = 4, 20, 8
    r.line.scale = lambda loss, accumulation: loss


@fault("L4", "bert gpt2 vit mlm t5", loop="plain", online=True)
def sign_of_the_loss(r: Recipe) -> None:
    r.line.loss = lambda loss: -loss


@fault("L4", "bert gpt2 sft vit lora t5", loop="plain", online=True)
def optimizer_maximizes(r: Recipe) -> None:
    r.optimizer = lambda model: torch.optim.AdamW(
        [p for p in model.parameters() if p.requires_grad], lr=r.lr, maximize=True
    )


@fault("L4", "vit bert gpt2")
def log_likelihood_without_its_minus(r: Recipe) -> None:
    def likelihood(outputs: Any, y: Any) -> torch.Tensor:
        labels, logits = (y["labels"] if isinstance(y, dict) else y), outputs.logits
        if logits.dim() == 3:
            logits, labels = logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten()
        return -functional.cross_entropy(logits, labels)

    r.loss = likelihood
