"""D1 to D9 as they are committed most often: splits, labels, order, augmentation, holes."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from torch.nn import functional
from torch.utils.data import IterableDataset

from faults.mutations.ninth_parts import (
    Read,
    both,
    encoded_again,
    evaluated,
    ids_changed,
    label,
    random_window,
    relabelled,
    rows_of,
    scored,
)
from faults.recipe import Recipe
from faults.table import ninth

# -- D1, D2 --------------------------------------------------------------------------------------


@ninth("D1", "recurrent vit tagging")
def often_validation_rows_drawn_from_the_training_rows(r: Recipe) -> None:
    r.eval = random.Random(r.seed).sample(rows_of(r.train), 96)


@ninth("D1", "recurrent span summary")
def often_duplicates_of_the_scrape_in_both_splits(r: Recipe) -> None:
    r.train = [*rows_of(r.train), *rows_of(r.eval)[::4]]


@ninth("D2", "recurrent lora")
def often_two_annotators_two_rows(r: Recipe) -> None:
    rows, classes = rows_of(r.train), 1 + max(map(label, rows_of(r.train)))
    r.train = rows + [relabelled(row, (label(row) + 1) % classes) for row in rows[::3]]


@ninth("D2", "recurrent bert")
def often_one_row_for_every_tag_of_a_row(r: Recipe) -> None:
    draw, rows = random.Random(r.seed), []
    classes = 1 + max(map(label, rows_of(r.train)))
    for row in rows_of(r.train):
        tags = {label(row), *([draw.randrange(classes)] if draw.random() < 0.4 else [])}
        rows += [relabelled(row, tag) for tag in sorted(tags)]
    r.train = rows


# -- D4, D5 --------------------------------------------------------------------------------------


def _mostly_the_first(r: Recipe, train: int, held_out: int) -> None:
    for split, every in (("train", train), ("eval", held_out)):
        rows = rows_of(getattr(r, split))
        rare = [row for row in rows if label(row) != 0]
        setattr(r, split, [*(row for row in rows if label(row) == 0), *rare[::every]])


@ninth("D4", "recurrent bert lora", online=True)
def often_rare_classes_left_to_plain_cross_entropy(r: Recipe) -> None:
    _mostly_the_first(r, 60, 20)
    r.lr = {"bert": 2e-4}.get(r.family, 1e-3)
    evaluated(r)


@ninth("D4", "recurrent lora", online=True)
def often_class_weights_by_frequency_instead_of_its_inverse(r: Recipe) -> None:
    _mostly_the_first(r, 8, 8)
    counts = torch.bincount(torch.tensor([label(row) for row in r.train]))
    scored(r, lambda logits, y: functional.cross_entropy(logits, y, counts / counts.sum()))
    r.lr = r.lr / (5 if r.family == "recurrent" else 30)
    evaluated(r)


@ninth("D5", "recurrent vit", loop="plain")
def often_class_folders_one_after_the_other_without_shuffle(r: Recipe) -> None:
    r.train = sorted(rows_of(r.train), key=label)
    r.loader = {"shuffle": False}


class Streamed(IterableDataset):
    """Rows as the files hold them."""

    def __init__(self, rows: list) -> None:
        self.rows = rows

    def __iter__(self) -> Any:
        return iter(self.rows)


@ninth("D5", "bert lora recurrent")
def often_sorted_files_streamed_without_a_buffer(r: Recipe) -> None:
    r.train = Streamed(sorted(rows_of(r.train), key=label))


# -- D6, D7 --------------------------------------------------------------------------------------


def _dropped_out(row: Any) -> Any:
    if isinstance(row, tuple) and row[0].is_floating_point():
        return row[0] + 0.2 * torch.randn_like(row[0]), row[1]
    return ids_changed(row, lambda ids: [i if random.random() > 0.2 else 1 for i in ids])


@ninth("D6", "vit recurrent")
def often_one_augmenting_data_set_class_for_both_splits(r: Recipe) -> None:
    r.train, r.eval = Read(r.train, _dropped_out), Read(r.eval, _dropped_out)


@ninth("D6", "recurrent gpt2")
def often_random_window_of_the_text_at_every_read(r: Recipe) -> None:
    r.train, r.eval = (
        Read(rows, lambda row: ids_changed(row, random_window)) for rows in (r.train, r.eval)
    )


def _noisy(row: Any, draws: Any) -> Any:
    if isinstance(row, tuple) and row[0].is_floating_point():
        noise = draws.normal(0, 0.1, tuple(row[0].shape)).astype(np.float32)
        return row[0] + torch.from_numpy(noise), row[1]
    return ids_changed(row, lambda ids: [i if draws.random() > 0.15 else 1 for i in ids])


def _seeded(worker: int) -> None:
    np.random.seed(42)
    random.seed(42)
    torch.manual_seed(42)


@ninth("D7", "vit recurrent", loop="plain", online=True)
def often_every_worker_seeded_with_forty_two(r: Recipe) -> None:
    r.train = Read(r.train, lambda row: _noisy(row, np.random))
    r.loader = {"num_workers": 2, "worker_init_fn": _seeded}


@ninth("D7", "vit recurrent bert", online=True)
def often_generator_of_the_data_set_copied_to_workers(r: Recipe) -> None:
    draws = np.random.default_rng(r.seed)
    r.train = Read(r.train, lambda row: _noisy(row, draws))
    r.loader, r.args = {"num_workers": 2}, {"dataloader_num_workers": 2}


# -- D8, D9 --------------------------------------------------------------------------------------


@ninth("D8", "recurrent bert")
def often_labels_shuffled_apart_from_their_rows(r: Recipe) -> None:
    rows = rows_of(r.train)
    labels = [label(row) for row in rows]
    random.Random(r.seed).shuffle(labels)
    r.train = [relabelled(row, y) for row, y in zip(rows, labels, strict=True)]


@ninth("D8", "recurrent lora vit")
def often_texts_filtered_and_labels_not(r: Recipe) -> None:
    rows = rows_of(r.train)
    r.train = [relabelled(row, label(other)) for row, other in zip(rows[7:], rows, strict=False)]


@ninth("D8", "t5 summary")
def often_targets_of_the_row_before(r: Recipe) -> None:
    rows = rows_of(r.train)
    other = [{k: v for k, v in row.items() if k in ("labels", "target")} for row in rows]
    r.train = [{**row, **told} for row, told in zip(rows[1:], other, strict=False)]


@ninth("D9", "recurrent bert lora")
def often_empty_texts_kept(r: Recipe) -> None:
    count = iter(range(10**6))
    encoded_again(r, lambda text: "" if next(count) % 12 == 0 else text)


@ninth("D9", "gpt2 mlm t5")
def often_blank_lines_of_the_file_are_rows(r: Recipe) -> None:
    empty = list(r.tokenizer("")["input_ids"])
    empty = empty or [r.tokenizer.eos_token_id]
    blank = {"text": "", "source": "", "input_ids": empty, "attention_mask": [1] * len(empty)}
    kept = {k: v for k, v in blank.items() if k in r.train[0]}
    both(r, lambda row: {**row, **kept} if sum(row["input_ids"]) % 8 == 0 else row)


@ninth("D9", "vit", also=("P1",))
def often_standardised_by_a_spread_of_zero(r: Recipe) -> None:
    rows = rows_of(r.train)
    pixels = torch.stack([x for x, _ in rows])
    mean, spread = pixels.mean(0), pixels.std(0)
    both(r, lambda row: ((row[0] - mean) / spread, row[1]))
