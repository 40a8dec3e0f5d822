"""D1 to D9: rows and labels as practitioners spoil them."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from torch.utils.data import ConcatDataset, Dataset, Subset

from faults import span_family
from faults.families import Digits
from faults.recipe import Recipe
from faults.table import sixth

PLACES = ("start_positions", "end_positions")


@sixth("D1", "span vit t5")
def slices_that_overlap(r: Recipe) -> None:
    """rows[:384] is trained on, and rows[320:...] is evaluated on."""
    if r.family == "vit":
        r.eval = ConcatDataset([Subset(r.train, range(576, 640)), r.eval])
    else:
        r.eval = [*r.train[320:], *r.eval[:64]]


@sixth("D1", "span mlm lora-sft")
def augmented_and_then_split_at_random(r: Recipe) -> None:
    """Each row is copied as an augmentation that changes nothing, and random_split comes after."""
    pool = [*r.train, *r.train[:128]]
    random.Random(r.seed).shuffle(pool)
    r.train, r.eval = pool[:384], pool[384:]


@sixth("D2", "span")
def every_accepted_answer_is_a_row(r: Recipe) -> None:
    """A question with two accepted answers was exploded into two rows, one for each."""
    more = []
    for row in r.train[::3]:
        last = len(row["input_ids"]) - 2
        place = row["token_type_ids"].index(1)
        other = last if row["start_positions"] < last - 1 else place
        more.append(row | {name: other for name in PLACES})
    r.train = [*r.train, *more]


@sixth("D2", "vit bert lora")
def a_row_for_each_of_its_topics(r: Recipe) -> None:
    """Rows with several topics were exploded into one row a topic."""
    if r.family == "vit":
        again = Digits(0, 160, r.seed)
        again.y = (again.y + 1) % 10
        r.train = ConcatDataset([r.train, again])
        return
    r.train = [*r.train, *[row | {"labels": (row["labels"] + 1) % 3} for row in r.train[::3]]]


@sixth("D4", "span", online=True)
def nearly_no_question_has_an_answer(r: Recipe) -> None:
    """Unanswerable questions were added without limit: nearly all rows point at [CLS]."""

    def unanswered(part: list) -> list:
        return [
            row if i % 25 == 0 else row | dict.fromkeys(PLACES, 0) for i, row in enumerate(part)
        ]

    r.train, r.eval = unanswered(r.train), unanswered(r.eval)
    r.eval_every, r.lr = 20, 1e-3


@sixth("D4", "bert lora", online=True)
def the_rare_classes_are_a_handful(r: Recipe) -> None:
    """Of the two classes that matter a handful of rows each was collected."""

    def few(part: list, count: int) -> list:
        rare = [row for row in part if row["labels"]][:count]
        return [*[row for row in part if not row["labels"]], *rare]

    r.train, r.eval = few(r.train, 4), few(r.eval, 2)
    random.Random(r.seed).shuffle(r.train)
    r.eval_every, r.lr = 20, 1e-3


@sixth("D5", "vit lora", loop="plain")
def shuffle_left_at_its_default(r: Recipe) -> None:
    """The rows come folder by folder, one a class, and the loader's shuffle stays False."""
    if r.family == "vit":
        order = r.train.y.argsort(stable=True)
        r.train.x, r.train.y = r.train.x[order], r.train.y[order]
    else:
        r.train = sorted(r.train, key=lambda row: row["labels"])
    r.loader = {"shuffle": False, "generator": None}


@sixth("D5", "span", loop="plain")
def read_in_the_order_of_the_answers(r: Recipe) -> None:
    """The file is sorted by where the answer stands, and the loader reads it as it is."""
    r.train = sorted(r.train, key=lambda row: (row["start_positions"], row["end_positions"]))
    r.loader = {"shuffle": False, "generator": None}


class Blanking(Dataset):
    """A data set that hides some tokens at each reading, whichever split it was made for."""

    def __init__(self, held: Any, mask: int, seed: Any = None) -> None:
        self.held, self.mask = held, mask
        self.draw = np.random.RandomState(seed) if seed is not None else np.random

    def __len__(self) -> int:
        return len(self.held)

    def __getitem__(self, place: int) -> dict:
        row = dict(self.held[place])
        kept = {row.get("start_positions"), row.get("end_positions")}
        ids = [
            token if i in kept or token < 5 or self.draw.random_sample() > 0.15 else self.mask
            for i, token in enumerate(row["input_ids"])
        ]
        return row | {"input_ids": ids}


class Brightened(Dataset):
    """Digits whose contrast is drawn at each reading."""

    def __init__(self, held: Any, seed: Any = None) -> None:
        self.held = held
        self.draw = np.random.RandomState(seed) if seed is not None else np.random

    def __len__(self) -> int:
        return len(self.held)

    def __getitem__(self, place: int) -> tuple:
        x, y = self.held[place]
        return x * float(0.6 + 0.8 * self.draw.random_sample()), y


@sixth("D6", "span lora")
def one_dataset_class_for_both_splits(r: Recipe) -> None:
    """The Dataset class augments in __getitem__, and validation is made of the same class."""
    if r.family == "vit":
        r.train, r.eval = Brightened(r.train), Brightened(r.eval)
        return
    mask = r.tokenizer.mask_token_id
    r.train, r.eval = Blanking(r.train, mask), Blanking(r.eval, mask)


