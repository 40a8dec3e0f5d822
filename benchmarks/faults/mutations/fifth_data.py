"""D1 to D5, fifth set: rows as people split, join, filter and order their own CSV."""

from __future__ import annotations

import random
from typing import Any

import torch

from faults.families import COPIED
from faults.mutations.fifth_parts import classes_of, digits, each_row, label, labelled
from faults.recipe import Recipe
from faults.table import fifth


@fifth("D1", "bert t5 vit")
def the_split_is_drawn_twice_with_two_seeds(r: Recipe) -> None:
    """`train, _ = split(df, seed=1)` and `_, test = split(df, seed=2)`: a part is in both."""
    if r.family == "vit":
        whole = digits(r.train, torch.arange(len(r.train)))
        order = torch.randperm(len(whole), generator=torch.Generator().manual_seed(r.seed + 2))
        r.train, r.eval = digits(whole, torch.arange(480)), digits(whole, order[:160])
        return
    whole = [*r.train, *r.eval]
    first, second = whole[:], whole[:]
    random.Random(1).shuffle(first)
    random.Random(2).shuffle(second)
    r.train, r.eval = first[: len(r.train)], second[len(r.train) :]


@fifth("D1", "contrastive gpt2 mlm")
def all_files_of_the_folder_are_read_for_training(r: Recipe) -> None:
    """`glob("data/*.csv")` for training, and `data/validation.csv` is in the folder."""
    r.train = [*r.train, *r.eval]


@fifth("D2", "bert lora")
def a_text_with_several_labels_exploded_into_rows(r: Recipe) -> None:
    """`df.explode("labels")`: a text with two labels becomes two rows of one label each."""

    def exploded(rows: list[dict]) -> list[dict]:
        made = []
        for place, row in enumerate(rows):
            made.append(row)
            if place % 4 == 0:
                made.append(labelled(row, (row["labels"] + 1) % classes_of(r)))
        return made

    r.train, r.eval = exploded(r.train), exploded(r.eval)


@fifth("D2", "bert vit tagging")
def a_merge_on_a_key_that_repeats(r: Recipe) -> None:
    """`texts.merge(labels, on="user")`: each text of a user gets each label of that user."""
    draw = random.Random(r.seed)

    def merged(row: Any, other: Any) -> list[Any]:
        if r.family != "tagging":
            return [row, labelled(row, label(other))]
        tags = [tag if tag == -100 else draw.randrange(4) for tag in row["labels"]]
        return [row, labelled(row, tags)]

    rows = list(r.train)
    cut = len(rows) // 4
    joined = [
        one
        for place in range(0, cut - 1, 2)
        for pair in ((place, place + 1), (place + 1, place))
        for one in merged(rows[pair[0]], rows[pair[1]])
    ]
    r.train = [*joined, *rows[cut:]]


