"""One small batch of each kind, from what is installed: enough to see whether a model learns.

Docstrings of Python's own `str`, scikit-learn's digits, and captions for them. No files, no
downloads, and no substitute for `cookbook.data`: a chapter trains on that. `profiling` and the
tests of this wing use it.
"""

from __future__ import annotations

import collections
import inspect
import re
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from cookbook.models.text import END, MASK, PAD, START, UNKNOWN
from cookbook.models.word2vec import draw_negatives, skip_gram_pairs

WORDS = "zero one two three four five six seven eight nine".split()
CAPTION = "a picture of the digit".split()
CAPTION_IDS = {word: MASK + 1 + i for i, word in enumerate([*CAPTION, *WORDS])}


@cache
def _documents() -> tuple[tuple[str, ...], ...]:
    names = [name for name in dir(str) if not name.startswith("_")]
    texts = [inspect.getdoc(getattr(str, name)) or "" for name in names]
    return tuple(tuple(re.findall(r"\w+|[^\w\s]", text.lower())) for text in texts)


def text_ids(rows: int = 8, length: int = 16, vocab_size: int = 512) -> Tensor:
    """(rows, length) ids of docstrings of `str`: [CLS] words [SEP], padded with 0.

    Words are numbered by how often they occur; those beyond the vocabulary are [UNK].

    >>> tuple(text_ids(2, 12).shape), int(text_ids(2, 12)[0, 0])
    ((2, 12), 2)
    """
    counted = collections.Counter(word for text in _documents() for word in text)
    known = [word for word, _ in counted.most_common(vocab_size - MASK - 1)]
    number = {word: MASK + 1 + i for i, word in enumerate(known)}
    ids = torch.full((rows, length), PAD)
    for row, text in enumerate(_documents()[:rows]):
        words = [number.get(word, UNKNOWN) for word in text[: length - 2]]
        ids[row, : len(words) + 2] = torch.tensor([START, *words, END])
    return ids


def causal(vocab_size: int = 512, seed: int = 0) -> dict[str, Tensor]:
    """Labels are the inputs themselves: the models shift."""
    ids = text_ids(vocab_size=vocab_size)
    return _padded(ids) | {"labels": ids.masked_fill(ids == PAD, -100)}


def masked(vocab_size: int = 512, seed: int = 0) -> dict[str, Tensor]:
    """15 % of the words are hidden behind [MASK] and asked for."""
    ids = text_ids(vocab_size=vocab_size)
    draw = torch.rand(ids.shape, generator=torch.Generator().manual_seed(seed))
    hidden = (draw < 0.15) & (ids > MASK)
    inputs, labels = ids.masked_fill(hidden, MASK), ids.masked_fill(~hidden, -100)
    return {"input_ids": inputs, "attention_mask": (ids != PAD).long(), "labels": labels}


def permuted(vocab_size: int = 512, seed: int = 0, targets: int = 4) -> dict[str, Tensor]:
    """XLNet's batch: the last `targets` of a random order, each predicted from those before it."""
    ids = text_ids(vocab_size=vocab_size)
    rows, length = ids.shape
    generator = torch.Generator().manual_seed(seed)
    rank = (
        torch.rand(rows, length, generator=generator)
        .masked_fill(ids == PAD, -1)
        .argsort(1)
        .argsort(1)
    )
    asked = rank.argsort(1)[:, -targets:]
    hidden = (rank[:, None, :] >= rank[:, :, None]) & (rank >= length - targets)[:, None, :]
    return _padded(ids) | {
        "perm_mask": hidden.float(), "target_mapping": F.one_hot(asked, length).float(),
        "labels": ids.gather(1, asked),
    }  # fmt: skip


def infilled(vocab_size: int = 512, seed: int = 0) -> dict[str, Tensor]:
    """BART's batch: words 3 to 5 of each text behind one [MASK], the whole text to be written."""
    ids = text_ids(vocab_size=vocab_size)
    gap = torch.full((len(ids), 1), MASK)
    return _source(torch.cat((ids[:, :3], gap, ids[:, 6:]), dim=1), ids)


def spans(vocab_size: int = 512, seed: int = 0) -> dict[str, Tensor]:
    """T5's batch: words 3 to 5 behind a sentinel, the last id, and only they to be written."""
    ids = text_ids(vocab_size=vocab_size)
    first, second = (torch.full((len(ids), 1), vocab_size - 1 - i) for i in range(2))
    source = torch.cat((ids[:, :3], first, ids[:, 6:]), dim=1)
    return _source(source, torch.cat((first, ids[:, 3:6], second), dim=1))


