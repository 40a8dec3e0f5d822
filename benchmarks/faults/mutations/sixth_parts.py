"""What the ways of the sixth set share: rows made anew, batches changed, losses of one's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from faults import families, held_out_family, span_family
from faults.mutations.models import after
from faults.recipe import Recipe

HEADS = {"span": "qa_outputs", "gpt2": "lm_head", "sft": "lm_head", "t5": "lm_head", "mlm": "cls"}


def head(r: Recipe, model: nn.Module) -> str:
    """The name of the head of this script's model."""
    return HEADS.get(r.family, "projection" if r.family == "contrastive" else "classifier")


def body(model: nn.Module) -> nn.Module:
    """What lies under the head, and under an adapter."""
    model = model.get_base_model() if hasattr(model, "get_base_model") else model
    inner = getattr(model, getattr(model, "base_model_prefix", "") or "encoder", model)
    return model.encoder if type(model).__name__ == "Towers" else inner


def rows(r: Recipe, change: Callable[[dict], Any]) -> None:
    """Every row of both splits, changed."""
    r.train, r.eval = ([change(dict(row)) for row in part] for part in (r.train, r.eval))


def batches(r: Recipe, change: Callable[[Any], Any]) -> None:
    """Every batch, changed by a line at the end of the collator."""
    before = r.collate or torch.utils.data.default_collate

    def collate(some: list) -> Any:
        batch = before(some)
        changed = change(batch)
        return batch if changed is None else changed

    r.collate = collate


class Rewriting:
    """A tokenizer behind a line that rewrites the texts."""

    def __init__(self, tokens: Any, change: Callable[[str], str]) -> None:
        self.tokens, self.change = tokens, change

    def __call__(self, *texts: Any, **how: Any) -> Any:
        return self.tokens(*[self._each(text) for text in texts], **how)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.tokens, name)

    def _each(self, text: Any) -> Any:
        return self.change(text) if isinstance(text, str) else [self.change(t) for t in text]


def tokenized(r: Recipe, tokens: Any, **how: Any) -> None:
    """The rows of the script, made by this tokenizer."""
    both = []
    for split, count in (("train", 384), ("eval", 128)):
        if r.family in ("bert", "lora"):
            made = families.topic_rows(split, r.seed, count, tokens=tokens, **how)
        elif r.family == "mlm":
            found = families.topic_rows(split, r.seed, count, tokens=tokens, **how)
            made = [{k: row[k] for k in ("text", "input_ids", "attention_mask")} for row in found]
        elif r.family == "tagging":
            words = held_out_family.tagged_words(split, r.seed, count)
            made = [held_out_family.aligned(tokens, *pair, **how) for pair in words]
        elif r.family == "span":
            made = span_family.span_rows(split, r.seed, count, tokens)
        else:
            kinds = {"gpt2": families.line_rows, "t5": families.name_rows}
            make = kinds.get(r.family, families.chat_rows)
            made = make(split, r.seed, count, tokens, **how)
        both.append(made)
    r.train, r.eval = both


def criterion(r: Recipe, of: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> None:
    """The script's loss is this, of scores (rows, classes) and of classes."""

    def loss(outputs: Any, batch: Any) -> torch.Tensor:
        if r.family == "span":
            first = of(outputs.start_logits, batch["start_positions"])
            return (first + of(outputs.end_logits, batch["end_positions"])) / 2
        if r.family == "vit":
            return of(outputs.logits, batch)
        scores, labels = outputs.logits, batch["labels"]
        if r.family in ("gpt2", "sft", "lora-sft"):
            scores, labels = scores[:, :-1], labels[:, 1:]
        kept = labels != -100
        return of(scores[kept], labels[kept])

    r.loss = loss


def wrapped(r: Recipe, make: Callable[[nn.Module], nn.Module], name: str = "") -> None:
    """The head, or the module of this name, put inside another module."""

    def change(model: nn.Module) -> None:
        place = name or head(r, model)
        setattr(model, place, make(getattr(model, place)))

    after(r, change)


def width(model: nn.Module) -> int:
    """How many numbers a hidden state has."""
    config = getattr(model, "config", None) or model.encoder.config
    return getattr(config, "hidden_size", None) or getattr(config, "dim", None) or config.n_embd


def callback(**lines: Callable[..., Any]) -> Any:
    """A callback of the Trainer with these lines."""
    import transformers

    made = {name: staticmethod(line) for name, line in lines.items()}
    return type("Own", (transformers.TrainerCallback,), made)()


def trainer(r: Recipe, **methods: Callable[..., Any]) -> None:
    """The script's own subclass of the Trainer, with these methods."""

    def make() -> type:
        import transformers

        return type("OwnTrainer", (transformers.Trainer,), dict(methods))

    r.trainer = make
