"""Wrong lines that train without an error, each beside its right twin.

A function marked WRONG holds one real mistake, as it stands in many scripts, and no other; the one
after it does the same thing right. Chapter 13 shows them, trains with them and lets the doctor name
them; nothing else may import them. How they are run is in `mistake_runs`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.utils.checkpoint
from torch import nn

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

Rows = list[dict[str, Any]]
IGNORE = -100


def label_padding(rows: Rows, tokenizer: Any, length: int) -> dict[str, torch.Tensor]:
    """WRONG: every position is a label, padding included."""
    batch = tokenizer.pad(rows, "max_length", length, return_tensors="pt")
    batch["labels"] = batch["input_ids"].clone()
    return dict(batch)


def label_text(rows: Rows, tokenizer: Any, length: int) -> dict[str, torch.Tensor]:
    """Right: what attention does not see is no label."""
    batch = tokenizer.pad(rows, "max_length", length, return_tensors="pt")
    batch["labels"] = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, IGNORE)
    return dict(batch)


def pad_with_the_end(tokenizer: Any) -> Callable[[Rows], Any]:
    """WRONG: the end doubles as padding, and the collator drops the labels of all padding."""
    from transformers import DataCollatorForLanguageModeling

    tokenizer.pad_token = tokenizer.eos_token
    return DataCollatorForLanguageModeling(tokenizer, mlm=False)


def pad_with_padding(tokenizer: Any) -> Callable[[Rows], Any]:
    """Right: padding has a token of its own, so that the end stays a label."""
    from transformers import DataCollatorForLanguageModeling

    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    return DataCollatorForLanguageModeling(tokenizer, mlm=False)


def shift_before_the_model(rows: Rows, tokenizer: Any, length: int) -> dict[str, torch.Tensor]:
    """WRONG: labels are the next tokens, for a model that moves them by one itself."""
    batch = label_text(rows, tokenizer, length)
    batch["labels"] = nn.functional.pad(batch["labels"][:, 1:], (0, 1), value=IGNORE)
    return batch


def split_rows(rows: Dataset, seed: int = 0) -> DatasetDict:
    """WRONG where rows repeat: copies of one text end on both sides."""
    return rows.train_test_split(0.1, seed=seed)


def split_groups(rows: Dataset, seed: int = 0) -> DatasetDict:
    """Right: what says the same, or comes from the same module, stays together."""
    from cookbook.data import splits

    groups = rows["module"] if "module" in rows.column_names else None
    two = {"fractions": (0.9, 0.1), "names": ("train", "test")}
    return splits.split(rows, groups=groups, seed=seed, **two)


def shuffle_labels(rows: Rows, seed: int = 0) -> Rows:
    """WRONG: labels joined to the rows by position, after one of the two was sorted anew."""
    labels = np.random.default_rng(seed).permutation([row["labels"] for row in rows])
    return [{**row, "labels": int(label)} for row, label in zip(rows, labels, strict=True)]


def checkpoint_reentrant(forward: Callable, *args: Any, **kwargs: Any) -> Any:
    """WRONG behind a frozen input: the old kind records a gradient only if its input has one."""
    forward = functools.partial(forward, **kwargs)
    return torch.utils.checkpoint.checkpoint(forward, *args, use_reentrant=True)


def checkpoint(forward: Callable, *args: Any, **kwargs: Any) -> Any:
    """Right: this kind asks the weights of the layer too."""
    forward = functools.partial(forward, **kwargs)
    return torch.utils.checkpoint.checkpoint(forward, *args, use_reentrant=False)


def optimizer_then_adapter(model: Any, adapter: Any, rate: float) -> tuple[Any, Any]:
    """WRONG: the optimizer holds what the adapter freezes, and nothing that the adapter adds."""
    import peft

    optimizer = torch.optim.AdamW(model.parameters(), rate)
    return peft.get_peft_model(model, adapter), optimizer


def adapter_then_optimizer(model: Any, adapter: Any, rate: float) -> tuple[Any, Any]:
    """Right: the optimizer comes last."""
    import peft

    model = peft.get_peft_model(model, adapter)
    return model, torch.optim.AdamW(model.parameters(), rate)


def exponentials_by_hand(
    outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None, temperature: float = 0.05
) -> torch.Tensor:
    """WRONG: in half precision the exponential of a score above 11 is infinite, and infinity
    over infinity is no number.

    >>> from types import SimpleNamespace as Outputs
    >>> labels = torch.tensor([0])
    >>> float(exponentials_by_hand(Outputs(logits=torch.tensor([[0.6, 0.1]])), labels))
    nan
    """
    powers = (outputs.logits.half() / temperature).exp()
    shares = powers / powers.sum(-1, keepdim=True)
    return -shares[torch.arange(len(labels)), labels].log().mean()


def log_softmax_loss(
    outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None, temperature: float = 0.05
) -> torch.Tensor:
    """Right: full precision, and a library that takes the largest score off first.

    >>> from types import SimpleNamespace as Outputs
    >>> labels = torch.tensor([1])
    >>> round(float(log_softmax_loss(Outputs(logits=torch.tensor([[0.6, 0.1]])), labels)), 2)
    10.0
    """
    return nn.functional.cross_entropy(outputs.logits.float() / temperature, labels)


def schedule_by_micro_batch(
    model: nn.Module, batches: Iterable[dict], optimizer: Any, scheduler: Any, *,
    accumulation: int, on_step: Callable,
) -> list[float]:  # fmt: skip
    """WRONG: the schedule moves on with every micro-batch. Returns the rate of each update."""
    rates = []
    model.train()
    for number, batch in enumerate(batches, 1):
        loss = model(**batch).loss / accumulation
        loss.backward()
        if number % accumulation == 0:
            rates.append(scheduler.get_last_lr()[0])
            optimizer.step()
            optimizer.zero_grad()
        scheduler.step()
        on_step(loss, batch=batch)
    return rates


def schedule_by_update(
    model: nn.Module, batches: Iterable[dict], optimizer: Any, scheduler: Any, *,
    accumulation: int, on_step: Callable,
) -> list[float]:  # fmt: skip
    """Right: one step of the schedule for one of the optimizer."""
    rates = []
    model.train()
    for number, batch in enumerate(batches, 1):
        loss = model(**batch).loss / accumulation
        loss.backward()
        if number % accumulation == 0:
            rates.append(scheduler.get_last_lr()[0])
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
        on_step(loss, batch=batch)
    return rates


def half_weights(model: nn.Module) -> nn.Module:
    """WRONG for training: weights of 8 significant bits cannot take a step below 1/512 of them."""
    return model.to(torch.bfloat16)


def scale_as_temperature(sides: tuple[torch.Tensor, torch.Tensor], batch: Any) -> torch.Tensor:
    """WRONG: 20 is the scale, 1 / 0.05; as a temperature it squeezes all scores into ±0.05."""
    left, right = sides
    scores = left @ right.T / 20
    return nn.functional.cross_entropy(scores, torch.arange(len(left), device=left.device))


def temperature(sides: tuple[torch.Tensor, torch.Tensor], batch: Any) -> torch.Tensor:
    """Right: cosines between -1 and 1 become scores between -20 and 20."""
    left, right = sides
    scores = left @ right.T / 0.05
    return nn.functional.cross_entropy(scores, torch.arange(len(left), device=left.device))
