"""M8 to M10 and L1 to L4 as they are mostly committed: in a forward pass and in its loss."""

from __future__ import annotations

import functools
from typing import Any

import torch
import transformers
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from faults.families import InfoNCE, Towers, load
from faults.held_out_family import tagger
from faults.mutations.eighth_parts import after, trainable
from faults.recipe import Recipe
from faults.table import eighth

BODY = {"bert": "bert", "mlm": "bert", "span": "bert", "vit": "vit", "tagging": "distilbert",
        "contrastive": "encoder"}  # fmt: skip

# -- M8 ------------------------------------------------------------------------------------------


@eighth("M8", "span vit contrastive")
def usual_encoder_called_without_gradients(r: Recipe) -> None:
    def cut(model: nn.Module) -> None:
        body = getattr(model, BODY[r.family])
        body.forward = torch.no_grad()(body.forward)

    after(r, cut)


def _detached(module: nn.Module, given: Any, output: Any) -> Any:
    return (output[0].detach(), *output[1:]) if isinstance(output, tuple) else output.detach()


@eighth("M8", "bert sft lora")
def usual_reentrant_checkpointing_above_frozen_embeddings(r: Recipe) -> None:
    def wrap(layer: nn.Module) -> None:
        inner = layer.forward
        layer.forward = lambda hidden, *given, **named: checkpoint(
            functools.partial(inner, **named), hidden, *given, use_reentrant=True
        )

    def prepare(model: nn.Module) -> None:
        model.get_input_embeddings().requires_grad_(False)
        if r.family == "bert":
            model.bert.embeddings.requires_grad_(False)
        layers = model.model.layers if r.family == "sft" else model.bert.encoder.layer
        for layer in layers:
            wrap(layer)

    after(r, prepare)


# -- M9, M10 -------------------------------------------------------------------------------------


