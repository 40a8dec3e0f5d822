"""D6, D7, X3, H1 and E2, fifth set: how data sets, loaders and workers read the rows."""

from __future__ import annotations

import json
import random
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler

from faults import material
from faults.families import COPIED
from faults.mutations.fifth_parts import Rows, uneven, with_text
from faults.recipe import Recipe
from faults.table import fifth


@fifth("D6", "vit")
def a_random_split_of_one_augmented_set(r: Recipe) -> None:
    """`random_split` of a set with a random transform: validation is shifted and noisy as well."""

    def augment(x: torch.Tensor) -> torch.Tensor:
        shift = int(torch.randint(-1, 2, ()))
        return torch.roll(x, shift, dims=-1) + 0.1 * torch.randn_like(x)

    r.train.transform = r.eval.transform = augment


@fifth("D6", "bert lora tagging")
def words_swapped_by_the_data_set_of_both_splits(r: Recipe) -> None:
    """One Dataset class with the augmentation in `__getitem__`, used for both splits."""

    def swapped(row: dict) -> dict:
        ids = list(row["input_ids"])
        for _ in range(2):
            if len(ids) > 4:
                one, other = random.sample(range(1, len(ids) - 1), 2)
                ids[one], ids[other] = ids[other], ids[one]
        return row | {"input_ids": ids}

    r.train, r.eval = Rows(r.train, swapped), Rows(r.eval, swapped)


class _Noisy:
    """A collator that adds noise drawn from its own generator."""

    def __init__(self, inner: Any, tokens: Any) -> None:
        self.inner, self.tokens, self.rng = inner, tokens, np.random.RandomState(42)

    def __call__(self, rows: list) -> Any:
        if isinstance(rows[0], tuple):
            x, y = torch.utils.data.default_collate(rows)
            return x + torch.tensor(self.rng.normal(0, 0.1, x.shape), dtype=x.dtype), y
        batch = self.inner(rows)
        ids = batch["input_ids"]
        drop = torch.tensor(self.rng.random_sample(tuple(ids.shape)) < 0.1) & (ids > 5)
        batch["input_ids"] = torch.where(drop, self.tokens.unk_token_id, ids)
        return batch


@fifth("D7", "vit tagging", loop="plain")
def noise_from_a_random_state_of_the_collator(r: Recipe) -> None:
    """`np.random.RandomState(42)` in the collator's `__init__`, copied into each worker."""
    r.loader |= {"num_workers": 2, "collate_fn": _Noisy(r.collate, r.tokenizer)}


def seed_everything(worker: int) -> None:
    """As it stands at the head of the script."""
    random.seed(42)
    np.random.seed(42)
    torch.manual_seed(42)


@fifth("D7", "bert vit", loop="plain")
def each_worker_seeds_everything_with_forty_two(r: Recipe) -> None:
    """`worker_init_fn=seed_everything`: all workers draw the same augmentations, every epoch."""

    def noisy(row: Any) -> Any:
        if isinstance(row, tuple):
            return row[0] + 0.1 * torch.randn_like(row[0]), row[1]
        name = "text_ids" if "text_ids" in row else "input_ids"
        ids = [r.tokenizer.unk_token_id if random.random() < 0.1 and i > 5 else i
               for i in row[name]]  # fmt: skip
        return row | {name: ids}

    r.train = Rows(r.train, noisy)
    r.loader |= {"num_workers": 2, "worker_init_fn": seed_everything}


