"""What the ways of the ninth set share: rows, losses, models that scripts write themselves."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import Dataset

from faults import families, recurrent_family
from faults.recipe import Recipe


class Read(Dataset):
    """Rows as `how` reads them, each time anew."""

    def __init__(self, rows: Any, how: Callable[[Any], Any]) -> None:
        self.rows, self.how = rows_of(rows), how

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, place: int) -> Any:
        return self.how(self.rows[place])


def rows_of(data: Any) -> list:
    """A data set as a list."""
    return [data[i] for i in range(len(data))]


def label(row: Any) -> int:
    """The class of a row."""
    return int(row[1] if isinstance(row, tuple) else row["labels"])


def relabelled(row: Any, value: int) -> Any:
    """The row with another class."""
    return (row[0], torch.tensor(value)) if isinstance(row, tuple) else {**row, "labels": value}


def ids_changed(row: Any, change: Callable[[list[int]], list[int]]) -> Any:
    """The row with other ids, be it a pair or a mapping."""
    if isinstance(row, tuple):
        return torch.tensor(change(row[0].tolist()), dtype=torch.long), row[1]
    ids = change(list(row["input_ids"]))
    told = {**row, "input_ids": ids, "attention_mask": [1] * len(ids)}
    return told | ({"token_type_ids": [0] * len(ids)} if "token_type_ids" in row else {})


def both(r: Recipe, change: Callable[[Any], Any]) -> None:
    """Every row of both splits, changed once."""
    r.train, r.eval = ([change(row) for row in rows_of(rows)] for rows in (r.train, r.eval))


def after(r: Recipe, change: Callable[[nn.Module], Any]) -> None:
    """A line behind those that made the model; what it returns, if anything, is the model."""
    before = r.prepare

    def prepare(model: nn.Module) -> nn.Module:
        made = before(model)
        return change(made) or made

    r.prepare = prepare


def scored(r: Recipe, how: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> None:
    """The script's own loss of logits and labels."""

    def loss(outputs: Any, told: Any) -> torch.Tensor:
        return how(outputs.logits, told["labels"] if isinstance(told, Mapping) else told)

    r.loss = loss


def encoded_again(r: Recipe, change: Callable[[str], str]) -> None:
    """Rows of a classifier of texts, from texts that were changed."""
    if r.family == "recurrent":
        for split, count in (("train", 384), ("eval", 128)):
            told = recurrent_family.texts(split, r.seed, count)
            rows = [(recurrent_family.encode(change(t)), torch.tensor(y)) for t, y in told]
            setattr(r, split, rows)
        return

    def again(row: dict[str, Any]) -> dict[str, Any]:
        text = change(row["text"])
        return {**row, "text": text, **r.tokenizer(text, truncation=True, max_length=32)}

    both(r, again)


def evaluated(r: Recipe, every: int = 10) -> None:
    """The script evaluates now and then."""
    r.eval_every = every


def random_window(ids: list[int]) -> list[int]:
    """Some words in a row, as random crops are written."""
    wide = max(4, len(ids) // 2)
    first = random.randrange(max(1, len(ids) - wide))
    return ids[first : first + wide]


class Headed(nn.Module):
    """BERT under a head that the script wrote: classes from hidden states (batch, words, 64)."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.body = families.load("BertModel", "bert", add_pooling_layer=False)
        self.config = self.body.config
        self.head = head

    def states(self, input_ids: Any, attention_mask: Any) -> torch.Tensor:
        return self.body(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state

    def forward(
        self, input_ids: Any, attention_mask: Any = None, labels: Any = None, **_: Any
    ) -> Any:
        from transformers.modeling_outputs import SequenceClassifierOutput

        logits = self.head(self.states(input_ids, attention_mask))
        loss = None if labels is None else functional.cross_entropy(logits, labels)
        return SequenceClassifierOutput(loss=loss, logits=logits)


class First(nn.Module):
    """A linear head on the first place."""

    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Linear(64, families.CLASSES)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        return self.out(states[:, 0])


class Cells(nn.Module):
    """A transformer of PyTorch's own layers over the pixels of a digit, row by row."""

    def __init__(self, batch_first: bool = True, outputs: int = 10) -> None:
        super().__init__()
        self.into, self.head = nn.Linear(8, 32), nn.Linear(32, outputs)
        self.place = nn.Parameter(torch.randn(8, 32) * 0.1)
        layer = nn.TransformerEncoderLayer(32, 2, 64, 0.1, batch_first=batch_first)
        self.body = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    def forward(self, x: torch.Tensor) -> Any:
        states = self.body(self.into(x.squeeze(1)) + self.place)
        return recurrent_family.Scores(self.head(states.mean(1)))
