"""Healthy runs that are odd in new ways; written and committed with the fourth set.

From what people do on purpose: schedules, optimizers, regularisation and adapters here, tasks and
data in `fourth_healthy_tasks`. Each was trained without the doctor, and learns.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import torch
import transformers
from torch import nn
from torch.nn import functional
from torch.optim import lr_scheduler

from faults.families import bert, contrastive, gpt2, lora, lora_sft, mlm, sft, t5, vit
from faults.fourth_healthy_tasks import CONFIGURATIONS, healthy
from faults.healthy import changed, evaluated
from faults.held_out_family import tagging
from faults.mutations.fresh_losses import labels_in
from faults.mutations.fresh_running import BEST
from faults.mutations.models import after, layers
from faults.mutations.optimization import trainable
from faults.recipe import Recipe

__all__ = ["CONFIGURATIONS"]


def by_factor(r: Recipe, factor: Callable[[int], float]) -> Recipe:
    """The rate is this share of the script's own at each step."""
    return changed(r, schedule=lambda optimizer: lr_scheduler.LambdaLR(optimizer, factor))


# -- schedules, optimizers, clipping -------------------------------------------------------------


@healthy
def held_for_long_and_then_cooled_down(seed: int) -> Recipe:
    """Warm-up, a plateau, and a root of the rest in the last fifth."""

    def factor(step: int) -> float:
        return min(1.0, (step + 1) / 6) if step < 48 else 1 - math.sqrt((step - 47) / 13)

    return by_factor(changed(sft(seed, "plain"), steps=60), factor)


@healthy
def a_polynomial_of_the_second_degree(seed: int) -> Recipe:
    r = t5(seed)
    return changed(r, args={"lr_scheduler_type": "polynomial", "lr_scheduler_kwargs": {
        "power": 2.0, "lr_end": 1e-5}})  # fmt: skip


@healthy
def a_constant_rate_after_a_short_warmup(seed: int) -> Recipe:
    return evaluated(changed(mlm(seed), args={"lr_scheduler_type": "constant_with_warmup"}), 20)


@healthy
def adagrad_at_a_rate_that_suits_it(seed: int) -> Recipe:
    r = vit(seed)
    return evaluated(
        changed(r, optimizer=lambda m: torch.optim.Adagrad(m.parameters(), 0.02), steps=90), 30
    )


@healthy
def steps_scaled_by_the_norm_of_the_weights(seed: int) -> Recipe:
    """LARS of one's own: small rates are relative here."""

    class Lars(torch.optim.SGD):
        @torch.no_grad()
        def step(self, closure: Any = None) -> Any:
            for group in self.param_groups:
                for p in (p for p in group["params"] if p.grad is not None and p.dim() > 1):
                    p.grad.mul_(p.norm() / (p.grad.norm() + 1e-8))
            return super().step(closure)

    r = tagging(seed, "plain")
    return changed(r, optimizer=lambda m: Lars(trainable(m), 0.02, momentum=0.9), clip=0.0)


@healthy
def values_clipped_to_a_tenth(seed: int) -> Recipe:
    r = gpt2(seed, "plain")
    r.line.clip = lambda model, limit: nn.utils.clip_grad_value_(model.parameters(), 0.1)
    return r


@healthy
def slow_weights_that_follow_every_fifth_step(seed: int) -> Recipe:
    """Lookahead: the model goes back half of the way to where it was five steps ago."""
    r, held = changed(vit(seed), steps=90), {"step": 0}

    def follow(model: nn.Module, optimizer: Any) -> None:
        held.setdefault("slow", [p.detach().clone() for p in model.parameters()])
        held["step"] += 1
        if held["step"] % 5 == 0:
            with torch.no_grad():
                for slow, fast in zip(held["slow"], model.parameters(), strict=True):
                    fast.copy_(slow.lerp_(fast, 0.5))

    r.line.after = follow
    return evaluated(r, 30)


@healthy
def gradients_without_their_mean(seed: int) -> Recipe:
    r = bert(seed, "plain")

    def clip(model: nn.Module, limit: float) -> Any:
        for p in model.parameters():
            if p.grad is not None and p.dim() > 1:
                p.grad.sub_(p.grad.mean(-1, keepdim=True))
        return nn.utils.clip_grad_norm_(model.parameters(), limit)

    r.line.clip = clip
    return evaluated(changed(r, lr=1e-3), 20)


@healthy
def stopped_early_when_nothing_gets_better(seed: int) -> Recipe:
    r = bert(seed)
    r.args |= BEST | {"metric_for_best_model": "accuracy", "greater_is_better": True}
    r.callbacks = [transformers.EarlyStoppingCallback(early_stopping_patience=2)]
    return changed(r, steps=100, lr=1e-3)


# -- regularisation ------------------------------------------------------------------------------


@healthy
def patches_of_two_digits_swapped(seed: int) -> Recipe:
    """CutMix in the collator: the label is a mixture by area, and only in training."""

    def cut(rows: Any) -> Any:
        x, y = (torch.stack(part) for part in zip(*rows, strict=True))
        hot = functional.one_hot(y, 10).float()
        (i, j), other = torch.randint(0, 5, (2,)).tolist(), torch.randperm(len(x))
        x[..., i : i + 3, j : j + 3] = x[other][..., i : i + 3, j : j + 3]
        return x, hot + (hot[other] - hot) * (9 / 64)

    r = vit(seed)
    r.loader = {"collate_fn": cut}
    r.loss = lambda outputs, y: functional.cross_entropy(outputs.logits, y)
    return evaluated(changed(r, steps=90, metrics=None), 30)


