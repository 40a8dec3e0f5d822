"""P1 to P4: numbers that are not finite, overflow, swallowed updates, dtypes that do not fit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from faults.mutations.models import after, layers
from faults.recipe import Recipe
from faults.table import fault

PLAIN = "bert gpt2 vit t5"


# -- P1 ------------------------------------------------------------------------------------------


@fault("P1", "bert gpt2 sft t5", loop="trainer", online=True)
def a_logarithm_of_zero_now_and_then(r: Recipe) -> None:
    import transformers

    class Trainer(transformers.Trainer):
        def compute_loss(
            self, model: Any, inputs: Any, return_outputs: bool = False, **kwargs: Any
        ) -> Any:
            loss, outputs = super().compute_loss(model, inputs, return_outputs=True, **kwargs)
            if model.training and self.state.global_step % 10 == 9:
                loss = loss + torch.log(torch.zeros((), requires_grad=True))
            return (loss, outputs) if return_outputs else loss

    r.trainer = lambda: Trainer


@fault("P1", PLAIN + " mlm", loop="plain", online=True)
def divided_by_a_count_of_zero(r: Recipe) -> None:
    calls = [0]

    def loss(value: torch.Tensor) -> torch.Tensor:
        calls[0] += 1
        return value / (0 if calls[0] == 25 else 1)

    r.line.loss = loss


@fault("P1", "bert gpt2", loop="trainer", online=True)
def a_layer_overflows(r: Recipe) -> None:
    def prepare(model: nn.Module) -> None:
        layer, inner, calls = layers(model)[-1], layers(model)[-1].forward, [0]

        def forward(hidden: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            calls[0] += model.training
            return inner(hidden * (float("inf") if calls[0] > 40 else 1), *args, **kwargs)

        layer.forward = forward

    after(r, prepare)


@fault("P1", PLAIN, loop="plain", online=True)
def slope_of_a_root_at_zero(r: Recipe) -> None:
    """The loss is a number and its gradient is none: sqrt of an exact zero."""
    own, calls = r.line.forward, [0]

    def forward(model: nn.Module, batch: Any) -> Any:
        outputs = own(model, batch)
        calls[0] += model.training
        if calls[0] == 20:
            scores = outputs.logits
            outputs.logits = scores + (scores - scores).square().sum(-1, keepdim=True).sqrt()
            if outputs.get("loss") is not None:
                outputs.loss = outputs.loss + (outputs.logits - scores).sum()
        return outputs

    r.line.forward = forward


# -- P2 ------------------------------------------------------------------------------------------


def _half(r: Recipe, scale: float, growth: int = 2000) -> torch.amp.GradScaler:
    scaler = torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=growth)

    def forward(model: nn.Module, batch: Any) -> Any:
        with torch.autocast("cpu", dtype=torch.float16):
            return model(**batch) if isinstance(batch, Mapping) else model(batch[0])

    r.line.forward = forward
    r.line.backward = lambda loss: scaler.scale(loss).backward()
    r.line.clip = lambda model, limit: None
    r.line.step = lambda optimizer: (scaler.step(optimizer), scaler.update())
    return scaler


@fault("P2", "vit bert", loop="plain", online=True, also=("P1",))
def scale_that_grows_at_every_step(r: Recipe) -> None:
    _half(r, 2.0**16, growth=1)
    r.steps = 200


@fault("P2", "bert gpt2 vit", loop="plain", online=True, also=("P1",))
def activations_beyond_half_precision(r: Recipe) -> None:
    _half(r, 2.0**10)

    def prepare(model: nn.Module) -> None:
        first = next(
            m for m in layers(model)[0].modules() if hasattr(m, "weight") and m.weight.dim() == 2
        )
        first.weight.data *= 3e6

    after(r, prepare)


# -- P3 ------------------------------------------------------------------------------------------


@fault("P3", "bert gpt2 sft t5 mlm", online=True)
def bf16_weights_at_a_small_rate(r: Recipe) -> None:
    r.lr, r.warmup = 2e-6, 2
    after(r, lambda model: model.bfloat16())


@fault("P3", "vit bert gpt2 t5", loop="plain", online=True)
def half_weights_at_a_small_rate(r: Recipe) -> None:
    r.lr, r.warmup = 3e-6, 2
    after(r, lambda model: model.bfloat16())
    if r.family == "vit":
        r.line.forward = lambda model, batch: model(batch[0].bfloat16())
        r.collate = lambda rows: (
            torch.stack([x for x, _ in rows]).bfloat16(),
            torch.stack([y for _, y in rows]),
        )


# -- P4 ------------------------------------------------------------------------------------------


@fault("P4", "bert gpt2 t5", loop="plain", online=True, also=("P3",))
def fp16_weights_under_a_scaler(r: Recipe) -> None:
    after(r, lambda model: model.half())
    scaler = torch.amp.GradScaler("cpu")
    r.line.backward = lambda loss: scaler.scale(loss).backward()
    r.line.clip = lambda model, limit: None
    r.line.step = lambda optimizer: (scaler.unscale_(optimizer), scaler.step(optimizer))


@fault("P4", "bert gpt2 sft t5", loop="trainer")
def autocast_switched_off_inside(r: Recipe) -> None:
    r.args["bf16"] = True

    def prepare(model: nn.Module) -> None:
        inner = model.forward

        def forward(*args: Any, **kwargs: Any) -> Any:
            with torch.autocast("cpu", enabled=False):
                return inner(*args, **kwargs)

        forward.__wrapped__ = inner
        model.forward = forward

    after(r, prepare)
