"""Which language a translation is into, how the model is told, and how each one is scored.

One model for several languages is told by a word before the source, as T5 and Marian are told.
Used by chapter 15; the models are `sequence_to_sequence`'s.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from cookbook.evaluation import generation

if TYPE_CHECKING:
    from datasets import Dataset


def languages(part: Dataset) -> list[str]:
    """The target language of each row: its column `language`, or "zh" or "" by the alphabet.

    "" stands for any language that is written with spaces between words.
    """
    if "language" in part.column_names:
        return [str(name) for name in part["language"]]
    return [script(" ".join(part["target"][:200]))] * len(part)


def script(text: str) -> str:
    """ "zh" if most of the letters are Chinese characters, "" otherwise.

    >>> script("5公里 und"), script("5 Kilometer")
    ('', '')
    >>> script("你好, Tom!")
    ''
    >>> script("今天天气很好")
    'zh'
    """
    letters = [letter for letter in text if letter.isalpha()]
    chinese = sum(unicodedata.name(letter, "").startswith("CJK UNIFIED") for letter in letters)
    return "zh" if chinese > len(letters) / 2 else ""


def sources(part: Dataset) -> list[str]:
    """What the model reads: the source, behind its target language where there are several."""
    named = languages(part)
    if len(set(named)) < 2:
        return list(part["source"])
    return [f"{name}: {text}" for name, text in zip(named, part["source"], strict=True)]


def scores(written: Sequence[str], part: Dataset) -> dict[str, dict[str, float]]:
    """For each target language: `bleu` and `chrf` from 0 to 100, `exact` from 0 to 1.

    Chinese is compared by characters, other languages as `sacrebleu` cuts words.

    >>> from datasets import Dataset
    >>> part = Dataset.from_dict({"source": ["red"], "target": ["rot"], "language": ["de"]})
    >>> scores(["rot"], part)["de"]["exact"]
    1.0
    """
    named, found = np.array(languages(part)), {}
    for name in sorted(set(named.tolist())):
        at = np.flatnonzero(named == name)
        ours, theirs = [written[i] for i in at], [part["target"][int(i)] for i in at]
        found[name] = {
            "bleu": generation.bleu(ours, theirs, language=name or "en"),
            "chrf": generation.chrf(ours, theirs),
            "exact": float(np.mean([a == b for a, b in zip(ours, theirs, strict=True)])),
        }
    return found