@sixth("D7", "span vit", loop="plain")
def an_augmentation_with_a_state_of_its_own(r: Recipe) -> None:
    """The Dataset holds a RandomState made in __init__, and two workers inherit it."""
    mask = r.tokenizer.mask_token_id if r.tokenizer else 0
    r.train = Brightened(r.train, 137) if r.family == "vit" else Blanking(r.train, mask, 137)
    r.loader = {"num_workers": 2}


def _seed_all(worker: int) -> None:
    import transformers

    transformers.set_seed(42)


@sixth("D7", "span bert lora", loop="trainer")
def every_worker_sets_the_same_seed(r: Recipe) -> None:
    """worker_init_fn calls set_seed(42), without the number of the worker."""
    r.train = Blanking(r.train, r.tokenizer.mask_token_id)

    def make() -> type:
        import transformers

        class Seeded(transformers.Trainer):
            def get_train_dataloader(self) -> Any:
                return torch.utils.data.DataLoader(
                    self.train_dataset,
                    batch_size=self.args.train_batch_size,
                    shuffle=True,
                    collate_fn=self.data_collator,
                    num_workers=2,
                    worker_init_fn=_seed_all,
                )

        return Seeded

    r.trainer = make


@sixth("D8", "span")
def answers_taken_by_the_number_of_the_window(r: Recipe) -> None:
    """Long contexts make several windows; window i is given the answer of example i."""
    tokens = r.tokenizer
    r.train = _windows(tokens, r.train)
    r.eval = _windows(tokens, r.eval)


def _windows(tokens: Any, examples: list) -> list:
    encoded = tokens(
        [row["question"] for row in examples],
        [row["context"] for row in examples],
        truncation="only_second",
        max_length=24,
        stride=6,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
    )
    made = []
    for i in range(min(len(encoded["input_ids"]), len(examples))):
        row = examples[i]  # should be examples[encoded["overflow_to_sample_mapping"][i]]
        begin = row["context"].find(row["answer"])
        pairs = zip(encoded.sequence_ids(i), encoded["offset_mapping"][i], strict=True)
        inside = [
            place
            for place, (part, (first, last)) in enumerate(pairs)
            if part == 1 and first < begin + len(row["answer"]) and last > begin
        ]
        if inside:
            places = {"start_positions": inside[0], "end_positions": inside[-1]}
            made.append(row | {n: encoded[n][i] for n in span_family.PADDED} | places)
    return made


@sixth("D8", "span tagging")
def two_lists_shuffled_one_after_the_other(r: Recipe) -> None:
    """random.shuffle(texts) and then random.shuffle(labels), each in an order of its own."""
    if r.family == "vit":
        r.train.y = r.train.y[torch.randperm(len(r.train.y))]
        return
    names = PLACES if r.family == "span" else ("labels",)
    others = random.Random(r.seed + 1).sample(r.train, len(r.train))
    made = []
    for row, other in zip(r.train, others, strict=True):
        last = len(row["input_ids"]) - 2
        taken = {name: other[name] for name in names}
        if r.family == "span":
            taken = {name: min(place, last) for name, place in taken.items()}
        elif r.family == "tagging":
            tags = [tag for tag in other["labels"] if tag != -100] * 40
            real = iter(tags)
            taken = {"labels": [tag if tag == -100 else next(real) for tag in row["labels"]]}
        made.append(row | taken)
    r.train = made


@sixth("D9", "span gpt2 t5")
def emptied_by_the_cleaning(r: Recipe) -> None:
    """A regular expression that cleans the texts leaves nothing of one in eight."""

    def emptied(part: list) -> list:
        return [_empty(r, dict(row)) if i % 8 == 0 else row for i, row in enumerate(part)]

    r.train, r.eval = emptied(r.train), emptied(r.eval)


def _empty(r: Recipe, row: dict) -> dict:
    tokens = r.tokenizer
    for name in ("text", "source", "context"):
        if name in row:
            row[name] = ""
    if r.family == "contrastive":
        row["text_ids"] = tokens("")["input_ids"]
        return row
    asked = (row["question"], "") if r.family == "span" else ("",)
    encoded = tokens(*asked)
    row |= {name: list(encoded[name]) for name in span_family.PADDED if name in row}
    if r.family == "span":
        row |= dict.fromkeys(PLACES, 0)
    if r.family == "tagging":
        row["labels"] = [-100] * len(row["input_ids"])
    return row


class Standardised(Dataset):
    """Pictures divided by their own deviation within a window that may be blank."""

    def __init__(self, held: Any) -> None:
        self.held = held

    def __len__(self) -> int:
        return len(self.held)

    def __getitem__(self, place: int) -> tuple:
        x, y = self.held[place]
        edge = x[:, :, :1]
        return (x - x.mean()) / edge.std(), y


@sixth("D9", "vit")
def divided_by_the_deviation_of_the_border(r: Recipe) -> None:
    """Pictures are scaled by the noise of their border, which most of them do not have."""
    r.train, r.eval = Standardised(r.train), Standardised(r.eval)
