"""Healthy runs of tasks and data that are odd in new ways; `fourth_healthy` hands them on."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any

import torch
import transformers
from torch.nn import functional

from faults import material
from faults.families import CLASSES, SUBJECTS, Causal, Padding, bert, gpt2, load, sft, some, t5, vit
from faults.healthy import changed, evaluated
from faults.held_out_family import tagger, tagging
from faults.mutations.fresh_losses import labels_in
from faults.recipe import Recipe

CONFIGURATIONS: dict[str, Callable[[int], Recipe]] = {}


def healthy(make: Callable[[int], Recipe]) -> Callable[[int], Recipe]:
    """Register a script."""
    CONFIGURATIONS[make.__name__] = make
    return make


def classifier(labels: int, **settings: Any) -> Callable[[], Any]:
    """`BertForSequenceClassification` with so many outputs."""
    return lambda: load("BertForSequenceClassification", "bert", num_labels=labels, **settings)


@healthy
def whether_two_texts_are_of_one_library(seed: int) -> Recipe:
    """Pairs in one row, told apart by their token types."""
    r, draws = bert(seed), random.Random(seed)
    for name, count in (("train", 384), ("eval", 120)):
        rows = [row for row in material.texts()["topics"][name] if row[1] in SUBJECTS[::2]]
        rows, made = some(rows, seed, count), []
        for text, label in rows:
            other, kind = draws.choice(rows)
            pair = r.tokenizer(text, other, truncation=True, max_length=44)
            made.append({"labels": int(label == kind), **{k: list(pair[k]) for k in pair}})
        setattr(r, name, made)
    return evaluated(changed(r, model=classifier(2), lr=1e-3, steps=80), 20)


@healthy
def ranks_by_thresholds(seed: int) -> Recipe:
    """An ordinal target: is it more than the least, is it the most?"""
    r = bert(seed)
    for row in [*r.train, *r.eval]:
        row["labels"] = [float(row["labels"] > k) for k in range(CLASSES - 1)]
    model = classifier(CLASSES - 1, problem_type="multi_label_classification")
    return changed(r, model=model, metrics=None)


@healthy
def votes_of_five_annotators_as_shares(seed: int) -> Recipe:
    """A target is a distribution, and the loss the cross-entropy with it."""
    r, draws = bert(seed, "plain"), random.Random(seed)
    for row in [*r.train, *r.eval]:
        votes = [row["labels"] if draws.random() < 0.85 else draws.randrange(3) for _ in range(5)]
        row["labels"] = [votes.count(kind) / 5 for kind in range(CLASSES)]

    def collate(rows: Any) -> dict[str, torch.Tensor]:
        shares = torch.tensor([row["labels"] for row in rows])
        rest = [{k: v for k, v in row.items() if k != "labels"} for row in rows]
        return Padding(r.tokenizer.pad_token_id)(rest) | {"labels": shares}

    def loss(outputs: Any, batch: Any) -> torch.Tensor:
        return functional.cross_entropy(outputs.logits, batch["labels"])

    return changed(r, collate=collate, loss=loss, metrics=None)


class MeanAndSpread(transformers.BertForSequenceClassification):
    """A Gaussian likelihood of two outputs."""

    def forward(self, labels: Any = None, **given: Any) -> Any:
        outputs = super().forward(**given)
        if labels is not None:
            mean, spread = outputs.logits[:, 0], outputs.logits[:, 1].exp() + 1e-2
            outputs.loss = functional.gaussian_nll_loss(mean, labels, spread)
        return outputs


@healthy
def a_mean_and_its_spread(seed: int) -> Recipe:
    """How long are the words of a text, and how sure is the model of it?"""
    r = bert(seed, "plain")
    for row in [*r.train, *r.eval]:
        words = row["text"].split()
        row["labels"] = sum(map(len, words)) / len(words) / 3 - 2
    place = material.checkpoint("bert")
    model = lambda: MeanAndSpread.from_pretrained(place, num_labels=2)  # noqa: E731
    return evaluated(changed(r, model=model, metrics=None, lr=1e-3), 20)


@healthy
def preferences_in_the_halves_of_a_batch(seed: int) -> Recipe:
    """A reward model: the first half was preferred to the second."""
    r = bert(seed, "plain")
    for name in ("train", "eval"):
        rows = getattr(r, name)
        kinds = [[row for row in rows if row["labels"] == k] for k in (0, 2)]
        setattr(r, name, list(zip(*kinds, strict=False)))
    pad = Padding(r.tokenizer.pad_token_id)

    def collate(pairs: Any) -> dict[str, torch.Tensor]:
        rows = [better for better, _ in pairs] + [worse for _, worse in pairs]
        return pad([{k: row[k] for k in ("input_ids", "attention_mask")} for row in rows])

    def loss(outputs: Any, batch: Any = None) -> torch.Tensor:
        better, worse = outputs.logits[:, 0].chunk(2)
        return -functional.logsigmoid(better - worse).mean()

    fields = {"collate": collate, "loss": loss, "metrics": None, "batch": 8}
    return evaluated(changed(r, model=classifier(1), **fields), 20)


@healthy
def every_tag_is_asked_on_its_own(seed: int) -> Recipe:
    """One against the rest, by a sigmoid for each."""
    r = tagging(seed, "plain")

    def loss(outputs: Any, batch: Any) -> torch.Tensor:
        kept = batch["labels"] != -100
        wanted = functional.one_hot(batch["labels"][kept], 4).float()
        return functional.binary_cross_entropy_with_logits(outputs.logits[kept], wanted)

    return changed(r, loss=loss)


@healthy
def the_overlap_of_tags(seed: int) -> Recipe:
    """A soft Dice loss beside the cross-entropy, as for segments that are rare."""
    r = tagging(seed, "plain")

    def loss(outputs: Any, batch: Any) -> torch.Tensor:
        kept = batch["labels"] != -100
        shares, wanted = outputs.logits[kept].softmax(-1), batch["labels"][kept]
        hot = functional.one_hot(wanted, 4).float()
        dice = 2 * (shares * hot).sum(0) / (shares.sum(0) + hot.sum(0) + 1e-6)
        return 1 - dice.mean() + functional.cross_entropy(outputs.logits[kept], wanted)

    return changed(r, loss=loss)


@healthy
def two_tags_and_nothing_else_is_scored(seed: int) -> Recipe:
    """Names against words; signs and numbers are ignored in every row."""
    r = tagging(seed)
    for row in [*r.train, *r.eval]:
        row["labels"] = [{0: 0, 2: 1}.get(y, -100) for y in row["labels"]]
    return evaluated(changed(r, model=lambda: tagger(num_labels=2)), 20)


@healthy
def the_middle_comes_last(seed: int) -> Recipe:
    """Lines rearranged so that a decoder learns to fill gaps."""
    r, draws = gpt2(seed), random.Random(seed)
    for row in [*r.train, *r.eval]:
        *ids, end = row["input_ids"]
        first, last = sorted(draws.sample(range(len(ids) + 1), 2))
        row["input_ids"] = [*ids[:first], *ids[last:], end, *ids[first:last], end]
        row["attention_mask"] = [1] * len(row["input_ids"])
    return changed(r, steps=50)


@healthy
def lines_between_two_ends(seed: int) -> Recipe:
    """GPT-2 has one token for both: rows begin and end with it."""
    r = gpt2(seed, "plain")
    for row in [*r.train, *r.eval]:
        row["input_ids"] = [r.tokenizer.eos_token_id, *row["input_ids"]]
        row["attention_mask"] = [1] * len(row["input_ids"])
    return r


@healthy
def prompts_cut_on_the_left(seed: int) -> Recipe:
    """What is too long loses its beginning; every answer stays whole."""
    r, limit = sft(seed), 26
    for row in [*r.train, *r.eval]:
        told = sum(y != -100 for y in row["labels"])
        more = min(len(row["input_ids"]) - limit, len(row["input_ids"]) - told - 1)
        if more > 0:
            for name in ("input_ids", "attention_mask", "labels"):
                row[name] = row[name][:1] + row[name][1 + more :]
    return r


@healthy
def words_are_put_back(seed: int) -> Recipe:
    """T5 writes the whole line of which it was shown two thirds."""
    r, draws = t5(seed), random.Random(seed)
    for row in [*r.train, *r.eval]:
        words = row["source"].split()
        shown = " ".join(w for w in words if draws.random() < 0.7) or words[0]
        row["target"], row["source"] = row["source"], shown
        row["input_ids"] = r.tokenizer(shown, truncation=True, max_length=32)["input_ids"]
        row["attention_mask"] = [1] * len(row["input_ids"])
        row["labels"] = r.tokenizer(row["target"], truncation=True, max_length=40)["input_ids"]
    return evaluated(changed(r, steps=60), 20)


@healthy
def rare_rows_are_copied_before_training(seed: int) -> Recipe:
    """Only in the training split, and under their own label."""
    r = bert(seed)
    rest = [row for i, row in enumerate(r.train) if row["labels"] or i % 4 == 0]
    r.train = [*rest, *(dict(row) for row in rest if row["labels"] == 0 for _ in range(3))]
    return evaluated(changed(r, lr=1e-3), 20)


@healthy
def numbers_instead_of_pictures(seed: int) -> Recipe:
    """Digits in 0..16, as the set stores them, and a model that learns at that scale."""
    from faults.mutations.data import Read

    r = vit(seed)
    scaled = [Read(rows, lambda row, i: (row[0] * 16 - 5, row[1])) for rows in (r.train, r.eval)]
    return evaluated(changed(r, train=scaled[0], eval=scaled[1], steps=120), 40)


@healthy
def odd_digits_from_even_ones_and_from_each_other(seed: int) -> Recipe:
    """Two losses of one head: the digit, and by sums of its shares whether it is odd."""
    r = vit(seed)

    def loss(outputs: Any, y: Any) -> torch.Tensor:
        labels, scores = labels_in(y), outputs.logits
        odd = scores[:, 1::2].logsumexp(1) - scores[:, ::2].logsumexp(1)
        parity = functional.binary_cross_entropy_with_logits(odd, (labels % 2).float())
        return functional.cross_entropy(scores, labels) + 0.5 * parity

    return evaluated(changed(r, loss=loss, steps=80), 20)


@healthy
def answers_weigh_more_than_questions(seed: int) -> Recipe:
    """Loss on all of a chat, a tenth of it on what was asked."""
    r = sft(seed, "plain")
    collate, whole = r.collate, Causal(r.tokenizer.pad_token_id)

    def both(rows: Any) -> dict[str, torch.Tensor]:
        return collate(rows) | {"labels": whole(rows)["labels"]}

    asked = {tuple(row["input_ids"]): sum(y == -100 for y in row["labels"])
             for row in [*r.train, *r.eval]}  # fmt: skip

    def loss(outputs: Any, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        labels, weight = batch["labels"][:, 1:], torch.ones(batch["labels"][:, 1:].shape)
        for i, (ids, mask) in enumerate(zip(*(batch[k] for k in ("input_ids", "attention_mask")),
                                            strict=True)):  # fmt: skip
            weight[i, : asked.get(tuple(ids[mask == 1].tolist()), 1) - 1] = 0.1
        each = functional.cross_entropy(
            outputs.logits[:, :-1].transpose(1, 2), labels, reduction="none"
        )
        weight = weight * (labels != -100)
        return (each * weight).sum() / weight.sum()

    return changed(r, collate=both, loss=loss)
