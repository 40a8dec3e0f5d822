"""Fresh ways to commit L1 to L4 and P1 to P4; `fresh_data` says by which rule."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from faults.mutations.models import after, layers
from faults.mutations.tokens import then
from faults.recipe import Recipe
from faults.table import fault


def labels_in(y: Any) -> torch.Tensor:
    """The labels of a batch, or a pair's second."""
    return y["labels"] if isinstance(y, Mapping) else y


@fault("L1", "gpt2 sft lora-sft", fresh=True)
def labels_one_place_late(r: Recipe) -> None:
    """Rolled to the right: where the model shifts, each token is asked for itself."""

    def late(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        labels = batch["labels"]
        return {"labels": torch.cat([torch.full_like(labels[:, :1], -100), labels[:, :-1]], 1)}

    then(r, late)


@fault("L1", "mlm tagging", fresh=True)
def loss_copied_from_a_causal_script(r: Recipe) -> None:
    r.loss = lambda outputs, batch: functional.cross_entropy(
        outputs.logits[:, :-1].flatten(0, 1), batch["labels"][:, 1:].flatten()
    )


@fault("L2", "bert vit tagging", fresh=True)
def head_that_ends_in_softmax(r: Recipe) -> None:
    def prepare(model: nn.Module) -> None:
        model.classifier = nn.Sequential(model.classifier, nn.Softmax(-1))

    after(r, prepare)


@fault("L2", "bert lora tagging", loop="trainer", fresh=True)
def trainer_that_takes_probabilities_for_scores(r: Recipe) -> None:
    import transformers

    class Trainer(transformers.Trainer):
        def compute_loss(
            self, model: Any, inputs: Any, return_outputs: bool = False, **_: Any
        ) -> Any:
            outputs = model(**inputs)
            shares = outputs.logits.softmax(-1).flatten(0, -2)
            loss = nn.CrossEntropyLoss()(shares, inputs["labels"].flatten())
            return (loss, outputs) if return_outputs else loss

    r.trainer = lambda: Trainer


@fault("L3", "gpt2 sft", loop="trainer", online=True, fresh=True)
def divided_by_the_trainer_and_by_hand(r: Recipe) -> None:
    import transformers

    class Trainer(transformers.Trainer):
        def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
            found = super().compute_loss(*args, **kwargs)
            steps = self.args.gradient_accumulation_steps
            return (found[0] / steps, found[1]) if isinstance(found, tuple) else found / steps

    r.trainer, r.accumulation, r.batch, r.steps = lambda: Trainer, 4, 4, 20


@fault("L3", "bert vit tagging gpt2", loop="plain", online=True, fresh=True)
def divided_at_the_last_micro_batch_only(r: Recipe) -> None:
    calls = [0]

    def scale(loss: torch.Tensor, accumulation: int) -> torch.Tensor:
        calls[0] += 1
        return loss / accumulation if calls[0] % accumulation == 0 else loss

    r.accumulation, r.batch, r.steps, r.line.scale = 4, 4, 20, scale


@fault("L4", "bert gpt2 vit tagging", loop="plain", online=True, fresh=True)
def gradients_reversed_before_the_step(r: Recipe) -> None:
    def clip(model: nn.Module, limit: float) -> Any:
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter.grad.neg_()
        return nn.utils.clip_grad_norm_(model.parameters(), limit)

    r.line.clip = clip


@fault("L4", "sft mlm tagging", loop="plain", online=True, fresh=True)
def schedule_with_a_negative_factor(r: Recipe) -> None:
    r.schedule = lambda optimizer: torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: -1.0)


# -- P1 ------------------------------------------------------------------------------------------


@fault("P1", "bert vit tagging", loop="plain", online=True, fresh=True)
def logarithm_of_a_share_of_zero(r: Recipe) -> None:
    def loss(outputs: Any, y: Any) -> torch.Tensor:
        shares = (150 * outputs.logits).softmax(-1).log().flatten(0, -2)
        return functional.nll_loss(shares, labels_in(y).flatten())

    r.loss = loss


@fault("P1", "bert gpt2 t5 tagging", online=True, fresh=True)
def a_row_of_the_embedding_is_no_number(r: Recipe) -> None:
    ids = torch.tensor([t for row in r.train for t in row["input_ids"][1:-1]])
    found, counts = ids.unique(return_counts=True)
    rare = int(found[(counts - 12).abs().argmin()])

    def prepare(model: nn.Module) -> None:
        with torch.no_grad():
            model.get_input_embeddings().weight[rare] = float("nan")

    after(r, prepare)


@fault("P2", "vit bert gpt2 tagging", loop="plain", online=True, also=("P1",), fresh=True)
def a_scale_that_never_backs_off(r: Recipe) -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**40, backoff_factor=0.9999)

    def forward(model: nn.Module, batch: Any) -> Any:
        with torch.autocast("cpu", dtype=torch.float16):
            return model(**batch) if isinstance(batch, Mapping) else model(batch[0])

    r.line.forward = forward
    r.line.backward = lambda loss: scaler.scale(loss).backward()
    r.line.clip = lambda model, limit: None
    r.line.step = lambda optimizer: (scaler.step(optimizer), scaler.update())
    r.steps = 60


@fault("P3", "gpt2 sft tagging", loop="trainer", online=True, fresh=True)
def bf16_weights_with_the_rate_of_a_last_polish(r: Recipe) -> None:
    r.lr, r.warmup, r.decay = 5e-7, 1, 0.01
    after(r, lambda model: model.to(torch.bfloat16))


@fault("P3", "bert mlm tagging", loop="plain", online=True, fresh=True)
def bf16_weights_under_plain_sgd(r: Recipe) -> None:
    after(r, lambda model: model.bfloat16())
    r.optimizer = lambda model: torch.optim.SGD(model.parameters(), lr=3e-5)


@fault("P4", "bert gpt2 tagging", loop="trainer", fresh=True)
def layers_that_leave_autocast(r: Recipe) -> None:
    r.args["bf16"] = True

    def prepare(model: nn.Module) -> None:
        for layer in layers(model):
            layer.forward = _outside(layer.forward)

    after(r, prepare)


def _outside(inner: Any) -> Any:
    def forward(hidden: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        with torch.autocast("cpu", enabled=False):
            return inner(hidden.float(), *args, **kwargs)

    return forward


@fault("P4", "lora-sft sft", loop="plain", online=True, also=("P3",), fresh=True)
def a_scaler_over_weights_loaded_in_half(r: Recipe) -> None:
    """Under autocast, as usual; the weights that are trained are fp16 themselves."""

    def prepare(model: nn.Module) -> None:
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.half()

    after(r, prepare)
    scaler = torch.amp.GradScaler("cpu", init_scale=1.0)

    def forward(model: nn.Module, batch: Any) -> Any:
        with torch.autocast("cpu", dtype=torch.float16):
            return model(**batch)

    r.line.forward = forward
    r.line.backward = lambda loss: scaler.scale(loss).backward()
    r.line.clip = lambda model, limit: None
    r.line.step = lambda optimizer: (scaler.step(optimizer), scaler.update())
