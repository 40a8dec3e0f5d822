"""A vocabulary of whole words, for captions and questions that are written from templates.

Does: number the words of some texts, encode texts as ids of one length, decode. Does not: cut words
into pieces; for real text train a tokenizer (`tokenization`). The first ids are the special ones,
in the order that the tokenizers of this package use. Chapter 14 uses it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


class TemplateWords:
    """Words, separated by spaces, and their numbers.

    >>> words = TemplateWords(["is there a 7 ?", "yes"])
    >>> words.encode(["is there a 7 ? [MASK]", "yes"]).tolist()
    [[2, 8, 9, 7, 6, 5, 4, 3], [2, 10, 3, 0, 0, 0, 0, 0]]
    >>> words.decode([2, 10, 3, 0])
    'yes'
    """

    def __init__(self, texts: Iterable[str]) -> None:
        known = {word for text in texts for word in text.split()} - set(SPECIAL)
        # "?" before digits before letters: sorted, so that the order of the texts does not matter
        self.words = (*SPECIAL, *sorted(known, key=lambda word: (word.isalnum(), word)))
        self.numbers = {word: number for number, word in enumerate(self.words)}

    def __len__(self) -> int:
        return len(self.words)

    def encode(self, texts: Sequence[str], length: int = 0) -> np.ndarray:
        """[CLS] words [SEP], padded: (texts, length) int64; `length` 0 is that of the longest.

        An unknown word is [UNK]. Raises ValueError for a text that is longer than `length`.
        """
        rows = [[2, *(self.numbers.get(word, 1) for word in text.split()), 3] for text in texts]
        longest = max(map(len, rows), default=2)
        if length and longest > length:
            raise ValueError(f"a text takes {longest} ids, more than {length}: raise length")
        ids = np.zeros((len(rows), length or longest), np.int64)
        for row, found in enumerate(rows):
            ids[row, : len(found)] = found
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """The words of one row, up to [SEP], without [PAD] and [CLS]."""
        found = []
        for number in ids:
            if number == 3:
                break
            if number not in (0, 2):
                found.append(self.words[number])
        return " ".join(found)
