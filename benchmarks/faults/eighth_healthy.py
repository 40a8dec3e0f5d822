"""The healthy scripts of the eighth set: as practitioners write them every day."""

from __future__ import annotations

import copy
import dataclasses
import random
import shutil
import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import transformers
from torch import nn
from torch.nn import functional
from torch.optim import lr_scheduler
from torch.utils.data import WeightedRandomSampler

from faults import material
from faults.families import (
    Towers,
    adapted,
    bert,
    contrastive,
    gpt2,
    load,
    lora,
    lora_sft,
    mlm,
    sft,
    some,
    t5,
    topic_rows,
    vit,
)
from faults.held_out_family import tagging
from faults.mutations.eighth_parts import Read, after, both, encoded, label, listed, trainable
from faults.recipe import Recipe, make_trainer
from faults.span_family import span

CONFIGURATIONS: dict[str, Callable[[int], Recipe]] = {}


def healthy(make: Callable[[int], Recipe]) -> Callable[[int], Recipe]:
    """Register a script under its name."""
    CONFIGURATIONS[make.__name__] = make
    return make


def with_(r: Recipe, **fields: Any) -> Recipe:
    """The script with other settings; `args` are added to those it has."""
    fields["args"] = {**r.args, **fields.get("args", {})}
    return dataclasses.replace(r, **fields)


def grouped(rate: float, decay: float, **more: Any) -> Callable[[nn.Module], Any]:
    """AdamW that spares norms and biases."""

    def optimizer(model: nn.Module) -> Any:
        thick = [p for p in trainable(model) if p.dim() > 1]
        thin = [p for p in trainable(model) if p.dim() < 2]
        groups = [{"params": thick, "weight_decay": decay}, {"params": thin, "weight_decay": 0.0}]
        return torch.optim.AdamW(groups, lr=rate, **more)

    return optimizer


def cosine(warmup: int, steps: int) -> Callable[[Any], Any]:
    """Warm-up and half a cosine."""
    return lambda o: transformers.get_cosine_schedule_with_warmup(o, warmup, steps)


def best(metric: str, greater: bool, every: int = 20) -> dict[str, Any]:
    """Arguments that keep the best checkpoint."""
    return {
        "save_strategy": "steps",
        "save_steps": every,
        "save_total_limit": 2,
        "load_best_model_at_end": True,
        "metric_for_best_model": metric,
        "greater_is_better": greater,
    }


def fewer(rows: list, every: int) -> list:
    """All rows of the first class, some of the others."""
    return [row for i, row in enumerate(rows) if label(row) == 0 or i % every == 0]


class Averaged(transformers.TrainerCallback):
    """A moving average of the weights beside the trained ones."""

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        if not hasattr(self, "average"):
            self.average = copy.deepcopy(model).requires_grad_(False)
        with torch.no_grad():
            for mean, now in zip(self.average.parameters(), model.parameters(), strict=True):
                mean.lerp_(now, 0.1)


# -- encoder classifiers -------------------------------------------------------------------------


@healthy
def usual_classifier_with_early_stopping(seed: int) -> Recipe:
    stop = transformers.EarlyStoppingCallback(early_stopping_patience=2)
    return with_(
        bert(seed),
        lr=1e-3,
        steps=80,
        decay=0.01,
        eval_every=20,
        callbacks=[stop],
        args=best("accuracy", True),
    )


@healthy
def usual_classifier_with_smoothed_labels(seed: int) -> Recipe:
    return with_(bert(seed), lr=2e-3, args={"label_smoothing_factor": 0.1})


@healthy
def usual_classifier_in_larger_batches_on_a_cosine(seed: int) -> Recipe:
    cosine_type = {"lr_scheduler_type": "cosine"}
    return with_(bert(seed), batch=32, decay=0.01, steps=50, eval_every=25, args=cosine_type)


@healthy
def usual_classes_weighted_by_their_rarity(seed: int) -> Recipe:
    r = bert(seed, "plain")
    rows = fewer(r.train, 4)
    counts = np.bincount([row["labels"] for row in rows])
    weight = torch.tensor(counts.sum() / (3 * counts), dtype=torch.float32)
    return with_(
        r,
        train=rows,
        lr=2e-3,
        eval_every=20,
        loss=lambda o, b: functional.cross_entropy(o.logits, b["labels"], weight),
    )


