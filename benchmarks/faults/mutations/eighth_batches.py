"""T9 to T14 as they are mostly committed: new tokens, masks, packing, masking, label columns."""

from __future__ import annotations

import copy
from typing import Any

import torch
import transformers
from torch import nn

from faults.families import Padding
from faults.mutations.eighth_parts import both, encoded, of_varied_length
from faults.recipe import Recipe
from faults.table import eighth

CHATS = "sft lora-sft"
MARKERS = ["<name>", "</name>"]

# -- T9 ------------------------------------------------------------------------------------------


def _marked(r: Recipe) -> None:
    """Texts with two new tokens, encoded by a tokenizer that has them."""
    r.tokenizer = copy.deepcopy(r.tokenizer)
    r.tokenizer.add_tokens(MARKERS)
    name = "prompt" if "sft" in r.family else "text"

    def marked(row: dict) -> dict:
        first, _, rest = row[name].partition(" ")
        return encoded(r, {**row, name: f"{MARKERS[0]} {first} {MARKERS[1]} {rest}"})

    both(r, marked)
    if r.family == "mlm":
        r.collate = type(r.collate)(r.tokenizer)


def _resized(r: Recipe) -> None:
    made = r.model

    def model() -> nn.Module:
        grown = made()
        grown.resize_token_embeddings(len(r.tokenizer))
        return grown

    r.model = model


@eighth("T9", "bert gpt2 sft")
def usual_tokens_added_and_the_model_not_resized(r: Recipe) -> None:
    _marked(r)


@eighth("T9", "lora lora-sft")
def usual_tokens_added_under_adapters_of_attention_only(r: Recipe) -> None:
    _marked(r)
    _resized(r)


# -- T10, T11 ------------------------------------------------------------------------------------


def _collated(r: Recipe, change: Any) -> None:
    """Batches changed after they were made."""
    before = r.collate
    r.collate = lambda rows: change(before(rows))


@eighth("T10", "tagging span t5")
def usual_collator_returns_no_mask(r: Recipe) -> None:
    if r.family in ("bert", "tagging"):
        of_varied_length(r)
    _collated(r, lambda batch: {k: v for k, v in dict(batch).items() if k != "attention_mask"})


@eighth("T10", "bert contrastive span")
def usual_mask_of_ones_for_every_token(r: Recipe) -> None:
    if r.family == "bert":
        of_varied_length(r)
    _collated(
        r, lambda batch: {k: torch.ones_like(v) if k.endswith("mask") else v
                          for k, v in batch.items()}
    )  # fmt: skip


