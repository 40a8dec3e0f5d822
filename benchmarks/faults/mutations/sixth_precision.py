"""P1 to P4: what practitioners spoil with numbers that are too large, too small or not there."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from faults.mutations.models import after
from faults.mutations.sixth_parts import criterion, trainer
from faults.recipe import Recipe
from faults.table import sixth


@sixth("P1", "span vit tagging", loop="plain", online=True)
def smoothing_over_scores_set_to_minus_infinity(r: Recipe) -> None:
    """Places that cannot be meant are set to -inf, and label smoothing takes 0.1 of each."""

    def smoothed(scores: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        scores = scores.clone()
        scores[:, 0] = torch.where(y == 0, scores[:, 0], -torch.inf)
        return functional.cross_entropy(scores, y, label_smoothing=0.1)

    criterion(r, smoothed)


@sixth("P1", "contrastive", online=True)
def angles_of_texts_with_themselves(r: Recipe) -> None:
    """acos of the cosines of all texts: that of a text with itself is one and a little."""

    def loss(outputs: dict, batch: Any = None) -> torch.Tensor:
        both = torch.cat([outputs["text_embeds"], outputs["pair_embeds"]])
        angles = torch.acos(both @ both.T)
        half = len(outputs["text_embeds"])
        scores = -angles / 0.07
        scores = scores.masked_fill(torch.eye(2 * half, dtype=torch.bool), -1e9)
        return functional.cross_entropy(scores[:half], torch.arange(half) + half)

    r.loss = loss


@sixth("P1", "mlm gpt2", loop="plain", online=True)
def focal_weight_of_a_share_that_is_one(r: Recipe) -> None:
    """-(1 - p) ** 0.5 * log(p) over a low temperature: where p is one the slope has no end."""

    def focal(scores: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        share = (scores / 0.05).softmax(-1).gather(1, y[:, None])[:, 0]
        return -((1 - share) ** 0.5 * share.clamp(min=1e-6).log()).mean()

    criterion(r, focal)


@sixth("P2", "span vit", loop="plain", online=True)
def a_growth_interval_of_two_steps(r: Recipe) -> None:
    """GradScaler(growth_interval=2): as often as the scale grows it falls, and a step is lost."""
    _scaled(r, torch.amp.GradScaler("cpu", init_scale=2.0**22, growth_interval=2))
    r.steps = max(r.steps, 80)


def _scaled(r: Recipe, scaler: Any) -> None:
    """Half precision in the loop, with this scaler around backward and step."""
    forward = r.line.forward

    def half(model: nn.Module, batch: Any) -> Any:
        with torch.autocast("cpu", dtype=torch.float16):
            return forward(model, batch)

    def clip(model: nn.Module, limit: float) -> None:
        held = r.note["optimizer"]
        scaler.unscale_(held)
        nn.utils.clip_grad_norm_(model.parameters(), limit)

    def step(optimizer: Any) -> None:
        scaler.step(optimizer)
        scaler.update()

    before = r.make_optimizer

    def make(model: nn.Module) -> Any:
        r.optimizer = None
        r.note["optimizer"] = before(model)
        return r.note["optimizer"]

    r.optimizer = make
    r.line.forward, r.line.clip, r.line.step = half, clip, step
    r.line.backward = lambda loss: scaler.scale(loss.float()).backward()


@sixth("P3", "span tagging contrastive", online=True)
def cast_to_bfloat16_before_the_optimizer(r: Recipe) -> None:
    """model.to(torch.bfloat16) to save memory, and AdamW at 1e-5 on these weights."""
    after(r, lambda model: model.to(torch.bfloat16))
    r.lr, r.warmup = 1e-5, 0


@sixth("P3", "mlm bert gpt2", online=True)
def loaded_with_dtype_bfloat16(r: Recipe) -> None:
    """from_pretrained(..., dtype=torch.bfloat16) as on the card of a model, and tuned whole."""
    before = r.model

    def make() -> nn.Module:
        import transformers

        trained = before()
        state = {key: held.bfloat16() for key, held in trained.state_dict().items()}
        kind = getattr(transformers, type(trained).__name__)
        model = kind(trained.config).to(torch.bfloat16)
        model.load_state_dict(state)
        model.tie_weights()
        return model

    r.model, r.lr, r.warmup = make, 1e-5, 0


@sixth("P4", "span tagging", loop="plain", online=True)
def loaded_in_float16_and_scaled(r: Recipe) -> None:
    """The weights are float16 themselves, and a GradScaler is to unscale their gradients."""
    after(r, lambda model: model.half())
    _scaled(r, torch.amp.GradScaler("cpu"))


@sixth("P4", "span t5", loop="trainer")
def compute_loss_with_autocast_off(r: Recipe) -> None:
    """bf16=True, and an own compute_loss runs the model under autocast(enabled=False)."""

    def compute_loss(self: Any, model: Any, inputs: dict, return_outputs: bool = False,
                     **rest: Any) -> Any:  # fmt: skip
        with torch.autocast("cpu", enabled=False):
            outputs = model(**inputs)
        return (outputs.loss, outputs) if return_outputs else outputs.loss

    trainer(r, compute_loss=compute_loss)
    r.args = r.args | {"bf16": True}
