"""M7 to M10: modes, cut gradients, and leaks between positions and rows."""

from __future__ import annotations

import functools
import types
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from faults.mutations.models import after
from faults.mutations.tokens import then
from faults.recipe import Recipe
from faults.table import seventh

# -- M7: BART drops by the functional, under `self.training` --------------------------------------


@seventh("M7", "summary")
def writer_dropout_alive_in_evaluation(r: Recipe) -> None:
    def prepare(model: nn.Module) -> None:
        for part in (model.model.encoder, model.model.decoder):
            part.layernorm_embedding.register_forward_hook(
                lambda module, given, out: functional.dropout(out, 0.1)
            )

    after(r, prepare)


@seventh("M7", "summary")
def writer_training_mode_that_cannot_be_left(r: Recipe) -> None:
    def prepare(model: nn.Module) -> None:
        model.train()
        for module in model.model.decoder.modules():
            module.train = types.MethodType(lambda self, mode=True: self, module)

    after(r, prepare)


@seventh("M7", "summary", loop="plain", online=True)
def writer_generates_and_stays_in_evaluation_mode(r: Recipe) -> None:  # own form
    """After each tenth step a summary is shown; nobody goes back to training."""
    steps = [0]

    def show(model: nn.Module, optimizer: Any) -> None:
        steps[0] += 1
        if steps[0] % 10 == 0:
            model.eval()
            with torch.no_grad():
                model.generate(torch.tensor([r.train[0]["input_ids"]]), max_new_tokens=4)

    r.line.after = show


# -- M8 ------------------------------------------------------------------------------------------


@seventh("M8", "summary")
def writer_encoder_under_no_grad(r: Recipe) -> None:
    def prepare(model: nn.Module) -> None:
        encoder, inner = model.get_encoder(), model.get_encoder().forward

        def forward(*args: Any, **kwargs: Any) -> Any:
            with torch.no_grad():
                return inner(*args, **kwargs)

        encoder.forward = forward

    after(r, prepare)


@seventh("M8", "summary", loop="plain")
def writer_reentrant_checkpointing_over_a_frozen_embedding(r: Recipe) -> None:
    def prepare(model: nn.Module) -> None:
        for name, parameter in model.named_parameters():
            if "embed" in name or "shared" in name:
                parameter.requires_grad_(False)
        layer, inner = model.model.encoder.layers[0], model.model.encoder.layers[0].forward
        layer.forward = lambda hidden, *a, **k: checkpoint(
            lambda h: inner(h, *a, **k), hidden, use_reentrant=True
        )

    after(r, prepare)


@seventh("M8", "summary", loop="plain")
def writer_encoder_outputs_detached(r: Recipe) -> None:  # own form
    """The notes are encoded once and handed on, as one does for generation."""

    def prepare(model: nn.Module) -> None:
        inner = model.forward

        def forward(input_ids: Any = None, attention_mask: Any = None, **rest: Any) -> Any:
            states = model.get_encoder()(input_ids=input_ids, attention_mask=attention_mask)
            rest["encoder_outputs"] = (states.last_hidden_state.detach(),)
            return inner(attention_mask=attention_mask, **rest)

        model.forward = functools.wraps(inner)(forward)

    after(r, prepare)


@seventh("M8", "summary")
def writer_cross_attention_reads_detached_states(r: Recipe) -> None:  # own form
    def prepare(model: nn.Module) -> None:
        for layer in model.model.decoder.layers:
            attention, inner = layer.encoder_attn, layer.encoder_attn.forward

            def forward(
                *args: Any, key_value_states: Any = None, inner: Any = inner, **kwargs: Any
            ) -> Any:
                return inner(*args, key_value_states=key_value_states.detach(), **kwargs)

            attention.forward = forward

    after(r, prepare)


# -- M9 ------------------------------------------------------------------------------------------


def _mixed(hidden: torch.Tensor) -> torch.Tensor:
    """Each place with the mean of all, those that come later among them."""
    return hidden + 0.5 * hidden.mean(1, keepdim=True)


@seventh("M9", "summary")
def writer_a_layer_that_mixes_positions(r: Recipe) -> None:
    def prepare(model: nn.Module) -> None:
        layer, inner = model.model.decoder.layers[-1], model.model.decoder.layers[-1].forward
        layer.forward = lambda hidden, *a, **k: inner(_mixed(hidden), *a, **k)

    after(r, prepare)


@seventh("M9", "summary")
def writer_decoder_that_mixes_positions(r: Recipe) -> None:
    def prepare(model: nn.Module) -> None:
        head, inner = model.lm_head, model.lm_head.forward
        head.forward = lambda hidden: inner(_mixed(hidden))

    after(r, prepare)


@seventh("M9", "summary")
def writer_decoder_mask_without_its_triangle(r: Recipe) -> None:
    def open_mask(batch: Any) -> dict[str, torch.Tensor]:
        rows, width = batch["labels"].shape
        return {"decoder_attention_mask": torch.zeros(rows, 1, width, width)}

    then(r, open_mask)


@seventh("M9", "summary")
def writer_decoder_attends_both_ways(r: Recipe) -> None:  # own form
    """The encoder's layer in the decoder: no mask at all."""

    def prepare(model: nn.Module) -> None:
        for layer in model.model.decoder.layers:
            attention, inner = layer.self_attn, layer.self_attn.forward
            attention.is_causal = False

            def forward(
                *args: Any, attention_mask: Any = None, inner: Any = inner, **kwargs: Any
            ) -> Any:
                return inner(*args, attention_mask=None, **kwargs)

            attention.forward = forward

    after(r, prepare)


# -- M10 -----------------------------------------------------------------------------------------


@seventh("M10", "summary")
def writer_encoder_mean_over_the_batch(r: Recipe) -> None:
    def prepare(model: nn.Module) -> None:
        layer, inner = model.get_encoder().layers[0], model.get_encoder().layers[0].forward
        layer.forward = lambda hidden, *a, **k: inner(
            hidden + 0.3 * hidden.mean(0, keepdim=True), *a, **k
        )

    after(r, prepare)


@seventh("M10", "summary")
def writer_batch_statistics_in_evaluation(r: Recipe) -> None:
    def prepare(model: nn.Module) -> None:
        norm = nn.BatchNorm1d(model.config.d_model, track_running_stats=False)
        model.batch_norm = norm
        layer = model.model.encoder.layers[-1]
        layer.register_forward_hook(
            lambda module, given, out: norm(out.transpose(1, 2)).transpose(1, 2)
        )

    after(r, prepare)


@seventh("M10", "summary")
def writer_cross_attention_reads_the_next_row(r: Recipe) -> None:  # own form
    """As after a wrong expansion of the encoder's states: half of a row comes from another."""

    def prepare(model: nn.Module) -> None:
        for layer in model.model.decoder.layers:
            attention, inner = layer.encoder_attn, layer.encoder_attn.forward

            def forward(
                *args: Any, key_value_states: Any = None, inner: Any = inner, **kwargs: Any
            ) -> Any:
                mixed = (key_value_states + key_value_states.roll(1, 0)) / 2
                return inner(*args, key_value_states=mixed, **kwargs)

            attention.forward = forward

    after(r, prepare)
