"""Healthy taggers: odd, and never shown to a check while it was written.

`CONFIGURATIONS` names each; whatever the doctor says of one at warning or error is a false alarm.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from faults import held_out_family as family
from faults.families import load
from faults.healthy import changed, evaluated
from faults.held_out_family import aligned, tagged_words, tagger, tagging
from faults.mutations.models import after
from faults.recipe import Recipe

CONFIGURATIONS: dict[str, Callable[[int], Recipe]] = {}


def healthy(make: Callable[[int], Recipe]) -> Callable[[int], Recipe]:
    """Register a tagger."""
    CONFIGURATIONS[make.__name__] = make
    return make


def configurations() -> dict[str, Callable[[int], Recipe]]:
    """The taggers, and the fresh scripts of the older families."""
    from faults import fresh_healthy, fresh_healthy_parts  # noqa: F401  (register their own)

    return dict(CONFIGURATIONS)


@healthy
def tagging_trainer(seed: int) -> Recipe:
    return evaluated(tagging(seed), 10)


@healthy
def tagging_plain(seed: int) -> Recipe:
    return evaluated(tagging(seed, "plain"), 10)


@healthy
def every_piece_tagged(seed: int) -> Recipe:
    r = tagging(seed)
    for row in [*r.train, *r.eval]:
        last, labels = -100, []
        for place, label in enumerate(row["labels"]):
            last = label if label != -100 else last
            ends = place in (0, len(row["labels"]) - 1)
            labels.append(-100 if ends else last)
        row["labels"] = labels
    return r


@healthy
def last_piece_tagged(seed: int) -> Recipe:
    r = tagging(seed, "plain")
    for row in [*r.train, *r.eval]:
        labels, waiting = row["labels"], -100
        moved = [-100] * len(labels)
        for place in range(1, len(labels)):
            waiting = labels[place] if labels[place] != -100 else waiting
            if place + 1 == len(labels) or labels[place + 1] != -100:
                moved[place] = waiting
        row["labels"] = [-100, *moved[1:-1], -100]
    return r


@healthy
def only_the_head_of_the_tagger(seed: int) -> Recipe:
    r = tagging(seed)
    after(r, lambda model: model.distilbert.requires_grad_(False) and None)
    return changed(r, lr=1e-2)


@healthy
def lora_of_the_tagger(seed: int) -> Recipe:
    import peft

    r = tagging(seed)
    r.prepare = lambda model: peft.get_peft_model(
        model, peft.LoraConfig(task_type="TOKEN_CLS", r=4, target_modules=["q_lin", "v_lin"])
    )
    return changed(r, lr=5e-3)


@healthy
def nearly_all_words_are_outside(seed: int) -> Recipe:
    """Numbers against the rest: the wanted tag is rare, as entities are."""
    r = tagging(seed)
    for row in [*r.train, *r.eval]:
        row["labels"] = [y if y == -100 else int(y == 2) for y in row["labels"]]
    return evaluated(changed(r, model=lambda: tagger(num_labels=2), steps=60), 15)


@healthy
def tags_weighted_by_their_rarity(seed: int) -> Recipe:
    weight = torch.tensor([0.5, 0.7, 2.0, 3.0])
    return changed(
        tagging(seed, "plain"),
        loss=lambda o, b: functional.cross_entropy(
            o.logits.flatten(0, 1), b["labels"].flatten(), weight
        ),
    )


@healthy
def tagger_from_scratch(seed: int) -> Recipe:
    import transformers

    config = transformers.DistilBertConfig(
        vocab_size=2000, dim=48, n_layers=3, n_heads=4, hidden_dim=96, num_labels=4,
        max_position_embeddings=40, initializer_range=0.1, dropout=0.05,
    )  # fmt: skip
    return changed(
        tagging(seed), model=lambda: transformers.DistilBertForTokenClassification(config), lr=2e-3
    )


@healthy
def tagger_in_bf16(seed: int) -> Recipe:
    return changed(tagging(seed), args={"bf16": True}, warmup=0)


@healthy
def tagger_accumulates_by_our_trainer(seed: int) -> Recipe:
    from cookbook.training.trainer import Trainer

    return changed(tagging(seed), accumulation=4, batch=4, steps=25, trainer=lambda: Trainer)


@healthy
def windows_that_overlap(seed: int) -> Recipe:
    """Long texts in windows; the overlap is read and not tagged twice."""
    r = tagging(seed, "plain")
    tokens, rows = r.tokenizer, []
    for words, tags in tagged_words("train", seed, 384):
        for start in range(0, max(1, len(words) - 4), 12):
            row = aligned(tokens, words[start : start + 16], tags[start : start + 16])
            if start:
                seen, kept = 0, []
                for y in row["labels"]:
                    seen += y != -100
                    kept.append(-100 if seen <= 4 else y)
                row["labels"] = kept
            if any(y != -100 for y in row["labels"]):
                rows.append(row)
    return changed(r, train=rows)


@healthy
def padded_on_the_left(seed: int) -> Recipe:
    import transformers

    r = tagging(seed)
    r.tokenizer.padding_side = "left"
    return changed(r, collate=transformers.DataCollatorForTokenClassification(r.tokenizer))


@healthy
def tagger_of_gpt2(seed: int) -> Recipe:
    """A decoder that tags: each word sees only what is before it, and labels are not shifted."""
    from faults import material

    r, tokens = tagging(seed), material.tokenizer("gpt2")
    for name, count in (("train", 384), ("eval", 128)):
        rows = []
        for words, tags in tagged_words(name, seed, count):
            ids, labels = [], []
            for word, tag in zip(words, tags, strict=True):
                pieces = tokens(" " + word)["input_ids"]
                ids, labels = [*ids, *pieces], [*labels, *[-100] * (len(pieces) - 1), tag]
            rows.append({"input_ids": ids[:40], "attention_mask": [1] * len(ids[:40]),
                         "labels": labels[:40]})  # fmt: skip
        setattr(r, name, [row for row in rows if any(y != -100 for y in row["labels"])])
    from faults.families import Padding

    return changed(
        r, tokenizer=tokens, collate=Padding(tokens.pad_token_id), lr=1e-3,
        model=lambda: load("GPT2ForTokenClassification", "gpt2", num_labels=4),
    )  # fmt: skip


class Bidirectional(nn.Module):
    """An LSTM tagger that has no configuration and returns scores alone."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(2000, 48, padding_idx=0)
        self.lstm = nn.LSTM(48, 32, batch_first=True, bidirectional=True)
        self.head = nn.Linear(64, len(family.TAGS))

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        lengths = (ids != 0).sum(1)
        packed = nn.utils.rnn.pack_padded_sequence(
            self.embed(ids), lengths, batch_first=True, enforce_sorted=False
        )
        hidden, _ = nn.utils.rnn.pad_packed_sequence(
            self.lstm(packed)[0], batch_first=True, total_length=ids.shape[1]
        )
        return self.head(hidden)


@healthy
def an_lstm_tags(seed: int) -> Recipe:
    r = tagging(seed, "plain")
    inner = r.collate

    def collate(rows: Any) -> tuple[torch.Tensor, torch.Tensor]:
        batch = inner(rows)
        return batch["input_ids"], batch["labels"]

    return changed(
        r, model=Bidirectional, collate=collate, lr=5e-3,
        loss=lambda scores, y: functional.cross_entropy(scores.flatten(0, 1), y.flatten()),
    )  # fmt: skip
