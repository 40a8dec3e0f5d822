"""Train any model whose own loss a batch of tensors gives, and read it; the harness of chapter 14.

Does: pictures as tensors, a run of so many steps from parallel tensors, logits of a split, a
reading function for `Dataset.with_transform`. Does not: say what the loss is; classifiers,
autoencoders, detectors and models of image and text all bring their own. Sequences of tokens are
for `objective_runs`. The plain loop of chapter 03 does the steps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from cookbook.data import image_augmentation, splits
from cookbook.data.errors import DataError
from cookbook.models.surgery import KeyReport, pour
from cookbook.training import loop
from cookbook.training.clip import to_pixels
from cookbook.training.masked_accuracy import evaluating
from cookbook.training.order import Batches

if TYPE_CHECKING:
    from datasets import Dataset

Curve = list[tuple[int, float]]


class Rows:
    """Parallel tensors (n, ...) as a data set of dicts, read a whole batch at a time.

    >>> Rows({"x": torch.arange(4)})[2]
    {'x': tensor(2)}
    """

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        sizes = {name: len(tensor) for name, tensor in tensors.items()}
        if len(set(sizes.values())) != 1:
            raise ValueError(f"the tensors differ in their number of rows: {sizes}")
        self.tensors, self.size = tensors, next(iter(sizes.values()))

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, row: int) -> dict[str, Tensor]:
        return {name: tensor[row] for name, tensor in self.tensors.items()}

    def __getitems__(self, rows: Sequence[int]) -> list[dict[str, Tensor]]:
        return [self[row] for row in rows]


def picture_tensors(dataset: Dataset, side: int = 0, *, channels: int = 1) -> dict[str, Tensor]:
    """`pixel_values` (n, channels, side, side) float32 from -1 to 1, and `labels` (n,) if any.

    `dataset` has the column image. Pictures of another size are fitted in, their shape kept, on
    black; `side` 0 is `side_of`. Raises DataError where there are no images.
    """
    side = side or side_of(dataset)
    pixels = np.stack([to_pixels(image, side, channels, "black") for image in _images(dataset)])
    tensors = {"pixel_values": _centred(pixels)}
    if "label" in dataset.column_names:
        tensors["labels"] = torch.tensor(dataset["label"])
    return tensors


def side_of(dataset: Dataset, most: int = 32) -> int:
    """The longer side of the first picture, rounded up to a multiple of 4, at least 8."""
    longest = max(_images(dataset.select([0]))[0].size)
    return min(most, max(8, -(-longest // 4) * 4))


def _images(dataset: Dataset) -> Sequence[Any]:
    """The column of images. Raises DataError, which lists the columns, where there is none."""
    if "image" not in dataset.column_names:
        raise DataError(
            "there are no images: the columns are "
            f"{', '.join(dataset.column_names)}; name theirs with image_column"
        )
    return dataset["image"]


def reader(side: int, *, operations: Sequence[str] = (), seed: int = 0) -> Callable:
    """For `dataset.with_transform(...)`: rows as they are read, `pixel_values` and `labels`.

    With `operations` of `image_augmentation` each reading draws one of them anew: right for
    training, wrong for anything that is measured.
    """
    rng = np.random.default_rng(seed)

    def read(rows: dict[str, list]) -> dict[str, list]:
        pixels = [to_pixels(image, side, 1, "black") for image in rows["image"]]
        if operations:
            changed = [
                image_augmentation.OPERATIONS[str(rng.choice(list(operations)))](one[0], rng)
                for one in pixels
            ]
            pixels = [one[None] for one in changed]
        values = [_centred(one) for one in pixels]
        return {"pixel_values": values, "labels": [torch.tensor(y) for y in rows["label"]]}

    return read


def fit(
    model: nn.Module,
    tensors: dict[str, Tensor],
    *,
    steps: int,
    batch_size: int = 64,
    learning_rate: float = 2e-3,
    precision: str = "fp32",
    seed: int = 0,
    name: str = "training",
) -> Curve:
    """Train `model` in place on `model(**batch).loss`; the loss of each step, as (step, loss).

    AdamW over what is trainable (weight decay 0.01), a tenth of the steps for warm-up, then a
    linear decay; gradients clipped to a norm of 1. `seed` decides the order of the rows. A set that
    is smaller than a batch is one batch.
    """
    from tqdm.auto import tqdm

    from cookbook.training.schedules import scheduler

    rows = Rows(tensors)
    batches = Batches(rows, min(batch_size, len(rows)), seed=seed)
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(trained, learning_rate, weight_decay=0.01)
    rate = scheduler(optimizer, "linear", warmup=max(1, steps // 10), total=steps)
    with tqdm(total=steps, desc=name, leave=False) as bar:
        losses = loop.train(
            model, batches, optimizer, rate, steps=steps, precision=precision, loss_fn=own_loss,
            on_step=lambda step, loss: bar.update(),
        )  # fmt: skip
    return list(enumerate(losses, 1))


def own_loss(model: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor, int]:
    """The model's own loss, a mean, as a sum over the batch's rows; and how many those are."""
    rows = len(next(iter(batch.values())))
    return model(**batch).loss * rows, rows


def logits(
    model: nn.Module, tensors: dict[str, Tensor], *, batch_size: int = 256, without: str = "labels"
) -> Tensor:
    """`model(**batch).logits` of all rows, on the CPU, in evaluation mode; not fed: `without`."""
    device, parts = next(model.parameters()).device, []
    inputs = {name: tensor for name, tensor in tensors.items() if name != without}
    for start in range(0, len(next(iter(inputs.values()))), batch_size):
        batch = {name: tensor[start : start + batch_size] for name, tensor in inputs.items()}
        with evaluating(model):
            parts.append(model(**loop.to_device(batch, device)).logits.float().cpu())
    return torch.cat(parts)


def right(model: nn.Module, tensors: dict[str, Tensor]) -> np.ndarray:
    """(n,) bool: which rows a classifier gets right."""
    return (logits(model, tensors).argmax(-1) == tensors["labels"]).numpy()


def few(tensors: dict[str, Tensor], rows: int, *, seed: int = 0) -> dict[str, Tensor]:
    """`rows` of them, as evenly over the labels as they allow, drawn from `seed`.

    >>> some = few({"labels": torch.tensor([0, 0, 0, 0, 1, 1])}, 4)
    >>> sorted(some["labels"].tolist())
    [0, 0, 1, 1]
    """
    chosen = splits.draw_evenly(tensors["labels"].numpy(), rows, seed)
    return {name: tensor[torch.from_numpy(chosen)] for name, tensor in tensors.items()}


def carry_over(model: nn.Module, trained: nn.Module, *, freeze: bool = False) -> KeyReport:
    """Pour all weights of `trained` but those of its last linear layer into `model`.

    With `freeze` what was poured stays as it is, and only the new last layer learns: features that
    were learned elsewhere, and a linear classifier on them.

    >>> from cookbook.models import build
    >>> print(carry_over(build("cnn", classes=3), build("cnn", classes=52)))
    drawn at random: 2 (head.4.bias, head.4.weight); not used: 0; of another shape: 0
    """
    last = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)][-1]
    weights = trained.state_dict()
    body = {name: w for name, w in weights.items() if not name.startswith(f"{last}.")}
    report = pour(model, body)
    if freeze:
        for name, weight in model.named_parameters():
            weight.requires_grad_(name.startswith(f"{last}."))
    return report


def _centred(pixels: np.ndarray) -> Tensor:
    """8 bits as -1 … 1."""
    return torch.from_numpy(pixels.astype(np.float32)) / 127.5 - 1
