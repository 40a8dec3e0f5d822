"""What the ways of the fifth set share: rows, collators, losses and trainers of a script's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.nn import functional
from torch.utils.data import Dataset

from faults import families, held_out_family, material
from faults.families import Digits
from faults.recipe import Recipe

TOKENS = {"bert": "bert", "lora": "bert", "mlm": "bert", "contrastive": "bert", "gpt2": "gpt2",
          "sft": "llama", "lora-sft": "llama", "t5": "t5", "tagging": "bert"}  # fmt: skip


class Rows(Dataset):
    """A data set of a script's own: a list of rows, changed as they are read."""

    def __init__(self, rows: Any, change: Callable[[Any], Any] = lambda row: row) -> None:
        self.rows, self.change = rows, change

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, place: int) -> Any:
        return self.change(self.rows[place])


def each_row(r: Recipe, change: Callable[[Any], Any]) -> None:
    """Both sets with every row changed once, before the training."""
    r.train, r.eval = [change(row) for row in r.train], [change(row) for row in r.eval]


def each_batch(r: Recipe, change: Callable[[dict], Any]) -> None:
    """A line at the end of the collator."""
    inner = r.collate

    def collate(rows: list) -> Any:
        batch = inner(rows)
        made = change(batch)
        return batch if made is None else made

    r.collate = collate


def label(row: Any) -> Any:
    """What a row is to be taken for."""
    return int(row[1]) if isinstance(row, tuple) else row["labels"]


def labelled(row: Any, value: Any) -> Any:
    """The row with another label."""
    if isinstance(row, tuple):
        return row[0], torch.tensor(value)
    return row | {"labels": value}


def encoded(r: Recipe, text: str, tokens: Any = None, length: int = 32) -> dict[str, list[int]]:
    """A text as the script encodes it."""
    tokens = tokens or r.tokenizer
    made = tokens(text, truncation=True, max_length=length)
    return {"input_ids": made["input_ids"], "attention_mask": made["attention_mask"]}


def with_text(r: Recipe, row: dict, text: str, tokens: Any = None) -> dict:
    """A row of a classifier or of a masked model with another text."""
    made = row | {"text": text} | encoded(r, text, tokens)
    if "token_type_ids" in row:
        made["token_type_ids"] = [0] * len(made["input_ids"])
    return made


def texts_of_pairs(r: Recipe, change: Callable[[str, int], str]) -> None:
    """The first texts of a contrastive set, changed and encoded again."""
    for rows in (r.train, r.eval):
        for place, row in enumerate(rows):
            text = r.tokenizer.decode(row["text_ids"], skip_special_tokens=True)
            row["text_ids"] = r.tokenizer(change(text, place))["input_ids"][:32]


def tokenizer_of(name: str) -> Any:
    """A tokenizer read anew, that may be changed."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(material.checkpoint(name))


def digits(source: Digits, places: Any) -> Digits:
    """Some of the digits, in this order."""
    made = object.__new__(Digits)
    made.x, made.y, made.transform = source.x[places], source.y[places], source.transform
    return made


def own_loss(r: Recipe, loss: Callable[[Any, torch.Tensor], torch.Tensor]) -> None:
    """A `compute_loss` in a subclass of the `Trainer`, or the line of the handwritten loop."""
    if r.loop == "plain":
        r.loss = lambda outputs, y: loss(outputs.logits, y["labels"] if _named(y) else y)
        return

    def trainer() -> type:
        import transformers

        class OwnTrainer(transformers.Trainer):
            def compute_loss(self, model, inputs, return_outputs=False, **kwargs):
                labels = inputs.pop("labels")
                outputs = model(**inputs)
                made = loss(outputs.logits, labels)
                return (made, outputs) if return_outputs else made

        return OwnTrainer

    r.trainer = trainer


def _named(y: Any) -> bool:
    return isinstance(y, Mapping)


def flat(logits: torch.Tensor, labels: torch.Tensor, **how: Any) -> torch.Tensor:
    """Cross-entropy over all positions that have a label."""
    return functional.cross_entropy(logits.flatten(0, -2), labels.flatten(), **how)


def classes_of(r: Recipe) -> int:
    """How many classes the script has."""
    return {"vit": 10, "tagging": len(held_out_family.TAGS)}.get(r.family, families.CLASSES)


def checkpoint(r: Recipe) -> str:
    """The folder that the script's model is read from."""
    return held_out_family.checkpoint() if r.family == "tagging" else material.checkpoint(
        TOKENS[r.family]
    )  # fmt: skip


def uneven(r: Recipe, count: int = 121) -> None:
    """An evaluation set that the batch does not divide."""
    r.eval = digits(r.eval, range(count)) if r.family == "vit" else r.eval[:count]
