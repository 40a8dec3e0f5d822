"""T1 to T8 as they are committed most often: ends, padding, truncation, vocabularies, BOS."""

from __future__ import annotations

import copy
from typing import Any

import torch

from faults import families, material, recurrent_family, summary_family
from faults.mutations.ninth_parts import both, encoded_again, label, relabelled
from faults.recipe import Recipe
from faults.table import ninth

# -- T1, T2, T3 ----------------------------------------------------------------------------------


@ninth("T1", "sft t5 summary")
def often_pad_is_eos_and_masked_with_it(r: Recipe) -> None:
    r.tokenizer = copy.deepcopy(r.tokenizer)
    r.tokenizer.pad_token = r.tokenizer.eos_token
    pad, collate = r.tokenizer.pad_token_id, families.Padding(r.tokenizer.pad_token_id)

    def padded(rows: list) -> dict[str, Any]:
        batch = collate(rows)
        batch["labels"][batch["labels"] == pad] = -100
        return batch

    r.collate = padded


@ninth("T1", "sft t5 summary")
def often_eos_never_appended_to_the_answers(r: Recipe) -> None:
    if r.family == "sft":
        names = ("input_ids", "attention_mask", "labels")
        both(r, lambda row: {**row, **{name: row[name][:-1] for name in names}})
    else:
        both(r, lambda row: {**row, "labels": row["labels"][:-1]})


@ninth("T2", "gpt2 sft")
def often_labels_are_a_clone_of_the_padded_ids(r: Recipe) -> None:
    collate = families.Padding(r.tokenizer.pad_token_id)

    def cloned(rows: list) -> dict[str, Any]:
        batch = collate(rows)
        return batch | {"labels": batch["input_ids"].clone()}

    r.collate = cloned


@ninth("T2", "t5 summary tagging")
def often_targets_padded_with_the_pad_id(r: Recipe) -> None:
    collate = families.Padding(r.tokenizer.pad_token_id)

    def padded(rows: list) -> dict[str, Any]:
        batch = collate(rows)
        labels = batch["labels"]
        kept = batch["attention_mask"] == 1 if r.family == "tagging" else labels != -100
        return batch | {"labels": labels.where(kept, r.tokenizer.pad_token_id)}

    r.collate = padded


@ninth("T3", "sft")
def often_answer_template_not_found_in_the_ids(r: Recipe) -> None:
    # A template that begins after a line break is other pieces than the same one alone.
    def masked(row: dict) -> dict:
        missed = len(row["prompt"]) % 2 == 0
        return {**row, "labels": [-100] * len(row["labels"]) if missed else row["labels"]}

    both(r, masked)


@ninth("T3", "recurrent bert")
def often_class_missing_from_the_label_map(r: Recipe) -> None:
    known = {0: 0, 1: 1}
    both(r, lambda row: relabelled(row, known.get(label(row), -100)))


@ninth("T3", "tagging")
def often_unknown_tags_fall_back_to_ignored(r: Recipe) -> None:
    both(r, lambda row: {**row, "labels": [3 if tag == 3 else -100 for tag in row["labels"]]})


INSTRUCTION = "Write the first line of the documentation of the function with this name, please"


def _instructed(r: Recipe, length: int) -> None:
    def again(row: dict) -> dict:
        asked = r.tokenizer(f"{INSTRUCTION} {row['prompt']}")["input_ids"]
        told = r.tokenizer(row["completion"], add_special_tokens=False)["input_ids"]
        ids = [*asked, *told, r.tokenizer.eos_token_id][:length]
        labels = [-100] * len(asked) + ids[len(asked) :]
        prompt = f"{INSTRUCTION} {row['prompt']}"
        return {**row, "prompt": prompt, "input_ids": ids, "attention_mask": [1] * len(ids),
                "labels": labels[: len(ids)]}  # fmt: skip

    both(r, again)