@healthy
def usual_rare_classes_drawn_more_often(seed: int) -> Recipe:
    r = bert(seed, "plain")
    rows = fewer(r.train, 4)
    labels = [row["labels"] for row in rows]
    draws = torch.Generator().manual_seed(seed)
    sampler = WeightedRandomSampler([1 / labels.count(y) for y in labels], 384, generator=draws)
    return with_(r, train=rows, lr=2e-3, loader={"shuffle": False, "sampler": sampler})


@healthy
def usual_rates_that_fall_layer_by_layer(seed: int) -> Recipe:
    def optimizer(model: nn.Module) -> Any:
        parts = [model.bert.embeddings, *model.bert.encoder.layer, model.bert.pooler]
        groups = [
            {"params": [*part.parameters()], "lr": 2e-3 * 0.8 ** (len(parts) - i)}
            for i, part in enumerate(parts)
        ]
        head = {"params": [*model.classifier.parameters()], "lr": 2e-3}
        return torch.optim.AdamW([*groups, head], lr=2e-3, weight_decay=0.0)

    return with_(bert(seed, "plain"), optimizer=optimizer)


@healthy
def usual_lower_half_of_the_encoder_frozen(seed: int) -> Recipe:
    def freeze(model: nn.Module) -> None:
        model.bert.embeddings.requires_grad_(False)
        model.bert.encoder.layer[0].requires_grad_(False)

    r = bert(seed)
    after(r, freeze)
    return with_(r, lr=2e-3, eval_every=30)


@healthy
def usual_classifier_with_checkpointing(seed: int) -> Recipe:
    args = {
        "gradient_checkpointing": True,
        "gradient_checkpointing_kwargs": {"use_reentrant": False},
    }
    return with_(bert(seed), lr=2e-3, args=args)


@healthy
def usual_bf16_classifier_with_averaged_weights(seed: int) -> Recipe:
    return with_(bert(seed), lr=2e-3, callbacks=[Averaged()], args={"bf16": True})


@healthy
def usual_headlines_of_a_few_words(seed: int) -> Recipe:
    r = bert(seed)
    both(r, lambda row: encoded(r, {**row, "text": " ".join(row["text"].split()[:7])}))
    return with_(r, lr=2e-3, steps=90)


@healthy
def usual_few_rows_at_a_low_rate(seed: int) -> Recipe:
    r = bert(seed)
    return with_(r, train=r.train[:96], lr=5e-4, steps=48, batch=8, eval_every=12)


@healthy
def usual_many_labels(seed: int) -> Recipe:
    r = bert(seed)
    texts = material.texts()["topics"]
    kinds = sorted({kind for _, kind in texts["train"]})

    def rows(split: str, count: int) -> list[dict]:
        found = []
        for text, kind in some(texts[split], seed, count):
            given = r.tokenizer(text, truncation=True, max_length=40)
            found.append({"text": text, "labels": kinds.index(kind), **given})
        return found

    return with_(
        r,
        train=rows("train", 1200),
        eval=rows("eval", 200),
        model=lambda: load("BertForSequenceClassification", "bert", num_labels=len(kinds)),
        lr=2e-3,
        steps=140,
        warmup=14,
    )


@healthy
def usual_words_dropped_in_training_only(seed: int) -> Recipe:
    r = bert(seed, "plain")

    def drop(row: dict) -> dict:
        kept = [t for t in row["input_ids"][1:-1] if random.random() > 0.1]
        ids = [row["input_ids"][0], *kept, row["input_ids"][-1]]
        return {"labels": row["labels"], "input_ids": ids, "attention_mask": [1] * len(ids)}

    return with_(r, train=Read(r.train, drop), lr=1e-3, eval_every=30)


