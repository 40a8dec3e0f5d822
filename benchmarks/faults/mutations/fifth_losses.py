"""L1 to L4 and P1, fifth set: losses of a script's own, in `compute_loss` or in the loop."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from faults.families import InfoNCE
from faults.mutations.fifth_parts import classes_of, each_batch, flat, own_loss
from faults.mutations.models import after
from faults.recipe import Recipe
from faults.table import fifth


@fifth("L1", "gpt2 sft lora-sft")
def labels_moved_by_the_data_set(r: Recipe) -> None:
    """`labels = ids[1:] + [-100]` in the data set, and the model moves them once more."""

    def moved(batch: dict) -> None:
        labels = batch["labels"].roll(-1, 1)
        labels[:, -1] = -100
        batch["labels"] = labels

    each_batch(r, moved)


@fifth("L1", "gpt2 sft lora-sft")
def compute_loss_that_does_not_move_the_labels(r: Recipe) -> None:
    """`CrossEntropyLoss()(logits.view(-1, V), labels.view(-1))` for a causal model."""
    own_loss(r, flat)


@fifth("L1", "tagging mlm t5")
def compute_loss_copied_from_a_causal_model(r: Recipe) -> None:
    """`logits[:, :-1]` against `labels[:, 1:]`, for a model whose outputs stand at their labels."""

    def trainer() -> type:
        import transformers

        class CausalTrainer(transformers.Trainer):
            def compute_loss(self, model, inputs, return_outputs=False, **kwargs):
                outputs = model(**inputs)
                logits, labels = outputs.logits, inputs["labels"]
                loss = flat(logits[:, :-1], labels[:, 1:])
                return (loss, outputs) if return_outputs else loss

        return CausalTrainer

    r.trainer = trainer


@fifth("L2", "vit tagging")
def a_head_of_linear_and_softmax(r: Recipe) -> None:
    """`nn.Sequential(nn.Linear(...), nn.Softmax(dim=-1))` in front of the cross-entropy."""

    def put(model: nn.Module) -> None:
        model.classifier = nn.Sequential(model.classifier, nn.Softmax(dim=-1))

    after(r, put)


@fifth("L2", "bert lora")
def weights_of_classes_over_probabilities(r: Recipe) -> None:
    """`CrossEntropyLoss(weight=...)(outputs.logits.softmax(-1), labels)` in `compute_loss`."""
    weight = torch.ones(classes_of(r))

    def loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return flat(logits.softmax(-1), labels, weight=weight)

    own_loss(r, loss)


@fifth("L3", "t5 tagging sft")
def compute_loss_with_a_mean_under_accumulation(r: Recipe) -> None:
    """`**kwargs` swallows `num_items_in_batch`; the mean of each micro-batch is added up."""
    r.accumulation, r.batch = 4, 4

    def trainer() -> type:
        import transformers

        class MeanTrainer(transformers.Trainer):
            def compute_loss(self, model, inputs, return_outputs=False, **kwargs):
                outputs = model(**inputs)
                loss = outputs.loss
                return (loss, outputs) if return_outputs else loss

        return MeanTrainer

    r.trainer = trainer


@fifth("L3", "vit contrastive", loop="plain", online=True)
def divided_after_the_backward_pass(r: Recipe) -> None:
    """`loss.backward(); loss = loss / accumulation`: the division comes too late."""
    r.accumulation, r.batch = 4, max(4, r.batch // 4)

    def scale(loss: torch.Tensor, accumulation: int) -> torch.Tensor:
        return loss

    r.line.scale = scale


@fifth("L4", "vit bert contrastive", loop="plain", online=True)
def an_update_by_hand_that_adds(r: Recipe) -> None:
    """`p += lr * p.grad` in a step written by hand."""

    def step(optimizer: Any) -> None:
        with torch.no_grad():
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    if parameter.grad is not None:
                        parameter += 0.1 * parameter.grad

    r.line.step = step


@fifth("L4", "vit tagging")
def one_minus_the_cross_entropy(r: Recipe) -> None:
    """`1 - loss`, as a Dice loss is written."""
    own_loss(r, lambda logits, labels: 1 - flat(logits, labels))


@fifth("L4", "gpt2 t5 lora")
def the_mean_of_log_probabilities_is_returned(r: Recipe) -> None:
    """`log_softmax(logits).gather(labels).mean()`, and the minus was forgotten."""

    def trainer() -> type:
        import transformers

        class LikelihoodTrainer(transformers.Trainer):
            def compute_loss(self, model, inputs, return_outputs=False, **kwargs):
                outputs = model(**inputs)
                logits, labels = outputs.logits, inputs["labels"]
                if r.family == "gpt2":
                    logits, labels = logits[:, :-1], labels[:, 1:]
                shares = logits.log_softmax(-1)
                picked = shares.gather(-1, labels.clamp(min=0)[..., None])[..., 0]
                loss = picked[labels != -100].mean()
                return (loss, outputs) if return_outputs else loss

        return LikelihoodTrainer

    r.trainer = trainer


@fifth("P1", "bert vit")
def the_logarithm_of_raw_scores(r: Recipe) -> None:
    """`nll_loss(torch.log(logits), y)`: scores below zero have no logarithm."""

    def loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return functional.nll_loss(logits.log().flatten(0, -2), labels.flatten())

    own_loss(r, loss)


@fifth("P1", "vit tagging")
def the_weight_of_a_class_that_never_occurs(r: Recipe) -> None:
    """`weights = 1 / counts; weights /= weights.sum()`, and one count is zero."""
    counts = torch.full((classes_of(r),), 40.0)
    counts[-1] = 0.0
    weights = 1 / counts
    weights = weights / weights.sum()
    own_loss(r, lambda logits, labels: flat(logits, labels, weight=weights))


class OwnLogSumExp(InfoNCE):
    """InfoNCE with sums of exponentials written out, at a small temperature."""

    def __call__(self, outputs: Any, batch: Any = None) -> torch.Tensor:
        scores = outputs["text_embeds"] @ outputs["pair_embeds"].T / 0.01
        shares = scores.exp() / scores.exp().sum(1, keepdim=True)
        return -shares.diagonal().log().mean()


@fifth("P1", "contrastive")
def exponentials_written_out_at_a_small_temperature(r: Recipe) -> None:
    """`exp(scores / 0.01)`: a cosine of 0.9 is beyond what fp32 holds."""
    r.loss = OwnLogSumExp()


@fifth("P1", "gpt2 sft mlm", online=True)
def the_square_root_of_a_distance_of_zero(r: Recipe) -> None:
    """A penalty `sqrt(sum((w - w0) ** 2))` on the pretrained weights: no slope at the start."""
    held: dict[str, Any] = {}

    def keep(model: nn.Module) -> None:
        held["start"] = [p.detach().clone() for p in model.parameters()]

    after(r, keep)

    def trainer() -> type:
        import transformers

        class AnchoredTrainer(transformers.Trainer):
            def compute_loss(self, model, inputs, return_outputs=False, **kwargs):
                outputs = model(**inputs)
                pairs = zip(model.parameters(), held["start"], strict=True)
                distance = sum(((p - start) ** 2).sum() for p, start in pairs).sqrt()
                loss = outputs.loss + 0.01 * distance
                return (loss, outputs) if return_outputs else loss

        return AnchoredTrainer

    r.trainer = trainer