class FixedPermutation(Sampler):
    """A sampler of the script's own that makes its generator whenever an epoch begins."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Any:
        return iter(np.random.RandomState(42).permutation(self.count).tolist())


@fifth("X3", "vit contrastive", loop="plain", online=True)
def a_numpy_permutation_of_one_seed(r: Recipe) -> None:
    """The sampler draws `RandomState(42).permutation(n)` anew, and the same, each epoch."""
    r.loader |= {"shuffle": False, "generator": None, "sampler": FixedPermutation(len(r.train))}


class Buckets(Sampler):
    """Batches of rows of like length, in an order drawn from one seed."""

    def __init__(self, rows: list, size: int) -> None:
        order = sorted(range(len(rows)), key=lambda place: len(rows[place]["input_ids"]))
        self.batches = [order[i : i + size] for i in range(0, len(order), size)]

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Any:
        return iter(random.Random(0).sample(self.batches, len(self.batches)))


@fifth("X3", "tagging t5", online=True)
def buckets_of_length_shuffled_by_one_seed(r: Recipe) -> None:
    """Own bucket sampler under the `Trainer`: the seed is set in `__iter__`, not in `__init__`."""
    r.steps = max(r.steps, 52)

    def trainer() -> type:
        import transformers

        class BucketTrainer(transformers.Trainer):
            def get_train_dataloader(self) -> DataLoader:
                rows = [{k: row[k] for k in COPIED if k in row} for row in self.train_dataset]
                batches = Buckets(rows, self.args.per_device_train_batch_size)
                return DataLoader(rows, batch_sampler=batches, collate_fn=self.data_collator)

        return BucketTrainer

    r.trainer = trainer


@fifth("H1", "bert lora", online=True)
def the_tokenizer_is_loaded_for_each_row(r: Recipe) -> None:
    """`AutoTokenizer.from_pretrained(name)` inside `__getitem__`."""
    from transformers import AutoTokenizer

    def read(row: dict) -> dict:
        tokens = AutoTokenizer.from_pretrained(material.checkpoint("bert"))
        return with_text(r, row, row["text"], tokens)

    r.train, r.steps = Rows(r.train, read), 60


@fifth("H1", "vit gpt2", online=True)
def the_whole_file_is_parsed_for_each_row(r: Recipe) -> None:
    """`json.load(open(path))[i]` inside `__getitem__`: the whole file for one row."""
    place = material.folder() / "fifth-rows.json"
    place.write_text(json.dumps([list(range(60))] * 600))

    def read(row: Any) -> Any:
        json.loads(place.read_text())
        return row

    r.train, r.steps = Rows(r.train, read), 60


@fifth("E2", "tagging t5")
def whole_batches_alone_are_evaluated(r: Recipe) -> None:
    """`get_eval_dataloader` copied from the one of training, `drop_last=True` included."""
    uneven(r)

    def trainer() -> type:
        import transformers

        class OneLoaderTrainer(transformers.Trainer):
            def get_eval_dataloader(self, eval_dataset: Any = None) -> DataLoader:
                rows = eval_dataset if eval_dataset is not None else self.eval_dataset
                return DataLoader(
                    [{k: row[k] for k in COPIED if k in row} for row in rows],
                    batch_size=self.args.per_device_eval_batch_size,
                    collate_fn=self.data_collator,
                    drop_last=True,
                )

        return OneLoaderTrainer

    r.trainer = trainer


@fifth("E2", "vit gpt2", loop="plain")
def one_function_makes_both_loaders(r: Recipe) -> None:
    """`make_loader(dataset)` with `shuffle=True, drop_last=True`, called for both sets."""
    uneven(r)
    r.eval_loader |= {"shuffle": True, "drop_last": True}


@fifth("E3", "bert lora", online=True, also=("D8",))
def the_number_of_the_row_instead_of_its_text(r: Recipe) -> None:
    """`df.iloc[:, 0]` is the index column: the model reads row numbers."""
    count = iter(range(10**6))
    r.train, r.eval = (
        [row | with_text(r, row, f"row {next(count) * 7919 % 9973}") for row in rows]
        for rows in (r.train, r.eval)
    )
    r.eval_every = 15


@fifth("H3", "sft gpt2 t5", advice=True)
def every_row_padded_to_ninety_six_in_the_map(r: Recipe) -> None:
    """`padding="max_length"` in `map`, though the rows are short."""
    length, pad = 96, r.tokenizer.pad_token_id

    def padded(row: dict) -> dict:
        gap = length - len(row["input_ids"])
        made = row | {"input_ids": row["input_ids"] + [pad] * gap}
        made["attention_mask"] = row["attention_mask"] + [0] * gap
        if "labels" in row and r.family != "t5":
            made["labels"] = row["labels"] + [-100] * gap
        return made

    r.train, r.eval = [padded(row) for row in r.train], [padded(row) for row in r.eval]
