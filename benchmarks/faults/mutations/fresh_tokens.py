"""Fresh ways to commit T1 to T14; `fresh_data` says by which rule."""

from __future__ import annotations

import copy
import json
from typing import Any

import torch

from faults import families, material
from faults.families import Causal, Padding, chat_rows, line_rows, name_rows
from faults.mutations.models import after
from faults.mutations.tokens import _chat, _with_new_tokens, then
from faults.recipe import Recipe
from faults.table import fault

CHAT = "sft lora-sft"


@fault("T1", CHAT, fresh=True)
def answers_end_in_a_newline(r: Recipe) -> None:
    newline = r.tokenizer("\n", add_special_tokens=False)["input_ids"]
    for row in [*r.train, *r.eval]:
        row["input_ids"] = [*row["input_ids"][:-1], *newline]
        row["labels"] = [*row["labels"][:-1], *newline]
        row["attention_mask"] = [1] * len(row["input_ids"])


@fault("T1", "sft lora-sft", fresh=True)
def loss_mask_ends_one_token_early(r: Recipe) -> None:
    for row in [*r.train, *r.eval]:
        row["labels"] = [*row["labels"][:-1], -100]


@fault("T1", "t5", fresh=True)
def targets_encoded_without_special_tokens(r: Recipe) -> None:
    for row in [*r.train, *r.eval]:
        row["labels"] = r.tokenizer(row["target"], add_special_tokens=False)["input_ids"][:16]


@fault("T2", "gpt2 sft mlm tagging", fresh=True)
def labels_padded_with_zero(r: Recipe) -> None:
    """As `pad_sequence` does unless it is told otherwise."""
    then(r, lambda b: {"labels": torch.where(b["attention_mask"] == 0, 0, b["labels"])})


@fault("T2", "lora-sft", fresh=True)
def every_label_kept_by_a_clamp(r: Recipe) -> None:
    then(
        r,
        lambda b: {"labels": torch.where(b["attention_mask"] == 0, b["labels"].clamp(min=0),
                                         b["labels"])},
    )  # fmt: skip


@fault("T3", CHAT, fresh=True)
def answer_marker_not_found_in_a_third(r: Recipe) -> None:
    collate = r.collate

    def masked(rows: Any) -> dict[str, torch.Tensor]:
        batch = collate(rows)
        lost = batch["input_ids"].sum(1) % 3 == 0
        return {**batch, "labels": batch["labels"].masked_fill(lost[:, None], -100)}

    r.collate = masked


@fault("T3", "gpt2", fresh=True)
def first_half_masked_by_a_count_of_tokens(r: Recipe) -> None:
    """A prompt length taken from another split: short rows have nothing left."""
    then(r, lambda b: {"labels": torch.cat([torch.full_like(b["labels"][:, :14], -100),
                                            b["labels"][:, 14:]], 1)})  # fmt: skip


@fault("T3", "tagging", fresh=True)
def rows_whose_words_were_not_mapped(r: Recipe) -> None:
    for row in r.train[::6]:
        row["labels"] = [-100] * len(row["labels"])


@fault("T4", CHAT, also=("T1", "T3"), fresh=True)
def a_preamble_pushes_the_answer_out(r: Recipe) -> None:
    preamble = r.tokenizer("You are given the name of a function of a library of Python. Write ")
    for row in [*r.train, *r.eval]:
        asked = preamble["input_ids"]
        row["prompt"] = (
            "You are given the name of a function of a library of Python. Write " + row["prompt"]
        )
        ids, labels = [*asked, *row["input_ids"][1:]], [-100] * len(asked) + row["labels"][1:]
        row.update(input_ids=ids[:32], attention_mask=[1] * len(ids[:32]), labels=labels[:32])
    r.tokenizer = copy.deepcopy(r.tokenizer)
    r.tokenizer.model_max_length = 32


WIDE = {i: i + 0xFEE0 for i in range(0x21, 0x7F)}