@healthy
def noise_on_embeddings_while_training_only(seed: int) -> Recipe:
    return evaluated(changed(sft(seed), args={"neftune_noise_alpha": 5.0}), 20)


@healthy
def a_loss_that_forgives_mistakes(seed: int) -> Recipe:
    """Generalised cross-entropy: between the logarithm and the share itself."""

    def loss(outputs: Any, y: Any) -> torch.Tensor:
        shares = outputs.logits.softmax(-1).gather(1, labels_in(y)[:, None])
        return ((1 - shares**0.5) / 0.5).mean()

    return evaluated(changed(vit(seed), loss=loss, steps=90), 30)


@healthy
def a_margin_in_the_place_of_shares(seed: int) -> Recipe:
    return changed(
        bert(seed, "plain"),
        loss=lambda outputs, batch: functional.multi_margin_loss(outputs.logits, batch["labels"]),
    )


@healthy
def the_hardest_half_of_each_batch(seed: int) -> Recipe:
    def loss(outputs: Any, y: Any) -> torch.Tensor:
        each = functional.cross_entropy(outputs.logits, labels_in(y), reduction="none")
        return each.topk(len(each) // 2).values.mean()

    return evaluated(changed(bert(seed, "plain"), loss=loss, lr=1e-3), 20)


@healthy
def drawn_back_to_the_pretrained_weights(seed: int) -> Recipe:
    """L2-SP: a penalty on the way that the weights have gone."""
    r, held = t5(seed, "plain"), {}

    def prepare(model: nn.Module) -> None:
        held["model"], held["start"] = model, copy.deepcopy(list(model.parameters()))

    def near(loss: torch.Tensor) -> torch.Tensor:
        pairs = zip(held["model"].parameters(), held["start"], strict=True)
        return loss + 1e-3 * sum((p - start.detach()).square().sum() for p, start in pairs)

    after(r, prepare)
    r.line.loss = near
    return r


# -- what trains ---------------------------------------------------------------------------------


@healthy
def a_frozen_backbone_that_stays_in_evaluation_mode(seed: int) -> Recipe:
    """The head trains, with its dropout; the rest is a fixed map."""
    r = bert(seed, "plain")
    after(r, lambda model: model.bert.requires_grad_(False) and None)
    r.line.to_train = lambda model: (model.train(), model.bert.eval())
    return evaluated(changed(r, lr=1e-2), 20)


@healthy
def attention_alone_is_tuned(seed: int) -> Recipe:
    def prepare(model: nn.Module) -> None:
        for name, parameter in model.named_parameters():
            parameter.requires_grad = ".attn." in name

    r = gpt2(seed)
    after(r, prepare)
    return changed(r, lr=2e-3)


@healthy
def a_learnt_mix_of_all_layers(seed: int) -> Recipe:
    """The last layer hands on a weighted mean of what every layer said."""

    def prepare(model: nn.Module) -> None:
        model.mix, said = nn.Parameter(torch.zeros(len(layers(model)))), []

        def keep(module: nn.Module, given: Any, out: Any) -> Any:
            said.append(out[0] if isinstance(out, tuple) else out)
            if module is not layers(model)[-1]:
                return None
            mixed = sum(w * h for w, h in zip(model.mix.softmax(0), said, strict=True))
            said.clear()
            return (mixed, *out[1:]) if isinstance(out, tuple) else mixed

        for layer in layers(model):
            layer.register_forward_hook(keep)

    r = tagging(seed)
    after(r, prepare)
    return r


@healthy
def vectors_between_shared_random_matrices(seed: int) -> Recipe:
    """VeRA: what trains has one dimension, and that is the method."""
    import peft

    config = peft.VeraConfig(task_type="SEQ_CLS", r=32, target_modules=["query", "value"])
    r = changed(lora(seed), prepare=lambda model: peft.get_peft_model(model, config), lr=2e-2)
    return evaluated(r, 20)


@healthy
def products_of_two_adapters(seed: int) -> Recipe:
    """LoHa, whose first factor begins at zero."""
    import peft

    config = peft.LoHaConfig(task_type="CAUSAL_LM", r=4, alpha=8,
                             target_modules=["q_proj", "v_proj", "o_proj"])  # fmt: skip
    return changed(lora_sft(seed), prepare=lambda model: peft.get_peft_model(model, config))


# -- contrastive ---------------------------------------------------------------------------------


@healthy
def every_pair_by_a_sigmoid(seed: int) -> Recipe:
    """SigLIP: each pair of the batch is asked on its own."""

    def loss(outputs: Any, batch: Any = None) -> torch.Tensor:
        scores = 10 * outputs["text_embeds"] @ outputs["pair_embeds"].T - 5
        wanted = 2 * torch.eye(len(scores)) - 1
        return -functional.logsigmoid(wanted * scores).sum(1).mean()

    return evaluated(changed(contrastive(seed), loss=loss, steps=80), 20)


@healthy
def triplets_with_a_margin(seed: int) -> Recipe:
    def loss(outputs: Any, batch: Any = None) -> torch.Tensor:
        text, pair = outputs["text_embeds"], outputs["pair_embeds"]
        return functional.triplet_margin_loss(text, pair, pair.roll(1, 0), margin=0.5)

    return evaluated(changed(contrastive(seed), loss=loss, steps=80), 20)