def shortened(vocab_size: int = 512, seed: int = 0) -> dict[str, Tensor]:
    """A text, and its first words to be written: summarisation in its smallest form."""
    ids = text_ids(vocab_size=vocab_size)
    return _source(ids, torch.cat((ids[:, 1:7], torch.full((len(ids), 1), END)), dim=1))


def neighbours(vocab_size: int = 512, seed: int = 0) -> dict[str, Tensor]:
    """Word2Vec's batch: true pairs at most two words apart, five random words for each."""
    ids = text_ids(vocab_size=vocab_size)
    texts = [row[row > MASK] for row in ids]
    centres, contexts = (torch.cat(part) for part in zip(*map(skip_gram_pairs, texts), strict=True))
    counts = torch.bincount(torch.cat(texts), minlength=vocab_size)
    generator = torch.Generator().manual_seed(seed)
    negatives = draw_negatives(counts, len(centres), generator=generator)
    return {"centres": centres, "contexts": contexts, "negatives": negatives}


@cache
def _digits(image_size: int) -> tuple[Tensor, Tensor]:
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 8 - 1
    return F.interpolate(images, size=(image_size, image_size)), torch.tensor(digits.target)


def digits(rows: int = 20, image_size: int = 8, seed: int = 0) -> dict[str, Tensor]:
    """`pixel_values` (rows, 1, size, size) from -1 to 1, `labels` (rows,): handwritten, in turn.

    >>> digits(10)["labels"].tolist()
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    """
    images, labels = _digits(image_size)
    return {"pixel_values": images[:rows].clone(), "labels": labels[:rows].clone()}


def pixels(rows: int = 20, image_size: int = 8, seed: int = 0) -> dict[str, Tensor]:
    """Digits without labels."""
    return {"pixel_values": digits(rows, image_size)["pixel_values"]}


def gaps(
    rows: int = 10, image_size: int = 8, seed: int = 0, patches: int = 16
) -> dict[str, Tensor]:
    """Digits, and which patches the masked autoencoder hides: always the same of each."""
    noise = torch.rand(rows, patches, generator=torch.Generator().manual_seed(seed))
    return pixels(rows, image_size) | {"noise": noise}


def captioned(image_size: int = 8, seed: int = 0) -> dict[str, Tensor]:
    """Ten digits, each class once, with "a picture of the digit …": no caption fits two images."""
    batch = digits(10, image_size)
    words = [[*CAPTION, WORDS[label]] for label in batch["labels"].tolist()]
    ids = torch.tensor([[START, *(CAPTION_IDS[word] for word in text), END] for text in words])
    return _padded(ids) | {"pixel_values": batch["pixel_values"]}


def paired(image_size: int = 8, seed: int = 0) -> dict[str, Any]:
    """CLIP's batch; its loss has to be asked for."""
    return captioned(image_size) | {"return_loss": True}


def asked(image_size: int = 8, seed: int = 0) -> dict[str, Tensor]:
    """VL-BERT's batch: the digit's name is masked, only the image can tell; 2 patches as well."""
    batch = captioned(image_size)
    answer = batch["input_ids"] >= CAPTION_IDS[WORDS[0]]
    labels = batch["input_ids"].masked_fill(~answer, -100)
    noise = torch.rand(len(labels), 16, generator=torch.Generator().manual_seed(seed))
    hidden = noise.argsort(1).argsort(1) < 2
    ids = batch["input_ids"].masked_fill(answer, MASK)
    return batch | {"input_ids": ids, "labels": labels, "hidden_patches": hidden}


def described(image_size: int = 8, seed: int = 0) -> dict[str, Tensor]:
    """Flamingo's batch: a caption to be written about each image."""
    batch = captioned(image_size)
    return batch | {"labels": batch["input_ids"].masked_fill(batch["input_ids"] == PAD, -100)}


def _padded(ids: Tensor) -> dict[str, Tensor]:
    return {"input_ids": ids, "attention_mask": (ids != PAD).long()}


def _source(source: Tensor, target: Tensor) -> dict[str, Tensor]:
    return _padded(source) | {"labels": target.masked_fill(target == PAD, -100)}
