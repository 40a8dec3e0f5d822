"""Fresh ways to commit D1 to D9, written from the catalogue alone and read once.

The rule of all fresh mutations: each is the fault by the catalogue's definition, committed in a
way that the other tables do not hold, where the catalogue's signal can speak; `also` was written
down before any was run. What is harmful only by degree (O1, O3, R1, D4) was shown to harm, in a run
without the doctor, and left out where it did not.
"""

from __future__ import annotations

import random
from typing import Any

import torch

from faults.mutations.data import Read, is_pair, label_of, labels_of, relabelled
from faults.mutations.tokens import then
from faults.recipe import Recipe
from faults.table import fault

TAGGING = "tagging"


def items(rows: Any) -> list:
    """Rows as a list."""
    return [rows[i] for i in range(len(rows))]


@fault("D1", "bert gpt2 vit tagging", fresh=True)
def validated_on_a_slice_of_training(r: Recipe) -> None:
    r.eval = items(r.train)[:128]


@fault("D1", "mlm sft t5 tagging", fresh=True)
def ten_rows_in_both(r: Recipe) -> None:
    r.train = [*items(r.train), *items(r.eval)[:10]]


@fault("D2", "bert lora vit", fresh=True)
def a_few_rows_adjudicated_twice(r: Recipe) -> None:
    rows, kinds = items(r.train), max(labels_of(r)) + 1
    again = [
        (row[0], torch.tensor((label_of(row) + 1) % kinds))
        if is_pair(r)
        else {**row, "labels": (row["labels"] + 2) % kinds}
        for row in rows[::25]
    ]
    r.train = [*rows, *again]
    random.Random(r.seed).shuffle(r.train)


@fault("D2", TAGGING, fresh=True)
def sentences_tagged_by_two_annotators(r: Recipe) -> None:
    again = []
    for row in r.train[:50]:
        other = [y if y == -100 or i % 3 else (y + 1) % 4 for i, y in enumerate(row["labels"])]
        again.append({**row, "labels": other})
    r.train = [*r.train, *again]


@fault("D4", "bert", online=True, also=("E3",), fresh=True)
def a_rare_class_that_is_never_predicted(r: Recipe) -> None:
    for name, size in (("train", 12), ("eval", 6)):
        rows = getattr(r, name)
        zero = [row for row in rows if row["labels"] == 0]
        setattr(r, name, [*zero, *[row for row in rows if row["labels"] != 0][:size]])
    r.lr, r.eval_every, r.steps = 1e-4, 15, 60


@fault("D4", "bert vit", online=True, also=("E3",), fresh=True, loop="plain")
def weights_of_classes_upside_down(r: Recipe) -> None:
    """Meant to help the rare classes, they drown them: only the first is ever predicted."""
    kinds = max(labels_of(r)) + 1
    weight = torch.tensor([100.0] + [0.01] * (kinds - 1))

    def loss(outputs: Any, y: Any) -> torch.Tensor:
        labels = y["labels"] if isinstance(y, dict) else y
        return torch.nn.functional.cross_entropy(outputs.logits, labels, weight)

    def kept(rows: Any) -> list:
        return [row for i, row in enumerate(items(rows)) if label_of(row) == 0 or i % 4 == 0]

    r.train, r.eval, r.loss, r.eval_every, r.steps = kept(r.train), kept(r.eval), loss, 15, 60


class InOrder(torch.utils.data.IterableDataset):
    """Rows one after the other, as they lie in their files."""

    def __init__(self, rows: list) -> None:
        self.rows = rows

    def __iter__(self) -> Any:
        return iter(self.rows)


@fault("D5", "bert lora", loop="trainer", fresh=True)
def a_stream_of_one_file_a_class(r: Recipe) -> None:
    r.train = InOrder(sorted(r.train, key=label_of))


@fault("D5", "vit bert", loop="plain", fresh=True)
def a_batch_sampler_that_keeps_the_order(r: Recipe) -> None:
    r.train = sorted(items(r.train), key=label_of)
    order = torch.utils.data.SequentialSampler(r.train)
    batches = torch.utils.data.BatchSampler(order, r.batch, True)
    r.loader = {"batch_sampler": batches, "batch_size": 1, "shuffle": None, "drop_last": False}


@fault("D6", "vit", fresh=True)
def validation_pixels_rolled_at_random(r: Recipe) -> None:
    r.eval = Read(r.eval, lambda row, i: (row[0].roll(int(torch.randint(-2, 3, ())), -1), row[1]))


