"""Pictures and captions into one space by contrast, from random weights.

Does: rows and batches of image-text pairs in which equal pictures and captions are known, CLIP's
loss, training from random weights. Does not: the towers (`models.two_towers`), InfoNCE
(`maths.contrastive`), retrieval and classes by prompts (`training.zero_shot`). Chapter 05 uses it.
Source: Radford et al. 2021, arXiv:2103.00020.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from cookbook.data.deduplication import fingerprint
from cookbook.maths.contrastive import info_nce
from cookbook.models.two_towers import ImageTower, TextTower, TwoTowers
from cookbook.training import contrastive
from cookbook.training.order import Batches

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase


def clip_loss(outputs: tuple[Tensor, Tensor, Tensor], batch: dict[str, Tensor]) -> Tensor:
    """Symmetric InfoNCE with a learned scale, in nats: the mean of "which caption?" and "which
    picture?" over the batch.

    `outputs` are vectors of pictures and captions, (n, d) each, and the scale. Rows that share
    their `groups` (n,) in the batch show or say the same, and are no negatives of one another.

    >>> one = torch.ones(4, 2)
    >>> round(float(clip_loss((one, one, torch.tensor(10.0)), {})), 4)  # ln 4
    1.3863
    """
    pictures, captions, scale = outputs
    groups = batch.get("groups")
    return info_nce(pictures, captions, temperature=1 / scale, groups=groups, symmetric=True)


def image_text_rows(
    dataset: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    *,
    side: int = 32,
    channels: int = 1,
    length: int = 24,
) -> list[dict[str, Any]]:
    """A dict a row: `pixels` (channels, side, side) uint8, `input_ids` of the caption, `groups`.

    `dataset` has the columns image and caption. Pictures are fitted into a white square, captions
    put in lower case, since "ACE OF SPADES" and "ace of spades" say the same. `groups` numbers the
    rows that are linked through an equal picture, an equal caption, or the column `group`.
    """
    pixels = [to_pixels(image, side, channels) for image in dataset["image"]]
    captions = [caption.lower() for caption in dataset["caption"]]
    ids = tokenizer(captions, truncation=True, max_length=length)["input_ids"]
    keys = [[hashlib.blake2b(x.tobytes(), digest_size=8).hexdigest() for x in pixels]]
    keys.append([fingerprint(caption) for caption in captions])
    if "group" in dataset.column_names:
        keys.append([str(group) for group in dataset["group"]])
    names = ("pixels", "input_ids", "groups")
    return [
        dict(zip(names, row, strict=True)) for row in zip(pixels, ids, linked(keys), strict=True)
    ]


def to_pixels(image: Any, side: int, channels: int, ground: str = "white") -> np.ndarray:
    """A PIL image as (channels, side, side) uint8, its shape kept, `ground` where it is clear."""
    from PIL import Image, ImageOps

    if image.mode not in ("L", "RGB"):  # a palette or an alpha channel may hide what is clear
        whole = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", whole.size, ground), whole)
    flat = image.convert("L" if channels == 1 else "RGB")
    if flat.size != (side, side):
        flat = ImageOps.pad(flat, (side, side), color=ground)
    return np.asarray(flat).reshape(side, side, channels).transpose(2, 0, 1)


def linked(keys: Sequence[Sequence[str]]) -> list[int]:
    """A number for each row, the same for rows that are linked through an equal key, in any list.

    >>> linked([["a", "b", "c", "d"], ["x", "y", "y", "z"]])
    [0, 1, 1, 2]
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    rows, offset, ends = len(keys[0]), len(keys[0]), []
    for values in keys:
        known = {value: offset + place for place, value in enumerate(dict.fromkeys(values))}
        ends += [known[value] for value in values]
        offset += len(known)
    starts = np.tile(np.arange(rows), len(keys))
    links = coo_matrix((np.ones(len(ends), bool), (starts, ends)), shape=(offset, offset))
    found = connected_components(links, directed=False)[1][:rows]
    return np.unique(found, return_inverse=True)[1].tolist()


class ImageTextCollator:
    """Rows of `image_text_rows` as a batch of `TwoTowers`: ink as 1, white ground as -1.

    `groups=False` leaves out which rows say the same; then they are negatives of one another.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, *, groups: bool = True) -> None:
        self.tokenizer, self.groups = tokenizer, groups

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        texts = [{"input_ids": row["input_ids"]} for row in rows]
        batch = dict(self.tokenizer.pad(texts, return_tensors="pt"))
        pixels = torch.from_numpy(np.stack([row["pixels"] for row in rows]))
        batch = {name: batch[name] for name in ("input_ids", "attention_mask")}
        batch["pixel_values"] = 1 - pixels.float() / 127.5
        if self.groups:
            batch["groups"] = torch.tensor([row["groups"] for row in rows])
        return batch


def train_clip(
    rows: Sequence[dict[str, Any]],
    tokenizer: PreTrainedTokenizerBase,
    *,
    steps: int,
    batch_size: int = 256,
    learning_rate: float = 1e-3,
    d: int = 128,
    groups: bool = True,
    seed: int = 0,
    device: str = "cpu",
    precision: str = "fp32",
    on_step: Callable[[int, float, float], object] = lambda step, loss, scale: None,
) -> TwoTowers:
    """`TwoTowers` trained from random weights on `rows` of `image_text_rows`.

    `on_step(step, loss, scale)` is called after each step. `seed` decides weights and order.
    """
    torch.manual_seed(seed)
    text = TextTower(d, vocab_size=len(tokenizer))
    model = TwoTowers(ImageTower(d, channels=len(rows[0]["pixels"])), text).to(device)
    collate = ImageTextCollator(tokenizer, groups=groups)
    batches = Batches(rows, min(batch_size, len(rows)), seed=seed, collate=collate)

    def after(step: int, loss: float) -> None:
        model.clip_scale()
        on_step(step, loss, model.scale.item())

    contrastive.train(
        model, batches, clip_loss, steps=steps, learning_rate=learning_rate, precision=precision,
        on_step=after,
    )  # fmt: skip
    return model
