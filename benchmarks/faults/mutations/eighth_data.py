"""D1 to D9 as they are mostly committed: splits, labels, order, what a reading draws."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
import transformers
from torch.utils.data import SequentialSampler

from faults.mutations.eighth_parts import Read, both, encoded, label, listed, with_label
from faults.recipe import Recipe
from faults.table import eighth

# -- D1, D2 --------------------------------------------------------------------------------------


@eighth("D1", "gpt2 tagging contrastive")
def usual_validation_rows_left_in_the_training_rows(r: Recipe) -> None:
    r.train = [*listed(r.train), *listed(r.eval)]


@eighth("D1", "sft t5 span")
def usual_evaluated_on_a_slice_of_the_training_rows(r: Recipe) -> None:
    r.eval = listed(r.train)[:100]


@eighth("D2", "bert lora vit")
def usual_rows_of_two_annotators_who_disagree(r: Recipe) -> None:
    draw, rows = random.Random(r.seed), listed(r.train)
    kinds = sorted({label(row) for row in rows})
    second = [with_label(row, draw.choice(kinds)) for row in rows if draw.random() < 0.5]
    r.train = [*rows, *second]


@eighth("D2", "bert vit")
def usual_rows_exploded_into_one_for_each_label(r: Recipe) -> None:
    rows = listed(r.train)
    kinds = sorted({label(row) for row in rows})
    other = {kind: kinds[(place + 1) % len(kinds)] for place, kind in enumerate(kinds)}
    r.train = [
        each
        for place, row in enumerate(rows)
        for each in ([row, with_label(row, other[label(row)])] if place % 3 == 0 else [row])
    ]


# -- D4, D5 --------------------------------------------------------------------------------------


def _scarce(rows: Any, kept: int, every: int) -> list:
    found = [row for row in listed(rows) if label(row) != kept]
    return [*(row for row in listed(rows) if label(row) == kept), *found[::every]]


@eighth("D4", "bert lora vit", online=True)
def usual_rare_classes_without_weights(r: Recipe) -> None:
    every = 60 if r.family == "vit" else 40
    r.train, r.eval = _scarce(r.train, 1, every), _scarce(r.eval, 1, every // 3)
    r.eval_every, r.lr, r.steps = 15, 3e-3 if r.family == "lora" else 3e-4, 60


@eighth("D4", "tagging", online=True)
def usual_nearly_all_words_are_outside(r: Recipe) -> None:
    both(r, lambda row: {**row, "labels": [min(y, 1) if y in (-100, 3) else 0
                                           for y in row["labels"]]})  # fmt: skip
    r.eval_every, r.lr, r.steps = 15, 3e-4, 60


@eighth("D4", "bert vit", online=True)
def usual_class_weights_are_the_shares_themselves(r: Recipe) -> None:
    r.train, r.eval = _scarce(r.train, 1, 12), _scarce(r.eval, 1, 6)
    counts = np.bincount([label(row) for row in r.train])
    weight = torch.tensor(counts / counts.sum(), dtype=torch.float32)
    r.eval_every, r.steps, r.lr = 15, 60, 2e-4 if r.family == "bert" else 5e-4

    def loss(outputs: Any, y: Any) -> torch.Tensor:
        y = y["labels"] if isinstance(y, dict) else y
        return torch.nn.functional.cross_entropy(outputs.logits, y, weight)

    r.loss = loss


@eighth("D5", "bert vit", loop="plain")
def usual_rows_of_a_folder_read_in_their_order(r: Recipe) -> None:
    r.train = sorted(listed(r.train), key=label)
    r.loader = {"shuffle": False}


@eighth("D5", "bert lora")
def usual_a_sequential_sampler_over_joined_classes(r: Recipe) -> None:
    class InOrder(transformers.Trainer):
        def _get_train_sampler(self, dataset: Any = None) -> Any:
            return SequentialSampler(self.train_dataset)

    r.train = sorted(listed(r.train), key=label)
    r.trainer = lambda: InOrder


# -- D6, D7 --------------------------------------------------------------------------------------


def _moved(row: tuple) -> tuple:
    x, y = row
    shift = [int(n) for n in torch.randint(-1, 2, (2,))]
    return torch.roll(x, shift, (1, 2)) + 0.1 * torch.randn_like(x), y


def _fewer_words(row: dict, draw: Any = random) -> dict:
    """Drop each piece but the first and the last with a tenth of chance."""
    names = {"text_ids", "pair_ids"} & set(row) or {"input_ids"}
    fresh = dict(row)
    for name in names:
        ids = row[name]
        fresh[name] = [t for i, t in enumerate(ids)
                       if i in (0, len(ids) - 1) or draw.random() > 0.1]  # fmt: skip
    if "attention_mask" in row:
        fresh["attention_mask"] = [1] * len(fresh["input_ids"])
    if "token_type_ids" in row:
        fresh["token_type_ids"] = [0] * len(fresh["input_ids"])
    return fresh


@eighth("D6", "vit")
def usual_one_transform_for_both_splits(r: Recipe) -> None:
    r.train, r.eval = Read(r.train, _moved), Read(r.eval, _moved)


@eighth("D6", "bert t5 contrastive")
def usual_word_dropout_in_the_class_of_both_splits(r: Recipe) -> None:
    r.train, r.eval = Read(r.train, _fewer_words), Read(r.eval, _fewer_words)


class Augmented(Read):
    """Rows augmented with a generator that the data set made once, in its constructor."""

    def __init__(self, rows: Any) -> None:
        self.draw = np.random.default_rng(0)
        super().__init__(rows, self.change)

    def change(self, row: Any) -> Any:
        if isinstance(row, tuple):
            noise = self.draw.normal(0, 0.1, tuple(row[0].shape)).astype(np.float32)
            return row[0] + torch.from_numpy(noise), row[1]
        return _fewer_words(row, self.draw)


@eighth("D7", "t5 vit contrastive")
def usual_a_generator_kept_by_the_data_set(r: Recipe) -> None:
    r.train = Augmented(listed(r.train))
    r.loader, r.args = {"num_workers": 2}, {**r.args, "dataloader_num_workers": 2}


@eighth("D7", "vit bert", loop="plain")
def usual_each_worker_seeded_with_the_same_number(r: Recipe) -> None:
    def seeded(worker: int) -> None:
        np.random.seed(42)
        random.seed(42)
        torch.manual_seed(42)

    r.train = Read(listed(r.train), _moved if r.family == "vit" else _fewer_words)
    r.loader = {"num_workers": 2, "worker_init_fn": seeded}


# -- D8, D9 --------------------------------------------------------------------------------------


def _joined(rows: list, order: list[int]) -> list:
    """The x of a row with the y of another."""
    name = "pair_ids" if isinstance(rows[0], dict) and "pair_ids" in rows[0] else "labels"
    if isinstance(rows[0], tuple):
        return [(row[0], rows[i][1]) for row, i in zip(rows, order, strict=True)]
    also = (name, "target") if "target" in rows[0] else (name,)
    return [{**row, **{n: rows[i][n] for n in also}} for row, i in zip(rows, order, strict=True)]


@eighth("D8", "bert lora vit")
def usual_texts_shuffled_without_their_labels(r: Recipe) -> None:
    rows = listed(r.train)
    order = list(range(len(rows)))
    random.Random(r.seed).shuffle(order)
    r.train = _joined(rows, order)


@eighth("D8", "vit t5 contrastive")
def usual_labels_one_row_off_after_a_filter(r: Recipe) -> None:
    for split in ("train", "eval"):
        rows = listed(getattr(r, split))
        setattr(r, split, _joined(rows, [*range(1, len(rows)), 0]))


@eighth("D9", "gpt2 t5 lora")
def usual_missing_texts_filled_with_nothing(r: Recipe) -> None:
    name, draw = "source" if r.family == "t5" else "text", random.Random(r.seed)
    both(r, lambda row: encoded(r, {**row, name: ""}) if draw.random() < 0.1 else row)


@eighth("D9", "vit", also=("P1",))
def usual_constant_pixels_divided_by_their_deviation(r: Recipe) -> None:
    pixels = torch.stack([x for x, _ in listed(r.train)])
    mean, deviation = pixels.mean(0), pixels.std(0)
    both(r, lambda row: ((row[0] - mean) / deviation, row[1]))
