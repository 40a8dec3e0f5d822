"""T9 to T14 as they are committed most often: new tokens, masks, sides, packing, label columns."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from faults import families, recurrent_family
from faults.mutations.ninth_parts import both, ids_changed
from faults.recipe import Recipe
from faults.table import ninth

MASKS = ("input_ids", "attention_mask", "token_type_ids", "labels")

# -- T9 ------------------------------------------------------------------------------------------


def _with_new_tokens(r: Recipe) -> None:
    """Two tokens of this task in every row, behind the first place."""
    r.tokenizer = copy.deepcopy(r.tokenizer)
    r.tokenizer.add_tokens(["<task>", "<input>"])
    new = r.tokenizer.convert_tokens_to_ids(["<task>", "<input>"])

    def marked(row: dict) -> dict:
        told = ids_changed(row, lambda ids: [ids[0], *new, *ids[1:]])
        if isinstance(row.get("labels"), list):
            told["labels"] = [row["labels"][0], -100, -100, *row["labels"][1:]]
        return told

    both(r, marked)


@ninth("T9", "sft bert", online=True)
def often_tokens_added_and_the_model_not_resized(r: Recipe) -> None:
    _with_new_tokens(r)


@ninth("T9", "lora sft")
def often_rows_of_new_tokens_frozen_with_the_base(r: Recipe) -> None:
    _with_new_tokens(r)
    size, before = len(r.tokenizer), r.prepare

    def prepare(model: nn.Module) -> nn.Module:
        model.resize_token_embeddings(size)
        if r.family == "bert":
            model.bert.embeddings.requires_grad_(False)
        return families.adapted(model, "CAUSAL_LM") if r.family == "sft" else before(model)

    r.prepare = prepare


# -- T10 -----------------------------------------------------------------------------------------


def _of_unequal_lengths(r: Recipe) -> None:
    """Docstrings are long; titles are not."""

    def cut(row: dict) -> dict:
        wide = 6 + len(str(row["input_ids"])) % 20
        return row | {k: row[k][:wide] for k in MASKS if isinstance(row.get(k), list)}

    both(r, cut)


@ninth("T10", "bert tagging")
def often_attention_mask_left_out_of_the_batch(r: Recipe) -> None:
    _of_unequal_lengths(r)
    collate = families.Padding(r.tokenizer.pad_token_id)

    def without(rows: list) -> dict[str, torch.Tensor]:
        batch = collate(rows)
        return {"input_ids": batch["input_ids"], "labels": batch["labels"]}

    r.collate = without


@ninth("T10", "mlm span")
def often_attention_mask_of_ones_for_the_padded_batch(r: Recipe) -> None:
    collate = r.collate

    def ones(rows: list) -> dict[str, torch.Tensor]:
        batch = collate(rows)
        return batch | {"attention_mask": torch.ones_like(batch["input_ids"])}

    if r.family == "mlm":
        _of_unequal_lengths(r)
    r.collate = ones


class LastState(recurrent_family.Reader):
    """Reads the state at the end of the row."""

    def pooled(self, x: torch.Tensor) -> torch.Tensor:
        return self.states(x)[:, -1]


@ninth("T10", "recurrent")
def often_last_state_read_at_the_padding(r: Recipe) -> None:
    r.model = LastState


class MeanOfAll(recurrent_family.Reader):
    """The mean over the width of the batch."""

    def pooled(self, x: torch.Tensor) -> torch.Tensor:
        return self.states(x).mean(1)


class TowersOfAll(families.Towers):
    """The mean over the width of the batch."""

    def embed(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        hidden = self.encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        return nn.functional.normalize(self.projection(hidden.mean(1)), dim=-1)


@ninth("T10", "recurrent contrastive")
def often_mean_over_words_and_padding(r: Recipe) -> None:
    if r.family == "recurrent":
        r.model = MeanOfAll
    else:
        r.model = lambda: TowersOfAll(families.load("BertModel", "bert", add_pooling_layer=False))


# -- T11 -----------------------------------------------------------------------------------------


@ninth("T11", "sft gpt2", loop="trainer", online=True)
def often_generation_at_evaluation_with_right_padding(r: Recipe) -> None:
    import transformers

    r.trainer, r.note = (lambda: transformers.Seq2SeqTrainer), {"seq2seq": True}
    r.args = {"predict_with_generate": True, "generation_max_length": 60}
    r.eval, r.eval_every = list(r.eval)[:32], 20


@ninth("T11", "sft gpt2", loop="plain", online=True)
def often_samples_printed_from_right_padded_prompts(r: Recipe) -> None:
    prompts, count = [row.get("prompt") or row["text"][:9] for row in r.eval[:6]], iter(range(999))
    r.tokenizer = copy.deepcopy(r.tokenizer)
    r.tokenizer.padding_side = "right"

    def sample(model: nn.Module, optimizer: Any) -> None:
        if next(count) % 15 == 0:
            asked = r.tokenizer(prompts, padding=True, return_tensors="pt")
            asked.pop("token_type_ids", None)
            model.generate(**asked, max_new_tokens=8, do_sample=False)

    r.line.after = sample


# -- T12 -----------------------------------------------------------------------------------------


def _packed(r: Recipe, length: int = 64) -> None:
    """Whole rows in one, each with its number and its own positions."""
    for split in ("train", "eval"):
        packs, now = [], {"ids": [], "labels": [], "positions": [], "numbers": []}
        for row in getattr(r, split):
            ids = row["input_ids"]
            if len(now["ids"]) + len(ids) > length:
                packs.append(now)
                now = {name: [] for name in now}
            now["numbers"] += [1 + max(now["numbers"], default=0)] * len(ids)
            now["ids"] += ids
            now["labels"] += [-100, *row.get("labels", ids)[1:]]
            now["positions"] += range(len(ids))
        setattr(r, split, packs)


class Packs:
    """A collator of packs; `mask` says what is attended to."""

    def __init__(self, pad: int, numbered: bool) -> None:
        self.pad, self.numbered = pad, numbered

    def __call__(self, rows: list[dict]) -> dict[str, torch.Tensor]:
        width = max(len(row["ids"]) for row in rows)

        def whole(name: str, fill: int) -> torch.Tensor:
            return torch.tensor([row[name] + [fill] * (width - len(row["ids"])) for row in rows])

        numbers = whole("numbers", 0)
        return {
            "input_ids": whole("ids", self.pad),
            "labels": whole("labels", -100),
            "position_ids": whole("positions", 0),
            "attention_mask": numbers if self.numbered else (numbers > 0).long(),
        }


@ninth("T12", "sft gpt2")
def often_packed_with_positions_under_a_mask_of_ones(r: Recipe) -> None:
    _packed(r)
    r.collate, r.batch, r.args = Packs(r.tokenizer.pad_token_id, False), 8, KEPT


@ninth("T12", "sft gpt2")
def often_packed_with_numbers_that_the_model_takes_for_ones(r: Recipe) -> None:
    _packed(r)
    r.collate, r.batch, r.args = Packs(r.tokenizer.pad_token_id, True), 8, KEPT


KEPT = {"remove_unused_columns": False}

# -- T13 -----------------------------------------------------------------------------------------


def _masked_labels(r: Recipe, change: Any) -> None:
    collate = r.collate

    def masked(rows: list) -> dict[str, torch.Tensor]:
        whole = collate.pad([{k: row[k] for k in MASKS[:2]} for row in rows])
        return change(whole["input_ids"], collate(rows))

    r.collate = masked


@ninth("T13", "mlm")
def often_labels_ignored_where_a_token_is_masked(r: Recipe) -> None:
    _masked_labels(
        r, lambda ids, batch: batch | {"labels": ids.masked_fill(batch["labels"] != -100, -100)}
    )


@ninth("T13", "mlm")
def often_special_tokens_and_padding_masked_like_words(r: Recipe) -> None:
    def change(ids: torch.Tensor, batch: dict) -> dict:
        chosen = torch.rand(ids.shape) < 0.15
        return {
            "input_ids": ids.masked_fill(chosen, r.tokenizer.mask_token_id),
            "labels": ids.masked_fill(~chosen, -100),
            "attention_mask": batch["attention_mask"],
        }

    _masked_labels(r, change)


@ninth("T13", "mlm")
def often_causal_collator_for_a_masked_model(r: Recipe) -> None:
    import transformers

    both(r, lambda row: {k: row[k] for k in MASKS[:2]})
    r.collate = transformers.DataCollatorForLanguageModeling(r.tokenizer, mlm=False)


@ninth("T13", "mlm")
def often_inputs_cloned_after_the_labels_and_never_masked(r: Recipe) -> None:
    _masked_labels(r, lambda ids, batch: batch | {"input_ids": ids})


# -- T14 -----------------------------------------------------------------------------------------


@ninth("T14", "lora tagging", online=True)
def often_label_column_keeps_the_name_of_the_file(r: Recipe) -> None:
    def renamed(row: dict) -> dict:
        return {k: v for k, v in row.items() if k != "labels"} | {"category": row["labels"]}

    r.collate = families.Padding(r.tokenizer.pad_token_id)
    both(r, renamed)


@ninth("T14", "bert t5 span", online=True)
def often_collator_returns_inputs_only(r: Recipe) -> None:
    collate = r.collate
    kept = MASKS[:3]
    r.collate = lambda rows: {k: v for k, v in collate(rows).items() if k in kept}


@ninth("T14", "bert", loop="trainer")
def often_label_names_of_another_script(r: Recipe) -> None:
    r.args, r.eval_every = {"label_names": ["target"]}, 20
