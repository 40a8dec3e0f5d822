"""The wrong loss of many masked-language-model tutorials, trained beside the right one.

`label_everything` and `loss_over_everything` are WRONG on purpose: they ask the model for every
token, padding included, where masked language modelling asks for the masked ones. Chapter 03
trains with them to show what the mistake looks like; nothing else may import them. The right loss
is `loop.summed_cross_entropy`, what exposes the wrong one is in `masked_accuracy`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from cookbook.training import loop
from cookbook.training.masked_accuracy import WHERE, Batch, accuracies, original_tokens

Curves = dict[str, list[tuple[int, float]]]


def label_everything(batch: Batch) -> Batch:
    """WRONG: a copy of `batch` whose labels are the original token at every position.

    This is what `labels = input_ids.clone()` before masking amounts to, when nothing sets the
    labels of the other positions to -100 afterwards. Shapes stay (batch, length).

    >>> ids, labels = torch.tensor([[2, 4, 9, 0]]), torch.tensor([[-100, 7, -100, -100]])
    >>> label_everything({"input_ids": ids, "labels": labels})["labels"].tolist()
    [[2, 7, 9, 0]]
    """
    return {**batch, "labels": original_tokens(batch)}


def loss_over_everything(model: torch.nn.Module, batch: Batch) -> tuple[torch.Tensor, int]:
    """WRONG: summed loss and count over all positions; a `loss_fn` of `loop.train`.

    Six of seven labels can be copied from the input, so the mean falls whether or not the model
    learns to predict anything.

    >>> class Copies(torch.nn.Module):  # says what it sees, and knows nothing else
    ...     def forward(self, input_ids):
    ...         return 9.0 * torch.nn.functional.one_hot(input_ids, 8)
    >>> ids, labels = torch.tensor([[3, 4, 5, 0]]), torch.tensor([[-100, 7, -100, -100]])
    >>> loss, count = loss_over_everything(Copies(), {"input_ids": ids, "labels": labels})
    >>> round(float(loss) / count, 2), count  # the masked one alone costs 9.0
    (2.25, 4)
    """
    return loop.summed_cross_entropy(model, label_everything(batch))


def watched(
    model: torch.nn.Module,
    batches: Sequence[Batch],
    held_out: Sequence[Batch],
    *,
    mask_id: int,
    loss_fn: Callable,
    steps: int,
    every: int,
    learning_rate: float = 1e-3,
    precision: str = "fp32",
) -> Curves:
    """Train with `loss_fn` in the plain loop; (step, value) curves of the loss and `accuracies`.

    AdamW, a tenth of the steps for warm-up, then a linear decay. Measured on `held_out` before the
    first step and after every `every` steps.
    """
    from tqdm.auto import tqdm

    from cookbook.training.schedules import scheduler

    curves: Curves = {name: [] for name in ("loss", *WHERE)}

    def measure(step: int) -> None:
        for name, value in accuracies(model, held_out, mask_id).items():
            curves[name].append((step, value))

    def after_step(step: int, loss: float) -> None:
        curves["loss"].append((step, loss))
        if step % every == 0:
            measure(step)
        bar.update()

    optimizer = torch.optim.AdamW(model.parameters(), learning_rate, weight_decay=0.01)
    rate = scheduler(optimizer, "linear", warmup=steps // 10, total=steps)
    measure(0)
    with tqdm(total=steps, desc="training", leave=False) as bar:
        loop.train(
            model, batches, optimizer, rate, steps=steps, loss_fn=loss_fn, precision=precision,
            on_step=after_step,
        )  # fmt: skip
    return curves
