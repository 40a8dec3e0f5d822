"""Labelled rows as batches for a classifier, and a classifier's answers to them.

It encodes, pads and predicts; it trains nothing. Used by `strategies` and so by chapters 00, 07.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from cookbook.data.errors import DataError
from cookbook.maths.contrastive import mean_pool
from cookbook.training.loop import autocast

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict
    from transformers import PreTrainedTokenizerBase


def check_splits(dataset: DatasetDict) -> DatasetDict:
    """`dataset`, if it has rows to train on, to choose by and to test on, all with a label.

    Raises DataError for a split that is missing or empty, and for a label of -1, by which the hub
    marks test rows whose labels are kept back.
    """
    for split in ("train", "validation", "test"):
        if not len(dataset.get(split, ())):
            raise DataError(
                f"no rows to use as {split}: found {', '.join(dataset) or 'no splits'}; "
                "cookbook.data.load makes all three"
            )
        if "label" in dataset[split].column_names and min(dataset[split]["label"]) == -1:
            raise DataError(f"the {split} split has rows without a label (-1): use labelled rows")
    return dataset


def classes_of(dataset: DatasetDict) -> list[str]:
    """The names of the classes. Raises DataError where there is no class label to learn."""
    from datasets import ClassLabel

    label = dataset["train"].features.get("label")
    if not isinstance(label, ClassLabel):
        found = "a number" if label is not None else "no label"
        raise DataError(
            f"the data has {found} where a classifier needs classes: name the column with "
            "label_column"
        )
    if len(label.names) < 2:
        raise DataError(f"the label has one class only, {label.names}: nothing can be learnt")
    return label.names


def encode_rows(
    dataset: Dataset, tokenizer: PreTrainedTokenizerBase, max_length: int
) -> list[dict[str, Any]]:
    """One dict a row: token ids cut at `max_length`, and `labels`; a `text_pair` is joined on."""
    pair = "text_pair" if "text_pair" in dataset.column_names else None
    texts = [list(dataset[column]) for column in ("text", pair) if column]
    coded = tokenizer(*texts, truncation=True, max_length=max_length)
    names = [name for name in coded if name in tokenizer.model_input_names]
    labels = list(dataset["label"])
    return [
        {**{name: coded[name][row] for name in names}, "labels": labels[row]}
        for row in range(len(labels))
    ]


def collator(tokenizer: PreTrainedTokenizerBase) -> Any:
    """Pads each batch to its own longest row."""
    from transformers import DataCollatorWithPadding

    return DataCollatorWithPadding(tokenizer)


@torch.no_grad()
def predict(
    model: torch.nn.Module,
    rows: list[dict[str, Any]],
    tokenizer: PreTrainedTokenizerBase,
    *,
    batch_size: int = 64,
    precision: str = "fp32",
    features: bool = False,
) -> np.ndarray:
    """Logits (rows, classes) float32, in the order of `rows`; dropout is off.

    Rows of like length go together, so that little is padded. With `features`, `model` is an
    encoder and the result is the mean of its last hidden states over the tokens, (rows, hidden).
    """
    device = next(model.parameters()).device
    order = np.argsort([len(row["input_ids"]) for row in rows], kind="stable")
    pad, training, parts = collator(tokenizer), model.training, []
    model.eval()
    for start in range(0, len(order), batch_size):
        batch = pad([rows[i] for i in order[start : start + batch_size]]).to(device)
        batch.pop("labels", None)
        with autocast(device, precision):
            out = model(**batch)
            found = mean_pool(out[0], batch["attention_mask"]) if features else out["logits"]
        parts.append(found.float().cpu().numpy())
    model.train(training)
    return np.concatenate(parts)[np.argsort(order)]