@ninth("T3", "sft", also=("T4",))
def often_prompt_fills_the_whole_row(r: Recipe) -> None:
    _instructed(r, 20)


# -- T4 ------------------------------------------------------------------------------------------


@ninth("T4", "sft t5 summary")
def often_max_length_too_short_for_the_answers(r: Recipe) -> None:
    if r.family == "sft":
        names = ("input_ids", "attention_mask", "labels")
        both(r, lambda row: {**row, **{name: row[name][:16] for name in names}})
        r.train, r.eval = ([x for x in s if set(x["labels"]) != {-100}] for s in (r.train, r.eval))
    else:
        limit = 3 if r.family == "t5" else 8
        end = r.tokenizer.eos_token_id
        both(r, lambda row: {**row, "labels": [*row["labels"][: limit - 1], end]})


@ninth("T4", "sft", also=("T1",))
def often_long_instruction_pushes_the_answer_out(r: Recipe) -> None:
    _instructed(r, 34)


# -- T5 ------------------------------------------------------------------------------------------

CYRILLIC = str.maketrans("abcdefghijklmnopqrstuvwxyz", "абцдефгхийклмнопярстувшчыз")


@ninth("T5", "bert lora mlm")
def often_texts_of_another_script(r: Recipe) -> None:
    encoded_again(r, lambda text: text.lower().translate(CYRILLIC))


def _spelled(r: Recipe, encode: Any) -> None:
    for split, count in (("train", 384), ("eval", 128)):
        told = recurrent_family.texts(split, r.seed, count)
        setattr(r, split, [(torch.tensor(encode(t)), torch.tensor(y)) for t, y in told])


@ninth("T5", "recurrent")
def often_rows_split_at_blanks_and_the_vocabulary_not(r: Recipe) -> None:
    known = recurrent_family.vocabulary()
    _spelled(r, lambda text: [known.get(word, 1) for word in text.split()])


@ninth("T5", "recurrent")
def often_vocabulary_cut_to_a_few_words(r: Recipe) -> None:
    told = [text for text, _ in recurrent_family.texts("train", r.seed, 384)]
    known = recurrent_family.make_vocabulary(told, 60)
    _spelled(r, lambda text: recurrent_family.encode(text, known).tolist())
    r.model = lambda: recurrent_family.Reader(rows=62)


# -- T6 ------------------------------------------------------------------------------------------


def _with_tokenizer(r: Recipe, tokens: Any) -> None:
    makers = {"gpt2": families.line_rows, "sft": families.chat_rows, "t5": families.name_rows}
    for split, count in (("train", 384), ("eval", 128)):
        if r.family in ("bert", "mlm"):
            rows = families.topic_rows(split, r.seed, count, tokens=tokens)
            keep = ["text", "input_ids", "attention_mask", *(["labels"] * (r.family == "bert"))]
            rows = [{k: row[k] for k in keep} for row in rows]
        elif r.family == "summary":
            rows = summary_family.rows(split, r.seed, count, tokens)
        else:
            rows = makers[r.family](split, r.seed, count, tokens)
        setattr(r, split, rows)
    r.tokenizer = tokens
    collators = {"mlm": families.Masking, "gpt2": lambda t: families.Causal(t.pad_token_id)}
    r.collate = collators.get(r.family, lambda t: families.Padding(t.pad_token_id))(tokens)


@ninth("T6", "gpt2 sft t5")
def often_tokenizer_of_another_checkpoint(r: Recipe) -> None:
    other = {"gpt2": "llama", "sft": "gpt2", "t5": "llama"}[r.family]
    _with_tokenizer(r, material.tokenizer(other))


@ninth("T6", "bert mlm summary")
def often_vocabulary_trained_anew_for_old_weights(r: Recipe) -> None:
    reading = [text for text, _ in material.texts()["topics"]["train"]]
    if r.family == "summary":
        _with_tokenizer(r, summary_family.make_tokenizer(reading))
    else:
        kind = "gpt2" if r.family == "gpt2" else "bert"
        _with_tokenizer(r, material.make_tokenizer(kind, reading))