@fault("T5", "bert mlm lora", fresh=True)
def full_width_text_that_nobody_normalised(r: Recipe) -> None:
    for rows in (r.train, r.eval):
        for row in rows[::3]:
            row["text"] = row["text"].translate(WIDE)
            again = r.tokenizer(row["text"], truncation=True, max_length=32)
            row.update({name: again[name] for name in again if name in row})


@fault("T5", "tagging", fresh=True)
def words_of_emoji(r: Recipe) -> None:
    from faults.held_out_family import aligned, tagged_words

    for name, count in (("train", 384), ("eval", 128)):
        pairs = tagged_words(name, r.seed, count)
        rows = [([w if i % 4 else "🙂🙃" for i, w in enumerate(ws)], ts) for ws, ts in pairs]
        setattr(r, name, [aligned(r.tokenizer, *pair) for pair in rows])


def reordered(tokens: Any, by: int = 7) -> Any:
    """The same pieces under other ids: a vocabulary file of another version."""
    from tokenizers import Tokenizer

    plan = json.loads(tokens.backend_tokenizer.to_str())
    vocabulary = plan["model"]["vocab"]
    special = set(tokens.all_special_ids)
    free = sorted(i for i in vocabulary.values() if i not in special)
    moved = dict(zip(free, free[by:] + free[:by], strict=True))
    plan["model"]["vocab"] = {piece: moved.get(i, i) for piece, i in vocabulary.items()}
    other = copy.deepcopy(tokens)
    other._tokenizer = Tokenizer.from_str(json.dumps(plan))
    other.name_or_path = "another/checkout"
    return other


@fault("T6", "mlm gpt2 sft t5", also=("M1",), fresh=True)
def vocabulary_of_another_version(r: Recipe) -> None:
    r.tokenizer = tokens = reordered(r.tokenizer)
    if r.family == "mlm":
        for row in [*r.train, *r.eval]:
            row["input_ids"] = tokens(row["text"], truncation=True, max_length=32)["input_ids"]
            row["attention_mask"] = [1] * len(row["input_ids"])
        r.collate = families.Masking(tokens)
        return
    rows = {"gpt2": line_rows, "sft": chat_rows, "t5": name_rows}[r.family]
    r.train, r.eval = rows("train", r.seed, 384, tokens), rows("eval", r.seed, 128, tokens)


@fault("T6", "tagging", also=("T9",), fresh=True)
def pieces_of_a_larger_vocabulary(r: Recipe) -> None:
    from unittest import mock

    from faults.held_out_family import aligned, tagged_words

    with mock.patch.object(material, "VOCABULARY", 2600):
        r.tokenizer = material.make_tokenizer("bert", material.texts()["reading"][:4000])
    for name, count in (("train", 384), ("eval", 128)):
        pairs = tagged_words(name, r.seed, count)
        setattr(r, name, [aligned(r.tokenizer, *pair) for pair in pairs])


@fault("T7", CHAT, fresh=True)
def collator_puts_bos_before_bos(r: Recipe) -> None:
    collate, bos = r.collate, r.tokenizer.bos_token_id
    before = {"input_ids": bos, "attention_mask": 1, "labels": -100}

    def more(rows: Any) -> dict[str, torch.Tensor]:
        return {
            name: torch.cat([torch.full_like(found[:, :1], before[name]), found], 1)
            for name, found in collate(rows).items()
        }

    r.collate = more


@fault("T7", "sft", fresh=True)
def rows_encoded_without_special_tokens(r: Recipe) -> None:
    for row in [*r.train, *r.eval]:
        asked = r.tokenizer(row["prompt"], add_special_tokens=False)["input_ids"]
        answer = [y for y in row["labels"] if y != -100]
        row.update(input_ids=asked + answer, labels=[-100] * len(asked) + answer)
        row["attention_mask"] = [1] * len(row["input_ids"])


@fault("T8", CHAT, fresh=True)
def turns_that_the_vocabulary_does_not_know(r: Recipe) -> None:
    _chat(r, "<start_of_turn>user\n{}<end_of_turn>\n<start_of_turn>model\n")


