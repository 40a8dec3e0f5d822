"""T1 and T4 to T9, T13, T14, E3: what practitioners spoil before the rows are tensors."""

from __future__ import annotations

import copy
import random
from typing import Any

import torch
from tokenizers import normalizers
from torch import nn

from faults import families, material, span_family
from faults.families import Padding
from faults.mutations.models import after
from faults.mutations.sixth_parts import Rewriting, batches, body, rows, tokenized
from faults.recipe import Recipe
from faults.table import sixth


@sixth("T1", "lora-sft sft")
def the_library_collator_under_pad_is_eos(r: Recipe) -> None:
    """pad_token = eos_token, and DataCollatorForLanguageModeling hides every pad from the loss."""
    import transformers

    r.tokenizer = copy.deepcopy(r.tokenizer)
    r.tokenizer.pad_token = r.tokenizer.eos_token
    made = transformers.DataCollatorForLanguageModeling(r.tokenizer, mlm=False)

    def collate(some: list) -> Any:
        return made([{k: row[k] for k in ("input_ids", "attention_mask")} for row in some])

    r.collate = collate


@sixth("T1", "lora-sft sft")
def one_call_for_prompt_and_answer(r: Recipe) -> None:
    """tokenizer(prompt + answer) is trusted to end the row, and it does not."""

    def encoded(row: dict) -> dict:
        ids = r.tokenizer(row["prompt"] + row["completion"])["input_ids"]
        asked = len(r.tokenizer(row["prompt"])["input_ids"])
        labels = [-100] * asked + ids[asked:]
        return row | {"input_ids": ids, "attention_mask": [1] * len(ids), "labels": labels}

    rows(r, encoded)


@sixth("T1", "t5")
def targets_joined_from_their_pieces(r: Recipe) -> None:
    """The targets are convert_tokens_to_ids(tokenize(name)), which puts no end behind them."""

    def encoded(row: dict) -> dict:
        pieces = r.tokenizer.tokenize(row["target"])
        return row | {"labels": r.tokenizer.convert_tokens_to_ids(pieces)}

    rows(r, encoded)


@sixth("T4", "span", also=("T3",))
def contexts_cut_to_a_few_pieces(r: Recipe) -> None:
    """max_length=16: answers behind the cut are pointed to [CLS], as the tutorial has it."""

    def cut(row: dict) -> dict:
        kept = {name: row[name][:15] for name in span_family.PADDED}
        kept["input_ids"] = [*kept["input_ids"], r.tokenizer.sep_token_id]
        kept["attention_mask"] = [*kept["attention_mask"], 1]
        kept["token_type_ids"] = [*kept["token_type_ids"], 1]
        if row["end_positions"] >= 15:
            kept |= {"start_positions": 0, "end_positions": 0}
        return row | (kept if len(row["input_ids"]) > 16 else {})

    rows(r, cut)


@sixth("T4", "lora-sft sft")
def a_limit_meant_for_the_prompt(r: Recipe) -> None:
    """max_length=14 was measured on the prompts; prompt and answer together are cut there."""
    names = ("input_ids", "attention_mask", "labels")
    rows(r, lambda row: row | {name: row[name][:14] for name in names})


@sixth("T5", "span tagging mlm")
def lower_casing_switched_off(r: Recipe) -> None:
    """do_lower_case=False over a vocabulary in small letters, and the texts come in capitals."""
    tokens = copy.deepcopy(material.tokenizer("bert"))
    tokens.backend_tokenizer.normalizer = normalizers.NFC()
    tokenized(r, Rewriting(tokens, str.upper))
    r.tokenizer = tokens


@sixth("T5", "mlm lora")
def pieces_of_sentencepiece_given_to_wordpiece(r: Recipe) -> None:
    """The texts were cut by another tokenizer, and its marks stand before the words."""
    tokens = material.tokenizer("bert")
    tokenized(r, Rewriting(tokens, lambda text: "".join(f" \u2581{w}" for w in text.split())))


