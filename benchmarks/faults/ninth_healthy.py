"""The healthy scripts of the ninth set: what people change of a script, done well."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable
from typing import Any

import torch
import transformers
from torch import nn
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence
from torch.optim import lr_scheduler
from torch.utils.data import Sampler, WeightedRandomSampler

from faults import families, held_out_family, material
from faults.families import InfoNCE, adapted, bert, contrastive, gpt2, lora, mlm, sft, t5, vit
from faults.held_out_family import tagging
from faults.mutations.ninth_parts import Headed, Read, after, ids_changed, label, rows_of
from faults.recipe import Recipe
from faults.recurrent_family import PAD, Reader, Scores, encode, recurrent, vocabulary
from faults.span_family import span
from faults.summary_family import summary

CONFIGURATIONS: dict[str, Callable[[int], Recipe]] = {}


def healthy(make: Callable[[int], Recipe]) -> Callable[[int], Recipe]:
    """Register a script under its name."""
    CONFIGURATIONS[make.__name__] = make
    return make


def changed(r: Recipe, every: int = 20, **fields: Any) -> Recipe:
    """The script with other settings, evaluated now and then."""
    for name, value in ({"eval_every": every} | fields).items():
        setattr(r, name, value)
    return r


# -- recurrent -----------------------------------------------------------------------------------


@healthy
def often_gru_as_it_is(seed: int) -> Recipe:
    return changed(recurrent(seed))


@healthy
def often_bidirectional_lstm(seed: int) -> Recipe:
    return changed(
        recurrent(seed), model=lambda: Reader(kind=nn.LSTM, width=48, bidirectional=True), lr=3e-3
    )


class Packed(Reader):
    """The last state of packed rows."""

    def pooled(self, x: torch.Tensor) -> torch.Tensor:
        wide = (x != PAD).sum(1).clamp(min=1)
        told = self.dropout(self.embedding(x))
        packed = pack_padded_sequence(told, wide, batch_first=True, enforce_sorted=False)
        return self.recurrent(packed)[1][-1]


@healthy
def often_packed_rows_and_the_last_state(seed: int) -> Recipe:
    return changed(recurrent(seed), model=Packed, steps=90)


class Attentive(Reader):
    """Weights of the words, from a small network."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Sequential(nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 1))

    def pooled(self, x: torch.Tensor) -> torch.Tensor:
        states = self.states(x)
        scores = self.weight(states).masked_fill((x == PAD).unsqueeze(-1), -1e4)
        return (scores.softmax(1) * states).sum(1)


@healthy
def often_attention_pooling(seed: int) -> Recipe:
    return changed(recurrent(seed), model=Attentive)


class Highest(Reader):
    """The greatest value of each state over the words."""

    def pooled(self, x: torch.Tensor) -> torch.Tensor:
        return self.states(x).masked_fill((x == PAD).unsqueeze(-1), -1e4).amax(1)


@healthy
def often_max_pooling(seed: int) -> Recipe:
    return changed(recurrent(seed), model=Highest, lr=3e-3)


def word_vectors() -> torch.Tensor:
    """Vectors of words from the texts that hold them, as older embeddings were made."""
    texts = [text for text, _ in material.texts()["topics"]["train"]]
    counts = torch.zeros(len(vocabulary()) + 2, len(texts))
    for place, text in enumerate(texts):
        counts[encode(text), place] += 1
    torch.manual_seed(0)
    left, spread, _ = torch.svd_lowrank(counts.log1p(), 64)
    vectors = left * spread.sqrt()
    vectors = vectors / vectors.std()
    vectors[PAD] = 0
    return vectors


@healthy
def often_pretrained_word_vectors_frozen(seed: int) -> Recipe:
    def make() -> nn.Module:
        made = Reader()
        made.embedding = nn.Embedding.from_pretrained(word_vectors(), freeze=True, padding_idx=PAD)
        return made

    return changed(recurrent(seed), model=make, lr=3e-3)


@healthy
def often_two_layers_with_dropout_between(seed: int) -> Recipe:
    return changed(recurrent(seed), model=lambda: Reader(num_layers=2, dropout=0.2), lr=3e-3)


