"""T2, T3, T10 to T12, H3: what practitioners spoil in a collator or in the call of the model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence

from faults import families
from faults.families import Padding
from faults.mutations.sixth_parts import batches, callback, rows
from faults.recipe import Recipe
from faults.table import sixth


class Sequences:
    """A collator of pad_sequence alone; labels are padded with what is given."""

    def __init__(self, pad: int, labels: int) -> None:
        self.pad, self.labels = pad, labels

    def __call__(self, some: list[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        fills = {"input_ids": self.pad, "attention_mask": 0, "labels": self.labels}
        return {
            name: pad_sequence(
                [torch.tensor(row[name]) for row in some], batch_first=True, padding_value=fill
            )
            for name, fill in fills.items()
        }


@sixth("T2", "t5 lora-sft")
def pad_sequence_with_its_default(r: Recipe) -> None:
    """pad_sequence(labels, batch_first=True) fills with 0, which is a label like any other."""
    r.collate = Sequences(r.tokenizer.pad_token_id, 0)


@sixth("T2", "gpt2 lora-sft sft")
def labels_cloned_after_the_padding(r: Recipe) -> None:
    """batch["labels"] = batch["input_ids"].clone() is the last line of the collator."""
    names = ("input_ids", "attention_mask")
    pad = Padding(r.tokenizer.pad_token_id)

    def collate(some: list) -> dict[str, torch.Tensor]:
        batch = pad([{name: row[name] for name in names} for row in some])
        return batch | {"labels": batch["input_ids"].clone()}

    r.collate = collate


@sixth("T3", "lora-sft sft")
def the_prompt_measured_with_its_padding(r: Recipe) -> None:
    """len(tokenizer(prompt, padding="max_length")) is the whole row, and all of it is hidden."""

    def hidden(row: dict) -> dict:
        asked = r.tokenizer(row["prompt"], padding="max_length", max_length=48)["input_ids"]
        labels = [-100 if i < len(asked) else v for i, v in enumerate(row["labels"])]
        return row | {"labels": labels}

    rows(r, hidden)


@sixth("T3", "span", also=("M4", "D8"))
def places_counted_in_characters(r: Recipe) -> None:
    """start_positions are the characters of the answer: most lie beyond the row and are ignored."""

    def counted(row: dict) -> dict:
        begin = row["context"].find(row["answer"])
        return row | {"start_positions": begin, "end_positions": begin + len(row["answer"])}

    rows(r, counted)


@sixth("T3", "t5 tagging gpt2")
def short_rows_whose_labels_are_all_ignored(r: Recipe) -> None:
    """A filter against noise sets the labels of rows of few words to -100 and keeps the rows."""

    def hidden(part: list) -> list:
        made = sorted(part, key=lambda row: len(row["input_ids"]))
        for place, row in enumerate(made):
            labels = list(row.get("labels", row["input_ids"]))
            short = place < len(made) // 4
            made[place] = row | {"labels": [-100] * len(labels) if short else labels}
        return made

    r.train, r.eval = hidden(r.train), hidden(r.eval)
    r.collate = Padding(r.tokenizer.pad_token_id)


# -- T10 -----------------------------------------------------------------------------------------


@sixth("T10", "span mlm t5", loop="plain", online=True)
def the_model_is_called_without_its_mask(r: Recipe) -> None:
    """The line is model(input_ids=..., labels=...); the mask stays in the batch."""

    def forward(model: Any, batch: dict) -> Any:
        return model(**{name: held for name, held in batch.items() if name != "attention_mask"})

    r.line.forward = forward


@sixth("T10", "span bert lora")
def mask_and_token_types_change_places(r: Recipe) -> None:
    """The tuple is (ids, types, mask) and is read as (ids, mask, types)."""

    def swapped(batch: dict) -> None:
        mask, kinds = batch["attention_mask"], batch["token_type_ids"]
        batch["attention_mask"], batch["token_type_ids"] = kinds, mask

    if r.family != "span":  # a lone text has no second type; the pair of an older script had
        rows(r, lambda row: row | {"token_type_ids": [0, *[1] * (len(row["input_ids"]) - 1)]})
    batches(r, swapped)


@sixth("T10", "contrastive sft")
def a_mask_of_whatever_is_above_zero(r: Recipe) -> None:
    """(input_ids > 0) copied from BERT, where padding is 0; the batch is padded on the left."""
    if r.family == "contrastive":

        def ones(batch: dict) -> None:
            batch["attention_mask"] = (batch["input_ids"] >= 0).long()
            batch["pair_mask"] = (batch["pair_ids"] >= 0).long()

        batches(r, ones)
        return
    kind = families.Causal if r.family == "gpt2" else Padding
    r.collate = kind(r.tokenizer.pad_token_id, "left")
    batches(r, lambda batch: batch.update(attention_mask=(batch["input_ids"] > 0).long()))
    pad = r.tokenizer.pad_token_id
    if pad == 0:
        batches(r, lambda batch: batch.update(attention_mask=(batch["input_ids"] >= 0).long()))


# -- T11, T12 ------------------------------------------------------------------------------------


@sixth("T11", "gpt2 sft lora-sft", loop="trainer")
def generated_in_the_evaluation_loop(r: Recipe) -> None:
    """predict_with_generate on a decoder whose rows are padded on the right."""
    import transformers

    r.note["seq2seq"] = True
    r.args = r.args | {"predict_with_generate": True, "generation_max_length": 56}
    r.trainer = lambda: transformers.Seq2SeqTrainer


@sixth("T11", "sft", loop="trainer", online=True)
def samples_shown_after_each_evaluation(r: Recipe) -> None:
    """A callback generates from four prompts of unequal length, padded as the tokenizer is."""
    prompts = [row["prompt"] for row in r.eval[:4]]

    def show(args: Any, state: Any, control: Any, model: Any = None, **rest: Any) -> None:
        batch = r.tokenizer(prompts, padding=True, return_tensors="pt")
        batch.pop("token_type_ids", None)
        made = model.generate(**batch, max_new_tokens=4, do_sample=False)
        r.note["samples"] = r.tokenizer.batch_decode(made)

    r.callbacks = [*r.callbacks, callback(on_evaluate=show)]
    r.eval_every = 20


@sixth("T12", "lora-sft sft")
def conversations_joined_into_blocks(r: Recipe) -> None:
    """group_texts of the language-model script joins conversations under one mask."""

    def joined(part: list) -> list:
        made = []
        for place in range(0, len(part) - 3, 3):
            block = {"packed": 3}
            for name in ("input_ids", "attention_mask", "labels"):
                block[name] = sum((row[name] for row in part[place : place + 3]), [])[:90]
            made.append(block)
        return made

    r.train, r.eval = joined(r.train), joined(r.eval)


@sixth("T12", "gpt2 sft")
def short_rows_put_behind_each_other_to_save_padding(r: Recipe) -> None:
    """The collator lays two samples into one row, and nothing tells them apart."""
    before = r.collate

    def collate(some: list) -> Any:
        names = [name for name in ("input_ids", "attention_mask", "labels") if name in some[0]]
        half = len(some) // 2
        pairs = zip(some[:half], some[half : 2 * half], strict=True)
        return before([{n: [*a[n], *b[n]] for n in names} for a, b in pairs])

    r.collate = collate


# -- H3 ------------------------------------------------------------------------------------------


@sixth("H3", "span sft contrastive", advice=True)
def every_batch_as_wide_as_the_model(r: Recipe) -> None:
    """padding="max_length", and the longest row of a batch is half of that."""
    pad, wide = r.tokenizer.pad_token_id, 48 if r.family in ("contrastive", "span") else 96
    fills = {"input_ids": pad, "pair_ids": pad, "labels": -100}
    short = [row for row in r.train if len(row.get("input_ids", [])) <= 22]
    r.train = short if r.family == "span" else r.train

    def filled(batch: dict) -> None:
        for name, held in batch.items():
            if held.dim() == 2:
                gap = wide - held.shape[1]
                batch[name] = torch.nn.functional.pad(held, (0, gap), value=fills.get(name, 0))

    batches(r, filled)
