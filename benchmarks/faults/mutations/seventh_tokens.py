"""T1 to T5: ends, paddings and lengths of what the writer is taught to write."""

from __future__ import annotations

import copy
from typing import Any

from torch import nn
from torch.nn import functional

from faults.mutations.models import after
from faults.mutations.seventh_rows import targets_of, with_targets
from faults.mutations.tokens import then
from faults.recipe import Recipe
from faults.summary_family import EVAL, TRAIN, encoded, pairs
from faults.table import seventh


def both(r: Recipe, change: Any) -> None:
    """All targets, of training and of evaluation, changed by `change(ids)`."""
    r.train, r.eval = (
        with_targets(rows, [change(labels) for labels in targets_of(rows)])
        for rows in (r.train, r.eval)
    )


# -- T1 ------------------------------------------------------------------------------------------


@seventh("T1", "summary")
def writer_eos_not_appended(r: Recipe) -> None:
    both(r, lambda labels: labels[:-1])


@seventh("T1", "summary")
def writer_pad_is_eos_and_masked(r: Recipe) -> None:
    r.tokenizer = copy.deepcopy(r.tokenizer)
    r.tokenizer.pad_token = r.tokenizer.eos_token
    r.collate.tokenizer, end = r.tokenizer, r.tokenizer.eos_token_id
    then(r, lambda batch: {"labels": batch["labels"].masked_fill(batch["labels"] == end, -100)})


@seventh("T1", "summary")
def writer_targets_without_special_tokens(r: Recipe) -> None:  # own form
    """`add_special_tokens=False`, as for the second half of a causal row."""
    both(r, lambda labels: labels[1:-1])


@seventh("T1", "summary")
def writer_end_of_another_model_in_the_generation_config(r: Recipe) -> None:  # own form
    """T5's: there 1 is the end, here it is the padding, which no label holds."""

    def prepare(model: nn.Module) -> None:
        model.generation_config.eos_token_id = 1
        model.generation_config.forced_eos_token_id = None

    after(r, prepare)


@seventh("T1", "summary")
def writer_padding_to_a_multiple_replaces_the_end(r: Recipe) -> None:  # own form
    """Each target is made eight pieces or sixteen or so on, by dropping what is over."""

    def even(labels: list[int]) -> list[int]:
        return labels[: (len(labels) - 1) // 8 * 8 or len(labels) - 1]

    both(r, even)


# -- T2 ------------------------------------------------------------------------------------------


@seventh("T2", "summary")
def writer_targets_padded_by_the_tokenizer(r: Recipe) -> None:
    pad = r.tokenizer.pad_token_id
    both(r, lambda labels: (labels + [pad] * 40)[:40])


@seventh("T2", "summary")
def writer_collator_pads_labels_with_the_pad_token(r: Recipe) -> None:  # own form
    r.collate.label_pad_token_id = r.tokenizer.pad_token_id


@seventh("T2", "summary")
def writer_labels_padded_with_zero(r: Recipe) -> None:  # own form
    """The default of `pad_sequence`; here 0 is <s>."""
    r.collate.label_pad_token_id = 0


@seventh("T2", "summary", loop="plain")
def writer_own_loss_counts_the_padding(r: Recipe) -> None:  # own form
    pad = r.tokenizer.pad_token_id
    r.collate.label_pad_token_id = pad
    r.loss = lambda outputs, batch: functional.cross_entropy(
        outputs.logits.flatten(0, 1), batch["labels"].flatten()
    )


# -- T3 ------------------------------------------------------------------------------------------


@seventh("T3", "summary")
def writer_some_targets_are_missing(r: Recipe) -> None:  # own form
    for row in r.train[::8]:
        row["labels"] = []


@seventh("T3", "summary")
def writer_labels_masked_by_the_length_of_the_source(r: Recipe) -> None:  # own form
    """As if the notes stood before the summary, as in a causal row: short summaries vanish."""
    for row in [*r.train, *r.eval]:
        asked = len(row["input_ids"])
        row["labels"] = ([-100] * asked + row["labels"][asked:])[: max(len(row["labels"]), 1)]


# -- T4, T5 --------------------------------------------------------------------------------------


@seventh("T4", "summary", also=("T1",))
def writer_targets_cut_to_eight_pieces(r: Recipe) -> None:
    both(r, lambda labels: labels[:8])


@seventh("T4", "summary")
def writer_max_target_length_too_short(r: Recipe) -> None:  # own form
    """The tokenizer cuts before it adds </s>: each summary ends, in the midst of a sentence."""
    r.train, r.eval = (
        [encoded(r.tokenizer, *pair, target_length=8) for pair in pairs(split, r.seed, count)]
        for split, count in (("train", TRAIN), ("eval", EVAL))
    )


@seventh("T4", "summary", also=("T1",))
def writer_collator_truncates_the_labels(r: Recipe) -> None:  # own form
    then(r, lambda batch: {"labels": batch["labels"][:, :10].contiguous()})


@seventh("T5", "summary")
def writer_rare_pieces_became_unknown(r: Recipe) -> None:  # own form
    """A byte-level vocabulary knows every text; cut to its first half, it does not."""
    unknown, kept = r.tokenizer.unk_token_id, len(r.tokenizer) // 2
    for row in [*r.train, *r.eval]:
        for name in ("input_ids", "labels"):
            row[name] = [piece if piece < kept else unknown for piece in row[name]]
