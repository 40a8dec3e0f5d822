"""The runs of chapter 05: train and look on, rank held-out pairs, and two mistakes to learn from.

Does: train a `PairEncoder` while its place on the alignment-uniformity plane is noted, rank
held-out pairs, repeat rows as a join does. Does not: train differently from `contrastive.train`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from cookbook.data.errors import DataError
from cookbook.evaluation import retrieval
from cookbook.maths.contrastive import alignment, uniformity
from cookbook.training import contrastive
from cookbook.training.loop import to_device
from cookbook.training.masked_accuracy import evaluating
from cookbook.training.order import Batches

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict
    from transformers import PreTrainedTokenizerBase

Curve = list[tuple[float, float]]
PLACED = 64  # held-out pairs that a place on the plane is measured on


def pairs_of(data: DatasetDict, negative_column: str = "") -> DatasetDict:
    """`data` of `cookbook.data.load`, if it has pairs; a column of hard negatives as `negative`.

    Raises DataError for data without a `text_pair`, and for a column that is not there.
    """
    names = data["train"].column_names
    if not {"text", "text_pair"} <= set(names):
        raise DataError(
            f"no pairs: the columns are {', '.join(names)}; name one that says the same, or "
            "answers the text, as text_pair_column"
        )
    if negative_column and negative_column not in names:
        raise DataError(f"no column {negative_column!r}: there are {', '.join(names)}")
    return data.rename_column(negative_column, "negative") if negative_column else data


class Run(NamedTuple):
    """What a run leaves: the model, `(step, loss)`, and its places `(uniformity, alignment)`."""

    model: contrastive.PairEncoder
    loss: Curve
    path: Curve


def run(
    encoder: torch.nn.Module,
    dataset: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    loss_fn: Callable,
    *,
    steps: int,
    held_out: Dataset | None = None,
    size: int = 64,
    lengths: tuple[int, int] = (32, 64),
    groups: bool = True,
    seed: int = 0,
    places: int = 8,
    **settings: Any,
) -> Run:
    """Train a `PairEncoder` of `encoder` on `dataset`; `places` times note where it stands.

    `held_out` are pairs that the places are measured on, before the first step too; without them
    none is. `settings` go to `contrastive.train`. Shows a progress bar.
    """
    from tqdm.auto import tqdm

    torch.manual_seed(seed)  # dropout is drawn from here
    model = contrastive.PairEncoder(encoder)
    collate = contrastive.PairCollator(tokenizer, groups=groups)
    rows = contrastive.pair_rows(dataset, tokenizer, lengths)
    batches = Batches(rows, min(size, len(rows)), seed=seed, collate=collate)
    probe, loss, path = None, [], []
    if held_out is not None:
        some = held_out.select(range(min(PLACED, len(held_out))))
        probe = collate(contrastive.pair_rows(some, tokenizer, lengths))
        path.append(place(model, probe))
    every = max(1, steps // places)
    with tqdm(total=steps, desc="by contrast", unit="step", leave=False) as bar:

        def on_step(step: int, value: float) -> None:
            loss.append((step, value))
            if probe is not None and step % every == 0:
                path.append(place(model, probe))
            bar.update()

        contrastive.train(model, batches, loss_fn, steps=steps, on_step=on_step, **settings)
    return Run(model, loss, path)


def place(model: contrastive.PairEncoder, batch: dict[str, Tensor]) -> tuple[float, float]:
    """`(uniformity, alignment)` of a batch of pairs, dropout off."""
    with evaluating(model):
        left, right = model(**to_device(batch, next(model.parameters()).device))[:2]
    return float(uniformity(torch.cat([left, right]))), float(alignment(left, right))


def ranks(
    model: contrastive.PairEncoder,
    dataset: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    *,
    query: str = "text",
    lengths: tuple[int, int] = (32, 64),
    precision: str = "fp32",
) -> np.ndarray:
    """Rank of the right `text_pair` among those of `dataset`, asked by column `query`: (rows,)."""
    queries, answers = (
        contrastive.encode(model, dataset[name], tokenizer, length=length, precision=precision)
        for name, length in ((query, lengths[0]), ("text_pair", lengths[1]))
    )
    return retrieval.ranks_by_cosine(queries, answers)


def alone(dataset: Dataset) -> Dataset:
    """The texts of both sides, once each and without their pairs: all that SimCSE may see.

    >>> from datasets import Dataset
    >>> alone(Dataset.from_dict({"text": ["a", "b"], "text_pair": ["b", "c"]}))["text"][:]
    ['a', 'b', 'c']
    """
    from datasets import Dataset

    both = dict.fromkeys([*dataset["text"], *dataset["text_pair"]])
    return Dataset.from_dict({"text": list(both)})


def repeated(batch: dict[str, Any], times: int) -> dict[str, Any]:
    """WRONG: every row of a batch `times` times, as a join leaves them that was made on one side.

    >>> repeated({"groups": torch.tensor([0, 1])}, 2)["groups"].tolist()
    [0, 0, 1, 1]
    """
    return {name: value.repeat_interleave(times, 0) for name, value in batch.items()}


def in_batch_accuracy(sides: Sequence[Tensor]) -> float:
    """Share of rows whose own partner scores highest in the batch; ties go to the first row.

    >>> in_batch_accuracy([torch.ones(4, 2), torch.ones(4, 2)])
    0.25
    """
    scores = sides[0] @ sides[1].T
    right = scores.argmax(1) == torch.arange(len(scores), device=scores.device)
    return float(right.float().mean())