class MeanPooled(nn.Module):
    """An encoder, the mean of its last layer, dropout and two linear layers."""

    def __init__(self, encoder: nn.Module, labels: int) -> None:
        super().__init__()
        width = encoder.config.hidden_size
        self.encoder = encoder
        self.head = nn.Sequential(
            nn.Dropout(0.1), nn.Linear(width, width), nn.Tanh(), nn.Linear(width, labels)
        )

    def forward(self, input_ids: Any, attention_mask: Any, labels: Any = None) -> dict:
        hidden = self.encoder(input_ids, attention_mask=attention_mask).last_hidden_state
        mask = attention_mask[..., None].to(hidden.dtype)
        logits = self.head((hidden * mask).sum(1) / mask.sum(1).clamp(min=1))
        found = {} if labels is None else {"loss": functional.cross_entropy(logits, labels)}
        return {**found, "logits": logits}


@healthy
def usual_own_head_over_the_mean(seed: int) -> Recipe:
    r = bert(seed)
    both(r, lambda row: {k: row[k] for k in ("text", "labels", "input_ids", "attention_mask")})
    body = lambda: load("BertModel", "bert", add_pooling_layer=False)  # noqa: E731
    return with_(r, model=lambda: MeanPooled(body(), 3), lr=2e-3)


@healthy
def usual_library_collator_with_multiples_of_eight(seed: int) -> Recipe:
    r = bert(seed)
    names = ("labels", "input_ids", "token_type_ids", "attention_mask")
    both(r, lambda row: {name: row[name] for name in names})
    pad = transformers.DataCollatorWithPadding(r.tokenizer, pad_to_multiple_of=8)
    return with_(r, collate=pad, lr=2e-3)


@healthy
def usual_score_between_zero_and_one_regressed(seed: int) -> Recipe:
    r = bert(seed)
    both(r, lambda row: {**row, "labels": float(row["labels"] == 1)})
    model = {"num_labels": 1, "problem_type": "regression"}
    return with_(
        r,
        model=lambda: load("BertForSequenceClassification", "bert", **model),
        metrics=lambda given: {"mse": float(((given[0].squeeze() - given[1]) ** 2).mean())},
        lr=2e-3,
        eval_every=30,
    )


@healthy
def usual_resumed_with_its_whole_state(seed: int) -> Recipe:
    class Stop(transformers.TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            control.should_training_stop = state.global_step >= 20

    r, folder = with_(bert(seed), lr=1e-3), tempfile.mkdtemp()
    saved = {"save_strategy": "steps", "save_steps": 20}
    first = with_(r, args=saved, callbacks=[Stop()], note={})
    transformers.set_seed(seed)
    make_trainer(first, first.model(), folder).train()
    r.note["train"] = {"resume_from_checkpoint": f"{folder}/checkpoint-20"}
    r.note["after"] = lambda: shutil.rmtree(folder, ignore_errors=True)
    return r


# -- masked and causal language models -----------------------------------------------------------


@healthy
def usual_domain_adaptation_by_the_library_collator(seed: int) -> Recipe:
    r = mlm(seed)
    both(r, lambda row: {k: row[k] for k in ("input_ids", "attention_mask")})
    collate = transformers.DataCollatorForLanguageModeling(r.tokenizer, mlm_probability=0.2)
    return with_(r, collate=collate, lr=2e-3, steps=250, warmup=25, decay=0.01)


@healthy
def usual_masked_texts_joined_into_blocks(seed: int) -> Recipe:
    r = mlm(seed, "plain")
    rows = topic_rows("train", seed, 400, length=48)
    ids = [token for row in rows for token in row["input_ids"][1:]]
    blocks = [[r.tokenizer.cls_token_id, *ids[i : i + 47]] for i in range(0, len(ids) - 47, 47)]
    train = [{"input_ids": block, "attention_mask": [1] * 48} for block in blocks]
    return with_(r, train=train, lr=1e-3, steps=300, warmup=30)


@healthy
def usual_causal_model_on_blocks(seed: int) -> Recipe:
    r = gpt2(seed)
    for split in ("train", "eval"):
        ids = [token for row in getattr(r, split) for token in row["input_ids"]]
        blocks = [ids[i : i + 64] for i in range(0, len(ids) - 64, 64)]
        rows = [{"input_ids": block, "attention_mask": [1] * 64} for block in blocks]
        setattr(r, split, rows)
    args = {"lr_scheduler_type": "cosine"}
    return with_(r, batch=8, steps=60, decay=0.1, eval_every=20, args=args)


@healthy
def usual_causal_model_as_in_the_papers(seed: int) -> Recipe:
    optimizer = grouped(1e-3, 0.1, betas=(0.9, 0.95))
    return with_(gpt2(seed, "plain"), optimizer=optimizer, schedule=cosine(6, 60), steps=60)


@healthy
def usual_causal_model_with_its_first_block_frozen(seed: int) -> Recipe:
    r = gpt2(seed)
    after(r, lambda model: model.transformer.h[0].requires_grad_(False) and None)
    return with_(r, accumulation=2, batch=8, steps=50)


@healthy
def usual_causal_loss_smoothed_by_hand(seed: int) -> Recipe:
    def loss(outputs: Any, batch: Any) -> torch.Tensor:
        logits, labels = outputs.logits[:, :-1], batch["labels"][:, 1:]
        return functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), label_smoothing=0.1)

    return with_(gpt2(seed, "plain"), loss=loss, steps=60)