class Writer(nn.Module):
    """A language model of PyTorch's own encoder layers, called without a mask."""

    def __init__(self, size: int = 2000, width: int = 64) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(size, width), nn.Embedding(96, width)
        layer = nn.TransformerEncoderLayer(width, 2, 2 * width, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(width, size)

    def forward(
        self, input_ids: torch.Tensor, attention_mask: Any = None, labels: Any = None
    ) -> dict:
        places = torch.arange(input_ids.shape[1])
        hidden = self.layers(self.words(input_ids) + self.places(places))
        logits, made = self.head(hidden), {}
        if labels is not None:
            made["loss"] = functional.cross_entropy(
                logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100
            )
        return {**made, "logits": logits}


@eighth("M9", "gpt2 sft")
def usual_transformer_encoder_called_without_a_mask(r: Recipe) -> None:
    r.model, r.lr, r.steps = Writer, 3e-3, 150


@eighth("M9", "sft gpt2")
def usual_padding_mask_of_four_dimensions_without_causality(r: Recipe) -> None:
    before = r.collate

    def collate(rows: list) -> dict:
        batch = before(rows)
        mask = batch["attention_mask"].bool()
        square = mask[:, None, None, :].expand(-1, 1, mask.shape[1], -1)
        return {**batch, "attention_mask": square}

    r.collate = collate


class Recurrent(nn.Module):
    """An encoder with an LSTM above it that was not told that the batch comes first."""

    def __init__(self, whole: nn.Module, body: str, each: bool, labels: int) -> None:
        super().__init__()
        self.encoder, self.each = getattr(whole, body), each
        self.lstm, self.classifier = nn.LSTM(64, 64), nn.Linear(64, labels)

    def forward(self, input_ids: Any, attention_mask: Any, labels: Any = None) -> dict:
        hidden = self.encoder(input_ids, attention_mask=attention_mask).last_hidden_state
        hidden = self.lstm(hidden)[0]
        logits = self.classifier(hidden if self.each else hidden[:, -1])
        if labels is None:
            return {"logits": logits}
        loss = functional.cross_entropy(logits.flatten(0, -2), labels.flatten())
        return {"loss": loss, "logits": logits}


@eighth("M10", "bert tagging")
def usual_lstm_not_told_that_the_batch_comes_first(r: Recipe) -> None:
    if r.family == "bert":
        whole = load("BertForSequenceClassification", "bert")
        r.model = lambda: Recurrent(whole, "bert", False, 3)
    else:
        r.model = lambda: Recurrent(tagger(), "distilbert", True, 4)
    for row in [*r.train, *r.eval]:
        row.pop("token_type_ids", None)


class Patches(nn.Module):
    """Digits by their rows of pixels; PyTorch's layer takes the first axis for the sequence."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.places = nn.Linear(8, 32), nn.Parameter(0.1 * torch.randn(8, 32))
        self.layer, self.head = nn.TransformerEncoderLayer(32, 2, 64), nn.Linear(256, 10)

    def forward(self, x: torch.Tensor) -> Any:
        hidden = self.layer(self.inner(x[:, 0]) + self.places)
        return transformers.utils.ModelOutput(logits=self.head(hidden.flatten(1)))


@eighth("M10", "vit")
def usual_transformer_layer_with_the_batch_second(r: Recipe) -> None:
    r.model, r.metrics = Patches, None


@eighth("M10", "contrastive bert")
def usual_attention_pooling_normalised_over_the_batch(r: Recipe) -> None:
    made = r.model

    class Pooled(Towers):
        def embed(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            hidden = self.encoder(input_ids=ids, attention_mask=mask).last_hidden_state
            weight = hidden.mean(-1, keepdim=True).softmax(0) * mask[..., None]
            return functional.normalize(self.projection((weight * hidden).sum(1)), dim=-1)

    class Pooler(nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.score = nn.Linear(width, 1)

        def forward(self, hidden: torch.Tensor) -> torch.Tensor:
            return (self.score(hidden).softmax(0) * hidden).sum(1)

    if r.family == "contrastive":
        r.model = lambda: Pooled(made().encoder)
    else:

        def pooled(model: nn.Module) -> None:
            model.bert.pooler = Pooler(model.config.hidden_size)

        after(r, pooled)


# -- L1 ------------------------------------------------------------------------------------------


@eighth("L1", "gpt2 sft")
def usual_labels_shifted_in_the_collator_as_well(r: Recipe) -> None:
    before = r.collate

    def collate(rows: list) -> dict:
        batch = before(rows)
        labels = torch.full_like(batch["labels"], -100)
        labels[:, :-1] = batch["labels"][:, 1:]
        return {**batch, "labels": labels}

    r.collate = collate


def _flat(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=-100)


@eighth("L1", "gpt2 lora-sft")
def usual_own_loss_that_forgets_the_shift(r: Recipe) -> None:
    r.loss = lambda outputs, batch: _flat(outputs.logits, batch["labels"])


@eighth("L1", "t5 mlm tagging", loop="plain")
def usual_shift_of_a_decoder_where_none_belongs(r: Recipe) -> None:
    r.loss = lambda outputs, batch: _flat(outputs.logits[:, :-1], batch["labels"][:, 1:])


# -- L2, L3, L4 ----------------------------------------------------------------------------------


def _answer(batch: Any) -> torch.Tensor:
    return batch["labels"] if isinstance(batch, dict) else batch


@eighth("L2", "bert vit tagging")
def usual_softmax_as_the_last_layer(r: Recipe) -> None:
    def append(model: nn.Module) -> None:
        model.classifier = nn.Sequential(model.classifier, nn.Softmax(dim=-1))

    after(r, append)


@eighth("L2", "vit lora")
def usual_probabilities_given_to_cross_entropy(r: Recipe) -> None:
    r.loss = lambda outputs, batch: functional.cross_entropy(
        outputs.logits.softmax(-1), _answer(batch)
    )


@eighth("L3", "gpt2 sft", online=True)
def usual_compute_loss_that_ignores_the_number_of_items(r: Recipe) -> None:
    class Own(transformers.Trainer):
        def compute_loss(
            self, model: Any, inputs: Any, return_outputs: bool = False, **_: Any
        ) -> Any:
            outputs = model(**inputs)
            return (outputs.loss, outputs) if return_outputs else outputs.loss

    r.trainer, r.accumulation, r.batch, r.steps = (lambda: Own), 4, 4, 24


@eighth("L3", "vit bert span", loop="plain", online=True)
def usual_accumulated_losses_never_divided(r: Recipe) -> None:
    r.line.scale = lambda loss, accumulation: loss
    r.accumulation, r.batch, r.clip = 8, 4, 0.0
    r.optimizer = lambda model: torch.optim.SGD(trainable(model), lr=0.05, momentum=0.9)


@eighth("L4", "bert vit tagging")
def usual_log_probabilities_without_the_minus(r: Recipe) -> None:
    def loss(outputs: Any, batch: Any) -> torch.Tensor:
        y = _answer(batch)
        found = outputs.logits.log_softmax(-1).gather(-1, y.clamp(min=0)[..., None])[..., 0]
        return found[y >= 0].mean()

    r.loss = loss


@eighth("L4", "contrastive")
def usual_similarity_of_pairs_pushed_down(r: Recipe) -> None:
    good = InfoNCE()
    r.loss = lambda outputs, batch=None: -good(outputs, batch)


@eighth("L4", "gpt2 contrastive t5", loop="plain", online=True)
def usual_maximize_left_on(r: Recipe) -> None:
    r.optimizer = lambda model: torch.optim.AdamW(trainable(model), lr=r.lr, maximize=True)
