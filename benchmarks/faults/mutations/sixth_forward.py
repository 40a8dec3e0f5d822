"""M7, M9, M10: what practitioners spoil in a forward and in the mode of a model."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from faults.mutations.models import after, layers
from faults.mutations.sixth_parts import batches, body, width, wrapped
from faults.recipe import Recipe
from faults.table import sixth


def _livelier(model: nn.Module) -> None:
    """Dropout of a tenth, as larger models have it."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = max(module.p, 0.1)


class Dropping(nn.Module):
    """A head behind F.dropout as it is without its flag."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(functional.dropout(x, 0.2))


@sixth("M7", "span tagging contrastive")
def functional_dropout_without_its_flag(r: Recipe) -> None:
    """F.dropout(x, 0.2) in the forward, without training=self.training."""
    wrapped(r, Dropping)


@sixth("M7", "span bert", loop="plain", online=True)
def train_called_with_the_flag_of_the_configuration(r: Recipe) -> None:
    """model.train(args.do_train), and do_train was never set in the file."""
    r.line.to_train = lambda model: model.train(False)
    r.eval_every = 20
    after(r, _livelier)


@sixth("M7", "span lora tagging", loop="trainer", online=True)
def scored_in_compute_loss_by_a_helper_that_evaluates(r: Recipe) -> None:
    """compute_loss first measures the batch with a helper that calls eval() and nothing after."""

    def score(model: nn.Module, inputs: dict) -> float:
        model.eval()
        with torch.no_grad():
            return float(model(**inputs).loss)

    def make() -> type:
        import transformers

        class Scoring(transformers.Trainer):
            def compute_loss(self, model: Any, inputs: dict, *given: Any, **named: Any) -> Any:
                r.note["scored"] = score(model, inputs)
                return super().compute_loss(model, inputs, *given, **named)

        return Scoring

    after(r, _livelier)
    r.trainer = make


# -- M9 ------------------------------------------------------------------------------------------


@sixth("M9", "gpt2 lora-sft sft")
def a_mask_of_four_dimensions_made_from_padding(r: Recipe) -> None:
    """An own (batch, 1, query, key) mask of padding replaces the causal one of the library."""

    def squared(batch: dict) -> None:
        mask = batch["attention_mask"].bool()
        batch["attention_mask"] = mask[:, None, None, :].expand(-1, 1, mask.shape[1], -1)

    batches(r, squared)


class BothWays(nn.Module):
    """A head that reads what a recurrent layer of both directions says."""

    def __init__(self, inner: nn.Module, size: int) -> None:
        super().__init__()
        self.inner = inner
        self.reader = nn.LSTM(size, size // 2, batch_first=True, bidirectional=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x + self.reader(x)[0])


@sixth("M9", "t5 gpt2 sft")
def a_bidirectional_lstm_under_the_head(r: Recipe) -> None:
    """nn.LSTM(bidirectional=True) between a decoder and its head."""

    def change(model: nn.Module) -> None:
        model.lm_head = BothWays(model.lm_head, width(model))

    after(r, change)


# -- M10 -----------------------------------------------------------------------------------------


class Attending(nn.Module):
    """A head behind one attention more."""

    def __init__(self, inner: nn.Module, size: int) -> None:
        super().__init__()
        self.inner, self.attention = inner, nn.MultiheadAttention(size, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x + self.attention(x, x, x, need_weights=False)[0])


@sixth("M10", "span mlm")
def multihead_attention_without_batch_first(r: Recipe) -> None:
    """nn.MultiheadAttention(size, 2) over (batch, length, size) takes the batch for the length."""

    def change(model: nn.Module) -> None:
        name = {"span": "qa_outputs", "tagging": "classifier", "mlm": "cls", "gpt2": "lm_head"}
        place = name[r.family]
        setattr(model, place, Attending(getattr(model, place), width(model)))

    after(r, change)


class Column(nn.Module):
    """A head behind a normalisation."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(8 * functional.normalize(x, dim=0))


@sixth("M10", "span contrastive vit")
def normalised_down_the_batch(r: Recipe) -> None:
    """F.normalize(x, dim=0), where the rows are the first dimension."""
    wrapped(r, Column)


@sixth("M8", "vit t5 sft", loop="plain")
def the_last_layer_reads_a_copy_of_the_data(r: Recipe) -> None:
    """hidden.data goes into the last layer, against an error about in-place changes."""

    def cut(model: nn.Module) -> None:
        last = layers(model if r.family == "t5" else body(model))[-1]
        last.register_forward_pre_hook(
            lambda module, given, named: ((given[0].data, *given[1:]), named), with_kwargs=True
        )

    after(r, cut)
