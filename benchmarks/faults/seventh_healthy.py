"""The healthy scripts of the seventh set: writers of summaries, and some in older families."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.optim import lr_scheduler

from faults.families import Digits, Padding, adapted, bert, gpt2, lora, sft, t5, vit
from faults.healthy import Stream, changed, evaluated
from faults.held_out_family import tagging
from faults.mutations.data import Read
from faults.mutations.models import after
from faults.mutations.running import _resumed_without
from faults.mutations.seventh_losses import plain_loss
from faults.mutations.seventh_rows import reencoded
from faults.recipe import Recipe
from faults.span_family import span
from faults.summary_family import (
    EVAL,
    TRAIN,
    covered,
    encoded,
    make_model,
    pairs,
    summary,
    token_accuracy,
    writer,
)

CONFIGURATIONS: dict[str, Callable[[int], Recipe]] = {}


def healthy(make: Callable[[int], Recipe]) -> Callable[[int], Recipe]:
    """Register a script under the name of its function."""
    CONFIGURATIONS[make.__name__] = make
    return make


def given(recipe: Recipe) -> Recipe:
    """The collator makes the decoder's inputs: needed where the model is not shown the labels."""
    recipe.collate.model = writer()
    return recipe


# -- as they are, and what is measured -----------------------------------------------------------


@healthy
def writer_by_the_trainer(seed: int) -> Recipe:
    return evaluated(summary(seed))


@healthy
def writer_by_hand(seed: int) -> Recipe:
    return evaluated(summary(seed, "plain"))


@healthy
def writer_with_decoder_inputs_of_the_collator(seed: int) -> Recipe:
    return given(summary(seed))


@healthy
def writer_scored_each_ten_steps(seed: int) -> Recipe:
    return evaluated(changed(summary(seed), metrics=token_accuracy), 10)


@healthy
def writer_scored_by_what_it_writes(seed: int) -> Recipe:
    """Greedy decoding; the score is the share of the reference's words that were written."""
    r = summary(seed)
    pad = r.tokenizer.pad_token_id

    def overlap(prediction: Any) -> dict[str, float]:
        written, right = (
            r.tokenizer.batch_decode(np.where(ids == -100, pad, ids), skip_special_tokens=True)
            for ids in prediction
        )
        found = [
            len(set(a.split()) & set(b.split())) / max(len(set(b.split())), 1)
            for a, b in zip(written, right, strict=True)
        ]
        return {"overlap": float(np.mean(found))}

    r.args |= {"predict_with_generate": True, "generation_max_length": 40}
    return evaluated(changed(r, metrics=overlap, eval=r.eval[:48]), 25)


@healthy
def writer_stopped_early(seed: int) -> Recipe:
    import transformers

    r = evaluated(changed(summary(seed), steps=80), 10)
    r.args |= {
        "load_best_model_at_end": True,
        "metric_for_best_model": "eval_loss",
        "greater_is_better": False,
        "save_strategy": "steps",
        "save_steps": 10,
        "save_total_limit": 1,
    }
    return changed(r, callbacks=[transformers.EarlyStoppingCallback(3)])


# -- rates, schedules, optimizers ----------------------------------------------------------------


@healthy
def writer_by_adafactor(seed: int) -> Recipe:
    return changed(summary(seed), args={"optim": "adafactor"})


@healthy
def writer_with_warm_restarts(seed: int) -> Recipe:
    how = {"lr_scheduler_type": "cosine_with_restarts", "lr_scheduler_kwargs": {"num_cycles": 2}}
    return changed(summary(seed), args=how, steps=60)


@healthy
def writer_at_a_constant_rate(seed: int) -> Recipe:
    return changed(summary(seed), args={"lr_scheduler_type": "constant_with_warmup"}, lr=1e-3)


@healthy
def writer_with_a_long_warmup(seed: int) -> Recipe:
    return changed(summary(seed, "plain"), warmup=30, steps=60)


@healthy
def writer_by_the_inverse_root(seed: int) -> Recipe:
    return changed(summary(seed), args={"lr_scheduler_type": "inverse_sqrt"})


@healthy
def writer_by_sgd_with_momentum(seed: int) -> Recipe:
    return changed(
        summary(seed, "plain"),
        optimizer=lambda m: torch.optim.SGD(m.parameters(), lr=0.1, momentum=0.9),
        steps=80,
    )


