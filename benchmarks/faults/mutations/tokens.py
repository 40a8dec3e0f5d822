"""T1 to T14: tokenization and collation."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch

from faults import families, material
from faults.families import Padding, chat_rows, line_rows, name_rows, topic_rows
from faults.recipe import Recipe
from faults.table import fault

CAUSAL, CHAT = "gpt2 sft lora-sft", "sft lora-sft"


def then(recipe: Recipe, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    """The collator, and a change to each of its batches afterwards."""
    collate = recipe.collate

    def changed(rows: list[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        batch = collate(rows)
        batch.update(change(batch) or {})
        return batch

    recipe.collate = changed


# -- T1 ------------------------------------------------------------------------------------------


@fault("T1", CHAT)
def pad_is_eos_and_masked(r: Recipe) -> None:
    r.tokenizer = copy.deepcopy(r.tokenizer)
    r.tokenizer.pad_token = r.tokenizer.eos_token
    end = r.tokenizer.eos_token_id
    r.collate = Padding(end)
    then(r, lambda batch: {"labels": batch["labels"].masked_fill(batch["input_ids"] == end, -100)})


@fault("T1", "sft lora-sft t5")
def eos_not_appended(r: Recipe) -> None:
    for row in [*r.train, *r.eval]:
        row["labels"] = row["labels"][:-1]
        if r.family != "t5":
            row["input_ids"], row["attention_mask"] = (
                row["input_ids"][:-1],
                row["attention_mask"][:-1],
            )


@fault("T1", "sft t5")
def special_tokens_not_supervised(r: Recipe) -> None:
    special = torch.tensor(r.tokenizer.all_special_ids)
    then(r, lambda b: {"labels": b["labels"].masked_fill(torch.isin(b["labels"], special), -100)})


# -- T2, T3, T4 ----------------------------------------------------------------------------------


@fault("T2", "gpt2")
def labels_are_the_padded_ids(r: Recipe) -> None:
    then(r, lambda batch: {"labels": batch["input_ids"].clone()})


@fault("T2", CHAT)
def labels_padded_with_the_pad_token(r: Recipe) -> None:
    pad = r.tokenizer.pad_token_id
    then(r, lambda b: {"labels": torch.where(b["attention_mask"] == 0, pad, b["labels"])})


@fault("T2", "t5")
def target_padding_kept(r: Recipe) -> None:
    pad = r.tokenizer.pad_token_id
    then(r, lambda batch: {"labels": batch["labels"].masked_fill(batch["labels"] == -100, pad)})


@fault("T2", "mlm")
def every_position_is_a_label(r: Recipe) -> None:
    then(
        r,
        lambda b: {
            "labels": torch.where(b["attention_mask"] == 0, r.tokenizer.pad_token_id, b["labels"])
        },
    )


@fault("T2", "t5")
def targets_padded_by_the_tokenizer(r: Recipe) -> None:
    pad = r.tokenizer.pad_token_id
    for row in [*r.train, *r.eval]:
        row["labels"] = (row["labels"] + [pad] * 16)[:16]


def _cut(r: Recipe, length: int) -> None:
    for row in [*r.train, *r.eval]:
        for name in ("input_ids", "attention_mask", "labels"):
            if name in row and (r.family != "t5" or name == "labels"):
                row[name] = row[name][:length]


@fault("T3", CHAT, also=("T4",))
def prompts_fill_the_row(r: Recipe) -> None:
    for row in [*r.train, *r.eval]:
        asked = [*row["input_ids"][:1], *(row["input_ids"][1:] * 2)][:30]
        row.update(input_ids=asked, attention_mask=[1] * len(asked), labels=[-100] * len(asked))


@fault("T3", "sft gpt2 t5 lora-sft")
def some_rows_without_labels(r: Recipe) -> None:
    for row in r.train[::8]:
        row["labels"] = [-100] * len(row.get("labels", row["input_ids"]))
    if r.family == "gpt2":
        r.collate = Padding(r.tokenizer.pad_token_id)
        for row in [*r.train, *r.eval]:
            row.setdefault("labels", row["input_ids"])


@fault("T3", "sft t5")
def every_label_ignored(r: Recipe) -> None:
    then(r, lambda batch: {"labels": torch.full_like(batch["labels"], -100)})


@fault("T4", "sft lora-sft", also=("T1",))
def max_length_too_short(r: Recipe) -> None:
    r.tokenizer = copy.deepcopy(r.tokenizer)
    r.tokenizer.model_max_length = 18
    _cut(r, 18)


@fault("T4", "t5", also=("T1",))
def max_target_length_too_short(r: Recipe) -> None:
    for row in [*r.train, *r.eval]:
        row["target"] = row["source"]
        row["labels"] = r.tokenizer(row["source"])["input_ids"][:6]


# -- T5, T6 --------------------------------------------------------------------------------------

SCRIPT = str.maketrans("abcdefghijklmnopqrstuvwxyz", "αбцдэφгхиջклмнопռрстувωхυζ")


@fault("T5", "bert mlm")
def another_script(r: Recipe) -> None:
    for rows in (r.train, r.eval):
        for row in rows[::2]:
            row["text"] = row["text"].translate(SCRIPT)
            again = r.tokenizer(row["text"], truncation=True, max_length=32)
            row.update({name: again[name] for name in again if name in row})


@fault("T5", "bert mlm lora")
def punctuation_that_the_vocabulary_lacks(r: Recipe) -> None:
    for rows in (r.train, r.eval):
        for row in rows:
            row["text"] = row["text"].replace(" ", " ￭ ")
            again = r.tokenizer(row["text"], truncation=True, max_length=32)
            row.update({name: again[name] for name in again if name in row})


def _other_tokenizer(name: str, size: int) -> Any:
    """A tokenizer of the same kind, trained on other text: its ids mean other tokens."""
    from unittest import mock

    reading = [text[::-1] for text in material.texts()["reading"][:4000]]
    with mock.patch.object(material, "VOCABULARY", size):
        tokens = material.make_tokenizer(name, reading)
    tokens.name_or_path = "another/tokenizer"
    return tokens


@fault("T6", "mlm gpt2 sft t5", also=("M1",))
def tokenizer_of_another_model(r: Recipe) -> None:
    name = {"mlm": "bert", "sft": "llama"}.get(r.family, r.family)
    r.tokenizer = tokens = _other_tokenizer(name, material.VOCABULARY)
    _encode_again(r, tokens)


def _encode_again(r: Recipe, tokens: Any) -> None:
    rows = {"gpt2": line_rows, "sft": chat_rows, "t5": name_rows}.get(r.family)
    if rows is None:
        keep = (
            ("text", "input_ids", "attention_mask", "labels")
            if r.family == "bert"
            else ("text", "input_ids", "attention_mask")
        )
        r.train, r.eval = (
            [{k: row[k] for k in keep} for row in topic_rows(split, r.seed, n, tokens=tokens)]
            for split, n in (("train", 384), ("eval", 128))
        )
        if r.family == "mlm":
            r.collate = families.Masking(tokens)
        return
    r.train, r.eval = rows("train", r.seed, 384, tokens), rows("eval", r.seed, 128, tokens)


@fault("T6", "bert gpt2 sft t5", also=("T9",))
def ids_beyond_the_embedding(r: Recipe) -> None:
    name = {"sft": "llama"}.get(r.family, r.family)
    r.tokenizer = tokens = _other_tokenizer(name, 3000)
    _encode_again(r, tokens)
    if r.family != "bert":
        r.collate.__init__(tokens.pad_token_id)


# -- T7, T8 --------------------------------------------------------------------------------------


@fault("T7", CHAT)
def template_and_tokenizer_both_add_bos(r: Recipe) -> None:
    for row in [*r.train, *r.eval]:
        row["input_ids"] = [r.tokenizer.bos_token_id, *row["input_ids"]]
        row["attention_mask"], row["labels"] = [1, *row["attention_mask"]], [-100, *row["labels"]]


@fault("T7", CHAT)
def bos_left_out(r: Recipe) -> None:
    for row in [*r.train, *r.eval]:
        for name in ("input_ids", "attention_mask", "labels"):
            row[name] = row[name][1:]


@fault("T7", "sft")
def bos_in_the_text_as_well(r: Recipe) -> None:
    _chat(r, "<s>{}:")


def _chat(r: Recipe, template: str) -> None:
    """The prompts in this template, encoded again."""
    for row in [*r.train, *r.eval]:
        keep = [i for i, label in enumerate(row["labels"]) if label != -100]
        answer = [row["labels"][i] for i in keep]
        row["prompt"] = template.format(row["prompt"].rstrip(":"))
        asked = r.tokenizer(row["prompt"])["input_ids"]
        row.update(
            input_ids=asked + answer,
            attention_mask=[1] * len(asked + answer),
            labels=[-100] * len(asked) + answer,
        )


@fault("T8", CHAT)
def chat_markers_are_ordinary_text(r: Recipe) -> None:
    _chat(r, "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n")


@fault("T8", "sft")
def header_markers_are_ordinary_text(r: Recipe) -> None:
    _chat(r, "<|user|>{}<|assistant|>")


# -- T9 ------------------------------------------------------------------------------------------


def _with_new_tokens(r: Recipe) -> list[int]:
    r.tokenizer = copy.deepcopy(r.tokenizer)
    r.tokenizer.add_tokens(["<new1>", "<new2>", "<new3>"])
    new = r.tokenizer.convert_tokens_to_ids(["<new1>", "<new2>", "<new3>"])
    for i, row in enumerate([*r.train, *r.eval]):
        row["input_ids"] = [*row["input_ids"][:1], new[i % 3], *row["input_ids"][2:]]
        if r.family in ("sft", "lora-sft"):
            row["labels"] = [*row["labels"][:1], -100, *row["labels"][2:]]
    return new


@fault("T9", "bert gpt2 sft t5 mlm lora lora-sft", also=("T6",))
def tokens_added_and_not_resized(r: Recipe) -> None:
    _with_new_tokens(r)


@fault("T9", "lora lora-sft")
def new_rows_frozen_under_lora(r: Recipe) -> None:
    _with_new_tokens(r)
    wrap = r.prepare
    r.prepare = lambda model: wrap(_resized(model, len(r.tokenizer)))


def _resized(model: Any, size: int) -> Any:
    model.resize_token_embeddings(size, mean_resizing=False)
    return model


@fault("T9", "bert gpt2 sft t5")
def embedding_frozen_after_resizing(r: Recipe) -> None:
    _with_new_tokens(r)

    def prepare(model: Any) -> Any:
        _resized(model, len(r.tokenizer))
        model.get_input_embeddings().weight.requires_grad_(False)
        return model

    r.prepare = prepare


# -- T10, T11, T12 -------------------------------------------------------------------------------


@fault("T10", "bert mlm t5 lora")
def attention_mask_forgotten(r: Recipe) -> None:
    collate = r.collate
    r.collate = lambda rows: {k: v for k, v in collate(rows).items() if k != "attention_mask"}


@fault("T10", "bert mlm t5 lora")
def attention_mask_of_ones(r: Recipe) -> None:
    then(r, lambda batch: {"attention_mask": torch.ones_like(batch["attention_mask"])})


@fault("T10", "gpt2 sft")
def mask_of_ones_and_padded_on_the_left(r: Recipe) -> None:
    r.collate = (families.Causal if r.family == "gpt2" else Padding)(
        r.tokenizer.pad_token_id, "left"
    )
    then(r, lambda batch: {"attention_mask": torch.ones_like(batch["attention_mask"])})


@fault("T10", "bert")
def attention_mask_upside_down(r: Recipe) -> None:
    then(r, lambda batch: {"attention_mask": 1 - batch["attention_mask"]})


@fault("T11", CHAT)
def generates_with_right_padding(r: Recipe) -> None:
    r.tokenizer = copy.deepcopy(r.tokenizer)
    r.tokenizer.padding_side, r.note["seq2seq"] = "right", True
    r.args["predict_with_generate"] = True


def _packed(r: Recipe) -> None:
    def pack(rows: list[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        ids, positions = [], []
        for first, second in zip(rows[::2], rows[1::2], strict=True):
            pair = [first["input_ids"][:20], second["input_ids"][:20]]
            width = 40 - len(pair[0]) - len(pair[1])
            pair[1] = pair[1] + [r.tokenizer.eos_token_id] * width
            ids.append(pair[0] + pair[1])
            positions.append([*range(len(pair[0])), *range(len(pair[1]))])
        found = {"input_ids": torch.tensor(ids), "position_ids": torch.tensor(positions)}
        return found | {"labels": found["input_ids"].clone()}

    r.collate = pack


@fault("T12", "gpt2 sft")
def packed_under_a_mask_of_ones(r: Recipe) -> None:
    _packed(r)
    collate = r.collate
    r.collate = lambda rows: (
        (b := collate(rows)) | {"attention_mask": torch.ones_like(b["input_ids"])}
    )


@fault("T12", "gpt2 sft")
def packed_under_a_plain_causal_mask(r: Recipe) -> None:
    _packed(r)
    collate = r.collate

    def causal(rows: Any) -> dict[str, torch.Tensor]:
        batch = collate(rows)
        width = batch["input_ids"].shape[1]
        mask = torch.full((width, width), torch.finfo(torch.float32).min).triu(1)
        return batch | {"attention_mask": mask.expand(len(batch["input_ids"]), 1, -1, -1)}

    r.collate = causal


# -- T13, T14 ------------------------------------------------------------------------------------


@fault("T13", "mlm")
def eighty_percent_masked(r: Recipe) -> None:
    r.collate.probability = 0.8


@fault("T13", "mlm", also=("T3",))
def nothing_masked(r: Recipe) -> None:
    pad = families.Padding(r.tokenizer.pad_token_id)
    r.collate = lambda rows: (
        (b := pad([{k: row[k] for k in ("input_ids", "attention_mask")} for row in rows]))
        | {"labels": torch.where(torch.rand(b["input_ids"].shape) < 0.004, b["input_ids"], -100)}
    )


@fault("T13", "mlm")
def special_tokens_masked_too(r: Recipe) -> None:
    r.collate.special = torch.tensor([r.tokenizer.pad_token_id])


@fault("T13", "mlm")
def masked_by_the_unknown_token(r: Recipe) -> None:
    mask, other = r.tokenizer.mask_token_id, r.tokenizer.unk_token_id
    then(r, lambda b: {"input_ids": b["input_ids"].masked_fill(b["input_ids"] == mask, other)})


@fault("T13", "mlm")
def inputs_left_as_they_are(r: Recipe) -> None:
    then(r, lambda b: {"input_ids": torch.where(b["labels"] != -100, b["labels"], b["input_ids"])})


@fault("T14", "bert t5 lora sft")
def labels_under_another_name(r: Recipe) -> None:
    for rows in (r.train, r.eval):
        for row in rows:
            row["category"] = row.pop("labels")


@fault("T14", "bert lora")
def collator_drops_the_labels(r: Recipe) -> None:
    collate = r.collate
    r.collate = lambda rows: {k: v for k, v in collate(rows).items() if k != "labels"}


@fault("T14", "mlm gpt2")
def collator_makes_no_labels(r: Recipe) -> None:
    r.collate = Padding(r.tokenizer.pad_token_id)
