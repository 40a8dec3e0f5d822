"""The training loop, once, to be read from top to bottom.

Two lines differ from the loop that most tutorials show. The gradient is divided by the labels of
the whole window of accumulated micro-batches: averaging their means instead gives a label in a
sparse micro-batch more weight than one in a dense one. And the batches are asked for by number,
so that a run which goes on after a crash asks for those that it has not seen.

One device and one process; it reports through `on_step` and draws nothing. Everything else in the
book uses `training.trainer`. Chapter 03 shows this file, chapters 08 and 11 vary it.

>>> from cookbook.training.order import Batches
>>> rows = [{"input": torch.randn(2), "labels": i % 3} for i in range(8)]
>>> batches = Batches(rows, batch_size=2)
>>> model = torch.nn.Linear(2, 3)
>>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
>>> constant = torch.optim.lr_scheduler.ConstantLR(optimizer, 1.0)
>>> len(train(model, batches, optimizer, constant, steps=6, accumulation=2))
6
"""

import contextlib
from collections.abc import Callable, Sequence

import torch

from cookbook.training import checkpoints


def train(
    model: torch.nn.Module,
    batches: Sequence[dict],
    optimizer: torch.optim.Optimizer,
    scheduler: torch.optim.lr_scheduler.LRScheduler,
    *,
    steps: int,
    accumulation: int = 1,
    clip: float = 1.0,
    precision: str = "fp32",
    loss_fn: Callable | None = None,
    on_step: Callable[[int, float], object] = lambda step, loss: None,
    checkpoint_folder: str = "",
    save_every: int = 0,
) -> list[float]:
    """Train up to `steps`, from the last whole checkpoint on; returns the loss of each step."""
    device, loss_fn = next(model.parameters()).device, loss_fn or summed_cross_entropy
    scaler = torch.amp.GradScaler(device.type, 256.0, enabled=precision == "fp16")  # sums are big
    parts = {"optimizer": optimizer, "scheduler": scheduler, "scaler": scaler}
    done, losses = resume(checkpoint_folder, save_every, model, **parts), []
    model.train()
    for step in range(done + 1, steps + 1):
        total, labels = 0.0, 0
        for number in range((step - 1) * accumulation, step * accumulation):
            with autocast(device, precision):
                loss, count = loss_fn(model, to_device(batches[number], device))
            scaler.scale(loss).backward()  # of the sum, not the mean: sums simply add up
            total, labels = total + loss.detach(), labels + count
        scaler.unscale_(optimizer)
        divide_gradients(model, labels)
        torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
        scaler.step(optimizer)
        scaler.update()
        scheduler.step()
        optimizer.zero_grad()
        losses.append(float(total) / max(labels, 1))
        on_step(step, losses[-1])
        if save_every and (step % save_every == 0 or step == steps):
            save(checkpoint_folder, step, model, **parts)
    return losses


def summed_cross_entropy(model: torch.nn.Module, batch: dict) -> tuple[torch.Tensor, int]:
    """Sum of the losses and number of the labels, -100 left out; the default of `train`.

    `batch` holds the model's inputs and `labels` (…); the model returns logits (…, classes), or
    an output that has `.logits`. Serves classifiers, taggers and masked language models. For a
    causal one, shift the labels in the collator.

    >>> class Model(torch.nn.Module):
    ...     def forward(self, logits):
    ...         return logits
    >>> batch = {"logits": torch.zeros(1, 3, 4), "labels": torch.tensor([[2, -100, 0]])}
    >>> loss, labels = summed_cross_entropy(Model(), batch)
    >>> round(loss.item(), 4), labels  # 2 ln 4
    (2.7726, 2)
    """
    outputs = model(**{name: value for name, value in batch.items() if name != "labels"})
    logits, labels = getattr(outputs, "logits", outputs), batch["labels"]
    loss = torch.nn.functional.cross_entropy(
        logits.flatten(0, -2).float(), labels.flatten(), ignore_index=-100, reduction="sum"
    )
    return loss, int(labels.ne(-100).sum())


def divide_gradients(model: torch.nn.Module, labels: int) -> None:
    """Turn the gradient of a sum over `labels` into that of the mean; nothing for no labels."""
    for parameter in model.parameters():
        if parameter.grad is not None:
            parameter.grad.div_(max(labels, 1))


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager:
    """Matrix products in `precision`, "fp32", "bf16" or "fp16"; sums and norms stay in fp32.

    >>> with autocast(torch.device("cpu"), "bf16"):
    ...     (torch.ones(2, 2) @ torch.ones(2, 2)).dtype
    torch.bfloat16
    """
    dtypes = {"bf16": torch.bfloat16, "fp16": torch.float16}
    if precision == "fp32":
        return contextlib.nullcontext()
    if precision not in dtypes:
        raise ValueError(f"precision is {precision!r}: use 'fp32', 'bf16' or 'fp16'")
    return torch.autocast(device.type, dtype=dtypes[precision])


def to_device(batch: dict, device: torch.device) -> dict:
    """The batch with its tensors on `device`; what is no tensor stays as it is."""
    return {k: v.to(device) if isinstance(v, torch.Tensor) else v for k, v in batch.items()}


def resume(folder: str, save_every: int, model: torch.nn.Module, **parts: object) -> int:
    """Fill everything from the newest whole checkpoint in `folder`; the step that it stood at."""
    if save_every and not folder:
        raise ValueError("save_every is set but checkpoint_folder is empty: name a folder")
    path = checkpoints.latest(folder) if folder else None
    if path is None:
        return 0
    print(f"going on from {path}")
    return checkpoints.load(path, model, **parts)


def save(folder: str, step: int, model: torch.nn.Module, keep: int = 2, **parts: object) -> None:
    """Save, then delete all but the newest `keep`: one to use, one in case it is damaged."""
    checkpoints.save(folder, step, checkpoints.snapshot(model, **parts))
    checkpoints.prune(folder, keep)