@healthy
def writer_with_two_groups(seed: int) -> Recipe:
    """The decoder learns faster than the encoder and the embedding."""

    def optimizer(model: nn.Module) -> Any:
        fast = list(model.get_decoder().layers.parameters())
        known = {id(p) for p in fast}
        slow = [p for p in model.parameters() if id(p) not in known]
        return torch.optim.AdamW([{"params": fast, "lr": 3e-3}, {"params": slow, "lr": 5e-4}])

    return changed(summary(seed, "plain"), optimizer=optimizer)


@healthy
def writer_with_decay_on_matrices_only(seed: int) -> Recipe:
    def optimizer(model: nn.Module) -> Any:
        thin = [p for p in model.parameters() if p.dim() < 2]
        thick = [p for p in model.parameters() if p.dim() > 1]
        return torch.optim.AdamW(
            [{"params": thick, "weight_decay": 0.1}, {"params": thin, "weight_decay": 0.0}], lr=2e-3
        )

    return changed(summary(seed), optimizer=optimizer)


@healthy
def writer_not_clipped(seed: int) -> Recipe:
    return changed(summary(seed, "plain"), clip=0.0, lr=1e-3)


# -- what is trained -----------------------------------------------------------------------------


@healthy
def writer_with_a_frozen_encoder(seed: int) -> Recipe:
    r = summary(seed)
    after(r, lambda model: model.get_encoder().layers.requires_grad_(False) and None)
    return r


@healthy
def writer_with_frozen_embeddings(seed: int) -> Recipe:
    def prepare(model: nn.Module) -> None:
        for name, parameter in model.named_parameters():
            parameter.requires_grad = "shared" not in name and "embed_" not in name

    r = summary(seed)
    after(r, prepare)
    return r


@healthy
def writer_with_adapters(seed: int) -> Recipe:
    r = changed(summary(seed), lr=1e-2, steps=60)
    r.prepare = lambda model: adapted(model, "SEQ_2_SEQ_LM")
    return r


@healthy
def writer_with_adapters_everywhere(seed: int) -> Recipe:
    r = changed(summary(seed, "plain"), lr=1e-2, steps=60)
    r.prepare = lambda model: adapted(
        model, "SEQ_2_SEQ_LM", target_modules=["q_proj", "k_proj", "v_proj", "out_proj", "fc1"]
    )
    return r


@healthy
def writer_with_a_shorter_decoder(seed: int) -> Recipe:
    """Shrink and fine-tune, as DistilBART was made: half of the decoder's layers are kept."""

    def model() -> nn.Module:
        made = writer()
        made.model.decoder.layers = made.model.decoder.layers[1:]
        made.config.decoder_layers = 1
        return made

    return changed(summary(seed), model=model, steps=80)


@healthy
def writer_from_scratch(seed: int) -> Recipe:
    r = summary(seed)
    return changed(r, model=lambda: make_model(r.tokenizer), steps=120, warmup=12)


@healthy
def writer_with_strong_dropout(seed: int) -> Recipe:
    return changed(summary(seed), model=lambda: writer(dropout=0.3, attention_dropout=0.1))


@healthy
def writer_without_dropout(seed: int) -> Recipe:
    return changed(summary(seed, "plain"), model=lambda: writer(dropout=0.0), lr=1e-3)


# -- precision, memory, accumulation, order ------------------------------------------------------


@healthy
def writer_in_bf16_autocast(seed: int) -> Recipe:
    return changed(summary(seed), args={"bf16": True})


@healthy
def writer_in_bf16_autocast_by_hand(seed: int) -> Recipe:
    def forward(model: nn.Module, batch: Any) -> Any:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return model(**batch)

    r = summary(seed, "plain")
    r.line.forward = forward
    return r


@healthy
def writer_with_gradient_checkpointing(seed: int) -> Recipe:
    how = {"use_reentrant": False}
    args = {"gradient_checkpointing": True, "gradient_checkpointing_kwargs": how}
    return changed(summary(seed), args=args)


@healthy
def writer_accumulating_by_the_count(seed: int) -> Recipe:
    """BART does not use the count of labels that the trainer hands it, so the script does."""
    import transformers

    class Trainer(transformers.Seq2SeqTrainer):
        def compute_loss(
            self,
            model: Any,
            inputs: Any,
            return_outputs: bool = False,
            num_items_in_batch: Any = None,
        ) -> Any:
            outputs = model(**inputs)
            loss = outputs.loss
            if num_items_in_batch is not None:
                total = plain_loss(outputs.logits, inputs["labels"], reduction="sum")
                loss = total / num_items_in_batch
            return (loss, outputs) if return_outputs else loss

    return changed(summary(seed), trainer=lambda: Trainer, accumulation=4, batch=4, steps=40)


