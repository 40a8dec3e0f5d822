"""T1, T3 to T9, fifth set: how a script of one's own encodes its texts."""

from __future__ import annotations

import re
from typing import Any

import peft
import torch

from faults.mutations.fifth_parts import (
    TOKENS,
    each_row,
    encoded,
    texts_of_pairs,
    tokenizer_of,
    with_text,
)
from faults.mutations.models import after
from faults.recipe import Recipe
from faults.table import fifth


def _asked(row: dict) -> int:
    """How many tokens of the row are the prompt."""
    return sum(value == -100 for value in row["labels"])


def _chat(row: dict, prompt: list[int], answer: list[int], length: int = 48) -> dict:
    """A row of prompt and answer, with the loss on the answer."""
    ids = [*prompt, *answer][:length]
    labels = ([-100] * len(prompt) + answer)[:length]
    return row | {"input_ids": ids, "attention_mask": [1] * len(ids), "labels": labels}


@fifth("T1", "sft lora-sft")
def labels_equal_to_padding_are_masked_and_padding_is_the_end(r: Recipe) -> None:
    """`pad_token = eos_token`, then `labels[labels == pad_token_id] = -100`."""
    r.tokenizer = tokenizer_of("llama")
    r.tokenizer.pad_token = r.tokenizer.eos_token
    end = r.tokenizer.eos_token_id

    def collate(rows: list[dict]) -> dict[str, torch.Tensor]:
        batch = r.tokenizer.pad(
            [{k: row[k] for k in ("input_ids", "attention_mask")} for row in rows],
            return_tensors="pt",
        )
        labels = batch["input_ids"].clone()
        labels[labels == end] = -100
        return dict(batch) | {"labels": labels}

    r.collate = collate


@fifth("T1", "sft lora-sft")
def the_end_written_after_the_question(r: Recipe) -> None:
    """`prompt + eos + answer`: the end is in the prompt, and no answer ever ends."""

    def build(row: dict) -> dict:
        asked, end = _asked(row), r.tokenizer.eos_token_id
        return _chat(row, [*row["input_ids"][:asked], end], row["input_ids"][asked:-1])

    each_row(r, build)


@fifth("T1", "t5")
def targets_without_their_last_piece(r: Recipe) -> None:
    """`tokenizer(target).input_ids[:-1]`: the script takes the `</s>` away."""
    each_row(r, lambda row: row | {"labels": row["labels"][:-1]})


@fifth("T3", "sft lora-sft")
def prompts_measured_with_their_padding(r: Recipe) -> None:
    """`len(tokenizer(prompt, padding="max_length").input_ids)` tokens of each row are masked."""

    def masked(row: dict) -> dict:
        asked = len(r.tokenizer(row["prompt"], padding="max_length", max_length=48)["input_ids"])
        length = len(row["input_ids"])
        return row | {"labels": ([-100] * asked + row["labels"][asked:])[:length]}

    each_row(r, masked)


@fifth("T3", "tagging")
def tags_looked_up_in_another_case(r: Recipe) -> None:
    """`label2id.get(tag, -100)`, and the file writes its tags in capitals: none is found."""
    names = ("WORD", "SIGN", "NAME", "NUMBER")
    label2id = {"word": 0, "sign": 1, "name": 2, "number": 3}
    each_row(
        r,
        lambda row: (
            row
            | {"labels": [t if t == -100 else label2id.get(names[t], -100) for t in row["labels"]]}
        ),
    )


@fifth("T4", "sft lora-sft")
def rows_cut_in_the_collator(r: Recipe) -> None:
    """`ids[:12]` in the collator, to save memory: most answers are cut, and their ends."""
    inner = r.collate

    def collate(rows: list[dict]) -> Any:
        names = ("input_ids", "attention_mask", "labels")
        return inner([{name: row[name][:12] for name in names} for row in rows])

    r.collate = collate