def window(row: Any, place: int) -> Any:
    """A random crop of a row of tokens."""
    ids, size = row["input_ids"], max(4, len(row["input_ids"]) * 2 // 3)
    start = random.randrange(len(ids) - size + 1) if len(ids) > size else 0
    return {k: v[start : start + size] if isinstance(v, list) else v for k, v in row.items()}


@fault("D6", "gpt2 mlm", fresh=True)
def validation_rows_cropped_at_random(r: Recipe) -> None:
    r.eval = Read(r.eval, window)


@fault("D6", "bert tagging", fresh=True)
def words_of_validation_masked_at_random(r: Recipe) -> None:
    mask = r.tokenizer.mask_token_id

    def read(row: Any, place: int) -> Any:
        ids = [mask if random.random() < 0.15 else token for token in row["input_ids"]]
        return {**row, "input_ids": ids}

    r.eval = Read(r.eval, read)


@fault("D7", "vit bert tagging", loop="plain", fresh=True)
def a_torch_generator_of_the_data_set(r: Recipe) -> None:
    draws = torch.Generator().manual_seed(0)

    def read(row: Any, place: int) -> Any:
        if isinstance(row, tuple):
            return row[0] + 0.1 * torch.randn(row[0].shape, generator=draws), row[1]
        odds = torch.rand(len(row["input_ids"]), generator=draws)
        ids = [3 if u < 0.2 else t for t, u in zip(row["input_ids"], odds.tolist(), strict=True)]
        return {**row, "input_ids": ids}

    r.train, r.loader = Read(r.train, read), {"num_workers": 2}


@fault("D7", "tagging gpt2", loop="trainer", fresh=True)
def a_python_generator_under_the_trainer(r: Recipe) -> None:
    draws = random.Random(7)

    def read(row: Any, place: int) -> Any:
        ids = [5 if draws.random() < 0.2 else token for token in row["input_ids"]]
        return {**row, "input_ids": ids}

    r.train = Read(r.train, read)
    r.args["dataloader_num_workers"] = 2


@fault("D8", "bert vit lora", fresh=True)
def a_sorted_column_pasted_beside_the_rows(r: Recipe) -> None:
    rows, labels = items(r.train), sorted(labels_of(r))
    r.train = rows
    relabelled(r, labels)


@fault("D8", "bert vit", fresh=True)
def inputs_shuffled_without_their_labels(r: Recipe) -> None:
    rows = items(r.train)
    order = random.Random(r.seed + 5).sample(range(len(rows)), len(rows))
    if is_pair(r):
        r.train = [(rows[j][0], row[1]) for row, j in zip(rows, order, strict=True)]
    else:
        r.train = [{**rows[j], "labels": row["labels"]} for row, j in zip(rows, order, strict=True)]


@fault("D8", TAGGING, fresh=True)
def tags_of_another_sentence(r: Recipe) -> None:
    tags = [[y for y in row["labels"] if y != -100] for row in r.train]
    random.Random(r.seed).shuffle(tags)
    for row, other in zip(r.train, tags, strict=True):
        places = iter(other * 40 or [0] * 40)
        row["labels"] = [y if y == -100 else next(places) for y in row["labels"]]


@fault("D8", TAGGING, also=("L1",), fresh=True)
def tags_one_place_late_for_want_of_cls(r: Recipe) -> None:
    for rows in (r.train, r.eval):
        for row in rows:
            tags = [y for y in row["labels"] if y != -100]
            late = iter([*tags[1:], 0])
            row["labels"] = [y if y == -100 else next(late) for y in row["labels"]]


@fault("D9", "bert lora t5", fresh=True)
def rows_of_spaces(r: Recipe) -> None:
    blank = r.tokenizer("   \n ")
    for row in r.train[::20]:
        row["text" if "text" in row else "source"] = "   \n "
        row.update({k: list(blank[k]) for k in ("input_ids", "attention_mask") if k in row})
        if "token_type_ids" in row:
            row["token_type_ids"] = [0] * len(row["input_ids"])


@fault("D9", "vit", fresh=True)
def blank_pictures_divided_by_their_deviation(r: Recipe) -> None:
    blank = set(range(5, 640, 40))

    def read(row: Any, place: int) -> Any:
        x = torch.zeros_like(row[0]) if place in blank else row[0]
        return (x - x.mean()) / x.std(), row[1]

    r.train = Read(r.train, read)


@fault("D9", "mlm gpt2 tagging", fresh=True)
def mask_from_lengths_that_begin_with_zero(r: Recipe) -> None:
    """Lengths one place late: the first row of each batch has length 0 and is never attended to."""

    def late(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        mask = batch["attention_mask"].clone()
        mask[0] = 0
        return {"attention_mask": mask}

    then(r, late)
