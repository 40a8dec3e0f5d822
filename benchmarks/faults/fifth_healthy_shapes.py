"""Healthy scripts of the fifth set whose networks or whose data have another shape."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import torch
import transformers
from torch import nn
from torch.nn import functional
from torch.utils.data import Sampler

from faults.families import Padding, Towers, bert, contrastive, load, sft, t5, vit
from faults.healthy import changed, evaluated
from faults.held_out_family import tagging
from faults.recipe import Recipe

CONFIGURATIONS: dict[str, Callable[[int], Recipe]] = {}


def healthy(make: Callable[[int], Recipe]) -> Callable[[int], Recipe]:
    """Register a healthy script under its name."""
    CONFIGURATIONS[make.__name__] = make
    return make


Scores = transformers.modeling_outputs.SequenceClassifierOutput


class Reader(nn.Module):
    """Reads words into a vector by `read(hidden, mask)`, and tells the class."""

    def __init__(self, words: nn.Module, read: Any, size: int, layer: Any = None) -> None:
        super().__init__()
        self.words, self.read, self.layer = words, read, layer or nn.Identity()
        self.classifier = nn.Linear(size, 3)

    def forward(self, input_ids=None, attention_mask=None, labels=None, **more):
        if isinstance(self.words, nn.Embedding):
            hidden = self.words(input_ids)
        else:
            made = self.words(input_ids=input_ids, attention_mask=attention_mask)
            hidden = made.last_hidden_state
        logits = self.classifier(self.read(self.layer, hidden, attention_mask))
        loss = None if labels is None else functional.cross_entropy(logits, labels)
        return Scores(loss=loss, logits=logits)


def the_largest(layer: Any, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The maximum over the tokens that are no padding."""
    return layer(hidden).masked_fill(mask[..., None] == 0, -1e4).amax(1)


@healthy
def the_largest_of_each_feature_is_read(seed: int) -> Recipe:
    """Max pooling over an encoder."""
    return changed(
        bert(seed),
        model=lambda: Reader(load("BertModel", "bert", add_pooling_layer=False), the_largest, 64),
    )


@healthy
def a_bag_of_embeddings(seed: int) -> Recipe:
    """The mean of embeddings learnt from nothing, and a line on top."""

    def mean(layer: Any, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)

    return changed(bert(seed, "plain"), model=lambda: Reader(nn.Embedding(2000, 48), mean, 48),
                   lr=2e-2, steps=100)  # fmt: skip


class Windows(nn.Module):
    """Convolutions of widths 2 and 3 over words."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.two, self.three = nn.Conv1d(size, 32, 2, padding=1), nn.Conv1d(size, 32, 3, padding=1)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        turned = hidden.transpose(1, 2)
        both = torch.cat([self.two(turned)[..., :-1], self.three(turned)], 1)
        return both.relu().transpose(1, 2)


@healthy
def windows_of_two_and_three_words(seed: int) -> Recipe:
    """A convolutional reader of texts, from scratch."""
    return changed(
        bert(seed),
        model=lambda: Reader(nn.Embedding(2000, 48), the_largest, 64, Windows(48)),
        lr=1e-2,
        steps=80,
    )


class Mixer(nn.Module):
    """An MLP-mixer of digits: patches are mixed across positions, channels within them."""

    def __init__(self, size: int = 32) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, size, 2, stride=2)
        self.norms = nn.ModuleList(nn.LayerNorm(size) for _ in range(4))
        self.across = nn.ModuleList(self._mlp(16, 32) for _ in range(2))
        self.within = nn.ModuleList(self._mlp(size, 64) for _ in range(2))
        self.head = nn.Linear(size, 10)

    def _mlp(self, size: int, inner: int) -> nn.Module:
        return nn.Sequential(nn.Linear(size, inner), nn.GELU(), nn.Linear(inner, size))

    def forward(self, x: torch.Tensor) -> Scores:
        hidden = self.patches(x).flatten(2).transpose(1, 2)
        for place, (across, within) in enumerate(zip(self.across, self.within, strict=True)):
            mixed = across(self.norms[2 * place](hidden).transpose(1, 2)).transpose(1, 2)
            hidden = hidden + mixed
            hidden = hidden + within(self.norms[2 * place + 1](hidden))
        return Scores(logits=self.head(hidden.mean(1)))


@healthy
def a_mixer_of_patches(seed: int) -> Recipe:
    """A network that mixes positions, and may."""
    return changed(vit(seed), model=Mixer)


class TwoQuestions(nn.Module):
    """A digit, and whether it is even: two heads, one of which is read by the metric."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.GroupNorm(4, 16), nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(288, 64), nn.ReLU(),
        )  # fmt: skip
        self.digit, self.even = nn.Linear(64, 10), nn.Linear(64, 2)

    def forward(self, x: torch.Tensor) -> Scores:
        hidden = self.trunk(x)
        return Scores(logits=self.digit(hidden), hidden_states=(self.even(hidden),))


