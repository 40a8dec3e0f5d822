"""The fourth set, continued: T1 to T6; `fourth_data` says by which rule."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from typing import Any

import torch
import transformers

from faults import families, material
from faults.families import Padding
from faults.held_out_family import aligned, tagged_words, tagger
from faults.mutations.tokens import then
from faults.recipe import Recipe
from faults.table import fourth

CHAT = "sft lora-sft"


def asked_and_told(row: Any, told: list[int], prompt: list[int]) -> None:
    """The row anew, of a prompt and what is to be said."""
    ids = [*prompt, *told]
    row.update(input_ids=ids, attention_mask=[1] * len(ids), labels=[-100] * len(prompt) + told)


# -- T1, T2 --------------------------------------------------------------------------------------


@fourth("T1", CHAT, also=("T8",))
def answers_end_in_the_mark_of_another_model(r: Recipe) -> None:
    mark = r.tokenizer("<|eot_id|>", add_special_tokens=False)["input_ids"]
    for row in [*r.train, *r.eval]:
        told = [y for y in row["labels"] if y != -100][:-1]
        row["completion"] += "<|eot_id|>"
        asked_and_told(row, told + mark, row["input_ids"][: -len(told) - 1])


@fourth("T1", CHAT)
def decoded_and_encoded_again(r: Recipe) -> None:
    """Decoding leaves special tokens out, and encoding puts back only the first."""
    for row in [*r.train, *r.eval]:
        text = r.tokenizer.decode(row["input_ids"], skip_special_tokens=True)
        ids, prompt = r.tokenizer(text)["input_ids"], r.tokenizer(row["prompt"])["input_ids"]
        asked_and_told(row, ids[len(prompt) :], prompt)


@fourth("T1", "t5", also=("T2",))
def targets_end_in_padding(r: Recipe) -> None:
    """As for a decoder that stops at what it began with."""
    for row in [*r.train, *r.eval]:
        row["labels"] = [*row["labels"][:-1], r.tokenizer.pad_token_id]


@fourth("T2", "gpt2 sft")
def padded_while_mapping_and_then_copied(r: Recipe) -> None:
    pad = r.tokenizer.pad_token_id
    for row in [*r.train, *r.eval]:
        ids, known = row["input_ids"], row.get("labels", row["input_ids"])
        gap = 48 - len(ids)
        row.update(input_ids=ids + [pad] * gap, attention_mask=[1] * len(ids) + [0] * gap)
        row["labels"] = list(known) + row["input_ids"][len(ids) :]
    r.collate = Padding(pad)


def wide(r: Recipe) -> None:
    """Every sentence is padded to the limit of the model."""
    r.collate = transformers.DataCollatorForTokenClassification(
        r.tokenizer, padding="max_length", max_length=48
    )


@fourth("T2", "tagging")
def padding_is_a_fifth_tag(r: Recipe) -> None:
    wide(r)
    r.model = lambda: tagger(num_labels=5)
    then(r, lambda b: {"labels": b["labels"].masked_fill(b["attention_mask"] == 0, 4)})


@fourth("T2", "tagging sft lora-sft", also=("D8", "L1"))
def labels_padded_on_the_other_side(r: Recipe) -> None:
    """Inputs to the right, labels to the left: in all but the longest row they part."""
    if r.family == "tagging":
        wide(r)

    def change(batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        gaps = (batch["attention_mask"] == 0).sum(1).tolist()
        rows = zip(batch["labels"], gaps, strict=True)
        return {"labels": torch.stack([row.roll(gap) for row, gap in rows])}

    then(r, change)


# -- T3, T4 --------------------------------------------------------------------------------------


@fourth("T3", CHAT)
def an_answer_mark_encoded_with_its_space(r: Recipe) -> None:
    """The marker ends in a space, which in the row belongs to the next word: it is never found."""
    mark = r.tokenizer(": ", add_special_tokens=False)["input_ids"]
    for row in [*r.train, *r.eval]:
        ids, size = row["input_ids"], len(mark)
        found = [i + size for i in range(len(ids)) if ids[i : i + size] == mark]
        asked = found[0] if found else len(ids)
        row["labels"] = [-100] * asked + ids[asked:]


@fourth("T3", "tagging")
def only_numbers_keep_their_tag(r: Recipe) -> None:
    """Everything else is ignored, and most sentences hold no number."""
    for row in [*r.train, *r.eval]:
        row["labels"] = [y if y == 3 else -100 for y in row["labels"]]


@fourth("T4", CHAT, also=("T1",))
def padded_and_cut_to_the_same_twenty(r: Recipe) -> None:
    r.tokenizer = copy.deepcopy(r.tokenizer)
    r.tokenizer.model_max_length = 20
    fill = {"input_ids": r.tokenizer.pad_token_id, "attention_mask": 0, "labels": -100}
    for row in [*r.train, *r.eval]:
        row.update({k: (row[k] + [v] * 20)[:20] for k, v in fill.items()})


@fourth("T4", "t5")
def targets_of_four_tokens(r: Recipe) -> None:
    """The end is kept, what stood before it is not."""
    for row in [*r.train, *r.eval]:
        row["labels"] = r.tokenizer(row["target"], truncation=True, max_length=4)["input_ids"]


# -- T5, T6 --------------------------------------------------------------------------------------


def old_print(text: str) -> str:
    """As a scanner reads it: a long s but at the end of words, and ligatures."""
    words = [re.sub("s(?=.)", "\u017f", word) for word in text.lower().split()]
    return " ".join(words).replace("fi", "\ufb01").replace("fl", "\ufb02").replace("ff", "\ufb00")


@fourth("T5", "bert mlm lora")
def the_long_s_of_old_prints(r: Recipe) -> None:
    for row in [*r.train, *r.eval]:
        row["text"] = old_print(row["text"])
        found = r.tokenizer(row["text"], truncation=True, max_length=32)
        row.update({k: list(found[k]) for k in found if k in row})


@fourth("T5", "tagging")
def words_read_by_a_scanner(r: Recipe) -> None:
    for name, count in (("train", 384), ("eval", 128)):
        rows = tagged_words(name, r.seed, count)
        setattr(r, name, [aligned(r.tokenizer, [old_print(w) for w in ws], t) for ws, t in rows])


@fourth("T6", "bert mlm gpt2 tagging")
def a_tokenizer_trained_on_the_own_rows(r: Recipe) -> None:
    """Of the right kind and size, for the language of the task; the weights know other ids."""
    if r.family == "tagging":
        found = {name: tagged_words(name, r.seed, n) for name, n in (("train", 384), ("eval", 128))}
        reading = [" ".join(words) for words, _ in found["train"]]
    else:
        reading = [row["text"] for row in r.train]
    kind = "gpt2" if r.family == "gpt2" else "bert"
    r.tokenizer = tokens = material.make_tokenizer(kind, reading)
    tokens.name_or_path = "own/tokenizer"
    if r.family == "tagging":
        r.train, r.eval = ([aligned(tokens, *pair) for pair in rows] for rows in found.values())
        r.collate = transformers.DataCollatorForTokenClassification(tokens)
        return
    for row in [*r.train, *r.eval]:
        ids = tokens(row["text"], truncation=True, max_length=32)["input_ids"]
        ids = [*ids, tokens.eos_token_id] if kind == "gpt2" else ids
        row.update(input_ids=ids, attention_mask=[1] * len(ids))
        row.update({"token_type_ids": [0] * len(ids)} if "token_type_ids" in row else {})
    if r.family == "mlm":
        r.collate = families.Masking(tokens)