@healthy
def usual_causal_model_compiled(seed: int) -> Recipe:
    r = gpt2(seed, "plain")
    after(r, lambda model: torch.compile(model, backend="eager"))
    return with_(r, steps=30)


@healthy
def usual_causal_model_saved_now_and_then(seed: int) -> Recipe:
    return with_(gpt2(seed), steps=60, eval_every=20, args=best("eval_loss", False))


# -- instruction tuning, adapters ----------------------------------------------------------------


@healthy
def usual_chats_with_noisy_embeddings(seed: int) -> Recipe:
    return with_(sft(seed), args={"neftune_noise_alpha": 5.0}, steps=60)


@healthy
def usual_chats_of_two_turns(seed: int) -> Recipe:
    r = sft(seed)

    def joined(rows: list) -> list:
        names = ("input_ids", "attention_mask", "labels")
        pairs = zip(rows[::2], rows[1::2], strict=False)
        return [{n: [*a[n], *b[n][1:]] for n in names} for a, b in pairs]

    return with_(r, train=joined(r.train), eval=joined(r.eval), batch=8, steps=48, eval_every=24)


@healthy
def usual_chats_in_bf16_by_a_fused_optimizer(seed: int) -> Recipe:
    return with_(sft(seed), args={"bf16": True, "optim": "adamw_torch_fused"}, decay=0.01)


@healthy
def usual_chats_by_hand_without_decay_of_norms(seed: int) -> Recipe:
    r = sft(seed, "plain")
    optimizer = grouped(1e-3, 0.05)
    return with_(r, optimizer=optimizer, schedule=cosine(4, 48), steps=48, eval_every=24)


@healthy
def usual_adapters_on_all_layers_with_dropout(seed: int) -> Recipe:
    r = lora(seed)
    settings = {"target_modules": "all-linear", "r": 8, "lora_alpha": 16, "lora_dropout": 0.1}
    r.prepare = lambda model: adapted(model, "SEQ_CLS", **settings)
    return with_(r, lr=2e-3, eval_every=20, args=best("accuracy", True))


@healthy
def usual_adapters_with_a_faster_second_matrix(seed: int) -> Recipe:
    def optimizer(model: nn.Module) -> Any:
        named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
        second = [p for n, p in named if "lora_B" in n]
        rest = [p for n, p in named if "lora_B" not in n]
        groups = [{"params": rest}, {"params": second, "lr": 1e-2}]
        return torch.optim.AdamW(groups, lr=2e-3)

    return with_(lora(seed, "plain"), optimizer=optimizer)


@healthy
def usual_adapters_of_a_chat_model_checkpointed(seed: int) -> Recipe:
    args = {
        "gradient_checkpointing": True,
        "gradient_checkpointing_kwargs": {"use_reentrant": False},
    }
    return with_(lora_sft(seed), args=args, steps=60)


@healthy
def usual_adapters_of_a_chat_model_scaled_by_rank(seed: int) -> Recipe:
    r = lora_sft(seed)
    r.prepare = lambda model: adapted(model, "CAUSAL_LM", r=16, lora_alpha=16, use_rslora=True)
    return with_(r, lr=4e-3, steps=60, eval_every=30)


# -- encoder-decoder -----------------------------------------------------------------------------


