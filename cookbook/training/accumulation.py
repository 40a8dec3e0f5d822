"""Gradients of accumulated micro-batches, to be held against that of the batch as a whole.

Does: add the gradients up in the right way and in the naive one; read off the gradient that a
`Trainer` hands to its optimizer. Does not: train (`loop` and `trainer` do, in the right way).
Chapter 10.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from cookbook.training import loop


def by_labels(model: nn.Module, batches: Sequence[dict]) -> torch.Tensor:
    """Gradient of the mean over all labels of all `batches`: sums add up, one division at the end.

    A flat tensor (parameters,) on the CPU; the model's own gradients are left as they were.
    """
    counted = [loop.summed_cross_entropy(model, batch) for batch in batches]
    labels = sum(count for _, count in counted)
    return _gradient(model, sum(loss for loss, _ in counted) / max(labels, 1))


def by_means(model: nn.Module, batches: Sequence[dict]) -> torch.Tensor:
    """WRONG where micro-batches differ in their labels: the mean of their mean losses.

    A label among few weighs more than one among many. Flat, as from `by_labels`.
    """
    counted = [loop.summed_cross_entropy(model, batch) for batch in batches]
    return _gradient(model, sum(loss / max(count, 1) for loss, count in counted) / len(batches))


def of_trainer(
    kind: Callable[..., Any], model: nn.Module, rows: Any, collate: Callable, *, parts: int = 1,
    update: int = 8, seed: int = 0,
) -> torch.Tensor:  # fmt: skip
    """The gradient of the first update of a Trainer of `kind`: `update` rows in `parts` parts.

    `model` is copied. What is read is what reaches the optimizer; nothing is clipped. Raises
    ValueError where `parts` does not divide `update`.
    """
    import transformers

    if update % parts:
        raise ValueError(f"{parts} parts do not divide {update} rows")
    taken: list[torch.Tensor] = []

    class Read(transformers.TrainerCallback):
        def on_pre_optimizer_step(self, *_: Any, model: Any = None, **__: Any) -> None:
            taken.append(_flat([x.grad for x in model.parameters()], model))

    with tempfile.TemporaryDirectory() as folder:
        args = transformers.TrainingArguments(
            output_dir=folder, max_steps=1, per_device_train_batch_size=update // parts,
            gradient_accumulation_steps=parts, max_grad_norm=0.0, seed=seed, report_to="none",
            save_strategy="no", disable_tqdm=True, remove_unused_columns=False,
            use_cpu=not torch.cuda.is_available(), dataloader_pin_memory=False, logging_steps=99,
        )  # fmt: skip
        trainer = kind(
            copy.deepcopy(model), args, train_dataset=rows, data_collator=collate,
            callbacks=[Read()],
        )  # fmt: skip
        trainer.remove_callback(transformers.PrinterCallback)
        trainer.train()
    return taken[0]


def distance(gradient: torch.Tensor, right: torch.Tensor) -> float:
    """‖gradient - right‖ / ‖right‖: 0 if they agree, 3 for one that is four times too long.

    >>> distance(torch.tensor([4.0, 0.0]), torch.tensor([1.0, 0.0]))
    3.0
    """
    return float((gradient - right).norm() / right.norm())


def _gradient(model: nn.Module, loss: torch.Tensor) -> torch.Tensor:
    trained = [x for x in model.parameters() if x.requires_grad]
    return _flat(torch.autograd.grad(loss, trained, allow_unused=True), model)


def _flat(gradients: Sequence[torch.Tensor | None], model: nn.Module) -> torch.Tensor:
    trained = [x for x in model.parameters() if x.requires_grad]
    found = [
        (torch.zeros_like(x) if g is None else g).detach().float().flatten().cpu()
        for x, g in zip(trained, gradients, strict=True)
    ]
    return torch.cat(found)