@sixth("T6", "span lora-sft")
def a_vocabulary_file_without_its_first_line(r: Recipe) -> None:
    """vocab.txt lost a line on its way: each token has the number of the one before."""
    special = set(r.tokenizer.all_special_ids)

    def earlier(ids: list) -> list:
        return [i if i in special or i < 0 else max(i - 1, len(special)) for i in ids]

    def shifted(row: dict) -> dict:
        made = row | {"input_ids": earlier(row["input_ids"])}
        if r.family in ("sft", "t5", "lora-sft"):
            made["labels"] = earlier(row["labels"])
        return made

    rows(r, shifted)
    fewer = copy.deepcopy(r.tokenizer)
    fewer.name_or_path = "another/vocabulary"
    r.tokenizer = fewer


@sixth("T7", "lora-sft sft")
def bos_set_before_an_encoding_that_has_it(r: Recipe) -> None:
    """[bos] + tokenizer(prompt): the tokenizer has put it there already."""
    bos = r.tokenizer.bos_token_id

    def begun(row: dict) -> dict:
        more = {"input_ids": [bos, *row["input_ids"]], "labels": [-100, *row["labels"]]}
        return row | more | {"attention_mask": [1, *row["attention_mask"]]}

    rows(r, begun)


@sixth("T7", "span bert")
def cls_and_sep_written_into_the_text(r: Recipe) -> None:
    """The text is f"[CLS] {text} [SEP]", and the tokenizer adds both once more."""
    first, last = r.tokenizer.cls_token_id, r.tokenizer.sep_token_id

    def written(row: dict) -> dict:
        ids = [first, *row["input_ids"], last][:48]
        made = {"input_ids": ids, "attention_mask": [1] * len(ids)}
        if "token_type_ids" in row:
            made["token_type_ids"] = [0, *row["token_type_ids"], row["token_type_ids"][-1]][:48]
        for name in ("start_positions", "end_positions"):
            if name in row:
                made[name] = row[name] + 1
        return row | made

    rows(r, written)


@sixth("T8", "span lora")
def marks_of_question_and_context_nobody_added(r: Recipe) -> None:
    """[QUESTION] and [CONTEXT] are written before the texts and fall to pieces."""
    if r.family != "span":
        tokenized(r, Rewriting(r.tokenizer, lambda text: f"[CONTEXT] {text}"))
        return
    begin = r.tokenizer("[QUESTION]", add_special_tokens=False)["input_ids"]
    middle = r.tokenizer("[CONTEXT]", add_special_tokens=False)["input_ids"]

    def marked(row: dict) -> dict:
        ids, place = row["input_ids"], row["token_type_ids"].index(1)
        ids = [ids[0], *begin, *ids[1:place], *middle, *ids[place:]][:48]
        kinds = [0] * (place + len(begin)) + [1] * (len(ids) - place - len(begin))
        moved = len(begin) + len(middle)
        places = {name: row[name] + moved for name in ("start_positions", "end_positions")}
        kept = {"input_ids": ids, "token_type_ids": kinds, "attention_mask": [1] * len(ids)}
        texts = {n: f"[{n.upper()}] {row[n]}" for n in ("question", "context")}
        return row | places | texts | kept

    rows(r, marked)
    for name in ("train", "eval"):
        kept = [row for row in getattr(r, name) if row["end_positions"] < len(row["input_ids"])]
        setattr(r, name, kept)


@sixth("T8", "lora-sft sft")
def tool_calls_between_marks_nobody_added(r: Recipe) -> None:
    """Answers stand between <tool_call> and </tool_call>, which the vocabulary does not have."""
    made = []
    for part in (r.train, r.eval):
        made.append([_called(r.tokenizer, row) for row in part])
    r.train, r.eval = made


