"""The healthy scripts of the fifth set: schedules, losses, freezing and adapters.

Networks and data of other shapes stand in `fifth_healthy_shapes`, and the register with them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from faults.families import adapted, bert, contrastive, gpt2, lora, mlm, sft, t5, vit
from faults.fifth_healthy_shapes import CONFIGURATIONS, healthy
from faults.healthy import changed, evaluated
from faults.held_out_family import tagging
from faults.mutations.models import after, layers
from faults.recipe import Recipe

__all__ = ["CONFIGURATIONS"]


def scores_and_labels(outputs: Any, y: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Flat scores and labels of a loss."""
    labels = y["labels"] if isinstance(y, Mapping) else y
    return outputs.logits.flatten(0, -2), labels.flatten()


# -- schedules and optimizers --------------------------------------------------------------------


@healthy
def a_cosine_that_ends_at_a_fifth_of_its_peak(seed: int) -> Recipe:
    """The rate never falls to zero."""
    kind = {"lr_scheduler_type": "cosine_with_min_lr", "lr_scheduler_kwargs": {"min_lr_rate": 0.2}}
    return changed(bert(seed), args=kind)


@healthy
def a_plan_in_two_phases_with_two_warmups(seed: int) -> Recipe:
    """Two cycles by hand; the rate is zero for a moment in the middle."""

    def factor(step: int) -> float:
        place = step % 30
        return min(1.0, (place + 1) / 4) * (1 - place / 30)

    return changed(
        vit(seed), schedule=lambda o: torch.optim.lr_scheduler.LambdaLR(o, factor)
    )  # fmt: skip


@healthy
def rectified_adam_with_decoupled_decay(seed: int) -> Recipe:
    """RAdam needs no warm-up; matrices alone decay."""

    def build(model: nn.Module) -> Any:
        groups = [
            {"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": 0.05},
            {"params": [p for p in model.parameters() if p.ndim < 2], "weight_decay": 0.0},
        ]
        return torch.optim.RAdam(groups, lr=4e-3, decoupled_weight_decay=True)

    return changed(tagging(seed, "plain"), optimizer=build)


@healthy
def second_moments_that_forget_quickly(seed: int) -> Recipe:
    """`adam_beta2=0.95`, as large language models are trained, and a rate that stays."""
    kind = {"adam_beta2": 0.95, "lr_scheduler_type": "constant_with_warmup"}
    return changed(sft(seed), args=kind)


@healthy
def held_and_let_down_by_the_library(seed: int) -> Recipe:
    """`warmup_stable_decay` of the library."""
    kind = {"num_decay_steps": 20, "num_stable_steps": 15}
    return changed(
        gpt2(seed),
        args={"lr_scheduler_type": "warmup_stable_decay", "lr_scheduler_kwargs": kind},
    )


@healthy
def zeroed_before_each_backward_pass(seed: int) -> Recipe:
    """`zero_grad()` stands right before `backward()`: gradients lie about between the steps."""
    recipe, held = vit(seed), {}

    def build(model: nn.Module) -> Any:
        held["optimizer"] = torch.optim.AdamW(model.parameters(), lr=3e-3)
        return held["optimizer"]

    def backward(loss: torch.Tensor) -> None:
        held["optimizer"].zero_grad()
        loss.backward()

    recipe.optimizer, recipe.line.backward = build, backward
    recipe.line.zero = lambda optimizer: None
    return recipe


@healthy
def noise_of_neftune_by_its_argument(seed: int) -> Recipe:
    """`neftune_noise_alpha=5`: noise on the embeddings while training."""
    return changed(sft(seed), args={"neftune_noise_alpha": 5.0})


# -- losses --------------------------------------------------------------------------------------


@healthy
def cross_entropy_with_a_polynomial_term(seed: int) -> Recipe:
    """Poly-1: the cross-entropy and the share of what is wrong."""

    def loss(outputs: Any, y: Any) -> torch.Tensor:
        scores, labels = scores_and_labels(outputs, y)
        each = functional.cross_entropy(scores, labels, reduction="none")
        return (each + 1 - torch.exp(-each)).mean()

    return changed(vit(seed), loss=loss)


@healthy
def scores_shifted_by_the_logarithm_of_the_priors(seed: int) -> Recipe:
    """Logit adjustment: frequent classes need more to win."""
    recipe = bert(seed)
    counts = torch.bincount(torch.tensor([row["labels"] for row in recipe.train])).float()
    priors = (counts / counts.sum()).log()

    def loss(outputs: Any, y: Any) -> torch.Tensor:
        scores, labels = scores_and_labels(outputs, y)
        return functional.cross_entropy(scores + priors, labels)

    return changed(recipe, loss=loss)


@healthy
def confident_scores_are_punished(seed: int) -> Recipe:
    """A tenth of the entropy of the shares is subtracted from the loss."""

    def loss(outputs: Any, y: Any) -> torch.Tensor:
        scores, labels = scores_and_labels(outputs, y)
        entropy = torch.distributions.Categorical(logits=scores).entropy().mean()
        return functional.cross_entropy(scores, labels) - 0.1 * entropy

    return changed(vit(seed), loss=loss)