@fifth("T4", "t5 gpt2")
def the_limit_that_an_old_tokenizer_was_saved_with(r: Recipe) -> None:
    """`truncation=True` without a length: `model_max_length` in the file is small."""
    r.tokenizer = tokenizer_of(TOKENS[r.family])
    r.tokenizer.model_max_length = 4 if r.family == "t5" else 10

    def cut(row: dict) -> dict:
        if r.family == "t5":
            ids = r.tokenizer(row["target"], truncation=True)["input_ids"]
            return row | {"labels": ids}
        ids = r.tokenizer(row["text"] + r.tokenizer.eos_token, truncation=True)["input_ids"]
        return row | {"input_ids": ids, "attention_mask": [1] * len(ids)}

    each_row(r, cut)


LIGATURES = {"ffi": "\ufb03", "fi": "\ufb01", "fl": "\ufb02", "ff": "\ufb00", "st": "\ufb06",
             "--": "\u2e3a", "'": "\u02bc", ". ": " \u2e31 "}  # fmt: skip


@fifth("T5", "bert mlm lora")
def ligatures_of_a_document_that_was_typeset(r: Recipe) -> None:
    """Texts out of typeset pages: ligatures and marks are characters that no piece has."""

    def typeset(text: str) -> str:
        for letters, one in LIGATURES.items():
            text = text.replace(letters, one)
        return text

    each_row(r, lambda row: with_text(r, row, typeset(row["text"])))


@fifth("T5", "contrastive bert tagging")
def names_blacked_out_by_the_privacy_office(r: Recipe) -> None:
    """Every fourth word is a black bar, for which the vocabulary has no piece."""
    bar = "\u2588" * 5

    def blackened(text: str, place: int = 0) -> str:
        return " ".join(bar if i % 4 == 1 else word for i, word in enumerate(text.split()))

    if r.family == "contrastive":
        texts_of_pairs(r, blackened)
        return
    if r.family != "tagging":
        each_row(r, lambda row: with_text(r, row, blackened(row["text"])))
        return
    unknown = r.tokenizer(bar, add_special_tokens=False)["input_ids"][0]
    for row in (*r.train, *r.eval):
        firsts = [i for i, tag in enumerate(row["labels"]) if tag != -100]
        for place in firsts[1::4]:
            row["input_ids"][place] = unknown


@fifth("T6", "gpt2 mlm")
def numbers_of_words_in_the_order_they_appear(r: Recipe) -> None:
    """`vocab = {word: i for i, word in enumerate(words)}`, fed to the pretrained model."""
    words = dict.fromkeys(w for row in r.train for w in re.findall(r"\w+|\S", row["text"].lower()))
    numbers = {word: place for place, word in enumerate(list(words)[:1990], start=6)}

    def numbered(row: dict) -> dict:
        found = re.findall(r"\w+|\S", row["text"].lower())[:38]
        ids = [numbers.get(word, 5) for word in found]
        last = row["input_ids"][-1]
        ids = [*ids, last] if r.family == "gpt2" else [row["input_ids"][0], *ids[:30], last]
        return row | {"input_ids": ids, "attention_mask": [1] * len(ids)}

    each_row(r, numbered)


@fifth("T6", "sft t5")
def the_tokenizer_left_from_the_last_experiment(r: Recipe) -> None:
    """`tokenizer_name` in the settings still names the model of the last experiment."""
    r.tokenizer = tokenizer_of({"sft": "gpt2", "t5": "llama"}[r.family])
    end = r.tokenizer.eos_token_id

    def again(row: dict) -> dict:
        if r.family == "t5":
            made = row | encoded(r, row["source"])
            ids = r.tokenizer(row["target"], truncation=True, max_length=15)["input_ids"]
            return made | {"labels": [*ids, end]}
        asked = r.tokenizer(row["prompt"])["input_ids"]
        return _chat(row, asked, [*r.tokenizer(row["completion"])["input_ids"], end])

    each_row(r, again)