@fifth("D4", "vit bert", online=True)
def alarms_as_rare_as_they_were_recorded(r: Recipe) -> None:
    """One row in twelve is of another class than the first, and the loss treats all alike."""

    def rare(rows: Any) -> list[Any]:
        first = [row for row in rows if label(row) == 0]
        others = [row for row in rows if label(row) != 0]
        copies = (first * 12)[: max(12 * len(others) // 4, len(first))]
        return [*copies, *others[: len(copies) // 12]]

    r.train, r.eval = rare(list(r.train)), rare(list(r.eval))
    r.lr, r.eval_every = r.lr / 30, 15
    if r.loop == "trainer":
        r.args |= {"weight_decay": 0.0}


@fifth("D5", "bert lora")
def a_train_loader_of_ones_own_without_shuffle(r: Recipe) -> None:
    """`get_train_dataloader` overridden for a collator, `shuffle=True` forgotten; sorted rows."""
    r.train = sorted(r.train, key=label)

    def trainer() -> type:
        import transformers
        from torch.utils.data import DataLoader

        class LoaderTrainer(transformers.Trainer):
            def get_train_dataloader(self) -> DataLoader:
                return DataLoader(
                    [{k: row[k] for k in COPIED if k in row} for row in self.train_dataset],
                    batch_size=self.args.per_device_train_batch_size,
                    collate_fn=self.data_collator,
                )

        return LoaderTrainer

    r.trainer = trainer


@fifth("D5", "vit bert", loop="plain")
def shuffle_given_to_the_loader_of_validation(r: Recipe) -> None:
    """`shuffle=False` for training, `True` for validation; the CSV was grouped by class."""
    if r.family == "vit":
        r.train = digits(r.train, torch.argsort(r.train.y, stable=True))
    else:
        r.train = sorted(r.train, key=label)
    r.loader |= {"shuffle": False, "generator": None}
    r.eval_loader |= {"shuffle": True}


def _shuffled(count: int, seed: int) -> list[int]:
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed)).tolist()


@fifth("D8", "bert lora vit")
def texts_and_labels_are_split_by_two_calls(r: Recipe) -> None:
    """`train_test_split(texts)` and `train_test_split(labels)`: two orders, no pair is left."""
    rows = list(r.train)
    order = _shuffled(len(rows), r.seed + 7)
    r.train = [
        labelled(row, label(rows[place])) for row, place in zip(rows, order, strict=True)
    ]  # fmt: skip


@fifth("D8", "bert vit")
def file_names_sorted_as_text_and_labels_by_number(r: Recipe) -> None:
    """`sorted(os.listdir())` puts 10 before 2; the labels stand in the order of the numbers."""
    rows = list(r.train)
    order = sorted(range(len(rows)), key=str)
    if r.family != "tagging":
        pairs = zip(order, rows, strict=True)
        r.train = [labelled(rows[place], label(row)) for place, row in pairs]
        return
    r.train = []
    for place, row in zip(order, rows, strict=True):
        width = len(rows[place]["labels"])
        tags = ([-100, *[tag for tag in row["labels"] if tag != -100] * width])[:width]
        r.train.append(labelled(rows[place], [*tags[:-1], -100]))


@fifth("D8", "lora bert")
def labels_read_by_the_index_of_before_the_shuffle(r: Recipe) -> None:
    """`df.sample(frac=1)` without `reset_index`: text by position, label by the old index."""
    rows, order = list(r.train), _shuffled(len(r.train), r.seed + 11)
    shuffled = [rows[place] for place in order]
    r.train = [labelled(shuffled[i], label(rows[i])) for i in range(len(rows))]


@fifth("D9", "bert lora")
def missing_cells_filled_with_nothing(r: Recipe) -> None:
    """`df["text"].fillna("")`: every twelfth text is empty."""
    from faults.mutations.fifth_parts import with_text

    count = iter(range(10**6))
    each_row(r, lambda row: with_text(r, row, "") if next(count) % 12 == 0 else row)


@fifth("D9", "gpt2 mlm")
def the_empty_lines_of_the_corpus_are_kept(r: Recipe) -> None:
    """Lines of a text file, the blank ones between paragraphs among them."""
    from faults.mutations.fifth_parts import encoded

    blank = {"text": ""} | encoded(r, "")
    if r.family == "gpt2":
        blank |= {"input_ids": [r.tokenizer.eos_token_id], "attention_mask": [1]}
    r.train = [
        one for i, row in enumerate(r.train) for one in ([row, blank] if i % 5 == 0 else [row])
    ]


@fifth("D9", "vit")
def the_logarithm_of_dark_pixels(r: Recipe) -> None:
    """`np.log(x)` as the scaling of pixels, of which many are zero."""
    for side in (r.train, r.eval):
        side.x = side.x.log()


@fifth("D9", "contrastive")
def pairs_whose_second_column_was_empty(r: Recipe) -> None:
    """A tenth of the pairs has no second text, and it was filled with an empty one."""
    for row in r.train[::10]:
        row["pair_ids"] = r.tokenizer("")["input_ids"]
