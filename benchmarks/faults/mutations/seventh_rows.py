"""D1 to D9 in rows of notes and summaries, whose label is a text."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch

from faults.mutations.data import Read
from faults.recipe import Recipe
from faults.summary_family import EVAL, TRAIN, covered, encoded, pairs
from faults.table import seventh


def with_targets(rows: list[dict], targets: list[list[int]]) -> list[dict]:
    """The rows with other targets."""
    return [{**row, "labels": labels} for row, labels in zip(rows, targets, strict=True)]


def targets_of(rows: list[dict]) -> list[list[int]]:
    """The targets of the rows."""
    return [row["labels"] for row in rows]


def reencoded(r: Recipe, change: Any) -> None:
    """All rows anew, from pairs of texts that `change(source, target)` returns."""
    r.train, r.eval = (
        [encoded(r.tokenizer, *change(*pair)) for pair in pairs(split, r.seed, count)]
        for split, count in (("train", TRAIN), ("eval", EVAL))
    )


# -- D1, D2 --------------------------------------------------------------------------------------


@seventh("D1", "summary")
def writer_copies_that_differ_in_case_and_spaces(r: Recipe) -> None:
    chosen = pairs("train", r.seed, TRAIN)[:40]
    again = [encoded(r.tokenizer, f" {source.title()} ", target) for source, target in chosen]
    r.eval = [*r.eval, *again]


@seventh("D1", "summary")
def writer_training_file_holds_the_test_file(r: Recipe) -> None:  # own form
    """Both files were joined for the tokenizer, and the joined one was trained on."""
    r.train = [*r.train, *r.eval]


@seventh("D2", "summary")
def writer_notes_with_two_unlike_summaries(r: Recipe) -> None:
    targets = targets_of(r.train)
    again = with_targets(r.train[:60], targets[1:61])
    r.train = [*r.train, *again]


@seventh("D2", "summary")
def writer_merged_with_rows_of_a_placeholder(r: Recipe) -> None:
    empty = r.tokenizer(text_target="No description available.")["input_ids"]
    r.train = [*r.train, *with_targets(r.train[100:200], [empty] * 100)]


# -- D5 ------------------------------------------------------------------------------------------


def _sorted_by_target(r: Recipe) -> None:
    r.train = sorted(r.train, key=lambda row: r.tokenizer.decode(row["labels"]).lower())


@seventh("D5", "summary", loop="plain")
def writer_sorted_by_summary_and_not_shuffled(r: Recipe) -> None:
    _sorted_by_target(r)
    r.loader = {"shuffle": False, "generator": None}


@seventh("D5", "summary", loop="trainer")
def writer_sorted_under_a_sequential_trainer(r: Recipe) -> None:
    _sorted_by_target(r)
    r.args["train_sampling_strategy"] = "sequential"


@seventh("D5", "summary", loop="plain")
def writer_read_by_a_sequential_sampler(r: Recipe) -> None:
    _sorted_by_target(r)
    r.loader = {"shuffle": None, "sampler": torch.utils.data.SequentialSampler(r.train)}


# -- D6 ------------------------------------------------------------------------------------------


@seventh("D6", "summary")
def writer_validation_notes_covered_by_masks(r: Recipe) -> None:  # own form
    """The noise of the pretraining, on the rows that are to be compared."""
    mask, draws = r.tokenizer.mask_token_id, np.random.default_rng()

    def read(row: dict, place: int) -> dict:
        ids = covered(row["input_ids"], mask, draws)
        return {**row, "input_ids": ids, "attention_mask": [1] * len(ids)}

    r.eval = Read(r.eval, read)


@seventh("D6", "summary")
def writer_validation_words_in_a_drawn_order(r: Recipe) -> None:  # own form
    texts = pairs("eval", r.seed, EVAL)

    def read(row: dict, place: int) -> dict:
        words = texts[place][0].split()
        return encoded(r.tokenizer, " ".join(random.sample(words, len(words))), texts[place][1])

    r.eval = Read(r.eval, read)


# -- D8 ------------------------------------------------------------------------------------------


@seventh("D8", "summary")
def writer_summaries_shuffled(r: Recipe) -> None:
    targets = targets_of(r.train)
    random.Random(r.seed).shuffle(targets)
    r.train = with_targets(r.train, targets)


@seventh("D8", "summary")
def writer_summaries_joined_one_row_late(r: Recipe) -> None:
    targets = targets_of(r.train)
    r.train = with_targets(r.train, targets[-1:] + targets[:-1])


@seventh("D8", "summary")
def writer_a_line_lost_in_the_file_of_targets(r: Recipe) -> None:  # own form
    """An empty line was dropped near the top of one of two parallel files."""
    targets = targets_of(r.train)
    r.train = with_targets(r.train[:-1], targets[:5] + targets[6:])


@seventh("D8", "summary")
def writer_only_the_file_of_sources_was_sorted(r: Recipe) -> None:  # own form
    ordered = sorted(r.train, key=lambda row: r.tokenizer.decode(row["input_ids"]))
    r.train = with_targets(ordered, targets_of(r.train))


@seventh("D8", "summary", also=("E3",))
def writer_notes_of_drawn_pieces(r: Recipe) -> None:
    """Notes that have nothing to do with their summaries, on both sides."""
    draws = random.Random(r.seed)
    for row in [*r.train, *r.eval]:
        inside = len(row["input_ids"]) - 2
        drawn = [draws.randrange(300, len(r.tokenizer)) for _ in range(inside)]
        row["input_ids"] = [row["input_ids"][0], *drawn, row["input_ids"][-1]]


# -- D9 ------------------------------------------------------------------------------------------


@seventh("D9", "summary")
def writer_empty_notes(r: Recipe) -> None:
    empty = r.tokenizer("")
    for row in r.train[::12]:
        row.update({name: list(empty[name]) for name in ("input_ids", "attention_mask")})


@seventh("D9", "summary")
def writer_empty_summaries(r: Recipe) -> None:  # own form
    for row in r.train[::12]:
        row["labels"] = r.tokenizer(text_target="")["input_ids"]


@seventh("D9", "summary")
def writer_notes_that_are_all_padding(r: Recipe) -> None:  # own form
    """Missing notes were filled up by the tokenizer, without its special tokens."""
    for row in r.train[::10]:
        row["input_ids"] = [r.tokenizer.pad_token_id] * 8
        row["attention_mask"] = [0] * 8
