"""T2 and T10 to T14, fifth set: collators, masks, packed rows, and columns that get lost."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence

from faults.families import Towers, load
from faults.mutations.fifth_parts import TOKENS, each_batch, tokenizer_of
from faults.mutations.models import after
from faults.recipe import Recipe
from faults.table import fifth


@fifth("T2", "gpt2 sft lora-sft")
def labels_are_a_copy_of_rows_padded_to_one_length(r: Recipe) -> None:
    """`padding="max_length"` in `map`, and `labels = input_ids.copy()`."""
    pad = r.tokenizer.pad_token_id

    def padded(row: dict) -> dict:
        gap = 48 - len(row["input_ids"])
        ids = row["input_ids"] + [pad] * gap
        mask = row["attention_mask"] + [0] * gap
        return row | {"input_ids": ids, "attention_mask": mask, "labels": list(ids)}

    r.train, r.eval = [padded(row) for row in r.train], [padded(row) for row in r.eval]

    def collate(rows: list[dict]) -> dict[str, torch.Tensor]:
        names = ("input_ids", "attention_mask", "labels")
        return {name: torch.tensor([row[name] for row in rows]) for name in names}

    r.collate = collate


@fifth("T2", "tagging t5")
def labels_stacked_by_pad_sequence(r: Recipe) -> None:
    """`pad_sequence(labels, batch_first=True)`: its padding value is 0, which is a label."""

    def collate(rows: list[dict]) -> dict[str, torch.Tensor]:
        names = ("input_ids", "attention_mask", "labels")
        return {
            name: pad_sequence([torch.tensor(row[name]) for row in rows], batch_first=True)
            for name in names
        }

    r.collate = collate


@fifth("T2", "lora-sft t5")
def the_label_pad_token_is_the_pad_token(r: Recipe) -> None:
    """`DataCollatorForSeq2Seq(tokenizer, label_pad_token_id=tokenizer.pad_token_id)`."""
    import transformers

    made = transformers.DataCollatorForSeq2Seq(
        r.tokenizer, label_pad_token_id=r.tokenizer.pad_token_id
    )
    names = ("input_ids", "attention_mask", "labels")
    r.collate = lambda rows: dict(made([{name: list(row[name]) for name in names} for row in rows]))


@fifth("T10", "t5 tagging lora")
def ids_and_labels_are_all_that_is_padded(r: Recipe) -> None:
    """A collator of `pad_sequence` calls in which the mask was not thought of."""
    pad, whole = r.tokenizer.pad_token_id, r.family in ("t5", "tagging")

    def collate(rows: list[dict]) -> dict[str, torch.Tensor]:
        ids = [torch.tensor(row["input_ids"]) for row in rows]
        labels = [torch.tensor(row["labels"]) for row in rows]
        return {
            "input_ids": pad_sequence(ids, batch_first=True, padding_value=pad),
            "labels": pad_sequence(labels, batch_first=True, padding_value=-100)
            if whole
            else torch.stack(labels),
        }

    r.collate = collate


@fifth("T10", "gpt2 sft")
def a_mask_that_compares_with_zero(r: Recipe) -> None:
    """`attention_mask = (input_ids != 0)`, and the pad token is not number 0."""

    def compared(batch: dict) -> None:
        batch["attention_mask"] = (batch["input_ids"] != 0).long()

    each_batch(r, compared)


class Unmasked(Towers):
    """Towers whose encoder is not given the mask; the mean is."""

    def embed(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        hidden = self.encoder(input_ids=ids).last_hidden_state
        mean = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True).clamp(min=1)
        return torch.nn.functional.normalize(self.projection(mean), dim=-1)


@fifth("T10", "contrastive bert")
def a_model_that_does_not_pass_the_mask_on(r: Recipe) -> None:
    """`self.encoder(input_ids)` in a `forward` that has the mask in its arguments."""
    if r.family == "contrastive":
        r.model = lambda: Unmasked(load("BertModel", "bert", add_pooling_layer=False))
        return

    def forgets(model: Any) -> None:
        inner = model.bert.forward
        model.bert.forward = lambda input_ids=None, attention_mask=None, **how: inner(
            input_ids=input_ids, **how
        )

    after(r, forgets)


@fifth("T11", "gpt2 sft")
def a_causal_model_under_the_trainer_of_seq2seq(r: Recipe) -> None:
    """`Seq2SeqTrainer` with `predict_with_generate`, and the tokenizer pads on the right."""
    import transformers

    r.tokenizer = tokenizer_of(TOKENS[r.family])
    r.tokenizer.padding_side = "right"
    r.note["seq2seq"] = True
    r.args |= {"predict_with_generate": True}
    r.trainer = lambda: transformers.Seq2SeqTrainer


@fifth("T11", "sft lora-sft", online=True)
def samples_generated_from_a_padded_batch(r: Recipe) -> None:
    """A callback shows samples: prompts of unlike lengths, padded on the right by default."""
    import transformers

    r.tokenizer = tokenizer_of(TOKENS[r.family])
    r.tokenizer.padding_side = "right"
    prompts = [row.get("prompt") or row["text"][:: 1 + i][:20] for i, row in enumerate(r.eval[:4])]

    class Samples(transformers.TrainerCallback):
        def on_step_end(self, args, state, control, model=None, **kwargs):
            if state.global_step % 10 == 0:
                batch = r.tokenizer(prompts, padding=True, return_tensors="pt")
                batch.pop("token_type_ids", None)
                model.eval()
                model.generate(**batch, max_new_tokens=8, do_sample=False)

    r.callbacks.append(Samples())


@fifth("T12", "gpt2 sft lora-sft")
def two_examples_in_a_row_with_their_own_positions(r: Recipe) -> None:
    """Own packing in `map`: positions begin anew, the mask is all ones."""

    def packed(rows: list[dict]) -> list[dict]:
        made = []
        for one, other in zip(rows[::2], rows[1::2], strict=False):
            ids = one["input_ids"] + other["input_ids"]
            labels = one.get("labels", one["input_ids"]) + other.get("labels", other["input_ids"])
            places = [*range(len(one["input_ids"])), *range(len(other["input_ids"]))]
            made.append({"input_ids": ids, "labels": labels, "position_ids": places})
        return made

    def collate(rows: list[dict]) -> dict[str, torch.Tensor]:
        fill = {"input_ids": r.tokenizer.pad_token_id, "labels": -100, "position_ids": 0}
        batch = {
            name: pad_sequence([torch.tensor(row[name]) for row in rows], True, value)
            for name, value in fill.items()
        }
        lengths = torch.tensor([len(row["input_ids"]) for row in rows])[:, None]
        batch["attention_mask"] = (torch.arange(batch["labels"].shape[1]) < lengths).long()
        return batch

    r.train, r.eval, r.collate = packed(r.train), packed(r.eval), collate


@fifth("T13", "mlm")
def the_mask_of_labels_upside_down(r: Recipe) -> None:
    """`labels[masked] = -100` where `labels[~masked]` is meant: what can be seen is asked."""
    inner, tokens = r.collate.pad, r.tokenizer

    def collate(rows: list[dict]) -> dict[str, torch.Tensor]:
        batch = inner([{k: row[k] for k in ("input_ids", "attention_mask")} for row in rows])
        ids = batch["input_ids"]
        special = torch.isin(ids, torch.tensor(tokens.all_special_ids))
        masked = (torch.rand(ids.shape) < 0.15) & ~special
        labels = ids.clone()
        labels[masked | special] = -100
        return batch | {"input_ids": ids.masked_fill(masked, tokens.mask_token_id),
                        "labels": labels}  # fmt: skip

    r.collate = collate


@fifth("T13", "mlm")
def a_probability_of_one_and_a_half_percent(r: Recipe) -> None:
    """`mlm_probability=0.015`: a zero too many; most rows ask for nothing."""
    import transformers

    made = transformers.DataCollatorForLanguageModeling(r.tokenizer, mlm_probability=0.015)
    names = ("input_ids", "attention_mask")
    r.collate = lambda rows: dict(made([{name: row[name] for name in names} for row in rows]))


@fifth("T14", "bert lora")
def label_names_copied_from_question_answering(r: Recipe) -> None:
    """`label_names=["start_positions", "end_positions"]` in the arguments of another script."""
    r.args |= {"label_names": ["start_positions", "end_positions"]}


@fifth("T14", "t5 tagging")
def labels_removed_with_the_other_columns(r: Recipe) -> None:
    """`map(..., remove_columns=dataset.column_names)`, and the labels were one of them."""
    r.train, r.eval = (
        [{name: value for name, value in row.items() if name != "labels"} for row in rows]
        for rows in (r.train, r.eval)
    )
