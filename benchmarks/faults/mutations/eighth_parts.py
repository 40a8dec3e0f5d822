"""What the eighth set's ways share: rows read anew, models changed after they were made."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils.data import Dataset

from faults.recipe import Recipe

TEXTS = {
    "bert": ("text",),
    "lora": ("text",),
    "mlm": ("text",),
    "gpt2": ("text",),
    "sft": ("prompt", "completion"),
    "lora-sft": ("prompt", "completion"),
    "t5": ("source", "target"),
}
RESIZED = 32  # what most rows of the encoders are cut to


class Read(Dataset):
    """Rows as `how` reads them, at each reading anew."""

    def __init__(self, rows: Any, how: Callable[[Any], Any]) -> None:
        self.rows, self.how = rows, how

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, place: int) -> Any:
        return self.how(self.rows[place])


def listed(rows: Any) -> list:
    """Rows as a list, whatever holds them."""
    return [rows[i] for i in range(len(rows))]


def both(r: Recipe, how: Callable[[Any], Any]) -> None:
    """Change each row of both splits."""
    r.train, r.eval = ([how(row) for row in listed(rows)] for rows in (r.train, r.eval))


def label(row: Any) -> Any:
    """The label of a row."""
    return int(row[1]) if isinstance(row, tuple) else row["labels"]


def with_label(row: Any, value: Any) -> Any:
    """A row with another label."""
    return (row[0], torch.tensor(value)) if isinstance(row, tuple) else {**row, "labels": value}


def after(r: Recipe, change: Callable[[nn.Module], nn.Module | None]) -> None:
    """Also change the model once it is made; `change` may return another one."""
    before = r.prepare

    def prepare(model: nn.Module) -> nn.Module:
        made = before(model)
        other = change(made)
        return made if other is None else other

    r.prepare = prepare


def trainable(model: nn.Module) -> list[nn.Parameter]:
    """What asks for a gradient."""
    return [p for p in model.parameters() if p.requires_grad]


def adam(r: Recipe) -> Callable[[nn.Module], Any]:
    """The script's own optimizer, built by hand."""
    return lambda model: torch.optim.AdamW(trainable(model), lr=r.lr, weight_decay=r.decay)


def constant(optimizer: Any) -> Any:
    """A rate that stays."""
    return torch.optim.lr_scheduler.ConstantLR(optimizer, 1.0)


def encoded(r: Recipe, row: dict, tokens: Any = None, **how: Any) -> dict:
    """A row whose ids are made anew from its texts, as the family's script makes them."""
    tokens = tokens or r.tokenizer
    if r.family in ("bert", "lora", "mlm"):
        made = tokens(row["text"], truncation=True, max_length=RESIZED, **how)
        return {**row, **{name: made[name] for name in made if name in row}}
    if r.family == "gpt2":
        ids = [*tokens(row["text"], **how)["input_ids"][:39], tokens.eos_token_id]
        return {**row, "input_ids": ids, "attention_mask": [1] * len(ids)}
    if r.family == "t5":
        ids = tokens(row["source"], truncation=True, max_length=RESIZED, **how)["input_ids"]
        labels = tokens(row["target"], truncation=True, max_length=16, **how)["input_ids"]
        return {**row, "input_ids": ids, "attention_mask": [1] * len(ids), "labels": labels}
    asked = tokens(row["prompt"], **how)["input_ids"]
    told = tokens(row["completion"], **({"add_special_tokens": False} | how))["input_ids"]
    return chat(row, asked, [*told, tokens.eos_token_id])


def chat(row: dict, asked: list[int], told: list[int], length: int = 64) -> dict:
    """Prompt and answer in one row; the loss is on the answer."""
    ids, labels = [*asked, *told][:length], [*[-100] * len(asked), *told][:length]
    return {**row, "input_ids": ids, "attention_mask": [1] * len(ids), "labels": labels}


def retold(r: Recipe, change: Callable[[str], str]) -> None:
    """Both splits with their texts changed, and encoded anew."""
    names = TEXTS[r.family]
    both(r, lambda row: encoded(r, {**row, **{name: change(row[name]) for name in names}}))


def of_varied_length(r: Recipe) -> None:
    """Short and long texts, as they are; the bench's encoders see nearly equal ones."""
    draw = random.Random(r.seed)

    def cut(row: dict) -> dict:
        count = draw.randint(6, len(row["input_ids"])) if len(row["input_ids"]) > 6 else 6
        names = [n for n, value in row.items() if isinstance(value, list) and n != "labels"]
        short = {n: [*row[n][: count - 1], row[n][-1]] for n in names}
        if isinstance(row.get("labels"), list):
            short["labels"] = [*row["labels"][: count - 1], row["labels"][-1]]
        return {**row, **short}

    both(r, cut)


def last(model: nn.Module) -> tuple[nn.Module, str]:
    """Where the head of a classifier stands: its holder and its name there."""
    for name in ("classifier", "qa_outputs", "projection", "lm_head"):
        if hasattr(model, name):
            return model, name
    raise ValueError("no head")
