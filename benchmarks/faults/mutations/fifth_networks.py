"""M9 and M10, fifth set: networks written by hand that look ahead or at other rows."""

from __future__ import annotations

from typing import Any

import torch
import transformers
from torch import nn
from torch.nn import functional

from faults import material
from faults.families import Causal, Towers, load
from faults.mutations.models import after
from faults.recipe import Recipe
from faults.table import fifth


class Decoder(nn.Module):
    """A small language model of `nn.TransformerEncoder`; `mask` makes what it may not see."""

    def __init__(self, mask: Any, size: int = 64) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(2000, size), nn.Embedding(96, size)
        layer = nn.TransformerEncoderLayer(size, 2, 128, dropout=0.0, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head, self.mask = nn.Linear(size, 2000), mask
        self.config = transformers.GPT2Config(vocab_size=2000)

    def forward(self, input_ids=None, attention_mask=None, labels=None, **more):
        length = input_ids.shape[1]
        hidden = self.words(input_ids) + self.places(torch.arange(length))
        hidden = self.layers(hidden, mask=self.mask(length))
        logits, loss = self.head(hidden), None
        if labels is not None:
            loss = functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
        return transformers.modeling_outputs.CausalLMOutput(loss=loss, logits=logits)


@fifth("M9", "gpt2 sft")
def a_handwritten_decoder_without_its_mask(r: Recipe) -> None:
    """`nn.TransformerEncoder` as a language model, and no `mask` is given to it."""
    r.model = lambda: Decoder(lambda length: None)


@fifth("M9", "gpt2 sft")
def a_triangle_that_hides_the_past(r: Recipe) -> None:
    """`torch.tril` where True means hidden: each token sees itself and what is to come."""
    r.model = lambda: Decoder(
        lambda length: torch.tril(torch.ones(length, length, dtype=torch.bool), diagonal=-1)
    )


@fifth("M9", "mlm")
def a_bert_that_was_not_told_it_is_a_decoder(r: Recipe) -> None:
    """`BertLMHeadModel.from_pretrained(name)` without `is_decoder=True`, trained causally."""
    r.model = lambda: transformers.BertLMHeadModel.from_pretrained(material.checkpoint("bert"))
    r.collate = Causal(r.tokenizer.pad_token_id)


class OverRows(nn.Module):
    """A classifier that normalises what it reads over dim 0."""

    def __init__(self, linear: nn.Module) -> None:
        super().__init__()
        self.linear = linear

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return self.linear(3 * functional.normalize(hidden, dim=0))


class TowersOverRows(Towers):
    """Towers that normalise over dim 0 before they project."""

    def embed(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        hidden = self.encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        mean = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True).clamp(min=1)
        return functional.normalize(self.projection(functional.normalize(mean, dim=0)), dim=-1)


@fifth("M10", "vit contrastive")
def features_normalised_over_dim_zero(r: Recipe) -> None:
    """`F.normalize(features, dim=0)`: over the rows of the batch, not over the features."""
    if r.family == "contrastive":
        r.model = lambda: TowersOverRows(load("BertModel", "bert", add_pooling_layer=False))
        return

    def put(model: nn.Module) -> None:
        model.classifier = OverRows(model.classifier)

    after(r, put)


class Pooled(nn.Module):
    """An encoder, attention pooling over `dim`, and a head."""

    def __init__(self, encoder: nn.Module, dim: int) -> None:
        super().__init__()
        size = encoder.config.hidden_size
        self.encoder, self.score, self.dim = encoder, nn.Linear(size, 1), dim
        self.classifier, self.config = nn.Linear(size, 3), encoder.config

    def forward(self, input_ids=None, attention_mask=None, labels=None, **more):
        hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask)
        hidden = hidden.last_hidden_state
        score = self.score(hidden).masked_fill(attention_mask[..., None] == 0, -1e4)
        logits = self.classifier((score.softmax(self.dim) * hidden).sum(1))
        loss = None if labels is None else functional.cross_entropy(logits, labels)
        return transformers.modeling_outputs.SequenceClassifierOutput(loss=loss, logits=logits)


@fifth("M10", "bert")
def attention_pooling_with_a_softmax_over_the_rows(r: Recipe) -> None:
    """`softmax(dim=0)` of the pooling scores, which are (batch, length, 1)."""
    r.model = lambda: Pooled(load("BertModel", "bert", add_pooling_layer=False), 0)


@fifth("M10", "tagging mlm t5")
def heads_joined_by_a_reshape_of_the_batch(r: Recipe) -> None:
    """`hidden.reshape(length, batch, -1).transpose(0, 1)` as if the length came first."""

    def put(model: nn.Module) -> None:
        head = model.get_output_embeddings() or model.classifier

        def before(module: nn.Module, inputs: tuple) -> tuple:
            hidden = inputs[0]
            rows, length, size = hidden.shape
            return (hidden.reshape(length, rows, size).transpose(0, 1),)

        head.register_forward_pre_hook(before)

    after(r, put)