def few_of_one_class(r: Recipe, every: int = 3) -> Recipe:
    """A class that is rarer than the others, in both splits."""
    for split in ("train", "eval"):
        rows = rows_of(getattr(r, split))
        rare = [row for row in rows if label(row) == 0][::every]
        setattr(r, split, [*rare, *(row for row in rows if label(row) != 0)])
    return r


@healthy
def often_weighted_loss_for_a_rare_class(seed: int) -> Recipe:
    weight = torch.tensor([2.0, 1.0, 1.0])
    return changed(
        few_of_one_class(recurrent(seed)),
        loss=lambda out, y: functional.cross_entropy(out.logits, y, weight),
        lr=3e-3,
        steps=50,
    )


@healthy
def often_smoothed_labels(seed: int) -> Recipe:
    return changed(
        recurrent(seed),
        loss=lambda out, y: functional.cross_entropy(out.logits, y, label_smoothing=0.1),
    )


@healthy
def often_average_of_the_weights_kept(seed: int) -> Recipe:
    r, held = recurrent(seed), []

    def average(model: nn.Module, optimizer: Any) -> None:
        if not held:
            held.append(copy.deepcopy(model).eval().requires_grad_(False))
        with torch.no_grad():
            for kept, now in zip(held[0].parameters(), model.parameters(), strict=True):
                kept.lerp_(now, 0.05)

    r.line.after = average
    return changed(r)


def with_unknown_words(row: tuple) -> tuple:
    """One word in ten is unknown."""
    return row[0].masked_fill(torch.rand(row[0].shape) < 0.1, 1), row[1]


@healthy
def often_words_dropped_from_training_rows(seed: int) -> Recipe:
    r = recurrent(seed)
    return changed(r, train=Read(r.train, with_unknown_words), steps=80)


@healthy
def often_sgd_with_momentum_under_a_cosine(seed: int) -> Recipe:
    return changed(
        recurrent(seed),
        optimizer=lambda m: torch.optim.SGD(m.parameters(), lr=0.2, momentum=0.9),
        schedule=lambda o: lr_scheduler.CosineAnnealingLR(o, 70),
        steps=70,
    )


@healthy
def often_small_batches_accumulated(seed: int) -> Recipe:
    return changed(recurrent(seed), accumulation=2, batch=8)


def all_subjects(split: str, seed: int, count: int) -> list[tuple]:
    """Rows of every subject that there is."""
    rows = families.some(material.texts()["topics"][split], seed, count)
    return [(encode(text), torch.tensor(y)) for text, y in rows]


@healthy
def often_many_subjects_and_more_rows(seed: int) -> Recipe:
    subjects = 1 + max(y for _, y in material.texts()["topics"]["train"])
    return changed(
        recurrent(seed),
        model=lambda: Reader(subjects),
        train=all_subjects("train", seed, 1500),
        eval=all_subjects("eval", seed, 256),
        batch=32,
        steps=100,
    )


class OfLikeLength(Sampler):
    """Batches of rows of like length, in a random order."""

    def __init__(self, rows: list, size: int, seed: int) -> None:
        self.rows, self.size = rows, size
        self.draws = torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        return len(self.rows) // self.size

    def __iter__(self) -> Any:
        noise = torch.rand(len(self.rows), generator=self.draws) * 8
        wide = torch.tensor([len(x) for x, _ in self.rows]) + noise
        batches = wide.argsort().split(self.size)
        order = torch.randperm(len(batches), generator=self.draws)
        return iter([batches[i].tolist() for i in order])


@healthy
def often_batches_of_like_length(seed: int) -> Recipe:
    r = recurrent(seed)
    r.loader = {
        "batch_sampler": OfLikeLength(r.train, r.batch, seed),
        "batch_size": 1,
        "shuffle": False,
        "drop_last": False,
    }
    return changed(r)


@healthy
def often_autocast_to_bfloat_by_hand(seed: int) -> Recipe:
    def forward(model: nn.Module, batch: Any) -> Scores:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return Scores(model(batch[0]).logits.float())

    r = recurrent(seed)
    r.line.forward = forward
    return changed(r)


@healthy
def often_short_texts_in_small_batches(seed: int) -> Recipe:
    r = recurrent(seed)
    r.train, r.eval = ([(x[:20], y) for x, y in rows] for rows in (r.train, r.eval))
    return changed(r, batch=8, steps=90, lr=3e-3)


