"""Runs that are healthy, and odd in every way that a healthy run may be odd.

Each is a function of the seed to a `Recipe`; whatever the doctor says about one of them at warning
or error is a false alarm. Those registered with `held_out` were never used to set a threshold.
Adapters and tasks of other shapes stand in `healthy_tasks`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.optim import lr_scheduler

from faults import families, material
from faults.families import Causal, Digits, Padding, bert, gpt2, lora_sft, mlm, sft, vit
from faults.mutations.models import after
from faults.recipe import Recipe


@dataclass(frozen=True)
class Healthy:
    """A configuration: its name, what makes its script, whether it is held out."""

    name: str
    make: Callable[[int], Recipe]
    held_out: bool


CONFIGURATIONS: list[Healthy] = []


def healthy(held_out: bool = False) -> Callable[[Callable], Callable]:
    """Register a configuration."""

    def register(make: Callable[[int], Recipe]) -> Callable[[int], Recipe]:
        CONFIGURATIONS.append(Healthy(make.__name__, make, held_out))
        return make

    return register


def configurations() -> list[Healthy]:
    """All of them."""
    from faults import healthy_tasks  # noqa: F401  (registers its own)

    return list(CONFIGURATIONS)


def evaluated(recipe: Recipe, every: int = 20) -> Recipe:
    """Also evaluated now and then."""
    recipe.eval_every = every
    return recipe


def changed(recipe: Recipe, **fields: Any) -> Recipe:
    """The script with other settings."""
    for name, value in fields.items():
        setattr(recipe, name, value)
    return recipe


# -- as they are ---------------------------------------------------------------------------------


def _register_families() -> None:
    for name, make in families.FAMILIES.items():
        for loop in ("trainer", "plain"):
            if loop == "trainer" and name in ("vit", "contrastive"):
                continue

            def script(seed: int, make: Any = make, loop: str = loop) -> Recipe:
                return evaluated(make(seed, loop))

            script.__name__ = f"{name.replace('-', '_')}_{loop}"
            healthy()(script)


_register_families()


# -- rates, schedules, optimizers ----------------------------------------------------------------


@healthy()
def rate_three_times_lower(seed: int) -> Recipe:
    r = bert(seed)
    return changed(r, lr=r.lr / 3)


@healthy()
def rate_three_times_higher(seed: int) -> Recipe:
    r = gpt2(seed)
    return changed(r, lr=r.lr * 3)


@healthy(held_out=True)
def rate_three_times_lower_causal(seed: int) -> Recipe:
    r = sft(seed, "plain")
    return changed(r, lr=r.lr / 3)


@healthy()
def no_warmup(seed: int) -> Recipe:
    return changed(bert(seed), warmup=0, lr=1e-3)


@healthy(held_out=True)
def no_warmup_gpt2(seed: int) -> Recipe:
    return changed(gpt2(seed, "plain"), warmup=0)


@healthy()
def long_warmup(seed: int) -> Recipe:
    return changed(vit(seed), warmup=40)


@healthy()
def constant_rate(seed: int) -> Recipe:
    return changed(gpt2(seed), args={"lr_scheduler_type": "constant"})


@healthy()
def cosine(seed: int) -> Recipe:
    return changed(bert(seed), args={"lr_scheduler_type": "cosine"})


@healthy(held_out=True)
def warm_restarts(seed: int) -> Recipe:
    return changed(
        bert(seed),
        args={
            "lr_scheduler_type": "cosine_with_restarts",
            "lr_scheduler_kwargs": {"num_cycles": 3},
        },
    )


@healthy()
def warm_restarts_by_hand(seed: int) -> Recipe:
    return changed(vit(seed), schedule=lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 20))


@healthy()
def steps_of_the_rate_by_epoch(seed: int) -> Recipe:
    r = changed(vit(seed), steps=100, schedule=lambda o: lr_scheduler.StepLR(o, 2, 0.5))
    r.line.schedule, r.line.epoch = lambda schedule: None, lambda schedule: schedule.step()
    return r


@healthy(held_out=True)
def multistep_by_epoch(seed: int) -> Recipe:
    r = changed(bert(seed, "plain"), schedule=lambda o: lr_scheduler.MultiStepLR(o, [1, 2], 0.3))
    r.line.schedule, r.line.epoch = lambda schedule: None, lambda schedule: schedule.step()
    return r


@healthy()
def one_cycle(seed: int) -> Recipe:
    return changed(vit(seed), schedule=lambda o: lr_scheduler.OneCycleLR(o, 5e-3, total_steps=60))


@healthy()
def no_schedule(seed: int) -> Recipe:
    r = changed(gpt2(seed, "plain"), schedule=lambda o: None)
    r.line.schedule = lambda schedule: None
    return r


@healthy()
def sgd(seed: int) -> Recipe:
    return changed(
        vit(seed), optimizer=lambda m: torch.optim.SGD(m.parameters(), lr=0.05, momentum=0.9)
    )


@healthy(held_out=True)
def sgd_bert(seed: int) -> Recipe:
    return changed(
        bert(seed, "plain"),
        optimizer=lambda m: torch.optim.SGD(m.parameters(), lr=0.05, momentum=0.9),
    )


@healthy()
def adafactor(seed: int) -> Recipe:
    return changed(gpt2(seed), args={"optim": "adafactor"})


@healthy()
def groups_without_decay(seed: int) -> Recipe:
    def optimizer(model: nn.Module) -> Any:
        thin = [p for p in model.parameters() if p.dim() < 2]
        thick = [p for p in model.parameters() if p.dim() > 1]
        return torch.optim.AdamW(
            [{"params": thick, "weight_decay": 0.1}, {"params": thin, "weight_decay": 0.0}], lr=1e-3
        )

    return changed(bert(seed, "plain"), optimizer=optimizer)


@healthy()
def rates_by_layer(seed: int) -> Recipe:
    def optimizer(model: nn.Module) -> Any:
        head = [p for n, p in model.named_parameters() if "classifier" in n]
        rest = [p for n, p in model.named_parameters() if "classifier" not in n]
        return torch.optim.AdamW([{"params": head, "lr": 1e-2}, {"params": rest, "lr": 1e-4}])

    return changed(bert(seed, "plain"), optimizer=optimizer)


@healthy()
def decay_by_the_trainer(seed: int) -> Recipe:
    return changed(mlm(seed), decay=0.1)


@healthy()
def tightly_clipped(seed: int) -> Recipe:
    return changed(gpt2(seed), clip=0.5)


@healthy()
def not_clipped(seed: int) -> Recipe:
    return changed(bert(seed, "plain"), clip=0.0)


# -- what is trained -----------------------------------------------------------------------------


@healthy()
def frozen_backbone(seed: int) -> Recipe:
    r = bert(seed)
    after(r, lambda model: model.bert.requires_grad_(False) and None)
    return changed(r, lr=1e-2)


@healthy(held_out=True)
def frozen_backbone_vit(seed: int) -> Recipe:
    r = vit(seed)
    after(r, lambda model: model.vit.requires_grad_(False) and None)
    return changed(r, lr=1e-2)


@healthy()
def frozen_embeddings(seed: int) -> Recipe:
    r = gpt2(seed, "plain")
    after(r, lambda model: model.transformer.wpe.requires_grad_(False) and None)
    return r


@healthy()
def first_layer_frozen(seed: int) -> Recipe:
    def prepare(model: nn.Module) -> None:
        model.bert.embeddings.requires_grad_(False)
        model.bert.encoder.layer[0].requires_grad_(False)

    r = bert(seed)
    after(r, prepare)
    return r


@healthy()
def bitfit(seed: int) -> Recipe:
    def prepare(model: nn.Module) -> None:
        for name, parameter in model.named_parameters():
            parameter.requires_grad = name.endswith("bias") or "classifier" in name

    r = bert(seed)
    after(r, prepare)
    return changed(r, lr=1e-2)


@healthy()
def from_scratch(seed: int) -> Recipe:
    tokens = material.tokenizer("gpt2")
    return changed(gpt2(seed), model=lambda: material.make_model("gpt2", tokens), lr=2e-3)


@healthy(held_out=True)
def from_scratch_llama(seed: int) -> Recipe:
    tokens = material.tokenizer("llama")
    return changed(sft(seed, "plain"), model=lambda: material.make_model("llama", tokens), lr=2e-3)


@healthy()
def from_scratch_mlm(seed: int) -> Recipe:
    import transformers

    tokens = material.tokenizer("bert")
    config = material.make_model("bert", tokens).config
    return changed(mlm(seed, "plain"), model=lambda: transformers.BertForMaskedLM(config), lr=1e-3)


@healthy()
def new_tokens_resized(seed: int) -> Recipe:
    from faults.mutations.tokens import _with_new_tokens

    r = sft(seed)
    _with_new_tokens(r)
    after(r, lambda model: model.resize_token_embeddings(len(r.tokenizer)) and None)
    return r


@healthy(held_out=True)
def embedding_padded_to_sixty_four(seed: int) -> Recipe:
    r = gpt2(seed)
    after(r, lambda model: model.resize_token_embeddings(2048) and None)
    return r


@healthy()
def gradient_checkpointing(seed: int) -> Recipe:
    return changed(
        bert(seed),
        args={
            "gradient_checkpointing": True,
            "gradient_checkpointing_kwargs": {"use_reentrant": False},
        },
    )


@healthy(held_out=True)
def gradient_checkpointing_lora(seed: int) -> Recipe:
    return changed(lora_sft(seed), args={"gradient_checkpointing": True})


@healthy()
def dropout_zero(seed: int) -> Recipe:
    return changed(
        bert(seed, "plain"),
        model=lambda: families.load(
            "BertForSequenceClassification",
            "bert",
            num_labels=3,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        ),
    )


@healthy()
def strong_dropout(seed: int) -> Recipe:
    return evaluated(
        changed(
            bert(seed),
            model=lambda: families.load(
                "BertForSequenceClassification", "bert", num_labels=3, hidden_dropout_prob=0.3
            ),
        )
    )


# -- precision, accumulation, order --------------------------------------------------------------


@healthy()
def bf16_autocast(seed: int) -> Recipe:
    return changed(bert(seed), args={"bf16": True})


@healthy(held_out=True)
def bf16_autocast_by_hand(seed: int) -> Recipe:
    def forward(model: nn.Module, batch: Any) -> Any:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return model(**batch)

    r = gpt2(seed, "plain")
    r.line.forward = forward
    return r


@healthy()
def bf16_weights_at_a_proper_rate(seed: int) -> Recipe:
    r = sft(seed)
    after(r, lambda model: model.bfloat16())
    return changed(r, lr=3e-3)


@healthy()
def accumulation_by_hand(seed: int) -> Recipe:
    return changed(gpt2(seed, "plain"), accumulation=4, batch=4, steps=25)


@healthy()
def accumulation_by_our_trainer(seed: int) -> Recipe:
    from cookbook.training.trainer import Trainer

    return changed(bert(seed), accumulation=4, batch=4, steps=25, trainer=lambda: Trainer)


@healthy()
def accumulation_by_the_library(seed: int) -> Recipe:
    return changed(gpt2(seed), accumulation=4, batch=4, steps=25)


@healthy(held_out=True)
def accumulation_of_llama_by_the_library(seed: int) -> Recipe:
    return changed(sft(seed), accumulation=2, batch=8, steps=30)


@healthy()
def grouped_by_length(seed: int) -> Recipe:
    return changed(bert(seed), args={"train_sampling_strategy": "group_by_length"})


@healthy()
def an_iterable_without_length(seed: int) -> Recipe:
    r = gpt2(seed)
    r.train = Stream(r.train, seed)
    return r


@healthy(held_out=True)
def a_streamed_data_set(seed: int) -> Recipe:
    from datasets import Dataset

    r = bert(seed)
    rows = [{k: v for k, v in row.items()} for row in r.train]
    r.train = Dataset.from_list(rows).to_iterable_dataset().shuffle(seed=seed, buffer_size=64)
    return r


class Stream(torch.utils.data.IterableDataset):
    """Rows without end, in a random order."""

    def __init__(self, rows: list, seed: int) -> None:
        self.rows, self.seed = rows, seed

    def __iter__(self) -> Any:
        draws = torch.Generator().manual_seed(self.seed)
        while True:
            yield from (
                self.rows[i] for i in torch.randperm(len(self.rows), generator=draws).tolist()
            )


@healthy()
def a_stream_by_hand(seed: int) -> Recipe:
    r = gpt2(seed, "plain")
    r.train = Stream(r.train, seed)
    return r


@healthy()
def rows_of_datasets(seed: int) -> Recipe:
    from datasets import Dataset

    r = evaluated(bert(seed))
    r.train, r.eval = Dataset.from_list(r.train), Dataset.from_list(r.eval)
    return r


@healthy()
def best_model_kept(seed: int) -> Recipe:
    r = evaluated(bert(seed))
    r.args |= {
        "load_best_model_at_end": True,
        "metric_for_best_model": "accuracy",
        "save_strategy": "steps",
        "save_steps": 20,
    }
    return r


@healthy(held_out=True)
def label_smoothing(seed: int) -> Recipe:
    return changed(bert(seed), args={"label_smoothing_factor": 0.1})


# -- data ----------------------------------------------------------------------------------------


@healthy()
def imbalanced(seed: int) -> Recipe:
    r = bert(seed)
    kept = [row for i, row in enumerate(r.train) if row["labels"] == 0 or i % 5 == 0]
    return evaluated(changed(r, train=kept))


@healthy(held_out=True)
def imbalanced_digits(seed: int) -> Recipe:
    r = vit(seed)
    kept = [row for i, row in enumerate(r.train[j] for j in range(640)) if row[1] < 5 or i % 4 == 0]
    return changed(r, train=kept)


@healthy()
def tiny_data(seed: int) -> Recipe:
    r = bert(seed)
    return changed(r, train=r.train[:32], steps=20)


@healthy()
def one_batch_overfitted_on_purpose(seed: int) -> Recipe:
    r = bert(seed, "plain")
    return changed(r, train=r.train[:16], eval=r.eval, steps=60)


@healthy(held_out=True)
def one_batch_overfitted_on_purpose_causal(seed: int) -> Recipe:
    r = gpt2(seed)
    return changed(r, train=r.train[:16], steps=60, lr=3e-3)


@healthy()
def augmented_digits(seed: int) -> Recipe:
    return changed(vit(seed), train=Digits(0, 640, seed, lambda x: x + 0.05 * torch.randn_like(x)))


@healthy()
def augmented_in_two_workers(seed: int) -> Recipe:
    r = changed(
        vit(seed), train=Digits(0, 640, seed, lambda x: x + 0.05 * torch.randn_like(x)), steps=20
    )
    r.loader = {"num_workers": 2}
    return r


@healthy()
def pad_is_eos_and_eos_is_learnt(seed: int) -> Recipe:
    r = sft(seed)
    r.tokenizer = copy.deepcopy(r.tokenizer)
    r.tokenizer.pad_token = r.tokenizer.eos_token
    r.collate = Padding(r.tokenizer.eos_token_id)
    return r


@healthy(held_out=True)
def pad_is_eos_in_gpt2(seed: int) -> Recipe:
    r = gpt2(seed)
    r.tokenizer = copy.deepcopy(r.tokenizer)
    r.tokenizer.pad_token = r.tokenizer.eos_token
    r.collate = Causal(r.tokenizer.eos_token_id)
    return r


@healthy()
def pretraining_without_eos(seed: int) -> Recipe:
    r = gpt2(seed, "plain")
    ids = [token for row in r.train for token in row["input_ids"][:-1]]
    r.train = [
        {"input_ids": ids[i : i + 32], "attention_mask": [1] * 32}
        for i in range(0, len(ids) - 32, 32)
    ]
    return r


@healthy()
def packed_with_many_bos(seed: int) -> Recipe:
    r = sft(seed)
    for split in ("train", "eval"):
        ids = [token for row in getattr(r, split) for token in row["input_ids"]]
        rows = [ids[i : i + 48] for i in range(0, len(ids) - 48, 48)]
        setattr(r, split, [{"input_ids": x, "attention_mask": [1] * 48, "labels": x} for x in rows])
    return r


@healthy(held_out=True)
def packed_with_positions(seed: int) -> Recipe:
    from faults.mutations.tokens import _packed

    r = sft(seed, "plain")
    _packed(r)
    return r


@healthy()
def whole_prompt_in_the_loss(seed: int) -> Recipe:
    r = sft(seed)
    for row in [*r.train, *r.eval]:
        row["labels"] = list(row["input_ids"])
    return r


@healthy()
def left_padding_with_a_mask(seed: int) -> Recipe:
    r = gpt2(seed)
    return changed(r, collate=Causal(r.tokenizer.pad_token_id, "left"))


@healthy()
def masked_by_the_library_collator(seed: int) -> Recipe:
    import transformers

    r = mlm(seed)
    r.train, r.eval = (
        [{k: row[k] for k in ("input_ids", "attention_mask")} for row in rows]
        for rows in (r.train, r.eval)
    )
    return changed(
        r, collate=transformers.DataCollatorForLanguageModeling(r.tokenizer, mlm_probability=0.15)
    )


@healthy(held_out=True)
def thirty_percent_masked(seed: int) -> Recipe:
    import transformers

    r = mlm(seed, "plain")
    r.train, r.eval = (
        [{k: row[k] for k in ("input_ids", "attention_mask")} for row in rows]
        for rows in (r.train, r.eval)
    )
    return changed(
        r, collate=transformers.DataCollatorForLanguageModeling(r.tokenizer, mlm_probability=0.3)
    )


@healthy()
def resumed(seed: int) -> Recipe:
    """The second half of a run whose first half is behind it: the loss starts low."""
    r = gpt2(seed, "plain")
    model, first = r.model(), gpt2(seed, "plain")
    optimizer = first.make_optimizer(model)
    train, _ = first.loaders()
    model.train()
    for batch, _ in zip(train, range(20), strict=False):
        model(**batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    state = optimizer.state_dict()

    def again(new: nn.Module) -> Any:
        made = torch.optim.AdamW(new.parameters(), lr=r.lr)
        made.load_state_dict(state)
        return made

    return changed(r, model=lambda: model, optimizer=again, warmup=0, steps=30)


@healthy(held_out=True)
def resumed_by_the_trainer(seed: int) -> Recipe:
    from faults.mutations.running import _resumed_without

    r = bert(seed)
    _resumed_without(r)
    return r


# -- losses --------------------------------------------------------------------------------------


@healthy()
def weighted_cross_entropy(seed: int) -> Recipe:
    weight = torch.tensor([1.0, 2.0, 3.0])
    return changed(
        bert(seed, "plain"),
        loss=lambda o, b: functional.cross_entropy(o.logits, b["labels"], weight),
    )


@healthy(held_out=True)
def focal_loss(seed: int) -> Recipe:
    def focal(outputs: Any, y: torch.Tensor) -> torch.Tensor:
        each = functional.cross_entropy(outputs.logits, y, reduction="none")
        return ((1 - (-each).exp()) ** 2 * each).mean()

    return changed(vit(seed), loss=focal)


@healthy()
def distilled(seed: int) -> Recipe:
    def loss(outputs: Any, batch: Any) -> torch.Tensor:
        soft = functional.one_hot(batch["labels"], 3).float() * 0.8 + 0.2 / 3
        kl = functional.kl_div((outputs.logits / 2).log_softmax(-1), soft, reduction="batchmean")
        return 0.5 * functional.cross_entropy(outputs.logits, batch["labels"]) + 2 * kl

    return changed(bert(seed, "plain"), loss=loss)


@healthy()
def own_shifted_loss(seed: int) -> Recipe:
    return changed(
        gpt2(seed, "plain"),
        loss=lambda o, b: functional.cross_entropy(
            o.logits[:, :-1].flatten(0, 1), b["labels"][:, 1:].flatten()
        ),
    )