@fault("T9", "bert gpt2 sft mlm t5 tagging", fresh=True)
def a_hook_that_spares_the_new_rows(r: Recipe) -> None:
    new = _with_new_tokens(r)

    def prepare(model: Any) -> None:
        model.resize_token_embeddings(len(r.tokenizer), mean_resizing=False)
        keep = torch.ones(model.get_input_embeddings().weight.shape[0], 1)
        keep[new] = 0.0
        held = {
            id(m.weight): m.weight
            for m in (model.get_input_embeddings(), model.get_output_embeddings())
            if m is not None
        }
        for weight in held.values():
            weight.register_hook(lambda gradient: gradient * keep)  # fmt: skip

    after(r, prepare)


@fault("T9", "tagging", also=("T6",), fresh=True)
def tagger_given_markers_it_has_no_rows_for(r: Recipe) -> None:
    _with_new_tokens(r)


@fault("T10", "bert mlm t5 lora tagging", fresh=True)
def mask_of_the_other_padding_side(r: Recipe) -> None:
    then(r, lambda batch: {"attention_mask": batch["attention_mask"].flip(1)})


@fault("T10", "tagging", fresh=True)
def tagger_without_a_mask(r: Recipe) -> None:
    collate = r.collate
    r.collate = lambda rows: {k: v for k, v in collate(rows).items() if k != "attention_mask"}


@fault("T11", CHAT, fresh=True)
def collator_pads_on_the_right_before_generating(r: Recipe) -> None:
    r.tokenizer = copy.deepcopy(r.tokenizer)
    r.tokenizer.padding_side, r.note["seq2seq"] = "left", True
    r.args["predict_with_generate"] = True


@fault("T12", "gpt2 sft", fresh=True)
def documents_numbered_in_a_mask_that_is_read_as_ones(r: Recipe) -> None:
    """Rows 1, 1, 2, 2 for documents one and two: the attention only asks whether it is zero."""

    def pack(rows: Any) -> dict[str, torch.Tensor]:
        found: dict[str, list] = {"input_ids": [], "attention_mask": [], "position_ids": []}
        for three in (rows[i : i + 3] for i in range(0, len(rows) - 2, 3)):
            parts = [row["input_ids"][:14] for row in three]
            ids, number = sum(parts, []), sum(([k + 1] * len(p) for k, p in enumerate(parts)), [])
            gap = 42 - len(ids)
            found["input_ids"].append(ids + [r.tokenizer.eos_token_id] * gap)
            found["attention_mask"].append(number + [len(parts)] * gap)
            places = sum((list(range(len(p))) for p in parts), [])
            found["position_ids"].append(places + list(range(len(parts[-1]), len(parts[-1]) + gap)))
        batch = {name: torch.tensor(rows) for name, rows in found.items()}
        return batch | {"labels": batch["input_ids"].clone()}

    r.collate = pack


@fault("T13", "mlm", fresh=True)
def a_percentage_taken_for_a_share(r: Recipe) -> None:
    r.collate.probability = 0.015


@fault("T13", "mlm", fresh=True)
def every_real_token_is_a_label(r: Recipe) -> None:
    collate = r.collate

    def whole(rows: Any) -> dict[str, torch.Tensor]:
        batch = collate(rows)
        kept = Causal(r.tokenizer.pad_token_id)(rows)
        return {**batch, "labels": kept["labels"]}

    r.collate = whole


@fault("T13", "mlm", fresh=True)
def mask_token_of_an_added_word(r: Recipe) -> None:
    """The collator masks by an ordinary id, as with a `mask_token` that was set by hand."""
    mask = r.tokenizer.mask_token_id
    then(r, lambda b: {"input_ids": b["input_ids"].masked_fill(b["input_ids"] == mask, 100)})


@fault("T14", "bert gpt2 tagging", loop="trainer", fresh=True)
def label_names_of_another_task(r: Recipe) -> None:
    r.args["label_names"] = ["start_positions", "end_positions"]


@fault("T14", "tagging mlm", fresh=True)
def collator_of_a_plain_padding(r: Recipe) -> None:
    pad = Padding(r.tokenizer.pad_token_id)
    r.collate = lambda rows: pad(
        [{k: row[k] for k in ("input_ids", "attention_mask")} for row in rows]
    )
