"""M6 to M8 and C1, fifth set: adapters that sleep, modes, gradients that are cut, collapse."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from faults.families import Towers, load
from faults.mutations.fifth_parts import own_loss
from faults.mutations.models import after
from faults.recipe import Recipe
from faults.table import fifth


@fifth("M6", "lora-sft lora", online=True, also=("O6",))
def the_optimizer_is_given_lora_a_alone(r: Recipe) -> None:
    """`[p for n, p in model.named_parameters() if "lora_A" in n]`: B stays zero."""

    def build(model: nn.Module) -> Any:
        held = [p for name, p in model.named_parameters() if "lora_A" in name]
        return torch.optim.AdamW(held, lr=r.lr)

    r.optimizer = build


@fifth("M6", "lora-sft lora", online=True)
def the_second_matrix_cleared_at_every_step(r: Recipe) -> None:
    """A callback "initialises" the adapters, and it hangs on the wrong event."""
    import transformers

    class Initialise(transformers.TrainerCallback):
        def on_step_end(self, args, state, control, model=None, **kwargs):
            for name, parameter in model.named_parameters():
                if "lora_B" in name:
                    nn.init.zeros_(parameter)

    r.callbacks.append(Initialise())


@fifth("M7", "bert gpt2 tagging", online=True)
def eval_called_inside_compute_loss(r: Recipe) -> None:
    """`model.eval()` at the head of `compute_loss`, left from a test of the loss."""

    def trainer() -> type:
        import transformers

        class QuietTrainer(transformers.Trainer):
            def compute_loss(self, model, inputs, *args, **kwargs):
                model.eval()
                return super().compute_loss(model, inputs, *args, **kwargs)

        return QuietTrainer

    r.trainer = trainer


class DroppedTowers(Towers):
    """Towers with a functional dropout that is always on."""

    def embed(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return functional.normalize(functional.dropout(super().embed(ids, mask), 0.3), dim=-1)


@fifth("M7", "vit contrastive tagging")
def functional_dropout_without_its_training_flag(r: Recipe) -> None:
    """`F.dropout(x, 0.3)` in `forward`: it drops in evaluation as well."""
    if r.family == "contrastive":
        r.model = lambda: DroppedTowers(load("BertModel", "bert", add_pooling_layer=False))
        return

    class Head(nn.Module):
        def __init__(self, linear: nn.Module) -> None:
            super().__init__()
            self.linear = linear

        def forward(self, hidden: torch.Tensor) -> torch.Tensor:
            return self.linear(functional.dropout(hidden, 0.3))

    def put(model: nn.Module) -> None:
        model.classifier = Head(model.classifier)

    after(r, put)


class CopiedTowers(Towers):
    """Towers that keep a copy of the mean."""

    def embed(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        hidden = self.encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        mean = torch.tensor(hidden.mean(1).tolist())
        return functional.normalize(self.projection(mean), dim=-1)


@fifth("M8", "bert vit contrastive")
def features_copied_by_torch_tensor(r: Recipe) -> None:
    """`torch.tensor(features.tolist())` between encoder and head: the graph ends there."""
    if r.family == "contrastive":
        r.model = lambda: CopiedTowers(load("BertModel", "bert", add_pooling_layer=False))
        return

    class Head(nn.Module):
        def __init__(self, linear: nn.Module) -> None:
            super().__init__()
            self.linear = linear

        def forward(self, hidden: torch.Tensor) -> torch.Tensor:
            return self.linear(torch.tensor(hidden.tolist()))

    def put(model: nn.Module) -> None:
        model.classifier = Head(model.classifier)

    after(r, put)


@fifth("M8", "bert vit")
def the_loss_of_predicted_classes(r: Recipe) -> None:
    """`argmax` before the loss, and `requires_grad_()` to silence the error it raises."""

    def loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        kept = labels != -100
        predicted = logits.argmax(-1).float()
        return functional.mse_loss(predicted[kept], labels[kept].float()).requires_grad_()

    own_loss(r, loss)


@fifth("M8", "t5")
def the_encoder_run_once_without_gradients(r: Recipe) -> None:
    """`encoder_outputs` are computed first, under `no_grad`, and given to the model."""

    def cut(model: nn.Module) -> None:
        inner = model.encoder.forward

        def forward(*args: Any, **how: Any) -> Any:
            with torch.no_grad():
                return inner(*args, **how)

        model.encoder.forward = forward

    after(r, cut)


class ByTemperature:
    """InfoNCE with the temperature on the wrong side of the fraction."""

    def __call__(self, outputs: Any, batch: Any = None) -> torch.Tensor:
        scores = outputs["text_embeds"] @ outputs["pair_embeds"].T * 0.07
        return functional.cross_entropy(scores, torch.arange(len(scores)))


@fifth("C1", "contrastive", online=True)
def similarities_multiplied_by_the_temperature(r: Recipe) -> None:
    """`scores * 0.07` where `scores / 0.07` is meant: all texts stay about as far apart."""
    r.loss = ByTemperature()


class OwnNegatives:
    """A triplet loss whose negative is the positive of the same row."""

    def __call__(self, outputs: Any, batch: Any = None) -> torch.Tensor:
        anchor, positive = outputs["text_embeds"], outputs["pair_embeds"]
        negative = positive.roll(len(positive), 0)
        return functional.triplet_margin_loss(anchor, positive, negative, margin=0.5)


@fifth("C1", "contrastive", online=True)
def negatives_rolled_by_a_whole_turn(r: Recipe) -> None:
    """`pairs.roll(len(pairs))` as negatives: a whole turn, each row is its own negative."""
    r.loss = OwnNegatives()


class AllOfTheFirst:
    """Each text is to find the first pair of the batch."""

    def __call__(self, outputs: Any, batch: Any = None) -> torch.Tensor:
        scores = outputs["text_embeds"] @ outputs["pair_embeds"].T / 0.07
        return functional.cross_entropy(scores, torch.zeros(len(scores), dtype=torch.long))


@fifth("C1", "contrastive", online=True)
def every_target_is_the_first_of_the_batch(r: Recipe) -> None:
    """`torch.zeros` for the targets, as where the positive stands first among own negatives."""
    r.loss = AllOfTheFirst()
