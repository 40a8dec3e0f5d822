"""D1 to D9: what can be wrong with the rows before they are tokenized or collated."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from faults.recipe import Recipe
from faults.table import fault

TEXT = "bert mlm gpt2 sft t5 lora"


class Read(Dataset):
    """Rows as `how` reads them."""

    def __init__(self, rows: Any, how: Callable[[Any, int], Any]) -> None:
        self.rows, self.how = rows, how

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, place: int) -> Any:
        return self.how(self.rows[place], place)


def is_pair(recipe: Recipe) -> bool:
    """Whether rows are (x, y)."""
    return isinstance(recipe.train[0], tuple)


def relabelled(recipe: Recipe, labels: list[int]) -> None:
    """The training rows with other labels."""
    if is_pair(recipe):
        recipe.train = Read(recipe.train, lambda row, i: (row[0], torch.tensor(labels[i])))
    else:
        recipe.train = [{**row, "labels": labels[i]} for i, row in enumerate(recipe.train)]


def labels_of(recipe: Recipe) -> list[int]:
    """The labels of the training rows."""
    return [int(row[1] if is_pair(recipe) else row["labels"]) for row in recipe.train]


# -- D1 ------------------------------------------------------------------------------------------


@fault("D1", TEXT + " vit")
def a_quarter_of_the_evaluation_was_trained_on(r: Recipe) -> None:
    rows = [r.train[i] for i in range(40)]
    r.eval = [*[r.eval[i] for i in range(len(r.eval))], *rows]


@fault("D1", "bert mlm gpt2 sft t5 vit")
def split_after_oversampling(r: Recipe) -> None:
    rows = [r.train[i] for i in range(200)] * 2
    random.Random(r.seed).shuffle(rows)
    r.train, r.eval = rows[:300], rows[300:]


@fault("D1", "bert lora")
def copies_that_differ_in_case_and_spaces(r: Recipe) -> None:
    again = [{**row, "text": f"  {row['text'].upper()} "} for row in r.train[:40]]
    r.eval = [*r.eval, *again]


# -- D2 --------------------------------------------------------------------------------------


@fault("D2", "bert vit lora")
def rows_annotated_twice(r: Recipe) -> None:
    old, kinds = r.train, max(labels_of(r)) + 1
    rows = [old[i] for i in range(len(old))]
    again = [
        (row[0], (row[1] + 1) % kinds)
        if is_pair(r)
        else {**row, "labels": (row["labels"] + 1) % kinds}
        for row in rows[:60]
    ]
    r.train = [*rows, *again]


@fault("D2", "bert")
def merged_with_an_older_labelling(r: Recipe) -> None:
    r.train = [*r.train, *({**row, "labels": 0} for row in r.train[100:200])]


# -- D4, D5 --------------------------------------------------------------------------------------


@fault("D4", "bert vit", online=True, also=("E3",))
def nine_of_ten_rows_of_one_class(r: Recipe) -> None:
    """And little in the input that tells the others: the model learns the rates of the classes."""

    def kept(rows: Any, count: int, seed: int) -> list:
        all_rows = [rows[i] for i in range(len(rows))]
        zero = [row for row in all_rows if label_of(row) == 0]
        rest = [row for row in all_rows if label_of(row) != 0]
        chosen = [*(zero * 20)[: count * 9 // 10], *rest[: count // 10]]
        draws = np.random.default_rng(seed)
        return [without_signal(row, draws) for row in chosen]

    r.train, r.eval = kept(r.train, 640, r.seed), kept(r.eval, 160, r.seed + 100)
    r.eval_every, r.steps = 20, 80


def without_signal(row: Any, draws: Any) -> Any:
    """The row with an input that has nothing to do with its label."""
    if isinstance(row, tuple):
        return torch.tensor(draws.random((1, 8, 8)), dtype=torch.float32), row[1]
    ids = [row["input_ids"][0], *draws.integers(5, 2000, 20).tolist(), row["input_ids"][-1]]
    return {**row, "input_ids": ids, "attention_mask": [1] * 22, "token_type_ids": [0] * 22}


def label_of(row: Any) -> int:
    """The label of one row."""
    return int(row[1] if isinstance(row, tuple) else row["labels"])


def _sorted(r: Recipe) -> None:
    labels = labels_of(r)
    order = sorted(range(len(labels)), key=labels.__getitem__)
    r.train = [r.train[i] for i in order]


@fault("D5", "bert vit lora", loop="plain")
def sorted_by_label_and_not_shuffled(r: Recipe) -> None:
    _sorted(r)
    r.loader = {"shuffle": False, "generator": None}


@fault("D5", "bert lora", loop="trainer")
def sorted_under_a_sequential_trainer(r: Recipe) -> None:
    _sorted(r)
    r.args["train_sampling_strategy"] = "sequential"


@fault("D5", "bert vit", loop="plain")
def a_sequential_sampler(r: Recipe) -> None:
    _sorted(r)
    r.loader = {"shuffle": None, "sampler": torch.utils.data.SequentialSampler(r.train)}


# -- D6, D7 --------------------------------------------------------------------------------------


def noisy(row: Any, place: int) -> Any:
    """An augmentation of pixels."""
    return row[0] + 0.1 * torch.randn_like(row[0]), row[1]


def dropped(row: Any, place: int) -> Any:
    """An augmentation of text: a tenth of the tokens is dropped."""
    kept = [i for i in range(len(row["input_ids"])) if i == 0 or random.random() < 0.8]
    return {
        **row,
        **{
            k: [row[k][i] for i in kept]
            for k in ("input_ids", "attention_mask", "token_type_ids")
            if k in row
        },
    }


@fault("D6", "vit")
def noise_on_validation_pixels(r: Recipe) -> None:
    r.eval = Read(r.eval, noisy)


@fault("D6", "vit")
def random_flips_of_validation_pixels(r: Recipe) -> None:
    r.eval = Read(
        r.eval, lambda row, i: (row[0].flip(-1) if random.random() < 0.5 else row[0], row[1])
    )


@fault("D6", "bert lora")
def words_dropped_from_validation(r: Recipe) -> None:
    r.eval = Read(r.eval, dropped)


@fault("D6", "bert")
def validation_rows_drawn_at_each_reading(r: Recipe) -> None:
    rows = r.eval
    r.eval = Read(rows, lambda row, i: rows[np.random.randint(len(rows))])


class SharedState(Dataset):
    """Augments with a generator of its own, which each worker inherits as it is."""

    def __init__(self, rows: Any) -> None:
        self.rows, self.draws = rows, np.random.RandomState(0)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, place: int) -> Any:
        row = self.rows[place]
        if isinstance(row, tuple):
            return row[0] + torch.tensor(
                0.1 * self.draws.randn(*row[0].shape), dtype=torch.float32
            ), row[1]
        kept = [i for i in range(len(row["input_ids"])) if i == 0 or self.draws.rand() < 0.8]
        names = [k for k in ("input_ids", "attention_mask", "token_type_ids") if k in row]
        return {**row, **{k: [row[k][i] for i in kept] for k in names}}


def same_seed(worker: int) -> None:
    """What people write into worker_init_fn."""
    np.random.seed(0)
    random.seed(0)
    torch.manual_seed(0)


@fault("D7", "vit bert", loop="plain")
def a_generator_that_workers_inherit(r: Recipe) -> None:
    r.train, r.loader = SharedState(r.train), {"num_workers": 2}


@fault("D7", "vit bert", loop="plain")
def workers_seeded_alike(r: Recipe) -> None:
    def read(row: Any, place: int) -> Any:
        if isinstance(row, tuple):
            return row[0] + torch.tensor(
                0.1 * np.random.randn(*row[0].shape), dtype=torch.float32
            ), row[1]
        return dropped(row, place)

    r.train, r.loader = Read(r.train, read), {"num_workers": 2, "worker_init_fn": same_seed}


@fault("D7", "bert t5", loop="trainer")
def inherited_under_the_trainer(r: Recipe) -> None:
    r.train = SharedState(r.train)
    r.args["dataloader_num_workers"] = 2


# -- D8, D9 --------------------------------------------------------------------------------------


@fault("D8", "bert vit lora")
def labels_shuffled(r: Recipe) -> None:
    labels = labels_of(r)
    random.Random(r.seed).shuffle(labels)
    relabelled(r, labels)


@fault("D8", "bert vit lora")
def labels_joined_one_row_late(r: Recipe) -> None:
    labels = labels_of(r)
    relabelled(r, labels[-1:] + labels[:-1])


@fault("D9", "vit")
def a_pixel_is_not_a_number(r: Recipe) -> None:
    bad = [i for i in range(len(r.train)) if i % 50 == 7]
    r.train = Read(r.train, lambda row, i: (row[0] / (0 if i in bad else 1), row[1]))


@fault("D9", "vit")
def infinite_pixels(r: Recipe) -> None:
    r.train.x[3, 0, 2, 2] = float("inf")


@fault("D9", "bert mlm gpt2 t5 lora")
def rows_without_attention(r: Recipe) -> None:
    for row in r.train[::10]:
        row["attention_mask"] = [0] * len(row["attention_mask"])


@fault("D9", "bert lora t5")
def empty_texts(r: Recipe) -> None:
    empty = r.tokenizer("")
    for row in r.train[::12]:
        row.update(
            {
                "text" if "text" in row else "source": "",
                **{
                    k: list(empty[k])
                    for k in ("input_ids", "attention_mask", "token_type_ids")
                    if k in row
                },
            }
        )
