"""The fourth set, continued: T7 to T14; `fourth_data` says by which rule."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
import transformers
from torch import nn

from faults.families import adapted
from faults.mutations.fourth_tokens import CHAT, asked_and_told
from faults.mutations.models import after
from faults.mutations.tokens import _chat, _with_new_tokens, then
from faults.recipe import Recipe
from faults.table import fourth

MIN = torch.finfo(torch.float32).min


# -- T7, T8, T9 ----------------------------------------------------------------------------------


@fourth("T7", CHAT)
def decoded_with_its_marks_and_encoded_again(r: Recipe) -> None:
    for row in [*r.train, *r.eval]:
        ids = r.tokenizer(r.tokenizer.decode(row["input_ids"]))["input_ids"]
        told = [y for y in row["labels"] if y != -100]
        asked_and_told(row, told, ids[: len(ids) - len(told)])


@fourth("T7", "sft")
def the_end_token_in_the_place_of_the_first(r: Recipe) -> None:
    for row in [*r.train, *r.eval]:
        row["input_ids"] = [r.tokenizer.eos_token_id, *row["input_ids"][1:]]


@fourth("T8", "t5")
def sentinels_that_are_ordinary_text(r: Recipe) -> None:
    """Those of the paper, and a tokenizer that was trained without them."""
    for row in [*r.train, *r.eval]:
        words = row["source"].split()
        words[len(words) // 2] = "<extra_id_0>"
        row["source"], row["target"] = " ".join(words), f"<extra_id_0> {row['target']}"
        ids = r.tokenizer(row["source"], truncation=True, max_length=40)["input_ids"]
        row.update(input_ids=ids, attention_mask=[1] * len(ids))
        row["labels"] = r.tokenizer(row["target"], truncation=True, max_length=28)["input_ids"]


@fourth("T8", CHAT)
def thoughts_between_marks_that_are_ordinary_text(r: Recipe) -> None:
    _chat(r, "<|begin_of_task|>{}<|end_of_task|><|begin_of_answer|>")


@fourth("T9", "bert sft tagging")
def the_newest_token_is_the_padding_index(r: Recipe) -> None:
    """`padding_idx=-1` means the last row, and the last row is the new one."""
    r.tokenizer = copy.deepcopy(r.tokenizer)
    r.tokenizer.add_tokens(["<ref>"])
    new = len(r.tokenizer) - 1
    for row in [*r.train, *r.eval]:
        row["input_ids"] = [*row["input_ids"][:1], new, *row["input_ids"][2:]]

    def prepare(model: nn.Module) -> None:
        model.resize_token_embeddings(len(r.tokenizer), mean_resizing=False)
        model.get_input_embeddings().padding_idx = new

    after(r, prepare)


@fourth("T9", "lora-sft")
def the_head_is_saved_and_the_embedding_forgotten(r: Recipe) -> None:
    _with_new_tokens(r)

    def prepare(model: nn.Module) -> nn.Module:
        model.resize_token_embeddings(len(r.tokenizer), mean_resizing=False)
        return adapted(model, "CAUSAL_LM", modules_to_save=["lm_head"])

    r.prepare = prepare


# -- T10, T11, T12 -------------------------------------------------------------------------------


@fourth("T10", "bert mlm tagging lora")
def masked_by_the_padding_id_of_another_family(r: Recipe) -> None:
    """Padding is 1 there and 0 here."""
    then(r, lambda batch: {"attention_mask": (batch["input_ids"] != 1).long()})


@fourth("T10", "t5")
def sources_masked_by_the_lengths_of_their_targets(r: Recipe) -> None:
    def change(batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        lengths = (batch["labels"] != -100).sum(1, keepdim=True)
        return {"attention_mask": (torch.arange(batch["input_ids"].shape[1]) < lengths).long()}

    then(r, change)


@fourth("T10", "contrastive")
def pooled_over_the_padding_of_a_pair(r: Recipe) -> None:
    then(r, lambda batch: {"pair_mask": torch.ones_like(batch["pair_mask"])})


@fourth("T11", "gpt2 lora-sft")
def beams_from_beginnings_padded_on_the_right(r: Recipe) -> None:
    r.tokenizer = copy.deepcopy(r.tokenizer)
    r.tokenizer.padding_side, r.note["seq2seq"] = "right", True
    r.args |= {"predict_with_generate": True, "generation_num_beams": 2}


@fourth("T12", "gpt2 sft")
def documents_numbered_by_turns(r: Recipe) -> None:
    """0, 1, 0, 1 as for two sentences: the third document looks back at the first."""

    def pack(rows: Any) -> dict[str, torch.Tensor]:
        found: dict[str, list] = {"input_ids": [], "position_ids": [], "turns": []}
        for three in (rows[i : i + 3] for i in range(0, len(rows) - 2, 3)):
            parts = [row["input_ids"][:14] for row in three]
            parts[-1] = parts[-1] + [r.tokenizer.eos_token_id] * (42 - sum(map(len, parts)))
            found["input_ids"].append(sum(parts, []))
            found["position_ids"].append(sum((list(range(len(p))) for p in parts), []))
            found["turns"].append(sum(([k % 2] * len(p) for k, p in enumerate(parts)), []))
        batch = {name: torch.tensor(rows) for name, rows in found.items()}
        turns = batch.pop("turns")
        seen = (turns[:, :, None] == turns[:, None]).tril()
        batch["attention_mask"] = torch.where(seen, 0.0, MIN)[:, None]
        return batch | {"labels": batch["input_ids"].clone()}

    r.collate = pack


# -- T13, T14 ------------------------------------------------------------------------------------


@fourth("T13", "mlm")
def only_the_first_word_is_ever_masked(r: Recipe) -> None:
    def change(batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        whole = torch.where(batch["labels"] == -100, batch["input_ids"], batch["labels"])
        labels, inputs = torch.full_like(whole, -100), whole.clone()
        labels[:, 1], inputs[:, 1] = whole[:, 1], r.tokenizer.mask_token_id
        return {"labels": labels, "input_ids": inputs}

    then(r, change)


@fourth("T13", "mlm")
def labels_on_what_is_visible(r: Recipe) -> None:
    """The choice is inverted: what was hidden is ignored, all that stands there is asked for."""
    special = torch.tensor(r.tokenizer.all_special_ids)

    def change(batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        seen = (batch["labels"] == -100) & ~torch.isin(batch["input_ids"], special)
        return {"labels": torch.where(seen, batch["input_ids"], -100)}

    then(r, change)


@fourth("T14", "bert gpt2 tagging", loop="trainer")
def a_model_without_its_head(r: Recipe) -> None:
    """`AutoModel` knows no labels, so the trainer takes them out of the rows."""
    name = type(r.model()).config_class
    backbone = transformers.AutoModel._model_mapping[name]
    place = r.model().name_or_path
    r.model, r.metrics = lambda: backbone.from_pretrained(place), None


@fourth("T14", "t5 lora tagging")
def a_format_that_hides_the_labels(r: Recipe) -> None:
    """`with_format(columns=…)` names what the model reads, and forgets what it is asked."""
    import datasets

    names = [k for k in ("input_ids", "attention_mask", "token_type_ids") if k in r.train[0]]
    r.train, r.eval = (
        datasets.Dataset.from_list(rows).with_format(None, columns=names)
        for rows in (r.train, r.eval)
    )
