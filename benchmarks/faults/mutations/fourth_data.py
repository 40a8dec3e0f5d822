"""The fourth set: D1 to D9. Committed before the doctor read it.

Written from the catalogue and from what people report of their own scripts, by one who had read
neither the checks nor their tests, and of the earlier readings only what the README says. The rule
is that of `fresh_data`: what is harmful only by degree was shown to harm, without the doctor.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from faults.families import Digits, Masking
from faults.mutations.data import Read, label_of, labels_of
from faults.mutations.fresh_data import items
from faults.mutations.tokens import then
from faults.recipe import Recipe
from faults.table import fourth

LISTS = ("input_ids", "attention_mask", "token_type_ids")


def with_label(row: Any, label: int) -> Any:
    """The row under another label."""
    return (row[0], torch.tensor(label)) if isinstance(row, tuple) else {**row, "labels": label}


def each_label(r: Recipe, change: Callable[[int], int]) -> None:
    """Both splits, every label changed."""
    r.train, r.eval = (
        [with_label(row, change(label_of(row))) for row in items(rows)]
        for rows in (r.train, r.eval)
    )


def each_tag(r: Recipe, change: Callable[[int], int]) -> None:
    """Both splits of a tagger, every tag changed, what is ignored left as it is."""
    for row in [*r.train, *r.eval]:
        row["labels"] = [y if y == -100 else change(y) for y in row["labels"]]


# -- D1, D2 --------------------------------------------------------------------------------------


@fourth("D1", "bert t5 tagging vit contrastive")
def a_fold_off_by_one(r: Recipe) -> None:
    """The fold that is left out of training is the one before that of the evaluation."""
    rows = items(r.train)
    r.train = [row for i, row in enumerate(rows) if i % 5 != 3]
    r.eval = [row for i, row in enumerate(rows) if i % 5 == 4]


@fourth("D1", "bert mlm lora")
def the_same_pages_crawled_a_day_later(r: Recipe) -> None:
    """Their texts end in another date; the first 32 tokens, which are all that is read, do not."""
    for row in r.eval[:40]:
        text = f"{row['text']} (retrieved on 2 May)"
        found = r.tokenizer(text, truncation=True, max_length=32)
        again = {**row, "text": text, **{k: list(found[k]) for k in LISTS if k in row}}
        r.train = [*r.train, again]


@fourth("D2", "bert lora vit")
def every_vote_is_kept_as_a_row(r: Recipe) -> None:
    """Three annotators, no majority taken: the third one disagrees."""
    rows, kinds = items(r.train), max(labels_of(r)) + 1
    votes = [(row, label_of(row) + off) for row in rows[:70] for off in (0, 0, 1)]
    r.train = [*(with_label(row, y % kinds) for row, y in votes), *rows[70:]]
    random.Random(r.seed).shuffle(r.train)


@fourth("D2", "tagging")
def a_silver_corpus_beside_the_gold_one(r: Recipe) -> None:
    """Sixty sentences once more, tagged by a rule that calls names what is no plain word."""
    silver = [
        {**row, "labels": [2 if y > 0 else y for y in row["labels"]]} for row in r.train[40:100]
    ]
    r.train = [*r.train, *silver]


# -- D4, D5 --------------------------------------------------------------------------------------


@fourth("D4", "bert lora vit", online=True, loop="plain", also=("E3",))
def what_was_not_labelled_falls_into_the_first_class(r: Recipe) -> None:
    """A missing label is read as 0, and nine of ten are missing."""
    draws = random.Random(r.seed)
    each_label(r, lambda y: y if draws.random() < 0.08 else 0)
    r.eval_every, r.steps = 15, 60


@fourth("D4", "tagging", online=True, also=("E3",))
def an_annotator_who_skipped_nearly_all(r: Recipe) -> None:
    draws = random.Random(r.seed)
    each_tag(r, lambda y: y if draws.random() < 0.08 else 0)
    r.eval_every, r.steps = 15, 60


@fourth("D5", "bert lora", loop="plain")
def a_shuffle_whose_result_is_thrown_away(r: Recipe) -> None:
    """`Dataset.shuffle` gives another set; this one stays sorted."""
    import datasets

    r.train = datasets.Dataset.from_list(sorted(r.train, key=label_of))
    r.train.shuffle(seed=r.seed)
    r.loader = {"shuffle": False, "generator": None}


@fourth("D5", "vit bert", loop="plain")
def a_balanced_choice_taken_class_by_class(r: Recipe) -> None:
    labels = labels_of(r)
    count = min(labels.count(kind) for kind in set(labels))
    order = [
        place
        for kind in sorted(set(labels))
        for place in [i for i, y in enumerate(labels) if y == kind][:count]
    ]
    r.loader = {"shuffle": None, "generator": None, "sampler": order}


class Buffered(torch.utils.data.IterableDataset):
    """A stream that is shuffled by a small buffer."""

    def __init__(self, rows: list, size: int) -> None:
        self.rows, self.size = rows, size

    def __iter__(self) -> Any:
        held: list = []
        for row in self.rows:
            held.append(row)
            if len(held) > self.size:
                yield held.pop(random.randrange(len(held)))
        yield from held


@fourth("D5", "bert lora", loop="trainer")
def a_buffer_of_ten_over_sorted_rows(r: Recipe) -> None:
    r.train = Buffered(sorted(r.train, key=label_of), 10)


# -- D6, D7 --------------------------------------------------------------------------------------


@fourth("D6", "vit")
def one_set_with_one_transform_split_in_two(r: Recipe) -> None:
    """`random_split` gives two views of one data set, and its transform is that of training."""
    whole = Digits(0, 840, r.seed, lambda x: x ** (0.4 + 1.2 * torch.rand(())))
    r.train = torch.utils.data.Subset(whole, range(640))
    r.eval = torch.utils.data.Subset(whole, range(640, 840))


@fourth("D6", "vit")
def a_patch_is_cut_out_of_validation_digits_too(r: Recipe) -> None:
    def read(row: Any, place: int) -> Any:
        x, (i, j) = row[0].clone(), torch.randint(0, 5, (2,)).tolist()
        x[..., i : i + 3, j : j + 3] = 0
        return x, row[1]

    r.train, r.eval = Read(r.train, read), Read(r.eval, read)


@fourth("D6", "tagging mlm contrastive")
def neighbours_swapped_in_validation(r: Recipe) -> None:
    first = "text_ids" if r.family == "contrastive" else "input_ids"

    def read(row: Any, place: int) -> Any:
        size = len(row[first])
        order = list(range(size))
        for i in range(1, size - 2):
            if random.random() < 0.3:
                order[i], order[i + 1] = order[i + 1], order[i]
        names = [k for k, v in row.items() if isinstance(v, list) and len(v) == size]
        return {**row, **{k: [row[k][i] for i in order] for k in names}}

    r.eval = Read(r.eval, read)


def fewer(row: Any, draw: Callable[[], float]) -> Any:
    """A fifth of the tokens is dropped, or a digit is darkened."""
    if isinstance(row, tuple):
        return row[0] * (0.5 + draw()), row[1]
    kept = [i for i in range(len(row["input_ids"])) if i == 0 or draw() < 0.8]
    names = [k for k in (*LISTS, "labels") if isinstance(row.get(k), list)]
    return {**row, **{k: [row[k][i] for i in kept] for k in names}}


@fourth("D7", "vit gpt2 tagging", loop="plain")
def workers_seeded_by_the_clock(r: Recipe) -> None:
    """By the minute, and all of them start in the same one."""
    r.train = Read(r.train, lambda row, i: fewer(row, random.random))
    r.loader = {
        "num_workers": 2,
        "worker_init_fn": lambda worker: random.seed(int(time.time() // 60)),
    }


class SeededMasking(Masking):
    """Masks by a generator that it holds, so that runs can be repeated."""

    def __call__(self, rows: Any) -> dict[str, torch.Tensor]:
        if not hasattr(self, "draws"):
            self.draws = np.random.default_rng(0)
        with torch.random.fork_rng():
            torch.manual_seed(int(self.draws.integers(2**31)))
            return super().__call__(rows)


@fourth("D7", "mlm", loop="plain")
def a_masking_collator_with_a_generator_of_its_own(r: Recipe) -> None:
    """Each worker, in each epoch, begins with a copy of the same one."""
    r.collate, r.loader = SeededMasking(r.tokenizer), {"num_workers": 2}


@fourth("D7", "tagging bert t5", loop="trainer")
def a_collator_that_drops_words_by_its_own_generator(r: Recipe) -> None:
    draws, collate, unknown = random.Random(3), r.collate, r.tokenizer.unk_token_id

    def blanked(row: Any) -> Any:
        ids = [unknown if i and draws.random() < 0.2 else x for i, x in enumerate(row["input_ids"])]
        return {**row, "input_ids": ids}

    r.collate = lambda rows: collate([blanked(row) for row in rows])
    r.args["dataloader_num_workers"] = 2


# -- D8, D9 --------------------------------------------------------------------------------------


@fourth("D8", "bert vit lora")
def files_listed_as_strings_and_labels_by_number(r: Recipe) -> None:
    """0, 1, 10, 100, 101: the order of names is not that of the table of labels."""
    rows, labels = items(r.train), labels_of(r)
    listed = sorted(range(len(rows)), key=str)
    r.train = [with_label(rows[i], y) for i, y in zip(listed, labels, strict=True)]


@fourth("D8", "tagging")
def tags_listed_from_the_end(r: Recipe) -> None:
    for row in [*r.train, *r.eval]:
        tags = [y for y in row["labels"] if y != -100]
        row["labels"] = [y if y == -100 else tags.pop() for y in row["labels"]]


@fourth("D8", "contrastive", online=True, also=("E3",))
def pairs_joined_one_row_off(r: Recipe) -> None:
    for rows in (r.train, r.eval):
        others = [row["pair_ids"] for row in rows]
        for row, pair in zip(rows, others[-1:] + others[:-1], strict=True):
            row["pair_ids"] = pair
    r.eval_every, r.steps = 15, 80


@fourth("D9", "vit")
def standardised_by_pixels_that_never_vary(r: Recipe) -> None:
    """Corners are always black: their deviation is 0, and so they are 0 / 0."""
    x = torch.stack([row[0] for row in items(r.train)])
    mean, spread = x.mean(0), x.std(0)
    r.train, r.eval = (
        Read(rows, lambda row, i: ((row[0] - mean) / spread, row[1])) for rows in (r.train, r.eval)
    )


@fourth("D9", "bert lora")
def texts_of_characters_without_a_width(r: Recipe) -> None:
    """Left over where a page held nothing; a tokenizer that cleans makes nothing of them."""
    for row in r.train[3::25]:
        row["text"] = "\u200b\u200b \ufeff"
        found = r.tokenizer(row["text"])
        row.update({k: list(found[k]) for k in LISTS if k in row})


@fourth("D9", "tagging bert t5 mlm", also=("T10",))
def a_mask_of_shares_cast_to_whole_numbers(r: Recipe) -> None:
    """Divided by its sum, for a mean, and then made `long` again: nothing is left."""
    then(r, lambda b: {"attention_mask": (b["attention_mask"] / b["attention_mask"].sum(
        1, keepdim=True)).long()})  # fmt: skip