@healthy
def the_cross_entropy_both_ways_round(seed: int) -> Recipe:
    """Symmetric cross-entropy, for labels that are not trusted wholly."""

    def loss(outputs: Any, y: Any) -> torch.Tensor:
        scores, labels = scores_and_labels(outputs, y)
        target = functional.one_hot(labels, scores.shape[-1]).float().clamp(min=1e-3)
        back = -(scores.softmax(-1) * target.log()).sum(-1).mean()
        return functional.cross_entropy(scores, labels) + 0.2 * back

    return changed(bert(seed), loss=loss)


@healthy
def squares_of_the_normaliser_kept_small(seed: int) -> Recipe:
    """The z-loss beside the loss of the model."""
    recipe = gpt2(seed)

    def trainer() -> type:
        import transformers

        class KeptSmall(transformers.Trainer):
            def compute_loss(self, model, inputs, return_outputs=False, **kwargs):
                outputs = model(**inputs)
                kept = inputs["labels"][:, 1:] != -100
                normaliser = outputs.logits[:, :-1].logsumexp(-1)[kept]
                loss = outputs.loss + 1e-4 * (normaliser**2).mean()
                return (loss, outputs) if return_outputs else loss

        return KeptSmall

    return changed(recipe, trainer=trainer)


# -- what is trained -----------------------------------------------------------------------------


@healthy
def the_top_layer_drawn_anew_on_purpose(seed: int) -> Recipe:
    """The last layer of a pretrained encoder is initialised again, a known cure for few rows."""
    recipe = bert(seed)

    def again(model: nn.Module) -> None:
        for module in layers(model)[-1].modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, 0.0, model.config.initializer_range)
                nn.init.zeros_(module.bias)

    after(recipe, again)
    return recipe


@healthy
def every_second_layer_is_frozen(seed: int) -> Recipe:
    """The lower layer of the decoder stays, the upper one and the words are tuned."""
    recipe = gpt2(seed)

    def freeze(model: nn.Module) -> None:
        layers(model)[0].requires_grad_(False)

    after(recipe, freeze)
    return recipe


@healthy
def a_translator_whose_encoder_is_frozen(seed: int) -> Recipe:
    """T5's encoder stays as it is; only its layers, not the shared words."""
    recipe = changed(t5(seed), lr=4e-3)

    def freeze(model: nn.Module) -> None:
        for parameter in model.encoder.block.parameters():
            parameter.requires_grad = False

    after(recipe, freeze)
    return recipe


@healthy
def the_feed_forward_layers_alone_of_a_tagger(seed: int) -> Recipe:
    """Head and feed-forward matrices are tuned, attention and words are not."""
    recipe = changed(tagging(seed), lr=4e-3)

    def freeze(model: nn.Module) -> None:
        for name, parameter in model.named_parameters():
            parameter.requires_grad = "ffn" in name or "classifier" in name

    after(recipe, freeze)
    return recipe


@healthy
def ranks_that_differ_from_layer_to_layer(seed: int) -> Recipe:
    """LoRA of rank 2 below and 8 above, with its own scale."""
    recipe = lora(seed)
    ranks = {"rank_pattern": {"layer.1.*query": 8}, "alpha_pattern": {"layer.1.*query": 16}}
    recipe.prepare = lambda model: adapted(model, "SEQ_CLS", r=2, lora_alpha=4, **ranks)
    return recipe


@healthy
def adapters_with_the_biases_of_the_layers(seed: int) -> Recipe:
    """`bias="lora_only"`: the biases beside the adapters are trained too."""
    recipe = lora(seed)
    recipe.prepare = lambda model: adapted(model, "SEQ_CLS", bias="lora_only")
    return recipe


@healthy
def adapters_on_the_words_of_a_decoder(seed: int) -> Recipe:
    """LoRA on the fused attention matrix and on the embedding of GPT-2."""
    recipe = changed(gpt2(seed), lr=1e-2, steps=60)
    recipe.prepare = lambda model: adapted(
        model, "CAUSAL_LM", target_modules=["c_attn", "wte"], fan_in_fan_out=True
    )
    return recipe


@healthy
def the_same_text_on_both_sides(seed: int) -> Recipe:
    """SimCSE: a text and itself are a pair, and dropout makes them differ."""
    recipe = contrastive(seed)
    for rows in (recipe.train, recipe.eval):
        for row in rows:
            row["pair_ids"] = list(row["text_ids"])
    return changed(recipe, lr=1e-3)


@healthy
def masked_once_and_for_all(seed: int) -> Recipe:
    """Static masking: the masks of each row are drawn before the training."""
    recipe = changed(mlm(seed), lr=2e-3, steps=60)
    masking, draws = recipe.collate, torch.Generator().manual_seed(seed)

    def hidden(row: dict) -> dict:
        ids = torch.tensor(row["input_ids"])
        chosen = (torch.rand(len(ids), generator=draws) < 0.15) & (ids > 4)
        chosen[1] = True
        return row | {
            "input_ids": ids.masked_fill(chosen, recipe.tokenizer.mask_token_id).tolist(),
            "labels": torch.where(chosen, ids, -100).tolist(),
        }

    recipe.train = [hidden(row) for row in recipe.train]
    recipe.eval = [hidden(row) for row in recipe.eval]
    return evaluated(changed(recipe, collate=masking.pad), 30)