@healthy
def often_one_cycle_and_groups_without_decay(seed: int) -> Recipe:
    def optimizer(model: nn.Module) -> Any:
        thin = [p for n, p in model.named_parameters() if p.dim() < 2 or "embedding" in n]
        thick = [p for n, p in model.named_parameters() if p.dim() > 1 and "embedding" not in n]
        groups = [{"params": thick, "weight_decay": 0.05}, {"params": thin, "weight_decay": 0.0}]
        return torch.optim.AdamW(groups, lr=5e-3)

    return changed(
        recurrent(seed),
        optimizer=optimizer,
        schedule=lambda o: lr_scheduler.OneCycleLR(o, 8e-3, total_steps=70),
        steps=60,
    )


# -- pictures and pairs of texts -----------------------------------------------------------------


@healthy
def often_noisy_pictures_for_training_only(seed: int) -> Recipe:
    r = vit(seed)
    r.train = Read(r.train, lambda row: (row[0] + 0.05 * torch.randn_like(row[0]), row[1]))
    return changed(r, steps=80)


@healthy
def often_cosine_with_decay_of_weights(seed: int) -> Recipe:
    def optimizer(model: nn.Module) -> Any:
        thin = [p for p in model.parameters() if p.dim() != 2]
        thick = [p for p in model.parameters() if p.dim() == 2]
        return torch.optim.AdamW(
            [{"params": thick, "weight_decay": 0.05}, {"params": thin, "weight_decay": 0.0}], 3e-3
        )

    return changed(
        vit(seed),
        optimizer=optimizer,
        schedule=lambda o: lr_scheduler.CosineAnnealingLR(o, 80),
        steps=80,
    )


@healthy
def often_rare_digits_drawn_more_often(seed: int) -> Recipe:
    r = vit(seed)
    rows = [row for i, row in enumerate(rows_of(r.train)) if label(row) < 5 or i % 3 == 0]
    counts = torch.bincount(torch.tensor([label(row) for row in rows]))
    weights = [1 / float(counts[label(row)]) for row in rows]
    draws = torch.Generator().manual_seed(seed)
    sampler = WeightedRandomSampler(weights, len(rows), generator=draws)
    r.loader = {"sampler": sampler, "shuffle": False}
    return changed(r, train=rows, steps=80)


@healthy
def often_smoothed_digits_in_large_batches(seed: int) -> Recipe:
    return changed(
        vit(seed),
        loss=lambda o, y: functional.cross_entropy(o.logits, y, label_smoothing=0.1),
        batch=64,
        steps=60,
    )


@healthy
def often_pairs_scored_in_both_directions(seed: int) -> Recipe:
    def loss(outputs: Any, batch: Any = None) -> torch.Tensor:
        scores = outputs["text_embeds"] @ outputs["pair_embeds"].T / 0.1
        right = torch.arange(len(scores))
        return (
            functional.cross_entropy(scores, right) + functional.cross_entropy(scores.T, right)
        ) / 2

    return changed(contrastive(seed), loss=loss, lr=2e-3)


@healthy
def often_pairs_in_larger_batches(seed: int) -> Recipe:
    return changed(contrastive(seed), batch=32, lr=2e-3, steps=50)


@healthy
def often_pairs_with_groups_of_rates(seed: int) -> Recipe:
    def optimizer(model: nn.Module) -> Any:
        return torch.optim.AdamW(
            [
                {"params": model.encoder.parameters(), "lr": 1e-3},
                {"params": model.projection.parameters(), "lr": 3e-3},
            ]
        )

    return changed(contrastive(seed), optimizer=optimizer, loss=InfoNCE(0.1), steps=60)


# -- classifiers ---------------------------------------------------------------------------------


