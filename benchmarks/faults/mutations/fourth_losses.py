"""The fourth set, continued: C1, L1 to L4, P1 to P4; `fourth_data` says by which rule."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from faults.families import load
from faults.held_out_family import tagger
from faults.mutations.data import Read
from faults.mutations.fourth_models import head_of
from faults.mutations.fresh_losses import labels_in
from faults.mutations.models import after, layers
from faults.mutations.optimization import _sgd
from faults.mutations.precision import _half
from faults.mutations.tokens import then
from faults.recipe import Recipe
from faults.table import fourth

# -- C1, L1, L2 ----------------------------------------------------------------------------------


@fourth("C1", "contrastive", online=True)
def a_regularizer_without_its_variance(r: Recipe) -> None:
    """Of three terms the one that keeps texts apart has the weight zero."""

    def loss(outputs: Any, batch: Any = None) -> torch.Tensor:
        one, other = outputs["text_embeds"], outputs["pair_embeds"]
        centred = torch.cat([one, other])
        centred = centred - centred.mean(0)
        spread = centred.T @ centred / len(centred)
        apart = (spread - spread.diag().diag()).square().sum()
        return 25 * functional.mse_loss(one, other) * one.shape[1] + apart

    r.loss, r.steps = loss, 150


@fourth("C1", "contrastive", online=True)
def every_text_is_told_to_find_the_first(r: Recipe) -> None:
    """`zeros` as labels, from a script whose positives stand in column 0."""

    def loss(outputs: Any, batch: Any = None) -> torch.Tensor:
        scores = outputs["text_embeds"] @ outputs["pair_embeds"].T / 0.07
        return functional.cross_entropy(scores, torch.zeros(len(scores), dtype=torch.long))

    r.loss, r.steps = loss, 120


@fourth("L1", "gpt2 sft lora-sft")
def inputs_shifted_as_for_a_translator(r: Recipe) -> None:
    """Begun with one more token, labels as they are; then the model shifts as well."""
    first = r.tokenizer.bos_token_id

    def change(batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        ids, mask = batch["input_ids"], batch["attention_mask"]
        return {
            "input_ids": torch.cat([torch.full_like(ids[:, :1], first), ids[:, :-1]], 1),
            "attention_mask": torch.cat([torch.ones_like(mask[:, :1]), mask[:, :-1]], 1),
        }

    then(r, change)


@fourth("L1", "t5")
def decoder_inputs_shifted_twice(r: Recipe) -> None:
    """By the collator, and once more by a function that was meant to be called instead."""
    pad = r.tokenizer.pad_token_id

    def change(batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        told = batch["labels"].masked_fill(batch["labels"] == -100, pad)
        return {"decoder_input_ids": functional.pad(told, (2, 0), value=pad)[:, :-2]}

    then(r, change)


class Shares(nn.Module):
    """The mean of what two experts think probable."""

    def __init__(self, head: nn.Linear) -> None:
        super().__init__()
        self.one, self.other = head, nn.Linear(head.in_features, head.out_features)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return (self.one(hidden).softmax(-1) + self.other(hidden).softmax(-1)) / 2


@fourth("L2", "bert vit tagging")
def the_mean_of_two_experts(r: Recipe) -> None:
    after(r, lambda model: setattr(model, "classifier", Shares(model.classifier)))


@fourth("L2", "gpt2 mlm t5")
def shares_over_the_vocabulary(r: Recipe) -> None:
    """A wrapper for sampling wants shares, and is left on for training."""

    def prepare(model: nn.Module) -> None:
        head_of(model).register_forward_hook(lambda module, given, out: out.softmax(-1))

    after(r, prepare)


# -- L3, L4 --------------------------------------------------------------------------------------


@fourth("L3", "bert gpt2 tagging", loop="plain", online=True)
def gradients_emptied_between_micro_batches(r: Recipe) -> None:
    """Only the last of four counts, and by a fourth."""
    held: list = []
    r.accumulation, r.batch, r.steps = 4, 8, 24
    r.line.to_train = lambda model: (held.append(model), model.train())
    r.line.backward = lambda loss: (held[0].zero_grad(), loss.backward())


@fourth("L3", "sft gpt2", loop="trainer", online=True)
def counted_by_rows_where_tokens_are_meant(r: Recipe) -> None:
    import transformers

    class Trainer(transformers.Trainer):
        def compute_loss(
            self, model: Any, inputs: Any, return_outputs: bool = False, **given: Any
        ) -> Any:
            rows = len(inputs["input_ids"]) * self.args.gradient_accumulation_steps
            given["num_items_in_batch"] = torch.tensor(rows)
            return super().compute_loss(model, inputs, return_outputs, **given)

    r.trainer, r.accumulation, r.batch, r.steps = lambda: Trainer, 4, 4, 20


@fourth("L3", "vit t5 tagging", loop="plain", online=True)
def divided_by_the_square_of_the_micro_batches(r: Recipe) -> None:
    """In the loss, and in the line before `backward`; SGD feels it."""
    r.accumulation, r.batch, r.steps, r.optimizer = 4, 8, 24, _sgd
    r.line.scale = lambda loss, accumulation: loss / accumulation / accumulation


@fourth("L4", "bert gpt2 vit tagging sft", loop="plain", online=True)
def one_minus_the_loss(r: Recipe) -> None:
    r.line.loss = lambda loss: 1 - loss


class Reversed(torch.autograd.Function):
    """Nothing forwards, minus one backwards."""

    @staticmethod
    def forward(ctx: Any, hidden: torch.Tensor) -> torch.Tensor:
        return hidden.view_as(hidden)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        return -gradient


@fourth("L4", "bert vit tagging", online=True)
def a_reversal_left_between_backbone_and_head(r: Recipe) -> None:
    """From a domain-adversarial script: the backbone climbs what the head descends."""

    def prepare(model: nn.Module) -> None:
        model.classifier.register_forward_pre_hook(lambda module, given: Reversed.apply(given[0]))

    after(r, prepare)


# -- P1 ------------------------------------------------------------------------------------------


@fourth("P1", "contrastive", online=True)
def distances_of_a_text_from_itself(r: Recipe) -> None:
    """The root of what rounding makes of 2 - 2; the mask comes too late for its gradient."""

    def loss(outputs: Any, batch: Any = None) -> torch.Tensor:
        one, other = outputs["text_embeds"], outputs["pair_embeds"]
        near = -(2 - 2 * one @ other.T).clamp(min=1e-6).sqrt()
        own = -(2 - 2 * one @ one.T).sqrt().masked_fill(torch.eye(len(one), dtype=torch.bool), 9.0)
        return functional.cross_entropy(torch.cat([near, own], 1) * 5, torch.arange(len(one)))

    r.loss = loss


@fourth("P1", "bert vit tagging", loop="plain", online=True)
def a_softmax_without_its_maximum(r: Recipe) -> None:
    """Sharpened sixtyfold; when the model is sure of something, e to the score is infinite."""

    def loss(outputs: Any, y: Any) -> torch.Tensor:
        scores, labels = outputs.logits.flatten(0, -2), labels_in(y).flatten()
        grown = (60 * scores[labels != -100]).exp()
        shares = grown / grown.sum(-1, keepdim=True)
        return functional.nll_loss((shares + 1e-9).log(), labels[labels != -100])

    r.loss = loss


@fourth("P1", "tagging", loop="trainer", online=True)
def the_mean_over_numbers_of_a_batch_without_one(r: Recipe) -> None:
    """The trainer replaces what is no number in its log, so nobody sees it."""
    import transformers

    class Trainer(transformers.Trainer):
        def compute_loss(
            self, model: Any, inputs: Any, return_outputs: bool = False, **_: Any
        ) -> Any:
            outputs = model(**inputs)
            each = functional.cross_entropy(
                outputs.logits.flatten(0, 1), inputs["labels"].flatten(), reduction="none"
            )
            loss = outputs.loss + 0.2 * each[inputs["labels"].flatten() == 3].mean()
            return (loss, outputs) if return_outputs else loss

    r.trainer, r.batch = lambda: Trainer, 4


# -- P2, P3, P4 ----------------------------------------------------------------------------------


@fourth("P2", "vit bert gpt2 tagging", loop="plain", online=True, also=("P1",))
def a_first_scale_of_two_to_the_hundred(r: Recipe) -> None:
    """Halved at each overflow, it is still too large when the run is over."""
    _half(r, 2.0**100)
    r.steps = 70


@fourth("P2", "vit", loop="plain", online=True, also=("P1",))
def sixteen_bit_pixels_in_half_precision(r: Recipe) -> None:
    """Divided by 255, as if they had eight bits, and by nothing where that line was forgotten."""
    _half(r, 2.0**10)
    r.train, r.eval = (
        Read(rows, lambda row, i: (row[0] * 65535, row[1])) for rows in (r.train, r.eval)
    )


@fourth("P3", "gpt2 t5 mlm tagging", online=True)
def a_checkpoint_read_in_the_type_it_was_stored_in(r: Recipe) -> None:
    """`dtype="auto"` of a checkpoint in bf16, and a careful rate."""
    name = type(r.model()).__name__
    if r.family == "tagging":
        r.model = lambda: tagger(dtype=torch.bfloat16)
    else:
        kind = "bert" if r.family == "mlm" else r.family
        r.model = lambda: load(name, kind, dtype=torch.bfloat16)
    r.lr, r.warmup = 1e-6, 2


class Spelled(nn.Linear):
    """Written out as a sum of products, which autocast leaves as it is."""

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return (hidden.float()[..., None, :] * self.weight).sum(-1) + self.bias


@fourth("P4", "bert tagging", loop="trainer")
def linear_layers_written_out_by_hand(r: Recipe) -> None:
    r.args["bf16"] = True

    def prepare(model: nn.Module) -> None:
        for module in layers(model).modules():
            if type(module) is nn.Linear:
                module.__class__ = Spelled

    after(r, prepare)


@fourth("P4", "vit bert tagging gpt2", loop="plain")
def norms_cast_to_half(r: Recipe) -> None:
    """For speed, in a model that is otherwise fp32 and runs without autocast."""

    def prepare(model: nn.Module) -> None:
        for module in model.modules():
            if isinstance(module, nn.LayerNorm):
                module.half()

    after(r, prepare)
