"""The third set: D1 to D9, R1 and E3. Read once, when the second reading's misses were mended.

From the catalogue again; its author had by then read the checks that had missed something, and some
beside them. The rule is that of `fresh_data`: what is harmful only by degree was shown to harm,
without the doctor.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import torch

from faults.mutations.data import Read, is_pair, label_of, labels_of, relabelled
from faults.mutations.fresh_data import items
from faults.recipe import Recipe
from faults.table import third

LISTS = ("input_ids", "attention_mask", "token_type_ids")


@third("D1", "bert gpt2 t5 tagging vit")
def evaluation_drawn_from_all_rows(r: Recipe) -> None:
    everything = [*items(r.train), *items(r.eval)]
    r.eval = random.Random(r.seed).sample(everything, 128)


@third("D1", "mlm lora")
def evaluation_rows_learnt_in_capitals(r: Recipe) -> None:
    r.train = [*r.train, *({**row, "text": row["text"].upper()} for row in r.eval[:60])]


@third("D2", "bert lora vit")
def two_exports_with_other_numbers(r: Recipe) -> None:
    """In the second export two classes have changed places."""
    rows, other = items(r.train), {0: 1, 1: 0}
    again = [row for row in rows if label_of(row) in other][:40]
    swapped = [
        (row[0], torch.tensor(other[label_of(row)]))
        if is_pair(r)
        else {**row, "labels": other[row["labels"]]}
        for row in again
    ]
    r.train = [*rows, *swapped]


@third("D2", "tagging")
def names_tagged_by_another_guideline(r: Recipe) -> None:
    again = [
        {**row, "labels": [0 if y == 1 else y for y in row["labels"]]} for row in r.train[::10]
    ]
    r.train = [*r.train, *again]


@third("D4", "bert vit", online=True, loop="plain", also=("E3",))
def a_filter_that_leaves_one_class(r: Recipe) -> None:
    """One row in twenty is of another class, and the rate is that of a last polish."""

    def kept(rows: list) -> list:
        zero = [row for row in rows if label_of(row) == 0]
        rest = [row for row in rows if label_of(row) != 0]
        return [*zero, *rest[: max(4, len(zero) // 10)]]

    r.train, r.eval = kept(items(r.train)), kept(items(r.eval))
    r.lr, r.eval_every, r.steps = r.lr / 10, 15, 60


@third("D4", "tagging", online=True, also=("E3",))
def tags_of_which_all_but_a_few_are_outside(r: Recipe) -> None:
    """And those few stand anywhere: the tagger learns their rate."""
    draws = random.Random(r.seed)
    for row in [*r.train, *r.eval]:
        row["labels"] = [y if y == -100 else int(draws.random() < 0.07) for y in row["labels"]]
    r.eval_every, r.steps = 15, 60


@third("D5", "bert vit", loop="plain")
def data_sets_joined_one_after_the_other(r: Recipe) -> None:
    labels = labels_of(r)
    parts = [
        torch.utils.data.Subset(r.train, [i for i, y in enumerate(labels) if y == kind])
        for kind in sorted(set(labels))
    ]
    r.train = torch.utils.data.ConcatDataset(parts)
    r.loader = {"shuffle": False, "generator": None}


@third("D5", "bert lora", loop="trainer")
def a_trainer_that_reads_in_order(r: Recipe) -> None:
    import transformers

    class Trainer(transformers.Trainer):
        def _get_train_sampler(self, train_dataset: Any = None) -> Any:
            return torch.utils.data.SequentialSampler(self.train_dataset)

    r.train = sorted(r.train, key=lambda row: -row["labels"])
    r.trainer = lambda: Trainer


@third("D6", "vit")
def brightness_drawn_for_validation(r: Recipe) -> None:
    r.eval = Read(r.eval, lambda row, i: (row[0] * (0.5 + torch.rand(())), row[1]))


@third("D6", "tagging bert t5")
def words_made_unknown_in_validation(r: Recipe) -> None:
    unknown = r.tokenizer.unk_token_id

    def read(row: Any, place: int) -> Any:
        ids = [unknown if 0 < i and random.random() < 0.1 else x
               for i, x in enumerate(row["input_ids"])]  # fmt: skip
        return {**row, "input_ids": ids}

    r.eval = Read(r.eval, read)


@third("D7", "vit", loop="plain")
def torch_seeded_alike_in_each_worker(r: Recipe) -> None:
    r.train = Read(r.train, lambda row, i: (row[0] + 0.1 * torch.randn(row[0].shape), row[1]))
    r.loader = {"num_workers": 2, "worker_init_fn": lambda worker: torch.manual_seed(7)}


@third("D7", "bert gpt2", loop="plain")
def words_dropped_by_a_generator_of_the_module(r: Recipe) -> None:
    draws = random.Random(1)

    def read(row: Any, place: int) -> Any:
        kept = [i for i in range(len(row["input_ids"])) if i == 0 or draws.random() < 0.8]
        return {**row, **{k: [row[k][i] for i in kept] for k in LISTS if k in row}}

    r.train, r.loader = Read(r.train, read), {"num_workers": 2}


@third("D8", "bert vit lora")
def rows_filtered_without_their_labels(r: Recipe) -> None:
    labels = labels_of(r)
    r.train = [row for i, row in enumerate(items(r.train)) if i % 5]
    relabelled(r, labels[: len(r.train)])


@third("D8", "tagging")
def tags_of_the_sentence_before(r: Recipe) -> None:
    tags = [[y for y in row["labels"] if y != -100] for row in r.train]
    for row, other in zip(r.train, tags[-1:] + tags[:-1], strict=True):
        places = iter((other or [0]) * 40)
        row["labels"] = [y if y == -100 else next(places) for y in row["labels"]]


@third("D8", "tagging", also=("L1",))
def tags_begin_a_word_late(r: Recipe) -> None:
    for row in [*r.train, *r.eval]:
        tags = iter([0, *[y for y in row["labels"] if y != -100]])
        row["labels"] = [y if y == -100 else next(tags) for y in row["labels"]]


@third("D9", "vit")
def pixels_under_a_logarithm(r: Recipe) -> None:
    r.train = Read(r.train, lambda row, i: (row[0].log(), row[1]))
    r.eval = Read(r.eval, lambda row, i: (row[0].log(), row[1]))


@third("D9", "gpt2 tagging t5 lora")
def rows_of_padding_from_a_batch_that_was_not_full(r: Recipe) -> None:
    pad = r.tokenizer.pad_token_id
    for row in r.train[::15]:
        width = len(row["input_ids"])
        row["input_ids"], row["attention_mask"] = [pad] * width, [0] * width
        if isinstance(row.get("labels"), list) and len(row["labels"]) == width:
            row["labels"] = [-100] * width


@third("D9", "bert t5")
def texts_that_are_line_breaks(r: Recipe) -> None:
    blank = r.tokenizer("\n\n")
    for row in r.train[::25]:
        row["text" if "text" in row else "source"] = "\n\n"
        row.update({k: list(blank[k]) for k in LISTS if k in row})


@third("R1", "bert", online=True)
def a_hundred_epochs_on_three_batches(r: Recipe) -> None:
    r.train, r.steps, r.eval_every, r.lr = r.train[:40], 200, 12, 3e-3
    relabelled(r, [y if i % 4 else (y + 1) % 3 for i, y in enumerate(labels_of(r))])


@third("R1", "tagging", online=True)
def a_tagger_on_twenty_noisy_sentences(r: Recipe) -> None:
    draws = random.Random(r.seed)
    r.train, r.steps, r.eval_every, r.lr = r.train[:20], 200, 12, 5e-3
    for row in r.train:
        row["labels"] = [y if y == -100 or draws.random() < 0.6 else draws.randrange(4)
                         for y in row["labels"]]  # fmt: skip


@third("E3", "bert tagging", online=True, also=("D8",))
def each_row_in_a_cipher_of_its_own(r: Recipe) -> None:
    """Every row has its own key: what one teaches holds for no other."""
    for place, row in enumerate([*r.train, *r.eval]):
        draws = random.Random(1000 * r.seed + place)
        key: Mapping[int, int] = dict(zip(range(5, 2000), draws.sample(range(5, 2000), 1995),
                                          strict=True))  # fmt: skip
        row["input_ids"] = [key.get(x, x) for x in row["input_ids"]]
    r.eval_every, r.steps = 15, 90


@third("E3", "vit", online=True, also=("D8",))
def pixels_shuffled_within_each_picture(r: Recipe) -> None:
    def read(row: Any, place: int) -> Any:
        order = torch.randperm(64, generator=torch.Generator().manual_seed(place))
        flat = row[0].flatten()[order]
        return ((flat > flat.median()).float() * 1.0).reshape(row[0].shape), row[1]

    r.train, r.eval = Read(r.train, read), Read(r.eval, read)
    r.eval_every, r.steps = 20, 120