class Mean(nn.Module):
    """A head of two layers on the mean of the places."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(64, 64), nn.GELU(), nn.Dropout(0.1), nn.Linear(64, families.CLASSES)
        )

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        return self.body(states.mean(1))


class MeanOfReal(Headed):
    """The mean over the places that are no padding."""

    def states(self, input_ids: Any, attention_mask: Any) -> torch.Tensor:
        real = attention_mask[..., None]
        states = super().states(input_ids, attention_mask)
        return ((states * real).sum(1) / real.sum(1).clamp(min=1)).unsqueeze(1)


@healthy
def often_own_head_on_the_mean_of_the_words(seed: int) -> Recipe:
    return changed(bert(seed, "plain"), model=lambda: MeanOfReal(Mean()), lr=1e-3)


@healthy
def often_rates_falling_with_depth(seed: int) -> Recipe:
    def optimizer(model: nn.Module) -> Any:
        parts = [model.bert.embeddings, *model.bert.encoder.layer]
        groups = [
            {"params": p.parameters(), "lr": 1e-3 * 0.7 ** (3 - i)} for i, p in enumerate(parts)
        ]
        rest = [*model.bert.pooler.parameters(), *model.classifier.parameters()]
        return torch.optim.AdamW([*groups, {"params": rest, "lr": 1e-3}])

    return changed(bert(seed, "plain"), optimizer=optimizer)


@healthy
def often_lower_layers_frozen(seed: int) -> Recipe:
    r = bert(seed)

    def freeze(model: nn.Module) -> None:
        model.bert.embeddings.requires_grad_(False)
        model.bert.encoder.layer[0].requires_grad_(False)

    after(r, freeze)
    return changed(r, lr=1e-3)


@healthy
def often_stopped_early_by_a_callback(seed: int) -> Recipe:
    r = changed(bert(seed), every=10, lr=5e-4)
    r.callbacks = [transformers.EarlyStoppingCallback(early_stopping_patience=3)]
    r.args = {
        "load_best_model_at_end": True,
        "metric_for_best_model": "eval_loss",
        "greater_is_better": False,
        "save_strategy": "steps",
        "save_steps": 10,
        "save_total_limit": 2,
    }
    return r


@healthy
def often_rare_class_weighted(seed: int) -> Recipe:
    weight = torch.tensor([2.0, 1.0, 1.0])
    return changed(
        few_of_one_class(bert(seed)),
        loss=lambda o, b: functional.cross_entropy(o.logits, b["labels"], weight),
        lr=5e-4,
    )


@healthy
def often_few_rows_at_a_low_rate(seed: int) -> Recipe:
    r = bert(seed)
    return changed(r, train=r.train[:128], lr=3e-4, batch=8, steps=48)


@healthy
def often_checkpointed_classifier(seed: int) -> Recipe:
    told = {"use_reentrant": False}
    args = {"gradient_checkpointing": True, "gradient_checkpointing_kwargs": told}
    return changed(bert(seed), args=args, lr=1e-3)


@healthy
def often_short_texts(seed: int) -> Recipe:
    r = bert(seed)
    for split in ("train", "eval"):
        rows = families.topic_rows(split, seed, 384 if split == "train" else 128, length=16)
        setattr(r, split, rows)
    return changed(r, every=10, lr=5e-4, steps=40)


@healthy
def often_adapter_of_all_linear_layers(seed: int) -> Recipe:
    r = lora(seed)
    r.prepare = lambda model: adapted(model, "SEQ_CLS", target_modules="all-linear", r=8)
    return changed(r, lr=2e-3)


@healthy
def often_adapter_with_dropout_by_hand(seed: int) -> Recipe:
    r = lora(seed, "plain")
    r.prepare = lambda model: adapted(model, "SEQ_CLS", lora_dropout=0.1, r=8, lora_alpha=16)
    return changed(r)


@healthy
def often_adapter_loaded_to_be_trained_on(seed: int) -> Recipe:
    import peft

    r, place = lora(seed), tempfile.mkdtemp()
    adapted(r.model(), "SEQ_CLS").save_pretrained(place)
    r.prepare = lambda model: peft.PeftModel.from_pretrained(model, place, is_trainable=True)
    return changed(r)


# -- language models -----------------------------------------------------------------------------


@healthy
def often_masked_from_scratch_in_bfloat(seed: int) -> Recipe:
    def model() -> nn.Module:
        config = transformers.AutoConfig.from_pretrained(material.checkpoint("bert"))
        return transformers.BertForMaskedLM(config)

    return changed(mlm(seed), model=model, args={"bf16": True}, lr=2e-3, steps=100)


@healthy
def often_masked_by_the_library(seed: int) -> Recipe:
    r = mlm(seed)
    collate = transformers.DataCollatorForLanguageModeling(r.tokenizer, mlm_probability=0.2)
    for split in ("train", "eval"):
        kept = ("input_ids", "attention_mask")
        setattr(r, split, [{k: row[k] for k in kept} for row in getattr(r, split)])
    return changed(r, every=40, collate=collate, steps=120)


@healthy
def often_accumulated_by_the_trainer(seed: int) -> Recipe:
    return changed(gpt2(seed), accumulation=4, batch=4, steps=40)


@healthy
def often_causal_under_adafactor(seed: int) -> Recipe:
    return changed(gpt2(seed), args={"optim": "adafactor"}, steps=50)


@healthy
def often_causal_with_pad_as_eos(seed: int) -> Recipe:
    r = gpt2(seed, "plain")
    r.tokenizer = copy.deepcopy(r.tokenizer)
    r.tokenizer.pad_token = r.tokenizer.eos_token
    return changed(r, collate=families.Causal(r.tokenizer.pad_token_id), lr=5e-4)


@healthy
def often_answers_with_noise_on_the_embeddings(seed: int) -> Recipe:
    return changed(sft(seed), args={"neftune_noise_alpha": 5.0})


@healthy
def often_answers_by_an_adapter(seed: int) -> Recipe:
    r = sft(seed)
    r.prepare = lambda model: adapted(model, "CAUSAL_LM", r=8, lora_alpha=16)
    return changed(r, lr=5e-3, steps=60)


@healthy
def often_answers_under_a_cosine_and_decay(seed: int) -> Recipe:
    return changed(sft(seed), args={"lr_scheduler_type": "cosine"}, decay=0.05, steps=48)


@healthy
def often_names_with_smoothed_labels(seed: int) -> Recipe:
    r = t5(seed)
    model = r.model()
    for split in ("train", "eval"):
        kept = ("input_ids", "attention_mask", "labels")
        setattr(r, split, [{k: row[k] for k in kept} for row in getattr(r, split)])
    collate = transformers.DataCollatorForSeq2Seq(r.tokenizer, model=model)
    args = {"label_smoothing_factor": 0.1}
    return changed(r, model=lambda: copy.deepcopy(model), collate=collate, args=args, steps=60)


@healthy
def often_names_by_adafactor_at_a_constant_rate(seed: int) -> Recipe:
    args = {"optim": "adafactor", "lr_scheduler_type": "constant"}
    return changed(t5(seed), args=args, lr=1e-3, warmup=0, steps=60)


@healthy
def often_writer_with_a_frozen_encoder(seed: int) -> Recipe:
    r = summary(seed)
    after(r, lambda model: model.model.encoder.layers.requires_grad_(False) and None)
    return changed(r, lr=1e-3)


@healthy
def often_writer_under_a_cosine_and_decay(seed: int) -> Recipe:
    return changed(summary(seed), args={"lr_scheduler_type": "cosine"}, decay=0.01, lr=1e-3)


# -- taggers, spans ------------------------------------------------------------------------------


@healthy
def often_tags_weighted_against_the_commonest(seed: int) -> Recipe:
    weight = torch.tensor([0.5, 1.0, 1.0, 1.0])

    def loss(outputs: Any, batch: Any) -> torch.Tensor:
        logits, labels = outputs.logits.flatten(0, 1), batch["labels"].flatten()
        return functional.cross_entropy(logits, labels, weight, ignore_index=-100)

    return changed(tagging(seed, "plain"), loss=loss, lr=1e-3)


@healthy
def often_tagger_with_dropout_and_cosine(seed: int) -> Recipe:
    return changed(
        tagging(seed),
        model=lambda: held_out_family.tagger(dropout=0.2),
        args={"lr_scheduler_type": "cosine"},
        lr=1e-3,
    )


@healthy
def often_spans_with_a_lower_rate_for_longer(seed: int) -> Recipe:
    return changed(span(seed), lr=1e-3, steps=100)


@healthy
def often_spans_by_hand_under_clipping(seed: int) -> Recipe:
    return changed(span(seed, "plain"), clip=0.5, lr=1e-3, steps=100)


@healthy
def often_masked_words_in_training_texts(seed: int) -> Recipe:
    r = bert(seed)
    unknown = r.tokenizer.mask_token_id

    def covered(ids: list[int]) -> list[int]:
        drawn = torch.rand(len(ids)).tolist()
        inside = zip(ids[1:-1], drawn, strict=False)
        return [ids[0], *(unknown if d < 0.1 else i for i, d in inside), ids[-1]]

    r.train = Read(r.train, lambda row: ids_changed(row, covered))
    return changed(r, lr=1e-3)