@healthy
def writer_accumulating_sums(seed: int) -> Recipe:
    """By hand: a sum over a fixed number of pieces weighs each piece alike in all micro-batches."""

    def loss(outputs: Any, batch: Any) -> torch.Tensor:
        return plain_loss(outputs.logits, batch["labels"], reduction="sum") / (8 * 18)

    return changed(summary(seed, "plain"), loss=loss, accumulation=2, batch=8)


@healthy
def writer_grouped_by_length(seed: int) -> Recipe:
    return changed(summary(seed), args={"train_sampling_strategy": "group_by_length"})


@healthy
def writer_of_a_stream(seed: int) -> Recipe:
    r = summary(seed)
    return changed(r, train=Stream(r.train, seed))


@healthy
def writer_of_a_streamed_data_set(seed: int) -> Recipe:
    from datasets import Dataset

    r = summary(seed)
    rows = Dataset.from_list(r.train).to_iterable_dataset()
    return changed(r, train=rows.shuffle(seed=seed, buffer_size=128))


@healthy
def writer_of_drawn_rows(seed: int) -> Recipe:
    """Long summaries are drawn more often."""
    r = summary(seed, "plain")
    weights = [float(len(row["labels"])) for row in r.train]
    draws = torch.Generator().manual_seed(seed)
    sampler = torch.utils.data.WeightedRandomSampler(weights, TRAIN, generator=draws)
    return changed(r, loader={"shuffle": None, "sampler": sampler})


@healthy
def writer_resumed(seed: int) -> Recipe:
    r = summary(seed)
    _resumed_without(r)
    return r


# -- rows, collators, losses ---------------------------------------------------------------------


@healthy
def writer_asked_by_prefix_words(seed: int) -> Recipe:
    r = summary(seed)
    reencoded(r, lambda source, target: (f"summarize: {source}", target))
    return r


@healthy
def writer_of_two_tasks(seed: int) -> Recipe:
    """The same rows teach to write the line from the notes and the name from the line."""
    r = summary(seed)
    for split, count in (("train", TRAIN), ("eval", EVAL)):
        rows = []
        for source, line in pairs(split, seed, count):
            name = source.split(":")[0]
            rows.append(encoded(r.tokenizer, f"describe: {source}", line))
            rows.append(encoded(r.tokenizer, f"name: {line}", name))
        setattr(r, split, rows)
    return changed(r, steps=80)


@healthy
def writer_of_notes_in_two_orders(seed: int) -> Recipe:
    """Augmented: each row of the training stands twice, its notes in another order."""
    r, draw = summary(seed, "plain"), random.Random(seed)
    again = []
    for source, line in pairs("train", seed, TRAIN):
        name, _, words = source.partition(": ")
        other = draw.sample(words.split(), len(words.split()))
        again.append(encoded(r.tokenizer, f"{name} : {' '.join(other)}", line))
    return changed(r, train=[*r.train, *again], steps=60)


@healthy
def writer_of_noisy_notes(seed: int) -> Recipe:
    """A few masks in what the encoder reads in training; the evaluation is clean."""
    r, draws = summary(seed), np.random.default_rng(seed)

    def read(row: dict, place: int) -> dict:
        if draws.random() < 0.7:
            return row
        ids = covered(row["input_ids"], r.tokenizer.mask_token_id, draws)
        return {**row, "input_ids": ids, "attention_mask": [1] * len(ids)}

    return evaluated(changed(r, train=Read(r.train, read)))


@healthy
def writer_with_smoothed_labels(seed: int) -> Recipe:
    return given(changed(summary(seed), args={"label_smoothing_factor": 0.1}))


@healthy
def writer_with_its_own_loss(seed: int) -> Recipe:
    loss = lambda outputs, batch: plain_loss(outputs.logits, batch["labels"])  # noqa: E731
    return given(changed(summary(seed), loss=loss))


@healthy
def writer_with_its_own_collator(seed: int) -> Recipe:
    r = summary(seed, "plain")
    return evaluated(changed(r, collate=Padding(r.tokenizer.pad_token_id)))