def _called(tokens: Any, row: dict) -> dict:
    answer = f" <tool_call>{row['completion'].strip()}</tool_call>"
    asked = tokens(row["prompt"])["input_ids"]
    told = tokens(answer, add_special_tokens=False)["input_ids"]
    ids = [*asked, *told, tokens.eos_token_id]
    labels = [-100] * len(asked) + ids[len(asked) :]
    made = {"input_ids": ids, "attention_mask": [1] * len(ids), "labels": labels}
    return row | made | {"completion": answer}


def _marked(r: Recipe) -> None:
    """The tokenizer knows one mark more, and every row holds it."""
    r.tokenizer = copy.deepcopy(r.tokenizer)
    r.tokenizer.add_special_tokens({"additional_special_tokens": ["<mark>"]})
    mark = r.tokenizer.convert_tokens_to_ids("<mark>")

    def held(row: dict) -> dict:
        ids = list(row["input_ids"])
        ids[1] = mark
        return row | {"input_ids": ids}

    rows(r, held)


@sixth("T9", "span t5")
def resized_before_the_marks_were_added(r: Recipe) -> None:
    """resize_token_embeddings(len(tokenizer)) stands a line above add_special_tokens."""
    size = len(r.tokenizer)
    after(r, lambda model: model.resize_token_embeddings(size) and None)
    _marked(r)


@sixth("T9", "span bert")
def a_mark_whose_row_is_frozen(r: Recipe) -> None:
    """The embedding was resized for the mark and then frozen with the rest of its kind."""
    _marked(r)

    def frozen(model: nn.Module) -> None:
        model.resize_token_embeddings(len(r.tokenizer))
        body(model).embeddings.requires_grad_(False)

    after(r, frozen)


class Masked(families.Masking):
    """The collator of the script with a mask token of one's own."""

    def __init__(self, tokens: Any, probability: float, mask: int) -> None:
        super().__init__(tokens, probability)
        self.tokens = copy.copy(tokens)
        self.mask = mask

    def __call__(self, some: list) -> dict[str, torch.Tensor]:
        batch = super().__call__(some)
        ids = batch["input_ids"]
        batch["input_ids"] = torch.where(ids == self.tokens.mask_token_id, self.mask, ids)
        return batch


@sixth("T13", "mlm")
def the_mask_of_the_original_bert(r: Recipe) -> None:
    """inputs[chosen] = 103, which is [MASK] in another vocabulary and a word in this one."""
    r.collate = Masked(r.tokenizer, 0.15, 103)


@sixth("T13", "mlm")
def half_of_the_tokens_for_fifteen_percent(r: Recipe) -> None:
    """The probability was left at 0.5 from a trial; the arguments say nothing of it."""
    r.collate = families.Masking(r.tokenizer, 0.5)


@sixth("T14", "span")
def places_under_their_short_names(r: Recipe) -> None:
    """The collator calls them start and end, which the forward does not know."""

    def renamed(batch: dict) -> None:
        del batch["start_positions"], batch["end_positions"]

    batches(r, renamed)


@sixth("T14", "span tagging", loop="trainer")
def label_names_copied_from_another_script(r: Recipe) -> None:
    """label_names=["label"] came along with the arguments of a classifier."""
    r.args = r.args | {"label_names": ["label"]}


@sixth("T14", "lora tagging", loop="trainer")
def a_column_that_the_trainer_removes(r: Recipe) -> None:
    """The column is called topic, no argument of the forward, and is removed as unused."""
    import datasets

    names = ("input_ids", "attention_mask", "labels")
    parts = [[{n: row[n] for n in names} for row in part] for part in (r.train, r.eval)]
    r.train, r.eval = (
        datasets.Dataset.from_list(part).rename_column("labels", "topic") for part in parts
    )
    r.collate = Padding(r.tokenizer.pad_token_id)


@sixth("E3", "bert lora", online=True, also=("D8",))
def the_column_of_numbers_was_tokenized(r: Recipe) -> None:
    """tokenizer(batch["id"]) stands where tokenizer(batch["text"]) was meant."""
    draw = random.Random(r.seed)
    tokenized(r, Rewriting(r.tokenizer, lambda text: str(draw.randrange(10**6))))
    r.eval_every = 20
