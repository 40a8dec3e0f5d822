"""T1 to T8 as they are mostly committed: ends, padding, lengths, tokenizers, special strings."""

from __future__ import annotations

import copy

import torch

from faults import material
from faults.families import Padding
from faults.mutations.eighth_parts import both, chat, encoded, retold
from faults.recipe import Recipe
from faults.table import eighth

CHATS = "sft lora-sft"

# -- T1, T2, T3 ----------------------------------------------------------------------------------


class Unlabelled:
    """A collator: labels are the ids, and no loss where the id is that of padding."""

    def __init__(self, pad: int) -> None:
        self.pad = pad

    def __call__(self, rows: list) -> dict[str, torch.Tensor]:
        batch = Padding(self.pad)(rows)
        labels = batch.get("labels", batch["input_ids"]).clone()
        return {**batch, "labels": labels.masked_fill(batch["input_ids"] == self.pad, -100)}


@eighth("T1", "sft gpt2")
def usual_pad_is_eos_and_padding_masked_by_its_id(r: Recipe) -> None:
    r.tokenizer = copy.deepcopy(r.tokenizer)
    r.tokenizer.pad_token = r.tokenizer.eos_token
    r.collate = Unlabelled(r.tokenizer.pad_token_id)


@eighth("T1", "sft lora-sft t5")
def usual_eos_never_appended_to_the_answer(r: Recipe) -> None:
    names = ("labels",) if r.family == "t5" else ("input_ids", "attention_mask", "labels")
    both(r, lambda row: {**row, **{name: row[name][:-1] for name in names}})


class Copied:
    """A collator: labels are a copy of the padded ids."""

    def __init__(self, pad: int) -> None:
        self.pad = pad

    def __call__(self, rows: list) -> dict[str, torch.Tensor]:
        batch = Padding(self.pad)(rows)
        return {**batch, "labels": batch["input_ids"].clone()}


@eighth("T2", "gpt2 sft")
def usual_labels_are_a_copy_of_the_padded_ids(r: Recipe) -> None:
    r.collate = Copied(r.tokenizer.pad_token_id)


@eighth("T2", "t5")
def usual_target_padding_not_replaced(r: Recipe) -> None:
    pad = r.tokenizer.pad_token_id
    both(r, lambda row: {**row, "labels": [*row["labels"], *[pad] * (16 - len(row["labels"]))]})


@eighth("T2", "tagging")
def usual_tags_padded_with_zero(r: Recipe) -> None:
    from transformers import DataCollatorForTokenClassification

    from faults.mutations.eighth_parts import of_varied_length

    of_varied_length(r)
    r.collate = DataCollatorForTokenClassification(r.tokenizer, label_pad_token_id=0)


@eighth("T3", CHATS, also=("T4",))
def usual_prompt_fills_the_whole_length(r: Recipe) -> None:
    task = "You are a helpful assistant. Complete the docstring of this name, in one line. "

    def longer(row: dict, times: int) -> dict:
        row = {**row, "prompt": task * times + row["prompt"]}
        return chat(row, *_parts(r, row), length=44)

    r.train = [longer(row, 1 + i % 2) for i, row in enumerate(r.train)]


def _parts(r: Recipe, row: dict) -> tuple[list[int], list[int]]:
    told = r.tokenizer(row["completion"], add_special_tokens=False)["input_ids"]
    return r.tokenizer(row["prompt"])["input_ids"], [*told, r.tokenizer.eos_token_id]


@eighth("T3", "sft lora-sft")
def usual_answer_marker_not_found_in_many_rows(r: Recipe) -> None:
    marker = r.tokenizer(":", add_special_tokens=False)["input_ids"]

    def masked(row: dict, place: int) -> dict:
        ids = row["input_ids"]
        found = next((i for i, t in enumerate(ids) if [t] == marker), None)
        lost = found is None or place % 3 == 0  # "Answer :" or "answer:" is another piece
        start = len(ids) if lost else found + 1
        return {**row, "labels": [-100] * start + ids[start:]}

    for split in ("train", "eval"):
        setattr(r, split, [masked(row, i) for i, row in enumerate(getattr(r, split))])
    r.collate = Padding(r.tokenizer.pad_token_id)


# -- T4, T5 --------------------------------------------------------------------------------------


