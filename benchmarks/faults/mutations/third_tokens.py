"""The third set, continued: T1 to T14; `third_data` says by which rule."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from faults import families
from faults.families import Padding
from faults.held_out_family import aligned, tagged_words
from faults.mutations.fresh_tokens import reordered
from faults.mutations.models import after
from faults.mutations.tokens import _chat, _packed, _with_new_tokens, then
from faults.recipe import Recipe
from faults.table import third

CHAT = "sft lora-sft"


@third("T1", CHAT)
def answers_end_in_the_token_that_begins_rows(r: Recipe) -> None:
    first = r.tokenizer.bos_token_id
    for row in [*r.train, *r.eval]:
        row["input_ids"] = [*row["input_ids"][:-1], first]
        row["labels"] = [*row["labels"][:-1], first]


@third("T1", "t5")
def the_last_token_of_a_target_is_masked(r: Recipe) -> None:
    for row in [*r.train, *r.eval]:
        row["labels"] = [*row["labels"][:-1], -100]


@third("T2", "sft lora-sft tagging")
def padding_takes_the_last_label(r: Recipe) -> None:
    def change(batch: Any) -> dict[str, torch.Tensor]:
        labels = batch["labels"].clone()
        for row, mask in zip(labels, batch["attention_mask"], strict=True):
            known = row[row != -100]
            row[mask == 0] = known[-1] if len(known) else -100
        return {"labels": labels}

    then(r, change)


@third("T2", "gpt2")
def labels_made_before_the_pads_were_known(r: Recipe) -> None:
    end = r.tokenizer.eos_token_id
    then(r, lambda b: {"labels": b["input_ids"].masked_fill(b["attention_mask"] == 0, end)})


@third("T2", "t5")
def targets_padded_with_the_end(r: Recipe) -> None:
    end = r.tokenizer.eos_token_id
    then(r, lambda b: {"labels": b["labels"].masked_fill(b["labels"] == -100, end)})


@third("T3", "sft lora-sft")
def long_answers_lose_their_labels(r: Recipe) -> None:
    lengths = sorted(len(row["labels"]) for row in r.train)
    for row in r.train:
        if len(row["labels"]) > lengths[len(lengths) // 2]:
            row["labels"] = [-100] * len(row["labels"])


@third("T3", "tagging")
def sentences_without_a_tag(r: Recipe) -> None:
    for row in r.train[::6]:
        row["labels"] = [-100] * len(row["labels"])


@third("T4", "sft lora-sft t5", also=("T1",))
def cut_at_the_mean_length(r: Recipe) -> None:
    names = ("labels",) if r.family == "t5" else ("input_ids", "attention_mask", "labels")
    mean = round(sum(len(row["labels"]) for row in r.train) / len(r.train))
    r.tokenizer = copy.deepcopy(r.tokenizer)
    r.tokenizer.model_max_length = mean
    for row in [*r.train, *r.eval]:
        row.update({name: row[name][:mean] for name in names})


def bold(text: str) -> str:
    """Letters from the block of mathematical ones, as posts use them to look bold."""
    return "".join(chr(0x1D5BA + ord(c) - 97) if "a" <= c <= "z" else c for c in text.lower())


@third("T5", "bert mlm lora")
def letters_from_the_mathematical_block(r: Recipe) -> None:
    for row in [*r.train, *r.eval]:
        row["text"] = bold(row["text"])
        found = r.tokenizer(row["text"], truncation=True, max_length=32)
        row.update({k: list(found[k]) for k in found if k in row})


@third("T5", "tagging")
def words_in_bold_letters(r: Recipe) -> None:
    for name, count in (("train", 384), ("eval", 128)):
        rows = tagged_words(name, r.seed, count)
        setattr(r, name, [aligned(r.tokenizer, [bold(w) for w in ws], tags) for ws, tags in rows])


@third("T6", "bert tagging gpt2")
def a_vocabulary_that_was_sorted_again(r: Recipe) -> None:
    """The ids of all ordinary pieces lie elsewhere, as after a rebuilt vocabulary file."""
    old, r.tokenizer = r.tokenizer, reordered(r.tokenizer, by=401)
    new = r.tokenizer.get_vocab()
    moved = {i: new[piece] for piece, i in old.get_vocab().items()}
    for row in [*r.train, *r.eval]:
        row["input_ids"] = [moved.get(i, i) for i in row["input_ids"]]


@third("T7", "sft gpt2 lora-sft")
def a_first_token_added_while_mapping(r: Recipe) -> None:
    first = r.tokenizer.bos_token_id
    for row in [*r.train, *r.eval]:
        row["input_ids"] = [first, *row["input_ids"]]
        for name, value in (("attention_mask", 1), ("labels", -100)):
            if name in row:
                row[name] = [value, *row[name]]


@third("T8", CHAT)
def roles_in_a_notation_of_another_model(r: Recipe) -> None:
    _chat(r, "<|start_header_id|>user<|end_header_id|>{}<|eot_id|>")


@third("T9", "bert gpt2 tagging")
def the_old_embedding_put_back(r: Recipe) -> None:
    _with_new_tokens(r)

    def prepare(model: nn.Module) -> None:
        old = copy.deepcopy(model.get_input_embeddings())
        model.resize_token_embeddings(len(r.tokenizer), mean_resizing=False)
        model.set_input_embeddings(old)

    after(r, prepare)


@third("T10", "bert mlm tagging lora")
def a_mask_three_tokens_too_long(r: Recipe) -> None:
    def change(batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        lengths = batch["attention_mask"].sum(1, keepdim=True) + 3
        places = torch.arange(batch["attention_mask"].shape[1])
        return {"attention_mask": (places < lengths).long()}

    then(r, change)


@third("T11", CHAT)
def a_processor_that_pads_prompts_on_the_right(r: Recipe) -> None:
    import transformers

    r.tokenizer = copy.deepcopy(r.tokenizer)
    r.tokenizer.padding_side, r.note["seq2seq"] = "right", True
    r.args |= {"predict_with_generate": True, "generation_max_length": 48}
    r.collate = Padding(r.tokenizer.pad_token_id, "right")
    r.trainer = lambda: transformers.Seq2SeqTrainer


@third("T12", "gpt2 sft")
def positions_restart_and_the_mask_does_not(r: Recipe) -> None:
    """Each pair in a row of its own, the mask a row of ones and of real length."""
    _packed(r)
    pack = r.collate

    def collate(rows: Any) -> dict[str, torch.Tensor]:
        batch = pack(rows)
        return batch | {"attention_mask": torch.ones(batch["input_ids"].shape)}

    r.collate = collate


@third("T13", "mlm", also=("T3",))
def every_other_row_is_left_whole(r: Recipe) -> None:
    def change(batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        labels, ids = batch["labels"].clone(), batch["input_ids"].clone()
        ids[::2] = torch.where(labels[::2] != -100, labels[::2], ids[::2])
        labels[::2] = -100
        return {"labels": labels, "input_ids": ids}

    then(r, change)


@third("T13", "mlm")
def ends_of_sentences_are_guessed(r: Recipe) -> None:
    end = r.tokenizer.sep_token_id
    then(r, lambda b: {"labels": torch.where(b["input_ids"] == end, end, b["labels"]),
                       "input_ids": b["input_ids"]})  # fmt: skip


@third("T14", "tagging")
def tags_under_the_name_of_their_column(r: Recipe) -> None:
    for row in [*r.train, *r.eval]:
        row["ner_tags"] = row.pop("labels")
    r.collate = Padding(r.tokenizer.pad_token_id)


@third("T14", "sft bert")
def a_collator_for_inference(r: Recipe) -> None:
    pad = families.Padding(r.tokenizer.pad_token_id)
    r.collate = lambda rows: pad(
        [{k: row[k] for k in ("input_ids", "attention_mask")} for row in rows]
    )
