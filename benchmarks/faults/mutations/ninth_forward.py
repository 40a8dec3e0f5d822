"""M7 to M10 as they are committed most often: modes, cuts, leaks, rows that mix."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from faults import families
from faults.mutations.ninth_parts import Cells, First, Headed, after, evaluated
from faults.recipe import Recipe
from faults.recurrent_family import PAD, Reader, Scores
from faults.table import ninth

# -- M7 ------------------------------------------------------------------------------------------


@ninth("M7", "recurrent gpt2", loop="plain", online=True)
def often_train_not_called_again_after_validation(r: Recipe) -> None:
    calls: list[int] = []

    def once(model: nn.Module) -> None:
        if not calls:
            model.train()
        calls.append(1)

    r.line.to_train = once
    evaluated(r)


@ninth("M7", "span gpt2 t5", loop="plain", online=True)
def often_train_never_called_after_from_pretrained(r: Recipe) -> None:
    r.line.to_train = lambda model: None


@ninth("M7", "recurrent lora", loop="plain", online=True)
def often_validation_without_eval_mode(r: Recipe) -> None:
    r.line.to_eval = lambda model: None
    evaluated(r)


class AlwaysDropping(Reader):
    """Dropout by the function, which is on unless it is told otherwise."""

    def forward(self, x: torch.Tensor) -> Scores:
        return Scores(self.head(functional.dropout(self.pooled(x), 0.3)))


class DroppingHead(nn.Module):
    """Two layers and a dropout that is on unless it is told otherwise."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(64, 64), nn.Linear(64, families.CLASSES)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        return self.second(functional.dropout(self.first(states[:, 0]).tanh(), 0.3))


@ninth("M7", "recurrent bert")
def often_functional_dropout_without_the_training_flag(r: Recipe) -> None:
    r.model = AlwaysDropping if r.family == "recurrent" else lambda: Headed(DroppingHead())


# -- M8 ------------------------------------------------------------------------------------------


class WithoutGradient(Reader):
    """Takes the states for fixed features."""

    def pooled(self, x: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return super().pooled(x)


class HeadedWithoutGradient(Headed):
    """Takes the states for fixed features."""

    @torch.no_grad()
    def states(self, input_ids: Any, attention_mask: Any) -> torch.Tensor:
        return super().states(input_ids, attention_mask)


class DetachedTowers(families.Towers):
    """Takes the projection's input out of the graph."""

    def embed(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        hidden = self.encoder(input_ids=ids, attention_mask=mask).last_hidden_state.detach()
        mean = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        return functional.normalize(self.projection(mean), dim=-1)


@ninth("M8", "recurrent bert contrastive")
def often_encoder_under_no_grad_or_detached(r: Recipe) -> None:
    r.model = {
        "recurrent": WithoutGradient,
        "bert": lambda: HeadedWithoutGradient(First()),
        "contrastive": lambda: DetachedTowers(
            families.load("BertModel", "bert", add_pooling_layer=False)
        ),
    }[r.family]


@ninth("M8", "recurrent gpt2", loop="plain", online=True)
def often_loss_made_anew_with_requires_grad(r: Recipe) -> None:
    r.line.loss = lambda loss: torch.tensor(loss.item(), requires_grad=True)


class Checkpointed(Reader):
    """Frozen word vectors, and a GRU whose states are computed again in the backward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding.requires_grad_(False)

    def states(self, x: torch.Tensor) -> torch.Tensor:
        told = self.embedding(x)
        return checkpoint(lambda seen: self.recurrent(seen)[0], told, use_reentrant=True)


class CheckpointedCells(Cells):
    """The whole body is computed again in the backward pass, from pixels that need no gradient."""

    def forward(self, x: torch.Tensor) -> Scores:
        states = checkpoint(
            lambda seen: self.body(self.into(seen) + self.place), x.squeeze(1), use_reentrant=True
        )
        return Scores(self.head(states.mean(1)))


@ninth("M8", "recurrent vit")
def often_reentrant_checkpoint_of_what_needs_no_gradient(r: Recipe) -> None:
    r.model = Checkpointed if r.family == "recurrent" else CheckpointedCells


# -- M9, M10 -------------------------------------------------------------------------------------


@ninth("M9", "gpt2 sft")
def often_causal_flag_switched_off_as_for_an_embedder(r: Recipe) -> None:
    def prepare(model: nn.Module) -> None:
        model.config.is_causal = False
        for module in model.modules():
            if hasattr(module, "is_causal"):
                module.is_causal = False

    after(r, prepare)


class Unmasked(nn.Module):
    """A language model of PyTorch's own layers; nobody gave it a mask of the future."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.embed, self.place = nn.Embedding(size, 64), nn.Embedding(64, 64)
        layer = nn.TransformerEncoderLayer(64, 2, 128, 0.1, batch_first=True)
        self.body = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(64, size)

    def forward(self, input_ids: Any, attention_mask: Any = None, labels: Any = None) -> Any:
        from transformers.modeling_outputs import CausalLMOutput

        hidden = self.embed(input_ids) + self.place(torch.arange(input_ids.shape[1]))
        hidden = self.body(hidden, src_key_padding_mask=attention_mask == 0)
        logits, loss = self.head(hidden), None
        if labels is not None:
            told, right = logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten()
            loss = functional.cross_entropy(told, right)
        return CausalLMOutput(loss=loss, logits=logits)


@ninth("M9", "gpt2 sft", loop="plain")
def often_transformer_encoder_as_a_language_model_without_a_mask(r: Recipe) -> None:
    r.model, r.lr, r.steps = (lambda: Unmasked(len(r.tokenizer))), 3e-3, 100


class TimeFirst(nn.Module):
    """A transformer layer that takes the first axis for the words, and a linear head."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.out = nn.TransformerEncoderLayer(64, 2, 128), First()

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        return self.out(self.layer(states))


@ninth("M10", "recurrent bert vit")
def often_batch_first_forgotten(r: Recipe) -> None:
    r.model = {
        "recurrent": lambda: Reader(batch_first=False),
        "bert": lambda: Headed(TimeFirst()),
        "vit": lambda: Cells(batch_first=False),
    }[r.family]


class AttentionOverTheBatch(Reader):
    """Weights of the words, normalised along the wrong axis."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Linear(64, 1)

    def pooled(self, x: torch.Tensor) -> torch.Tensor:
        states = self.states(x)
        scores = self.weight(states).masked_fill((x == PAD).unsqueeze(-1), -1e4)
        return (scores.softmax(0) * states).sum(1)


class ViewedStates(Reader):
    """Swaps batch and time by a view."""

    def pooled(self, x: torch.Tensor) -> torch.Tensor:
        states = self.states(x)
        return states.reshape(states.shape[1], states.shape[0], -1).mean(0)


@ninth("M10", "recurrent")
def often_attention_normalised_over_the_batch(r: Recipe) -> None:
    r.model = AttentionOverTheBatch


@ninth("M10", "recurrent")
def often_view_instead_of_transpose(r: Recipe) -> None:
    r.model = ViewedStates