class Samples(transformers.TrainerCallback):
    """Writes what the model says now, as many scripts do at each evaluation."""

    def __init__(self, tokens: Any, prompts: list[str]) -> None:
        self.tokens, self.prompts = tokens, prompts

    def on_evaluate(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        batch = self.tokens(self.prompts, padding=True, return_tensors="pt")
        with torch.no_grad():
            model.generate(
                batch["input_ids"], attention_mask=batch["attention_mask"], max_new_tokens=8
            )


@eighth("T11", "gpt2 sft", online=True)
def usual_samples_generated_from_right_padded_prompts(r: Recipe) -> None:
    name = "text" if r.family == "gpt2" else "prompt"
    r.tokenizer = copy.deepcopy(r.tokenizer)
    r.tokenizer.padding_side = "right"
    prompts = [" ".join(row[name].split()[: 1 + i % 3]) for i, row in enumerate(r.eval[:8])]
    r.eval_every = 20
    r.callbacks = [Samples(r.tokenizer, prompts)]


@eighth("T11", "gpt2 lora-sft")
def usual_predict_with_generate_of_a_decoder_padded_right(r: Recipe) -> None:
    r.tokenizer = copy.deepcopy(r.tokenizer)
    r.tokenizer.padding_side = "right"
    r.note["seq2seq"], r.eval_every = True, 20
    r.args = {**r.args, "predict_with_generate": True, "generation_max_length": 64}
    r.trainer = lambda: transformers.Seq2SeqTrainer


# -- T12 -----------------------------------------------------------------------------------------


def _packed(r: Recipe, mask_of: Any, size: int = 64) -> None:
    """Rows of several samples each; positions begin anew at each sample."""

    def pack(rows: list) -> list:
        whole, row = [], {"input_ids": [], "labels": [], "position_ids": [], "segments": []}
        for each in rows:
            ids = each["input_ids"]
            if len(row["input_ids"]) + len(ids) > size:
                whole.append(row)
                row = {name: [] for name in row}
            count = row["segments"][-1] + 1 if row["segments"] else 1
            row = {
                "input_ids": [*row["input_ids"], *ids],
                "labels": [*row["labels"], *each.get("labels", ids)],
                "position_ids": [*row["position_ids"], *range(len(ids))],
                "segments": [*row["segments"], *[count] * len(ids)],
            }
        return [*whole, row]

    def collate(rows: list) -> dict[str, torch.Tensor]:
        width, fills = max(len(row["input_ids"]) for row in rows), {"labels": -100}
        fills["input_ids"] = r.tokenizer.pad_token_id
        batch = {
            name: torch.tensor([[*row[name], *[fills.get(name, 0)] * (width - len(row[name]))]
                                for row in rows]) for name in rows[0]
        }  # fmt: skip
        return {**batch, "attention_mask": mask_of(batch.pop("segments"))}

    r.train, r.eval, r.collate = pack(r.train), pack(r.eval), collate
    r.args = {**r.args, "remove_unused_columns": False}


@eighth("T12", "sft lora-sft")
def usual_packed_positions_under_a_plain_padding_mask(r: Recipe) -> None:
    _packed(r, lambda segments: (segments > 0).long())


@eighth("T12", "sft gpt2")
def usual_numbered_segments_for_a_model_that_was_not_patched(r: Recipe) -> None:
    _packed(r, lambda segments: segments)


# -- T13, T14 ------------------------------------------------------------------------------------


def _masking(r: Recipe, finish: Any, among_all: bool = False) -> None:
    """A collator of masked tokens; `finish` says what becomes of ids, labels, chosen places."""
    tokens, special = r.tokenizer, torch.tensor(r.tokenizer.all_special_ids)
    pad = Padding(tokens.pad_token_id)

    def collate(rows: list) -> dict[str, torch.Tensor]:
        batch = pad([{k: row[k] for k in ("input_ids", "attention_mask")} for row in rows])
        ids = batch["input_ids"]
        chosen = torch.rand(ids.shape) < 0.15
        if not among_all:
            chosen &= ~torch.isin(ids, special)
        return {**batch, **finish(ids, chosen, tokens.mask_token_id)}

    r.collate = collate


@eighth("T13", "mlm")
def usual_special_tokens_masked_too(r: Recipe) -> None:
    of_varied_length(r)
    _masking(
        r, lambda ids, chosen, mask: {"input_ids": ids.masked_fill(chosen, mask),
                                      "labels": ids.masked_fill(~chosen, -100)}, among_all=True
    )  # fmt: skip


@eighth("T13", "mlm")
def usual_labels_kept_for_the_tokens_not_masked(r: Recipe) -> None:
    _masking(
        r, lambda ids, chosen, mask: {"input_ids": ids.masked_fill(chosen, mask),
                                      "labels": ids.clone()}
    )  # fmt: skip


@eighth("T14", "bert lora tagging")
def usual_label_column_under_another_name(r: Recipe) -> None:
    name = "ner_tags" if r.family == "tagging" else "target"
    both(r, lambda row: {name if key == "labels" else key: row[key] for key in row})


@eighth("T14", "tagging span t5")
def usual_label_names_that_no_batch_holds(r: Recipe) -> None:
    r.eval_every = 20
    name = "labels" if r.family == "span" else "label"
    r.args = {**r.args, "label_names": [name]}