@healthy
def writer_padded_to_a_multiple_of_eight(seed: int) -> Recipe:
    r = summary(seed)
    r.collate.pad_to_multiple_of = 8
    return r


# -- older families ------------------------------------------------------------------------------


@healthy
def bert_by_a_balanced_sampler(seed: int) -> Recipe:
    r = bert(seed, "plain")
    counts = np.bincount([row["labels"] for row in r.train])
    weights = [1.0 / counts[row["labels"]] for row in r.train]
    draws = torch.Generator().manual_seed(seed)
    sampler = torch.utils.data.WeightedRandomSampler(weights, len(r.train), generator=draws)
    r = changed(r, lr=1e-3, loader={"shuffle": None, "sampler": sampler})
    return evaluated(r)


@healthy
def bert_accumulating_two(seed: int) -> Recipe:
    return changed(bert(seed, "plain"), accumulation=2, batch=8)


@healthy
def gpt2_with_a_least_rate(seed: int) -> Recipe:
    args = {"lr_scheduler_type": "cosine_with_min_lr", "lr_scheduler_kwargs": {"min_lr_rate": 0.1}}
    return changed(gpt2(seed), args=args)


@healthy
def sft_with_wide_adapters(seed: int) -> Recipe:
    r = changed(sft(seed, "plain"), lr=5e-3)
    r.prepare = lambda model: adapted(model, "CAUSAL_LM", target_modules="all-linear", r=8)
    return r


@healthy
def t5_with_a_frozen_encoder(seed: int) -> Recipe:
    r = changed(t5(seed), steps=100)
    after(r, lambda model: model.get_encoder().block.requires_grad_(False) and None)
    return evaluated(r)


@healthy
def t5_asked_by_prefix_words(seed: int) -> Recipe:
    r = changed(t5(seed, "plain"), steps=60)
    for row in [*r.train, *r.eval]:
        row["source"] = f"name: {row['source']}"
        row["input_ids"] = r.tokenizer(row["source"], truncation=True, max_length=40)["input_ids"]
        row["attention_mask"] = [1] * len(row["input_ids"])
    return r


@healthy
def vit_with_blended_digits(seed: int) -> Recipe:
    """Mixup: a batch is blended with itself in another order, and so are its losses."""

    def blend(rows: list) -> tuple[torch.Tensor, torch.Tensor]:
        x, y = torch.stack([x for x, _ in rows]), torch.stack([y for _, y in rows])
        soft = functional.one_hot(y, 10).float()
        order, share = torch.randperm(len(x)), float(np.random.beta(0.2, 0.2))
        return share * x + (1 - share) * x[order], share * soft + (1 - share) * soft[order]

    def loss(outputs: Any, y: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(outputs.logits, y)

    r = changed(vit(seed), loss=loss, metrics=None, loader={"collate_fn": blend}, steps=100)
    return changed(r, eval_loader={})


@healthy
def vit_of_shifted_digits(seed: int) -> Recipe:
    def shift(x: torch.Tensor) -> torch.Tensor:
        return torch.roll(x, random.choice((-1, 0, 1)), -1)

    return evaluated(changed(vit(seed), train=Digits(0, 640, seed, shift), steps=100))


@healthy
def vit_by_one_cycle_of_sgd(seed: int) -> Recipe:
    return changed(
        vit(seed),
        optimizer=lambda m: torch.optim.SGD(m.parameters(), lr=0.05, momentum=0.9),
        schedule=lambda o: lr_scheduler.OneCycleLR(o, 0.2, total_steps=200),
        steps=200,
    )


@healthy
def lora_with_a_frozen_half(seed: int) -> Recipe:
    """Adapters in the upper layer only."""
    r = lora(seed)
    r.prepare = lambda model: adapted(model, "SEQ_CLS", layers_to_transform=[1], r=8)
    return evaluated(r)


@healthy
def tagger_with_weighted_tags(seed: int) -> Recipe:
    weight = torch.tensor([0.5, 1.0, 2.0, 4.0])

    def loss(outputs: Any, batch: Any) -> torch.Tensor:
        return functional.cross_entropy(
            outputs.logits.flatten(0, 1), batch["labels"].flatten(), weight
        )

    return changed(tagging(seed, "plain"), loss=loss, steps=60)


@healthy
def span_reader_not_clipped(seed: int) -> Recipe:
    return evaluated(changed(span(seed, "plain"), clip=0.0, lr=1e-3, steps=120, warmup=12))
