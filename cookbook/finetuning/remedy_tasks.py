"""What the remedies are tried on: few labelled texts, few labelled pictures.

Both draw as many training rows as they are told, other ones for each seed, and leave the remedy's
own changes of rows and model to `Remedy`. Runs are in `remedies`. Chapter 09.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from cookbook.data import augmentation, image_augmentation
from cookbook.data.splits import few
from cookbook.finetuning import cells, freezing
from cookbook.finetuning.distillation import shortened
from cookbook.finetuning.encoding import check_splits, classes_of, collator, encode_rows, predict
from cookbook.finetuning.layers import layers_of
from cookbook.finetuning.remedies import Remedy
from cookbook.finetuning.trials import Task, without_keys
from cookbook.models import build
from cookbook.models.initialization import load_model
from cookbook.training import order, regularization

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

COPIES = 8  # edited versions of each row: an epoch for each before one comes back


class Texts:
    """Labelled texts and a pretrained classifier; `rows` of the training split are used.

    `dataset` has `train` (all rows that there are), `validation` and `test`. `model` is a
    checkpoint. Raises DataError for data without classes, splits or labels.
    """

    def __init__(
        self,
        model: str,
        dataset: Mapping[str, Dataset],
        *,
        rows: int,
        max_length: int = 32,
        precision: str = "fp32",
    ) -> None:
        self.pool, self.rows, self.max_length = dataset["train"], rows, max_length
        check_splits(dataset)
        held = {name: dataset[name] for name in ("validation", "test")}
        some = {"train": self.pool.select(range(1))}  # what is trained on is drawn anew each time
        self.task = Task(model, some | held, max_length=max_length, precision=precision)

    def key(self) -> list:
        """What the texts and the model are, for a fingerprint."""
        held = [self.task.rows["validation"], self.task.rows["test"]]
        held = [[(row["input_ids"], row["labels"]) for row in rows] for rows in held]
        data = cells.digest([self.pool["text"][:], self.pool["label"][:], held])
        return [data, cells.model_key(self.task.name), self.rows, self.max_length]

    def labels(self, split: str) -> np.ndarray:
        """(rows,) class numbers."""
        return np.array([row["labels"] for row in self.task.rows[split]])

    def train_rows(self, remedy: Remedy, seed: int) -> Dataset:
        """The training rows of a seed, as many as `remedy.rows` says, edited copies after them."""
        kept = draw(self.pool, round(self.rows * remedy.rows), seed)
        if not remedy.edits:
            return kept
        return augmentation.augment(
            kept, operations=remedy.edits, rate=remedy.edit_rate, copies=COPIES, seed=seed,
            mask=self.task.tokenizer.mask_token or "",
        )  # fmt: skip

    def encoded(self, dataset: Dataset) -> list[dict[str, Any]]:
        """Token ids and labels, a dict a row."""
        return encode_rows(dataset, self.task.tokenizer, self.max_length)

    def batches(self, remedy: Remedy, seed: int, size: int) -> Sequence[dict]:
        """`batches[k]`, padded; as many epochs as are asked for."""
        rows = self.encoded(self.train_rows(remedy, seed))
        collate = partial(without_keys, collate=collator(self.task.tokenizer))
        return order.Batches(rows, min(size, len(rows)), seed=seed, collate=collate)

    def own_rows(self, seed: int) -> tuple[list, np.ndarray]:
        """The rows that the plain run trains on, and their classes."""
        rows = self.encoded(draw(self.pool, self.rows, seed))
        return rows, np.array([row["labels"] for row in rows])

    def model(self, remedy: Remedy, seed: int) -> torch.nn.Module:
        """The checkpoint with a new head, as the remedy wants it; without one, no dropout."""
        if remedy.random:
            labels, plain = len(self.task.classes), {"attn_implementation": "eager"}
            model = load_model(
                self.task.name, "classification", num_labels=labels, random=True, seed=seed, **plain
            ).to(self.task.device)
        else:
            model = self.task.new(seed)
        if remedy.smaller:
            shortened(model)
        regularization.set_dropout(model, remedy.dropout)
        return rest(model, remedy.freeze) if remedy.freeze else model

    def logits(self, model: torch.nn.Module, split: str | list) -> np.ndarray:
        """(rows, classes) of a split, or of encoded rows; dropout is off."""
        rows = self.task.rows[split] if isinstance(split, str) else split
        return predict(model, rows, self.task.tokenizer, precision=self.task.precision)


def draw(pool: Dataset, rows: int, seed: int) -> Dataset:
    """`rows` of the pool, classes as evenly as there are; more rows contain the fewer ones."""
    return few({"train": pool}, rows, 0, seed=seed)["train"]


def rest(model: torch.nn.Module, layers: int) -> torch.nn.Module:
    """Freeze the embeddings and the lowest `layers`, -1 for all; head and pooler go on training."""
    own = layers_of(model)
    top = list(own)[layers:] if layers > 0 else []
    chosen = {id(p) for layer in top for p in layer.parameters()}
    names = {name for name, p in model.named_parameters() if id(p) in chosen}
    return freezing.train_only(model, names)


class Pictures:
    """Small labelled pictures and a convolutional network from random weights.

    `dataset` has `image` and `label` columns and three splits; pictures are read as grey, scaled to
    0 … 1, all of one size. Raises DataError for data without classes, splits or labels.
    """

    def __init__(self, dataset: DatasetDict, *, rows: int, size: str = "mini") -> None:
        self.pool, self.rows, self.size = check_splits(dataset)["train"], rows, size
        self.classes = len(classes_of(dataset))
        self.held = {name: pixels(dataset[name]) for name in ("validation", "test")}
        self.side = self.held["test"][0].shape[-1]
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    def key(self) -> list:
        """What the pictures and the network are, for a fingerprint."""
        sums = [cells.digest(x.tolist()) for pair in self.held.values() for x in pair]
        train = [cells.digest(x.tolist()) for x in pixels(self.pool)]
        return [train, sums, self.rows, self.size]

    def labels(self, split: str) -> np.ndarray:
        """(rows,) class numbers."""
        return self.held[split][1]

    def batches(self, remedy: Remedy, seed: int, size: int) -> Sequence[dict]:
        """`batches[k]` of pixels and labels; under mixup the labels are shares."""
        kept = draw(self.pool, round(self.rows * remedy.rows), seed)
        if remedy.edits:
            kept = image_augmentation.augment_images(
                kept, operations=remedy.edits, copies=COPIES, seed=seed
            )
        images, labels = pixels(kept)
        rows = [{"image": x, "label": y} for x, y in zip(images, labels, strict=True)]
        collate = partial(stacked, classes=self.classes, alpha=remedy.mixup, seed=seed)
        return order.Batches(rows, min(size, len(rows)), seed=seed, collate=collate)

    def own_rows(self, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """The pictures that the plain run trains on, and their classes."""
        return pixels(draw(self.pool, self.rows, seed))

    def model(self, remedy: Remedy, seed: int) -> torch.nn.Module:
        """A network with weights of `seed`; `smaller` has a quarter of the width."""
        size = "tiny" if remedy.smaller else self.size
        return build(
            "cnn", size, seed=seed, image_size=self.side, classes=self.classes,
            dropout=remedy.dropout,
        ).to(self.device)  # fmt: skip

    @torch.no_grad()
    def logits(self, model: torch.nn.Module, split: str | np.ndarray) -> np.ndarray:
        """(rows, classes) of a split, or of pixels (rows, side, side)."""
        images = self.held[split][0] if isinstance(split, str) else split
        training = model.training
        model.eval()
        found = model(torch.tensor(images)[:, None].to(self.device)).logits.float().cpu().numpy()
        model.train(training)
        return found


def pixels(dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Pictures (rows, side, side) float32 from 0 to 1, and classes (rows,)."""
    images = np.stack([np.asarray(image.convert("L")) for image in dataset["image"]])
    return images.astype(np.float32) / 255, np.asarray(dataset["label"][:])


def stacked(rows: list[dict], *, classes: int, alpha: float, seed: int) -> dict[str, torch.Tensor]:
    """A batch of pictures (n, 1, side, side) and labels; with `alpha` both are blended by mixup.

    The blend is a function of the seed and of the first row's place, so a batch asked for again is
    the same.
    """
    images = np.stack([row["image"] for row in rows])
    labels = np.array([row["label"] for row in rows])
    if alpha:
        rng = order.key_generator(seed, rows[0]["epoch"], rows[0]["row"])
        images, labels = image_augmentation.mixup(images, labels, classes, rng, alpha=alpha)
    return {"pixel_values": torch.tensor(images)[:, None], "labels": torch.tensor(labels)}