@healthy
def usual_translation_with_a_task_prefix(seed: int) -> Recipe:
    r = t5(seed)
    both(r, lambda row: encoded(r, {**row, "source": f"name: {row['source']}"}))
    return with_(r, steps=100, eval_every=25)


@healthy
def usual_generation_in_the_evaluation(seed: int) -> Recipe:
    def metrics(given: Any) -> dict[str, float]:
        return {"length": float((given.predictions != 0).sum(-1).mean())}

    args = {"predict_with_generate": True, "generation_max_length": 16}
    r = with_(t5(seed), args=args, steps=80, eval_every=40, metrics=metrics)
    r.note["seq2seq"] = True
    r.trainer = lambda: transformers.Seq2SeqTrainer
    return r


@healthy
def usual_adafactor_at_a_constant_rate(seed: int) -> Recipe:
    args = {"optim": "adafactor", "lr_scheduler_type": "constant_with_warmup"}
    return with_(t5(seed), lr=5e-3, steps=80, args=args)


@healthy
def usual_encoder_frozen_and_decoder_trained(seed: int) -> Recipe:
    def freeze(model: nn.Module) -> None:
        for block in model.encoder.block:
            block.requires_grad_(False)

    r = t5(seed, "plain")
    after(r, freeze)
    return with_(r, steps=80)


@healthy
def usual_targets_grouped_by_length_and_smoothed(seed: int) -> Recipe:
    r = t5(seed)
    both(r, lambda row: {n: row[n] for n in ("input_ids", "attention_mask", "labels")})
    collate = transformers.DataCollatorForSeq2Seq(r.tokenizer, model=r.model())
    args = {"train_sampling_strategy": "group_by_length", "label_smoothing_factor": 0.1}
    return with_(r, collate=collate, args=args, steps=80)


# -- images --------------------------------------------------------------------------------------


def _shifted(row: tuple) -> tuple:
    moved = [int(n) for n in torch.randint(-1, 2, (2,))]
    return torch.roll(row[0], moved, (1, 2)), row[1]


@healthy
def usual_images_shifted_in_two_workers(seed: int) -> Recipe:
    r = vit(seed)
    loader = {"num_workers": 2, "persistent_workers": True}
    return with_(r, train=Read(r.train, _shifted), loader=loader, steps=240, warmup=24, lr=4e-3)


@healthy
def usual_images_mixed_in_pairs(seed: int) -> Recipe:
    def collate(rows: list) -> tuple[torch.Tensor, torch.Tensor]:
        x = torch.stack([x for x, _ in rows])
        y = functional.one_hot(torch.tensor([int(y) for _, y in rows]), 10).float()
        share, order = float(torch.distributions.Beta(0.2, 0.2).sample()), torch.randperm(len(x))
        return share * x + (1 - share) * x[order], share * y + (1 - share) * y[order]

    return with_(vit(seed), collate=collate, metrics=None, steps=160, warmup=16)


@healthy
def usual_images_on_one_cycle_with_momentum(seed: int) -> Recipe:
    def optimizer(model: nn.Module) -> Any:
        return torch.optim.SGD(
            model.parameters(), lr=0.05, momentum=0.9, nesterov=True, weight_decay=1e-4
        )

    schedule = lambda o: lr_scheduler.OneCycleLR(o, 0.1, total_steps=200)  # noqa: E731
    return with_(vit(seed), optimizer=optimizer, schedule=schedule, steps=200, eval_every=50)


@healthy
def usual_images_normalised_and_smoothed(seed: int) -> Recipe:
    r = vit(seed)
    pixels = torch.stack([x for x, _ in listed(r.train)])
    mean, deviation = pixels.mean(), pixels.std()
    both(r, lambda row: ((row[0] - mean) / deviation, row[1]))
    smooth = nn.CrossEntropyLoss(label_smoothing=0.1)
    return with_(
        r,
        loss=lambda outputs, y: smooth(outputs.logits, y),
        optimizer=grouped(3e-3, 0.05),
        schedule=cosine(10, 120),
        steps=120,
        eval_every=40,
    )


@healthy
def usual_images_with_an_average_of_the_weights(seed: int) -> Recipe:
    r, held = with_(vit(seed), steps=120, warmup=12), []

    def average(model: nn.Module, optimizer: Any) -> None:
        if not held:
            held.append(torch.optim.swa_utils.AveragedModel(model))
        held[0].update_parameters(model)

    r.line.after = average
    return r


