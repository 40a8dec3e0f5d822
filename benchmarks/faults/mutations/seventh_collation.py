"""T6 to T14: another tokenizer, markers, new tokens, masks, and labels that get lost."""

from __future__ import annotations

import copy
import functools
from typing import Any

import torch
from torch import nn

from faults import material
from faults.families import Padding
from faults.mutations.models import after
from faults.mutations.seventh_as_before import with_metric
from faults.mutations.seventh_rows import reencoded
from faults.mutations.seventh_tokens import both
from faults.mutations.tokens import then
from faults.recipe import Recipe
from faults.summary_family import make_tokenizer
from faults.table import seventh


def read_by(r: Recipe, tokens: Any) -> None:
    """The script with another tokenizer, for its rows and for its collator."""
    import transformers

    r.tokenizer, r.collate = tokens, transformers.DataCollatorForSeq2Seq(tokens)
    reencoded(r, lambda source, target: (source, target))


# -- T6 ------------------------------------------------------------------------------------------


@functools.cache
def _other(size: int) -> Any:
    reading = [text[::-1] for text in material.texts()["reading"][:4000]]
    tokens = make_tokenizer(reading, size)
    tokens.name_or_path = "another/tokenizer"
    return tokens


@seventh("T6", "summary", also=("M1",))
def writer_tokenizer_of_another_model(r: Recipe) -> None:
    read_by(r, _other(material.VOCABULARY))


@seventh("T6", "summary", also=("T9",))
def writer_ids_beyond_the_embedding(r: Recipe) -> None:
    read_by(r, _other(3000))


@seventh("T6", "summary", also=("M1",))
def writer_read_by_the_tokenizer_of_t5(r: Recipe) -> None:  # own form
    """Of the same kind and size; but its padding is 0 and its end is 1."""
    read_by(r, material.tokenizer("t5"))


# -- T7, T8 --------------------------------------------------------------------------------------


@seventh("T7", "summary")
def writer_template_and_tokenizer_both_add_bos(r: Recipe) -> None:
    for row in [*r.train, *r.eval]:
        row["input_ids"] = [r.tokenizer.bos_token_id, *row["input_ids"]]
        row["attention_mask"] = [1, *row["attention_mask"]]


@seventh("T7", "summary")
def writer_bos_left_out(r: Recipe) -> None:
    for row in [*r.train, *r.eval]:
        row["input_ids"], row["attention_mask"] = row["input_ids"][1:], row["attention_mask"][1:]


@seventh("T7", "summary")
def writer_bos_in_the_text_as_well(r: Recipe) -> None:
    reencoded(r, lambda source, target: (f"<s>{source}", target))


@seventh("T7", "summary")
def writer_bos_before_the_targets_as_well(r: Recipe) -> None:  # own form
    both(r, lambda labels: [r.tokenizer.bos_token_id, *labels])


@seventh("T7", "summary")
def writer_decoder_starts_with_bos(r: Recipe) -> None:  # own form
    """The target begins with <s>, so that the decoder reads it twice."""

    def prepare(model: nn.Module) -> None:
        model.config.decoder_start_token_id = model.config.bos_token_id
        model.generation_config.decoder_start_token_id = model.config.bos_token_id

    after(r, prepare)


@seventh("T8", "summary")
def writer_chat_markers_are_ordinary_text(r: Recipe) -> None:
    start, end = "<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n"
    reencoded(r, lambda source, target: (f"{start}{source}{end}", target))


@seventh("T8", "summary")
def writer_header_markers_are_ordinary_text(r: Recipe) -> None:
    reencoded(r, lambda source, target: (f"<|user|>{source}<|assistant|>", target))


@seventh("T8", "summary")
def writer_separators_of_bert(r: Recipe) -> None:  # own form
    def marked(source: str, target: str) -> tuple[str, str]:
        name, _, words = source.partition(": ")
        return f"[CLS] {name} [SEP] {words} [SEP]", target

    reencoded(r, marked)


@seventh("T8", "summary")
def writer_masks_of_t5(r: Recipe) -> None:  # own form
    """T5's sentinels, where BART has one <mask>."""
    reencoded(r, lambda source, target: (f"<extra_id_0> {source} <extra_id_1>", target))


# -- T9, T10 -------------------------------------------------------------------------------------


@seventh("T9", "summary", also=("T6",))
def writer_control_tokens_of_the_target_not_resized(r: Recipe) -> None:  # own form
    """The targets begin with a token of their kind, which neither embedding nor head has."""
    r.tokenizer = copy.deepcopy(r.tokenizer)
    r.tokenizer.add_tokens(["<short>"], special_tokens=True)
    new = r.tokenizer.convert_tokens_to_ids("<short>")
    both(r, lambda labels: [labels[0], new, *labels[1:]])


@seventh("T10", "summary")
def writer_padded_on_the_left_under_a_mask_of_ones(r: Recipe) -> None:
    _left(r)
    then(r, lambda batch: {"attention_mask": torch.ones_like(batch["attention_mask"])})


@seventh("T10", "summary")
def writer_padded_on_the_left_with_learned_positions(r: Recipe) -> None:  # own form
    """BART counts positions from the first column, and its collator pads the targets too."""
    _left(r)


def _left(r: Recipe) -> None:
    r.tokenizer = copy.deepcopy(r.tokenizer)
    r.tokenizer.padding_side = "left"
    r.collate.tokenizer = r.tokenizer


@seventh("T10", "summary")
def writer_decoder_reads_the_padding_of_the_notes(r: Recipe) -> None:  # own form
    """The encoder is given its mask; the decoder is handed the states without one."""

    def prepare(model: nn.Module) -> None:
        inner = model.forward

        def forward(input_ids: Any = None, attention_mask: Any = None, **rest: Any) -> Any:
            states = model.get_encoder()(input_ids=input_ids, attention_mask=attention_mask)
            return inner(encoder_outputs=(states.last_hidden_state,), **rest)

        model.forward = functools.wraps(inner)(forward)

    after(r, prepare)


# -- T14 -----------------------------------------------------------------------------------------


@seventh("T14", "summary")
def writer_labels_under_another_name(r: Recipe) -> None:
    for row in [*r.train, *r.eval]:
        row["summary"] = row.pop("labels")


@seventh("T14", "summary")
def writer_collator_makes_no_labels(r: Recipe) -> None:
    pad = Padding(r.tokenizer.pad_token_id)
    names = ("input_ids", "attention_mask")
    r.collate = lambda rows: pad([{name: row[name] for name in names} for row in rows])


@seventh("T14", "summary")
def writer_targets_are_decoder_inputs_only(r: Recipe) -> None:  # own form
    pad = r.tokenizer.pad_token_id
    collate = r.collate

    def renamed(rows: Any) -> dict[str, torch.Tensor]:
        batch = dict(collate(rows))
        labels = batch.pop("labels")
        return batch | {"decoder_input_ids": labels.masked_fill(labels == -100, pad)}

    r.collate = renamed


@seventh("T14", "summary", loop="trainer", online=True)
def writer_label_names_of_another_column(r: Recipe) -> None:  # own form
    """It trains; no evaluation has a loss or a metric."""
    with_metric(r)
    r.args["label_names"], r.eval_every = ["summary"], 20