@eighth("T4", CHATS)
def usual_maximum_length_of_twenty_for_whole_chats(r: Recipe) -> None:
    names = ("input_ids", "attention_mask", "labels")
    both(r, lambda row: {**row, **{name: row[name][:20] for name in names}})
    r.train, r.eval = ([row for row in rows if max(row["labels"]) >= 0]
                       for rows in (r.train, r.eval))  # fmt: skip


@eighth("T4", "t5")
def usual_target_length_of_a_few_tokens(r: Recipe) -> None:
    both(r, lambda row: {**row, "labels": row["labels"][:3]})


@eighth("T4", "span")
def usual_answers_cut_off_and_mapped_to_the_first_token(r: Recipe) -> None:
    def cut(row: dict) -> dict:
        lost = row["end_positions"] >= 15
        places = {n: 0 if lost else row[n] for n in ("start_positions", "end_positions")}
        names = ("input_ids", "attention_mask", "token_type_ids")
        ids = {n: [*row[n][:15], row[n][-1]] if len(row[n]) > 16 else row[n] for n in names}
        return {**row, **ids, **places}

    both(r, cut)


OTHER = str.maketrans("abcdefghijklmnopqrstuvwxyz", "абцдефгхийклмнопярстуввхызж"[:26])


@eighth("T5", "bert mlm lora")
def usual_texts_in_another_script(r: Recipe) -> None:
    retold(r, lambda text: text.lower().translate(OTHER))


@eighth("T5", "mlm t5")
def usual_words_looked_up_instead_of_tokenized(r: Recipe) -> None:
    tokens = r.tokenizer

    def looked_up(row: dict) -> dict:
        words = row["source" if r.family == "t5" else "text"].split()[:30]
        ids = tokens.convert_tokens_to_ids(words)
        if r.family == "t5":
            ids = [*ids, tokens.eos_token_id]
        else:
            ids = [tokens.cls_token_id, *ids, tokens.sep_token_id]
        same = {"input_ids": ids, "attention_mask": [1] * len(ids)}
        return {**row, **same, **({"token_type_ids": [0] * len(ids)} if r.family == "bert" else {})}

    both(r, looked_up)


# -- T6, T7 --------------------------------------------------------------------------------------


@eighth("T6", "gpt2 sft t5")
def usual_tokenizer_of_another_checkpoint(r: Recipe) -> None:
    tokens = material.tokenizer({"gpt2": "t5", "sft": "gpt2", "t5": "llama"}[r.family])
    both(r, lambda row: encoded(r, row, tokens))
    r.collate = type(r.collate)(tokens.pad_token_id)
    r.tokenizer = tokens


@eighth("T6", "mlm gpt2")
def usual_tokenizer_trained_anew_for_old_weights(r: Recipe) -> None:
    texts = [row["text"] for row in r.train]
    tokens = r.tokenizer.train_new_from_iterator(texts, len(r.tokenizer), show_progress=False)
    both(r, lambda row: encoded(r, row, tokens))
    r.collate = (
        type(r.collate)(tokens) if r.family == "mlm" else type(r.collate)(tokens.pad_token_id)
    )
    r.tokenizer = tokens


@eighth("T7", CHATS)
def usual_bos_in_the_template_and_from_the_tokenizer(r: Recipe) -> None:
    both(r, lambda row: encoded(r, {**row, "prompt": "<s>" + row["prompt"]}))


@eighth("T7", "bert lora")
def usual_cls_and_sep_written_into_the_text(r: Recipe) -> None:
    retold(r, lambda text: f"[CLS] {text} [SEP]")


@eighth("T7", CHATS)
def usual_special_tokens_off_for_the_prompt_too(r: Recipe) -> None:
    both(r, lambda row: encoded(r, row, add_special_tokens=False))


# -- T8 ------------------------------------------------------------------------------------------


@eighth("T8", CHATS)
def usual_chat_markers_never_added(r: Recipe) -> None:
    def marked(row: dict) -> dict:
        asked = f"<|im_start|>user\n{row['prompt']}<|im_end|>\n<|im_start|>assistant\n"
        return encoded(r, {**row, "prompt": asked, "completion": f"{row['completion']}<|im_end|>"})

    both(r, marked)


@eighth("T8", "bert lora")
def usual_entity_markers_never_added(r: Recipe) -> None:
    def marked(text: str) -> str:
        words = text.split()
        return " ".join(["[E1]", *words[:2], "[/E1]", *words[2:5], "[E2]", *words[5:6], "[/E2]",
                         *words[6:]])  # fmt: skip

    retold(r, marked)
