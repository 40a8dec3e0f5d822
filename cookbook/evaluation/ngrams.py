"""A language model without a network: counts of characters, the baseline of every other one.

Does: Witten-Bell interpolated character n-grams, whose probabilities add up to 1. Does not: words,
files, or speed beyond a few million characters. Used by chapter 04.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable

import numpy as np

START, END = "\ue000", "\ue001"  # of the private use area: no text holds them


class CharacterNgrams:
    """P(character | the `order - 1` before it), from counts; `order` 1 knows frequencies only.

    A longer history is trusted as far as it was seen: with c(h) its count and t(h) the number of
    different characters that followed it, P(x | h) = (c(hx) + t(h) P(x | h')) / (c(h) + t(h)),
    where h' is h without its first character. At the bottom all characters of the training text,
    the end of a text, and all other characters together, share alike. Source: Witten and Bell 1991;
    Chen and Goodman 1998, section 2.2.

    >>> model = CharacterNgrams(2).fit(["abab"] * 50)
    >>> model.probability("b", "a") > 0.9
    True
    """

    def __init__(self, order: int) -> None:
        if order < 1:
            raise ValueError(f"order is {order}: a history cannot be shorter than nothing")
        self.order = order
        self.counts: Counter[str] = Counter()
        self.seen: Counter[str] = Counter()  # c(h)
        self.kinds: Counter[str] = Counter()  # t(h)
        self.symbols: set[str] = {END}

    def fit(self, texts: Iterable[str]) -> CharacterNgrams:
        """Count; returns itself."""
        for text in texts:
            self.symbols |= set(text)
            padded = self._pad(text)
            for size in range(1, self.order + 1):
                first = self.order - size
                self.counts.update(
                    padded[i : i + size] for i in range(first, len(padded) - size + 1)
                )
        for gram, count in self.counts.items():
            self.seen[gram[:-1]] += count
            self.kinds[gram[:-1]] += 1
        return self

    def probability(self, character: str, history: str = "") -> float:
        """P(character | history), of which the last `order - 1` characters count."""
        found = 1 / (len(self.symbols) + 1)
        history = (
            history[len(history) - self.order + 1 :] if len(history) >= self.order else history
        )
        history = history if self.order > 1 else ""
        for start in range(len(history), -1, -1):
            tail = history[start:]
            seen, kinds = self.seen[tail], self.kinds[tail]
            if seen:
                found = (self.counts[tail + character] + kinds * found) / (seen + kinds)
        return found

    def nats(self, text: str) -> np.ndarray:
        """(len(text) + 1,): `-ln P` of each character given those before it, and of the end."""
        padded, before = self._pad(text), self.order - 1
        return np.array(
            [
                -math.log(self.probability(padded[i], padded[i - before : i]))
                for i in range(before, len(padded))
            ]
        )

    def _pad(self, text: str) -> str:
        return START * (self.order - 1) + text + END
