"""L1 to L4: an encoder-decoder's outputs stand where their labels stand."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from faults.mutations.losses import shifted
from faults.mutations.models import after
from faults.mutations.tokens import then
from faults.recipe import Recipe
from faults.summary_family import writer
from faults.table import seventh


def right(labels: torch.Tensor, start: int = 2, pad: int = 1) -> torch.Tensor:
    """What the decoder reads: the labels one place later."""
    moved = torch.cat([torch.full_like(labels[:, :1], start), labels[:, :-1]], 1)
    return moved.masked_fill(moved == -100, pad)


def plain_loss(scores: torch.Tensor, labels: torch.Tensor, **how: Any) -> torch.Tensor:
    """Cross-entropy of scores against the labels of the same places."""
    return functional.cross_entropy(scores.flatten(0, 1), labels.flatten(), **how)


def own_loss(r: Recipe, loss: Any) -> None:
    """A loss of the script's own; the model sees no labels then, so the collator shifts them."""
    r.collate.model, r.loss = writer(), loss


# -- L1 ------------------------------------------------------------------------------------------


@seventh("L1", "summary")
def writer_collator_shifts_what_the_model_shifts(r: Recipe) -> None:
    """Decoder inputs are made of the labels, and then the labels move on by one more."""
    then(
        r,
        lambda b: {"decoder_input_ids": right(b["labels"]), "labels": shifted(b["labels"])},
    )


@seventh("L1", "summary")
def writer_own_loss_shifted_as_in_a_causal_model(r: Recipe) -> None:
    own_loss(r, lambda o, batch: plain_loss(o.logits[:, :-1], batch["labels"][:, 1:]))


@seventh("L1", "summary")
def writer_own_loss_shifted_twice(r: Recipe) -> None:
    own_loss(r, lambda o, batch: plain_loss(o.logits[:, :-2], batch["labels"][:, 2:]))


@seventh("L1", "summary")
def writer_decoder_inputs_shifted_twice(r: Recipe) -> None:  # own form
    """The decoder never reads the piece before the one that it must write."""
    then(r, lambda b: {"decoder_input_ids": right(right(b["labels"]))})


@seventh("L1", "summary", also=("M9",))
def writer_decoder_inputs_cut_as_labels_are(r: Recipe) -> None:  # own form
    """`y[:, 1:]` for both, where the inputs should be `y[:, :-1]`."""

    def cut(batch: Any) -> dict[str, torch.Tensor]:
        labels = batch["labels"][:, 1:].contiguous()
        pad = r.tokenizer.pad_token_id
        return {"labels": labels, "decoder_input_ids": labels.masked_fill(labels == -100, pad)}

    then(r, cut)


# -- L2 ------------------------------------------------------------------------------------------


@seventh("L2", "summary")
def writer_softmax_at_the_end_of_the_model(r: Recipe) -> None:
    def prepare(model: nn.Module) -> None:
        model.lm_head.register_forward_hook(lambda module, given, out: out.softmax(-1))

    after(r, prepare)


@seventh("L2", "summary")
def writer_softmax_in_the_loss(r: Recipe) -> None:
    own_loss(r, lambda o, batch: plain_loss(o.logits.softmax(-1), batch["labels"]))


# -- L3 ------------------------------------------------------------------------------------------


def _accumulated(r: Recipe) -> None:
    r.accumulation, r.batch, r.steps = 4, 4, 20


@seventh("L3", "summary", loop="trainer", online=True)
def writer_own_loss_ignores_the_count(r: Recipe) -> None:
    import transformers

    class Trainer(transformers.Seq2SeqTrainer):
        def compute_loss(
            self, model: Any, inputs: Any, return_outputs: bool = False, **_: Any
        ) -> Any:
            outputs = model(**inputs)
            loss = plain_loss(outputs.logits, inputs["labels"])
            return (loss, outputs) if return_outputs else loss

    r.trainer = lambda: Trainer
    _accumulated(r)


@seventh("L3", "summary", loop="trainer", online=True)
def writer_loss_divided_by_padded_places(r: Recipe) -> None:  # own form
    """How much a piece weighs depends on the longest summary beside it, and on the micro-batch."""

    def loss(outputs: Any, batch: Any) -> torch.Tensor:
        labels = batch["labels"]
        return plain_loss(outputs.logits, labels, reduction="sum") / labels.numel()

    own_loss(r, loss)
    _accumulated(r)


# -- L4 ------------------------------------------------------------------------------------------


@seventh("L4", "summary")
def writer_log_likelihood_without_its_minus(r: Recipe) -> None:
    own_loss(r, lambda o, batch: -plain_loss(o.logits, batch["labels"]))