@fifth("T7", "sft lora-sft")
def bos_put_before_ids_that_have_it(r: Recipe) -> None:
    """`[bos_token_id] + tokenizer(prompt).input_ids + ...`: the tokenizer added it already."""

    def build(row: dict) -> dict:
        asked = _asked(row)
        prompt = [r.tokenizer.bos_token_id, *row["input_ids"][:asked]]
        return _chat(row, prompt, row["input_ids"][asked:])

    each_row(r, build)


@fifth("T7", "sft lora-sft")
def the_answer_begins_with_bos_as_well(r: Recipe) -> None:
    """Prompt and answer are encoded apart, both with special tokens, and put together."""

    def build(row: dict) -> dict:
        answer = [*r.tokenizer(row["completion"])["input_ids"], r.tokenizer.eos_token_id]
        return _chat(row, r.tokenizer(row["prompt"])["input_ids"], answer)

    each_row(r, build)


@fifth("T8", "bert lora")
def marks_around_an_entity_that_are_no_tokens(r: Recipe) -> None:
    """`[E1] word [/E1]` for a relation, and `add_special_tokens` was never called."""

    def marked(row: dict) -> dict:
        first, _, rest = row["text"].partition(" ")
        return with_text(r, row, f"[E1] {first} [/E1] {rest}")

    each_row(r, marked)


@fifth("T8", "gpt2")
def a_start_of_text_that_gpt2_does_not_have(r: Recipe) -> None:
    """`<|startoftext|>` before each text, as in many a notebook, and it is nine pieces."""

    def started(row: dict) -> dict:
        text = f"<|startoftext|>{row['text']}"
        ids = [*r.tokenizer(text)["input_ids"][:39], r.tokenizer.eos_token_id]
        return row | {"text": text, "input_ids": ids, "attention_mask": [1] * len(ids)}

    each_row(r, started)


@fifth("T8", "sft lora-sft")
def marks_of_question_and_answer_not_added(r: Recipe) -> None:
    """`<|question|>` and `<|answer|>` of the script's own format are ordinary pieces."""

    def marked(row: dict) -> dict:
        prompt = f"<|question|>{row['prompt']}<|answer|>"
        answer = r.tokenizer(row["completion"], add_special_tokens=False)["input_ids"]
        made = row | {"prompt": prompt}
        asked = r.tokenizer(prompt)["input_ids"]
        return _chat(made, asked, [*answer, r.tokenizer.eos_token_id], 64)

    each_row(r, marked)


@fifth("T9", "gpt2 mlm tagging")
def resized_before_the_tokens_were_added(r: Recipe) -> None:
    """`resize_token_embeddings(len(tokenizer))` stands above `add_tokens`."""
    r.tokenizer = tokenizer_of(TOKENS[r.family])
    count = len(r.tokenizer)

    def resized(model: Any) -> None:
        model.resize_token_embeddings(count)

    after(r, resized)
    r.tokenizer.add_tokens(["<url>", "<user>"])
    new = r.tokenizer.convert_tokens_to_ids("<url>")

    def holds(row: dict) -> dict:
        ids = list(row["input_ids"])
        ids[min(2, len(ids) - 2)] = new
        return row | {"input_ids": ids}

    r.train = [holds(row) if place % 3 == 0 else row for place, row in enumerate(r.train)]


@fifth("T9", "bert lora-sft tagging")
def new_tokens_in_a_backbone_that_is_frozen(r: Recipe) -> None:
    """Tokens are added and the matrix resized, and then everything below the head is frozen."""
    r.tokenizer = tokenizer_of(TOKENS[r.family])
    r.tokenizer.add_tokens(["<url>", "<user>"])
    new, count = r.tokenizer.convert_tokens_to_ids("<url>"), len(r.tokenizer)
    inner = r.prepare

    def prepare(model: Any) -> Any:
        model.resize_token_embeddings(count)
        model = inner(model)
        if not isinstance(model, peft.PeftModel):
            for parameter in model.base_model.parameters():
                parameter.requires_grad = False
        return model

    def holds(row: dict) -> dict:
        ids = list(row["input_ids"])
        ids[1] = new
        return row | {"input_ids": ids}

    r.prepare = prepare
    each_row(r, holds)
