"""The healthy scripts of the sixth set; readers and tasks of their own stand in two more."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.optim import lr_scheduler

from faults.families import Towers, adapted, bert, contrastive, gpt2, load, lora, sft, t5, vit
from faults.healthy import changed, evaluated
from faults.held_out_family import tagging
from faults.mutations.models import after, layers
from faults.recipe import Recipe

CONFIGURATIONS: dict[str, Callable[[int], Recipe]] = {}


def healthy(make: Callable[[int], Recipe]) -> Callable[[int], Recipe]:
    """Register a healthy script under its name."""
    CONFIGURATIONS[make.__name__] = make
    return make


# -- data and order ------------------------------------------------------------------------------


class Growing(torch.utils.data.Sampler):
    """Batches of eight at first, and of thirty-two at last, anew at each epoch."""

    def __init__(self, count: int, seed: int) -> None:
        self.count, self.draw = count, torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        return self.count // 16

    def __iter__(self) -> Iterator[list[int]]:
        order = torch.randperm(self.count, generator=self.draw).tolist()
        size = 8
        while len(order) >= size:
            yield order[:size]
            order, size = order[size:], min(size + 2, 32)


@healthy
def batches_that_grow(seed: int) -> Recipe:
    r = bert(seed, "plain")
    r.loader = {"batch_sampler": Growing(len(r.train), seed), "batch_size": 1}
    r.loader |= {"shuffle": False, "drop_last": False}
    return evaluated(r)


@healthy
def rows_drawn_with_replacement(seed: int) -> Recipe:
    r = tagging(seed, "plain")
    draw = torch.Generator().manual_seed(seed)
    sampler = torch.utils.data.RandomSampler(r.train, True, 600, generator=draw)
    return evaluated(changed(r, loader={"sampler": sampler, "shuffle": False}))


@healthy
def every_other_token_is_scored(seed: int) -> Recipe:
    """A random half of the labels is left out of the loss, anew each time."""
    r = gpt2(seed)
    before = r.collate

    def collate(rows: list) -> dict:
        batch = before(rows)
        left = torch.rand(batch["labels"].shape) < 0.5
        left[:, 1] = False
        return batch | {"labels": batch["labels"].masked_fill(left, -100)}

    return evaluated(changed(r, collate=collate))


@healthy
def two_tasks_told_apart_by_their_first_words(seed: int) -> Recipe:
    """Half of the rows ask for the name, half for the first three words once more."""
    r = t5(seed)

    def task(part: list) -> list:
        made = []
        for i, row in enumerate(part):
            words = " ".join(row["source"].split()[:3])
            asked, told = (("name", row["target"]), ("repeat", words))[i % 2]
            ids = r.tokenizer(f"{asked}: {row['source']}", truncation=True, max_length=32)
            made.append({"input_ids": ids["input_ids"], "attention_mask": ids["attention_mask"],
                         "labels": r.tokenizer(told, truncation=True, max_length=16)["input_ids"],
                         "source": f"{asked}: {row['source']}", "target": told})  # fmt: skip
        return made

    return evaluated(changed(r, train=task(r.train), eval=task(r.eval), steps=80))


# -- what is trained, and how fast ---------------------------------------------------------------


@healthy
def only_the_decoder_learns(seed: int) -> Recipe:
    r = t5(seed)
    after(r, lambda model: model.encoder.block.requires_grad_(False) and None)
    return evaluated(changed(r, steps=80))


@healthy
def norms_stay_as_they_are(seed: int) -> Recipe:
    r = sft(seed)

    def frozen(model: nn.Module) -> None:
        for name, parameter in model.named_parameters():
            parameter.requires_grad = "norm" not in name

    after(r, frozen)
    return evaluated(r)


@healthy
def the_last_layer_is_drawn_again_on_purpose(seed: int) -> Recipe:
    """The upper layer of a small checkpoint is begun anew, which steadies fine-tuning."""
    r = bert(seed)

    def again(model: nn.Module) -> None:
        for module in layers(model)[-1].modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.1)
                nn.init.zeros_(module.bias)

    after(r, again)
    return evaluated(r)


@healthy
def embeddings_that_move_slowly(seed: int) -> Recipe:
    r = tagging(seed, "plain")

    def optimizer(model: nn.Module) -> Any:
        slow = [p for n, p in model.named_parameters() if "embeddings" in n]
        fast = [p for n, p in model.named_parameters() if "embeddings" not in n]
        return torch.optim.AdamW([{"params": slow, "lr": r.lr / 10}, {"params": fast}], lr=r.lr)

    return evaluated(changed(r, optimizer=optimizer))


@healthy
def adapters_with_their_biases(seed: int) -> Recipe:
    r = lora(seed)
    r.prepare = lambda model: adapted(model, "SEQ_CLS", bias="lora_only", lora_dropout=0.1)
    return evaluated(r)


@healthy
def a_cosine_that_ends_at_a_tenth(seed: int) -> Recipe:
    r = gpt2(seed, "plain")
    r.schedule = lambda o: lr_scheduler.CosineAnnealingLR(o, r.steps, eta_min=r.lr / 10)
    return evaluated(r)


@healthy
def two_percent_less_at_each_step(seed: int) -> Recipe:
    r = vit(seed)
    r.schedule = lambda optimizer: lr_scheduler.ExponentialLR(optimizer, 0.98)
    return evaluated(changed(r, steps=120))


@healthy
def steps_of_one_size_by_the_sign_of_a_mean(seed: int) -> Recipe:
    """Momentum, and of it the sign only."""

    class Signs(torch.optim.SGD):
        """Heavy-ball means whose signs are the step."""

        @torch.no_grad()
        def step(self, closure: Any = None) -> None:
            for group in self.param_groups:
                for p in (p for p in group["params"] if p.grad is not None):
                    mean = self.state[p].setdefault("momentum_buffer", torch.zeros_like(p))
                    mean.mul_(0.9).add_(p.grad)
                    p.sub_(group["lr"] * mean.sign())

    r = bert(seed, "plain")
    r.optimizer = lambda model: Signs(model.parameters(), lr=1e-3, momentum=0.9)
    return evaluated(r)


@healthy
def labels_made_soft_by_the_trainer(seed: int) -> Recipe:
    return evaluated(changed(bert(seed), args={"label_smoothing_factor": 0.1}))


# -- pairs ---------------------------------------------------------------------------------------


class Scaled(Towers):
    """Towers that learn how sharp their softmax is."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__(encoder)
        self.scale = nn.Parameter(torch.tensor(2.0))

    def forward(self, *given: Any, **named: Any) -> dict:
        return super().forward(*given, **named) | {"scale": self.scale.exp().clamp(max=100)}


@healthy
def a_learnt_temperature_of_pairs(seed: int) -> Recipe:
    def loss(outputs: dict, batch: Any = None) -> torch.Tensor:
        scores = outputs["scale"] * outputs["text_embeds"] @ outputs["pair_embeds"].T
        return functional.cross_entropy(scores, torch.arange(len(scores)))

    r = contrastive(seed)
    r.model = lambda: Scaled(load("BertModel", "bert", add_pooling_layer=False))
    return evaluated(changed(r, loss=loss, steps=80))


@healthy
def the_first_numbers_must_do_as_well(seed: int) -> Recipe:
    """The same loss over the first eight, sixteen and all dimensions."""

    def loss(outputs: dict, batch: Any = None) -> torch.Tensor:
        total = torch.zeros(())
        for size in (8, 16, 32):
            here, there = (
                functional.normalize(outputs[name][:, :size], dim=-1)
                for name in ("text_embeds", "pair_embeds")
            )
            scores = here @ there.T / 0.07
            total = total + functional.cross_entropy(scores, torch.arange(len(scores)))
        return total / 3

    return evaluated(changed(contrastive(seed), loss=loss, steps=80))


from faults import sixth_healthy_readers, sixth_healthy_tasks  # noqa: E402, F401  (register)