@healthy
def two_questions_about_each_digit(seed: int) -> Recipe:
    """The sum of two losses, the second at half its weight."""

    def loss(outputs: Any, y: torch.Tensor) -> torch.Tensor:
        second = functional.cross_entropy(outputs.hidden_states[0], y % 2)
        return functional.cross_entropy(outputs.logits, y) + 0.5 * second

    return changed(vit(seed), model=TwoQuestions, loss=loss)


class LearntTemperature(Towers):
    """Towers that learn the scale of their similarities, as CLIP does."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__(encoder)
        self.scale = nn.Parameter(torch.tensor(2.0))

    def embed(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return super().embed(ids, mask) * (self.scale.clamp(max=4.6) / 2).exp()


@healthy
def a_temperature_that_is_learnt(seed: int) -> Recipe:
    """The scale is a parameter; the embeddings have its length."""

    def loss(outputs: Any, batch: Any = None) -> torch.Tensor:
        scores = outputs["text_embeds"] @ outputs["pair_embeds"].T
        return functional.cross_entropy(scores, torch.arange(len(scores)))

    return changed(
        contrastive(seed),
        model=lambda: LearntTemperature(load("BertModel", "bert", add_pooling_layer=False)),
        loss=loss,
    )


class Balanced(Sampler):
    """Batches with as many rows of each class, drawn anew each epoch."""

    def __init__(self, labels: list[int], each: int, seed: int) -> None:
        self.each, self.draw = each, random.Random(seed)
        self.places = {y: [i for i, x in enumerate(labels) if x == y] for y in set(labels)}

    def __len__(self) -> int:
        return min(len(places) for places in self.places.values()) // self.each

    def __iter__(self) -> Any:
        orders = [self.draw.sample(places, len(places)) for places in self.places.values()]
        for start in range(0, len(self) * self.each, self.each):
            yield [place for order in orders for place in order[start : start + self.each]]


@healthy
def each_batch_holds_three_of_each_digit(seed: int) -> Recipe:
    """A batch sampler that balances; within a batch the rows stand in the order of classes."""
    recipe = vit(seed)
    sampler = Balanced(recipe.train.y.tolist(), 3, seed)
    recipe.loader = {"batch_sampler": sampler, "batch_size": 1, "shuffle": None,
                     "generator": None, "drop_last": False}  # fmt: skip
    return recipe


@healthy
def several_good_answers_to_a_question(seed: int) -> Recipe:
    """The same source with two targets, the name and its first word, as people do translate."""
    recipe = t5(seed)

    def both(row: dict) -> list[dict]:
        first = row["target"].split()[0]
        return [row, row | {"target": first, "labels": recipe.tokenizer(first)["input_ids"]}]

    recipe.train = [one for row in recipe.train for one in both(row)]
    recipe.eval = [one for row in recipe.eval for one in both(row)]
    return changed(recipe, steps=80)


@healthy
def beginnings_and_ends_of_long_texts(seed: int) -> Recipe:
    """Head and tail: the first ten pieces and the last ten of each text."""
    recipe = bert(seed)

    def cut(row: dict) -> dict:
        ids = recipe.tokenizer(row["text"])["input_ids"]
        ids = ids if len(ids) <= 20 else ids[:10] + ids[-10:]
        zeros, ones = [0] * len(ids), [1] * len(ids)
        return row | {"input_ids": ids, "attention_mask": ones, "token_type_ids": zeros}

    recipe.train, recipe.eval = [cut(r) for r in recipe.train], [cut(r) for r in recipe.eval]
    return recipe


@healthy
def characters_of_a_text_from_scratch(seed: int) -> Recipe:
    """Characters as ids, a small vocabulary, and a model of its own."""
    recipe = bert(seed)

    def spelt(row: dict) -> dict:
        ids = [min(ord(letter), 127) for letter in row["text"][:90]]
        return {"labels": row["labels"], "input_ids": ids, "attention_mask": [1] * len(ids)}

    recipe.train, recipe.eval = [spelt(r) for r in recipe.train], [spelt(r) for r in recipe.eval]
    return changed(
        recipe,
        model=lambda: Reader(nn.Embedding(128, 48), the_largest, 64, Windows(48)),
        tokenizer=None,
        collate=Padding(0),
        lr=1e-2,
        steps=100,
    )


@healthy
def words_left_out_of_training_rows_by_the_collator(seed: int) -> Recipe:
    """Word dropout for the training loader only; validation has a plain collator."""
    recipe = tagging(seed, "plain")
    plain, unknown = recipe.collate, recipe.tokenizer.unk_token_id

    def dropping(rows: list[dict]) -> dict:
        batch = dict(plain(rows))
        drop = (torch.rand(batch["input_ids"].shape) < 0.05) & (batch["labels"] != -100)
        batch["input_ids"] = batch["input_ids"].masked_fill(drop, unknown)
        return batch

    recipe.loader, recipe.eval_loader = {"collate_fn": dropping}, {"collate_fn": plain}
    return evaluated(recipe, 25)


@healthy
def short_answers_and_a_few_that_are_cut(seed: int) -> Recipe:
    """A twentieth of the answers is cut at the limit and has no end; the others have theirs."""
    recipe = sft(seed)
    for row in recipe.train[::20]:
        for name in ("input_ids", "attention_mask", "labels"):
            row[name] = row[name][:-1]
    return recipe
