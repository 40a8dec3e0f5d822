"""Healthy runs that are odd in new ways; written with the third set and read once, with it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.optim import lr_scheduler

from faults.families import bert, contrastive, gpt2, lora_sft, mlm, sft, t5, vit
from faults.healthy import changed, evaluated
from faults.held_out_family import tagger, tagging
from faults.mutations.data import Read
from faults.mutations.models import after, layers
from faults.mutations.optimization import trainable
from faults.recipe import Recipe

CONFIGURATIONS: dict[str, Callable[[int], Recipe]] = {}


def healthy(make: Callable[[int], Recipe]) -> Callable[[int], Recipe]:
    """Register a script."""
    CONFIGURATIONS[make.__name__] = make
    return make


@healthy
def a_patch_is_cut_out_of_training_digits(seed: int) -> Recipe:
    def read(row: Any, place: int) -> Any:
        x, (i, j) = row[0].clone(), torch.randint(0, 6, (2,)).tolist()
        x[..., i : i + 2, j : j + 2] = 0
        return x, row[1]

    r = vit(seed)
    return evaluated(changed(r, train=Read(r.train, read), steps=80), 20)


@healthy
def label_smoothing_of_a_tagger(seed: int) -> Recipe:
    return changed(tagging(seed), args={"label_smoothing_factor": 0.1})


@healthy
def rates_that_fall_from_layer_to_layer(seed: int) -> Recipe:
    def optimizer(model: nn.Module) -> Any:
        depth = len(model.distilbert.transformer.layer)
        groups = [
            {"params": list(layer.parameters()), "lr": 2e-3 * 0.6 ** (depth - i)}
            for i, layer in enumerate(model.distilbert.transformer.layer)
        ]
        groups.append({"params": list(model.classifier.parameters()), "lr": 2e-3})
        groups.append({"params": list(model.distilbert.embeddings.parameters()), "lr": 2e-4})
        return torch.optim.AdamW(groups)

    return changed(tagging(seed, "plain"), optimizer=optimizer)


@healthy
def a_twin_of_averaged_weights_is_evaluated(seed: int) -> Recipe:
    """Stochastic weight averaging from the middle on."""
    r, held = changed(vit(seed), steps=90), {}

    def average(model: nn.Module, optimizer: Any) -> None:
        if "twin" not in held:
            held["twin"] = torch.optim.swa_utils.AveragedModel(model)
        held["twin"].update_parameters(model)

    r.line.after = average
    return evaluated(r, 30)


@healthy
def loss_on_every_token_of_a_chat(seed: int) -> Recipe:
    r = sft(seed)
    for row in [*r.train, *r.eval]:
        row["labels"] = list(row["input_ids"])
    return r


@healthy
def two_fifths_masked_by_choice(seed: int) -> Recipe:
    r = mlm(seed)
    r.collate.probability = 0.4
    return r


@healthy
def similar_texts_as_hard_negatives(seed: int) -> Recipe:
    """The nearest other pair of the batch weighs twice."""

    def loss(outputs: Any, batch: Any = None) -> torch.Tensor:
        scores = outputs["text_embeds"] @ outputs["pair_embeds"].T / 0.1
        rest = scores.detach().masked_fill(torch.eye(len(scores), dtype=torch.bool), -1e9)
        harder = scores + functional.one_hot(rest.argmax(1), len(scores)) * 0.7
        return functional.cross_entropy(harder, torch.arange(len(scores)))

    return changed(contrastive(seed), loss=loss, steps=80)


@healthy
def checkpoints_of_layers_without_reentry(seed: int) -> Recipe:
    return changed(
        gpt2(seed),
        args={"gradient_checkpointing": True,
              "gradient_checkpointing_kwargs": {"use_reentrant": False}},
    )  # fmt: skip


@healthy
def rank_sixteen_scaled_by_its_root(seed: int) -> Recipe:
    import peft

    def prepare(model: nn.Module) -> nn.Module:
        return peft.get_peft_model(model, peft.LoraConfig(
            task_type="CAUSAL_LM", r=16, lora_alpha=8, use_rslora=True, lora_dropout=0.1,
            target_modules=["q_proj", "v_proj", "o_proj"]))  # fmt: skip

    return changed(lora_sft(seed), prepare=prepare, lr=5e-3)


@healthy
def rare_classes_weigh_more_and_are_found(seed: int) -> Recipe:
    r = bert(seed, "plain")
    r.train = [row for i, row in enumerate(r.train) if row["labels"] != 2 or i % 5 == 0]
    weight = torch.tensor([0.7, 0.7, 3.0])

    def loss(outputs: Any, batch: Any) -> torch.Tensor:
        return functional.cross_entropy(outputs.logits, batch["labels"], weight)

    return evaluated(changed(r, loss=loss, steps=70), 15)


@healthy
def how_many_words_a_text_has(seed: int) -> Recipe:
    """A regression under the Huber loss, its target on the scale of one."""
    from faults.families import load

    r = bert(seed)
    for row in [*r.train, *r.eval]:
        row["labels"] = len(row["text"].split()) / 10

    def loss(outputs: Any, batch: Any) -> torch.Tensor:
        labels = batch["labels"] if isinstance(batch, Mapping) else batch
        return functional.huber_loss(outputs.logits[:, 0], labels.float())

    model = lambda: load("BertForSequenceClassification", "bert", num_labels=1)  # noqa: E731
    return changed(r, model=model, loss=loss, metrics=None, lr=1e-3)


@healthy
def a_rate_that_swings(seed: int) -> Recipe:
    def schedule(optimizer: Any) -> Any:
        return lr_scheduler.CosineAnnealingWarmRestarts(optimizer, T_0=15, T_mult=2)

    return changed(tagging(seed, "plain"), schedule=schedule, steps=75)


@healthy
def only_the_upper_half_of_a_decoder(seed: int) -> Recipe:
    def prepare(model: nn.Module) -> None:
        model.requires_grad_(False)
        layers(model)[-1].requires_grad_(True)
        model.transformer.ln_f.requires_grad_(True)

    r = gpt2(seed)
    after(r, prepare)
    return r


@healthy
def one_rare_tag_among_common_ones(seed: int) -> Recipe:
    """Signs against all else; they are found at once."""
    r = tagging(seed)
    for row in [*r.train, *r.eval]:
        row["labels"] = [y if y == -100 else int(y == 1) for y in row["labels"]]
    return evaluated(changed(r, model=lambda: tagger(num_labels=2), steps=60), 15)


@healthy
def tags_that_depend_on_the_word_before(seed: int) -> Recipe:
    """A tag marks the words that follow a sign: context decides, not the word."""
    r = tagging(seed)
    for row in [*r.train, *r.eval]:
        last, tags = 0, []
        for y in row["labels"]:
            tags.append(y if y == -100 else int(last == 1))
            last = last if y == -100 else y
        row["labels"] = tags
    return changed(r, model=lambda: tagger(num_labels=2))


@healthy
def a_lion_of_ones_own(seed: int) -> Recipe:
    """Steps by the sign of a momentum, in an optimizer that no library knows."""

    class Lion(torch.optim.Optimizer):
        def __init__(self, params: Any, lr: float) -> None:
            super().__init__(params, {"lr": lr})

        @torch.no_grad()
        def step(self, closure: Any = None) -> None:
            for group in self.param_groups:
                for p in (p for p in group["params"] if p.grad is not None):
                    m = self.state[p].setdefault("m", torch.zeros_like(p))
                    p.add_((0.9 * m + 0.1 * p.grad).sign(), alpha=-group["lr"])
                    m.mul_(0.99).add_(p.grad, alpha=0.01)

    return changed(t5(seed, "plain"), optimizer=lambda model: Lion(trainable(model), 3e-4))


@healthy
def a_frozen_copy_teaches(seed: int) -> Recipe:
    """Distillation from the model as it was, beside the labels."""
    r = gpt2(seed, "plain")
    teacher = copy.deepcopy(r.model()).eval().requires_grad_(False)

    def loss(outputs: Any, batch: Any) -> torch.Tensor:
        with torch.no_grad():
            told = teacher(batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        pull = functional.kl_div(outputs.logits.log_softmax(-1), told.softmax(-1),
                                 reduction="none").sum(-1)  # fmt: skip
        mask = batch["attention_mask"]
        own = functional.cross_entropy(
            outputs.logits[:, :-1].flatten(0, 1), batch["labels"][:, 1:].flatten()
        )
        return own + 0.5 * (pull * mask).sum() / mask.sum()

    return changed(r, loss=loss)


@healthy
def one_epoch_in_the_order_of_length(seed: int) -> Recipe:
    """A curriculum: short rows first, each row once."""
    r = mlm(seed, "plain")
    r.train = sorted(r.train, key=lambda row: len(row["input_ids"]))
    r.loader = {"shuffle": False, "generator": None}
    return changed(r, steps=24)
