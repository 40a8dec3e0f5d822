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


def class_vectors(
    model: TwoTowers,
    names: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    templates: Sequence[str] = TEMPLATES,
) -> np.ndarray:
    """A unit vector for each class (classes, d): the mean of its prompts' unit vectors.

    Each template has one `{}` for the name. Averaging vectors, not scores, costs one classifier
    however many templates there are.
    """
    prompts = [template.format(name).lower() for name in names for template in templates]
    batch = tokenizer(prompts, padding=True, return_tensors="pt")
    device = next(model.parameters()).device
    with evaluating(model):
        ids, mask = batch["input_ids"].to(device), batch["attention_mask"].to(device)
        vectors = torch.nn.functional.normalize(model.text(ids, mask).float(), dim=-1)
    means = vectors.cpu().numpy().reshape(len(names), len(templates), -1).mean(1)
    return means / np.linalg.norm(means, axis=1, keepdims=True)


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
