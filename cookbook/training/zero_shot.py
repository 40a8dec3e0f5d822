"""What can be asked of two towers: which caption, which picture, which class, without a new head.

Does: vectors of rows, retrieval both ways with its chance level, classes described by prompts, and
a baseline that learns nothing (the caption of the nearest training picture). Does not: train
(`training.clip` does), nor rank (`evaluation.retrieval` does). Chapter 05 uses it.
Source: Radford et al. 2021, arXiv:2103.00020, section 3.1.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from cookbook.evaluation import retrieval
from cookbook.maths.contrastive import unit
from cookbook.training.clip import ImageTextCollator
from cookbook.training.loop import to_device
from cookbook.training.masked_accuracy import evaluating

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from cookbook.models.two_towers import TwoTowers

# What a caption of `glyphs` looks like; in lower case, as the captions are read.
TEMPLATES = ("{}", "{} letter", "{} small letter", "{} capital letter", "{} sign", "{} symbol")


def image_text_vectors(
    model: TwoTowers,
    rows: Sequence[dict[str, Any]],
    tokenizer: PreTrainedTokenizerBase,
    *,
    batch_size: int = 256,
) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors of the pictures and of the captions of `rows`, (n, d) float32 each."""
    collate, device = ImageTextCollator(tokenizer, groups=False), next(model.parameters()).device
    parts = []
    for start in range(0, len(rows), batch_size):
        batch = to_device(collate(rows[start : start + batch_size]), device)
        with evaluating(model):
            pictures, captions, _ = model(**batch)
        parts.append((pictures.cpu().numpy(), captions.cpu().numpy()))
    pictures, captions = zip(*parts, strict=True)
    return np.concatenate(pictures), np.concatenate(captions)


def one_of_each(groups: Sequence[int]) -> np.ndarray:
    """The first row of each group, ascending: no two of them have the same picture or caption.

    >>> one_of_each([7, 7, 3, 7, 3]).tolist()
    [0, 2]
    """
    return np.sort(np.unique(np.asarray(groups), return_index=True)[1])


def retrieve(pictures: np.ndarray, captions: np.ndarray) -> dict[str, np.ndarray]:
    """Ranks of the right caption for each picture, and of the right picture for each caption.

    Unit vectors (n, d), row i of one belonging to row i of the other; ranks (n,), 1 is best.
    """
    return {
        "caption": retrieval.ranks_by_cosine(pictures, captions),
        "picture": retrieval.ranks_by_cosine(captions, pictures),
    }


def figures(found: np.ndarray, k: Sequence[int] = (1, 10)) -> dict[str, float]:
    """Recall at each k and the median rank.

    >>> figures(np.array([1, 3, 20]))
    {'recall@1': 0.3333333333333333, 'recall@10': 0.6666666666666666, 'median rank': 3.0}
    """
    recalls = {f"recall@{n}": retrieval.recall_at(found, n) for n in k}
    return recalls | {"median rank": float(np.median(found))}


def chance(candidates: int, k: Sequence[int] = (1, 10)) -> dict[str, float]:
    """What `figures` are to be expected of a model that ranks at random.

    >>> chance(500)
    {'recall@1': 0.002, 'recall@10': 0.02, 'median rank': 250.5}
    """
    recalls = {f"recall@{n}": min(1.0, n / candidates) for n in k}
    return recalls | {"median rank": (candidates + 1) / 2}


def prompts(names: Sequence[str], templates: Sequence[str] = TEMPLATES) -> list[list[str]]:
    """For each class the templates with its name in the place of `{}`.

    >>> prompts(["greek"], ["{}", "{} letter"])
    [['greek', 'greek letter']]
    """
    return [[template.replace("{}", name) for template in templates] for name in names]


def class_vectors(
    model: TwoTowers, texts: Sequence[Sequence[str]], tokenizer: PreTrainedTokenizerBase
) -> np.ndarray:
    """A unit vector for each class (classes, d): the mean of the unit vectors of its texts.

    `texts` are prompts, or captions that are known to belong to the class. Averaging vectors, not
    scores, costs one classifier however many texts there are.
    """
    flat = [text.lower() for one in texts for text in one]
    vectors = text_vectors(model, flat, tokenizer)
    ends = np.cumsum([len(one) for one in texts])[:-1]
    means = np.stack([part.mean(0) for part in np.split(vectors, ends)])
    return means / np.linalg.norm(means, axis=1, keepdims=True)


def text_vectors(
    model: TwoTowers,
    texts: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    *,
    length: int = 24,
    batch_size: int = 256,
) -> np.ndarray:
    """Unit vectors of texts, (n, d) float32, cut at `length` tokens as captions are."""
    device, parts = next(model.parameters()).device, []
    for start in range(0, len(texts), batch_size):
        batch = tokenizer(
            list(texts[start : start + batch_size]), padding=True, truncation=True,
            max_length=length, return_tensors="pt",
        ).to(device)  # fmt: skip
        with evaluating(model):
            parts.append(unit(model.text(batch["input_ids"], batch["attention_mask"]).float()))
    return torch.cat(parts).cpu().numpy()


def classify(pictures: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """(n,) int64: for each picture's vector (n, d) the nearest class (classes, d), by cosine."""
    return (pictures @ classes.T).argmax(1)


def class_of(captions: Sequence[str], classes: Mapping[str, str]) -> np.ndarray:
    """(n,) int: the first class whose regular expression is found in the caption; -1 for none.

    >>> class_of(["LATIN SMALL LETTER A", "COMET"], {"latin": "^LATIN", "arrow": "ARROW"}).tolist()
    [0, -1]
    """
    patterns = [re.compile(pattern) for pattern in classes.values()]
    return np.array(
        [next((n for n, p in enumerate(patterns) if p.search(text)), -1) for text in captions]
    )


def copied_captions(
    known: np.ndarray, known_captions: Sequence[str], pictures: np.ndarray, captions: Sequence[str]
) -> np.ndarray:
    """The baseline: scores (n, m) of `captions` by the words of the nearest known picture's name.

    `known` (k, ...) and `pictures` (n, ...) are pixels; nearest is by Euclidean distance. Two names
    are as near as the cosine of their TF-IDF vectors (scikit-learn). Nothing is learned.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    left, right = (x.reshape(len(x), -1).astype(np.float32) for x in (pictures, known))
    distances = (right**2).sum(1)[None] - 2 * left @ right.T
    copied = [known_captions[row] for row in distances.argmin(1)]
    words = TfidfVectorizer(token_pattern=r"[^\W_]+").fit(known_captions)
    return (words.transform(copied) @ words.transform(captions).T).toarray()
