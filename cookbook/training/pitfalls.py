"""The wrong loss of many masked-language-model tutorials, and the measurements that expose it.

`label_everything` and `loss_over_everything` are WRONG on purpose: they ask the model for every
token, padding included, where masked language modelling asks for the masked ones. Chapter 03
trains with them to show what the mistake looks like; nothing else may import them. What measures
(`accuracies`, `labelled_share`, `watched`) is right, and serves any masked language model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from cookbook.training import loop
from cookbook.training.objectives import IGNORE

Batch = dict[str, torch.Tensor]


def label_everything(batch: Batch) -> Batch:
    """WRONG: a copy of `batch` whose labels are the original token at every position.

    This is what `labels = input_ids.clone()` before masking, without the -100 afterwards, amounts
    to. `input_ids` and `labels` have shape (batch, length).

    >>> ids, labels = torch.tensor([[2, 4, 9, 0]]), torch.tensor([[-100, 7, -100, -100]])
    >>> label_everything({"input_ids": ids, "labels": labels})["labels"].tolist()
    [[2, 7, 9, 0]]
    """
    labels = torch.where(batch["labels"] == IGNORE, batch["input_ids"], batch["labels"])
    return {**batch, "labels": labels}


def loss_over_everything(model: torch.nn.Module, batch: Batch) -> tuple[torch.Tensor, int]:
    """WRONG: summed loss and count over all positions; a `loss_fn` of `loop.train`.

    Six of seven labels can be copied from the input, so the mean falls whether or not the model
    learns to predict anything. The right one is `loop.summed_cross_entropy`.

    >>> class Knows(torch.nn.Module):  # copies what it sees, and knows nothing else
    ...     def forward(self, input_ids):
    ...         return 9.0 * torch.nn.functional.one_hot(input_ids, 8)
    >>> ids, labels = torch.tensor([[3, 4, 5, 0]]), torch.tensor([[-100, 7, -100, -100]])
    >>> loss, count = loss_over_everything(Knows(), {"input_ids": ids, "labels": labels})
    >>> round(float(loss) / count, 2), count  # the masked one alone costs 9.0
    (2.25, 4)
    """
    return loop.summed_cross_entropy(model, label_everything(batch))


def labelled_share(batch: Batch) -> float:
    """Positions that carry a label, divided by the tokens that are not padding.

    About 0.15 where 15 % are masked. More than 1 means that padding is in the loss.

    >>> labels = torch.tensor([[-100, 7, -100, -100]])
    >>> labelled_share({"labels": labels, "attention_mask": torch.tensor([[1, 1, 0, 0]])})
    0.5
    """
    return int(batch["labels"].ne(IGNORE).sum()) / int(batch["attention_mask"].sum())


@torch.no_grad()
def accuracies(model: torch.nn.Module, batches: Sequence[Batch]) -> dict[str, float]:
    """Share of right answers over `everything` (padding included) and over `masked` positions.

    Batches come from `MaskedLMCollator`. Counts are summed over batches before they are divided.
    """
    right, count = dict.fromkeys(("everything", "masked"), 0), {"everything": 0, "masked": 0}
    training = model.training
    model.eval()
    for batch in batches:
        batch = loop.to_device(batch, next(model.parameters()).device)
        inputs = {name: value for name, value in batch.items() if name != "labels"}
        hits = model(**inputs).logits.argmax(-1) == label_everything(batch)["labels"]
        masked = batch["labels"] != IGNORE
        for name, found in (("everything", hits.flatten()), ("masked", hits[masked])):
            right[name] += int(found.sum())
            count[name] += found.numel()
    model.train(training)
    return {name: right[name] / max(count[name], 1) for name in right}


def watched(
    model: torch.nn.Module,
    batches: Sequence[Batch],
    held_out: Sequence[Batch],
    *,
    loss_fn: Callable,
    steps: int,
    every: int,
    learning_rate: float = 1e-3,
    precision: str = "fp32",
) -> dict[str, list[tuple[int, float]]]:
    """Train with `loss_fn` in the plain loop; (step, value) curves of `loss` and `accuracies`.

    AdamW, a tenth of the steps for warm-up, then a linear decay. Measured on `held_out` before the
    first step and after every `every` steps.
    """
    from tqdm.auto import tqdm

    from cookbook.training.schedules import scheduler

    curves: dict[str, list[tuple[int, float]]] = {"loss": [], "everything": [], "masked": []}

    def note(step: int, loss: float | None) -> None:
        if loss is not None:
            curves["loss"].append((step, loss))
            bar.update()
        if step % every == 0:
            for name, value in accuracies(model, held_out).items():
                curves[name].append((step, value))

    optimizer = torch.optim.AdamW(model.parameters(), learning_rate, weight_decay=0.01)
    rate = scheduler(optimizer, "linear", warmup=steps // 10, total=steps)
    with tqdm(total=steps, desc="training", leave=False) as bar:
        note(0, None)
        loop.train(
            model, batches, optimizer, rate, steps=steps, loss_fn=loss_fn, precision=precision,
            on_step=note,
        )  # fmt: skip
    return curves