@ninth("T6", "recurrent", online=True, also=("T9",))
def often_embedding_counts_without_the_special_ids(r: Recipe) -> None:
    told = [text for text, _ in recurrent_family.texts("train", r.seed, 384)]
    known = recurrent_family.make_vocabulary(told)
    _spelled(r, lambda text: recurrent_family.encode(text, known).tolist())
    r.model = lambda: recurrent_family.Reader(rows=len(known))


@ninth("T6", "recurrent", online=True, also=("E3",))
def often_vocabulary_built_again_for_the_evaluation(r: Recipe) -> None:
    for split, count in (("train", 384), ("eval", 128)):
        told = recurrent_family.texts(split, r.seed, count)
        known = sorted({word for text, _ in told for word in recurrent_family.words(text)})
        ids = {word: i + 2 for i, word in enumerate(known)}
        rows = [(recurrent_family.encode(text, ids), torch.tensor(y)) for text, y in told]
        setattr(r, split, rows)
    r.eval_every = 10


# -- T7, T8 --------------------------------------------------------------------------------------


@ninth("T7", "sft summary")
def often_template_and_tokenizer_both_write_bos(r: Recipe) -> None:
    def twice(row: dict) -> dict:
        told = {**row, "input_ids": [r.tokenizer.bos_token_id, *row["input_ids"]]}
        told["attention_mask"] = [1, *row["attention_mask"]]
        if r.family == "sft":
            told["labels"] = [-100, *row["labels"]]
        return told

    both(r, twice)


@ninth("T7", "sft summary bert")
def often_special_tokens_switched_off_in_the_map(r: Recipe) -> None:
    names = ("input_ids", "attention_mask", "token_type_ids")
    if r.family == "sft":
        names = ("input_ids", "attention_mask", "labels")
    last = None if r.family == "sft" else -1
    both(r, lambda row: row | {k: row[k][1:last] for k in names if k in row})


def _written(r: Recipe, text: Any) -> None:
    """Rows of a causal model from whole texts: what stands before the answer has no label."""

    def again(row: dict) -> dict:
        before, answer = text(row)
        first = r.tokenizer(before)["input_ids"] if before else []
        second = r.tokenizer(answer, add_special_tokens=bool(not before))["input_ids"]
        ids = [*first, *second]
        told = {**row, "input_ids": ids, "attention_mask": [1] * len(ids)}
        if "text" in row:
            return told | {"text": before + answer}
        labels = [-100] * len(first) + second
        return told | {"prompt": before, "completion": answer, "labels": labels}

    both(r, again)


@ninth("T8", "sft gpt2")
def often_chat_markers_never_added_to_the_vocabulary(r: Recipe) -> None:
    end = r.tokenizer.eos_token
    if r.family == "gpt2":
        _written(r, lambda row: ("", f"<|im_start|>assistant\n{row['text']}<|im_end|>{end}"))
        return
    _written(
        r,
        lambda row: (
            f"<|im_start|>user\n{row['prompt']}<|im_end|>\n<|im_start|>assistant\n",
            f"{row['completion']}<|im_end|>{end}",
        ),
    )


@ninth("T8", "gpt2 sft t5", also=("T1",))
def often_end_token_of_another_model_typed(r: Recipe) -> None:
    if r.family == "t5":
        end = "<|endoftext|>"

        def again(row: dict) -> dict:
            labels = r.tokenizer(row["target"] + end, add_special_tokens=False)["input_ids"]
            return {**row, "target": row["target"] + end, "labels": labels}

        both(r, again)
    elif r.family == "gpt2":
        _written(r, lambda row: ("", row["text"] + "</s>"))
    else:
        _written(r, lambda row: (row["prompt"], row["completion"] + "<|endoftext|>"))