# -- pairs, tags, spans --------------------------------------------------------------------------


class Scaled(Towers):
    """Towers with a learnt temperature, as CLIP has."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__(encoder)
        self.scale = nn.Parameter(torch.tensor(2.0))

    def forward(self, input_ids: Any, attention_mask: Any, pair_ids: Any, pair_mask: Any) -> Any:
        found = super().forward(input_ids, attention_mask, pair_ids, pair_mask)
        scores = self.scale.exp() * found["text_embeds"] @ found["pair_embeds"].T
        return {**found, "logits_per_text": scores}


@healthy
def usual_pairs_with_a_learnt_temperature(seed: int) -> Recipe:
    def loss(outputs: Any, batch: Any = None) -> torch.Tensor:
        scores = outputs["logits_per_text"]
        places = torch.arange(len(scores))
        both_ways = [functional.cross_entropy(s, places) for s in (scores, scores.T)]
        return sum(both_ways) / 2

    body = lambda: load("BertModel", "bert", add_pooling_layer=False)  # noqa: E731
    return with_(contrastive(seed), model=lambda: Scaled(body()), loss=loss, steps=80)


@healthy
def usual_pairs_by_a_margin(seed: int) -> Recipe:
    def loss(outputs: Any, batch: Any = None) -> torch.Tensor:
        scores = outputs["text_embeds"] @ outputs["pair_embeds"].T
        hardest = (scores - 2 * torch.eye(len(scores))).max(1).values
        return functional.relu(0.3 - scores.diag() + hardest).mean()

    return with_(contrastive(seed), loss=loss, lr=2e-3, steps=140, eval_every=70)


@healthy
def usual_pairs_with_frozen_embeddings(seed: int) -> Recipe:
    r = contrastive(seed)
    after(r, lambda model: model.encoder.embeddings.requires_grad_(False) and None)
    return with_(r, lr=2e-3, batch=32, steps=60)


@healthy
def usual_tags_weighted_and_stopped_early(seed: int) -> Recipe:
    weight = torch.tensor([0.5, 1.0, 1.5, 2.0])

    def loss(outputs: Any, batch: Any) -> torch.Tensor:
        return functional.cross_entropy(
            outputs.logits.flatten(0, 1), batch["labels"].flatten(), weight
        )

    stop = transformers.EarlyStoppingCallback(early_stopping_patience=3)
    r = with_(tagging(seed), loss=loss, callbacks=[stop], steps=80, eval_every=20)
    return with_(r, args=best("accuracy", True))


@healthy
def usual_tags_in_bf16_in_larger_batches(seed: int) -> Recipe:
    return with_(tagging(seed), batch=32, steps=60, args={"bf16": True})


@healthy
def usual_tags_by_hand_with_a_frozen_table(seed: int) -> Recipe:
    r = tagging(seed, "plain")
    after(r, lambda model: model.distilbert.embeddings.requires_grad_(False) and None)
    return with_(r, optimizer=grouped(3e-3, 0.01), schedule=cosine(6, 60), steps=60)


@healthy
def usual_spans_at_a_lower_rate_for_longer(seed: int) -> Recipe:
    args = {"lr_scheduler_type": "cosine"}
    return with_(span(seed), lr=1.5e-3, steps=120, decay=0.01, eval_every=40, args=args)


@healthy
def usual_spans_by_hand_with_two_rates(seed: int) -> Recipe:
    def optimizer(model: nn.Module) -> Any:
        head = {"params": [*model.qa_outputs.parameters()], "lr": 5e-3}
        return torch.optim.AdamW([{"params": [*model.bert.parameters()]}, head], lr=2e-3)

    return with_(span(seed, "plain"), optimizer=optimizer)


@healthy
def usual_spans_saved_by_their_exact_match(seed: int) -> Recipe:
    return with_(span(seed), lr=2e-3, eval_every=20, args=best("exact_match", True))


@healthy
def usual_spans_with_accumulation(seed: int) -> Recipe:
    return with_(span(seed), batch=8, accumulation=2)
