"""Word2Vec trained on texts in seconds: words, pairs, steps, neighbours.

The network and its loss are `models.word2vec`. Words are runs of letters and digits, or single
Chinese characters; rarer ones than `vocab_size` have no vector. Used by chapter 04.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from typing import Any, NamedTuple

import torch

from cookbook.models.word2vec import Word2Vec, draw_negatives, skip_gram_pairs

WORD = re.compile(r"[\u3400-\u9fff]|[^\W_\u3400-\u9fff]+")


class WordVectors(NamedTuple):
    """A trained model, its words by frequency, and the loss of each step."""

    model: Any
    words: list[str]
    curve: list[tuple[int, float]]

    def neighbours(self, word: str, count: int = 5) -> list[str]:
        """The words that point most nearly the same way. Raises ValueError for an unknown word."""
        if word not in self.words:
            raise ValueError(f"{word!r} is not among the {len(self.words)} most frequent words")
        found = self.model.neighbours(self.words.index(word), min(count, len(self.words) - 1))
        return [self.words[i] for i in found]


def words_of(text: str) -> list[str]:
    """Words in lower case.

    >>> words_of("The i-th array, 春眠")
    ['the', 'i', 'th', 'array', '春', '眠']
    """
    return WORD.findall(text.lower())


def train_word_vectors(
    texts: Iterable[str],
    *,
    vocab_size: int = 4000,
    width: int = 64,
    window: int = 4,
    steps: int = 600,
    batch_size: int = 4096,
    learning_rate: float = 5e-3,
    frequent: float = 1e-3,
    seed: int = 0,
) -> WordVectors:
    """Skip-gram with five negatives on `texts`, by Adam with a linear decay.

    Frequent words are left out at random, one of share f with probability 1 - sqrt(frequent / f):
    "the" says little about its neighbours. Source: Mikolov et al. 2013, arXiv:1310.4546, section
    2.3. Raises ValueError for texts without two words side by side.
    """
    from tqdm.auto import tqdm

    coded, words, counts = _code(texts, vocab_size)
    generator = torch.Generator().manual_seed(seed)
    kept = (frequent / (counts / counts.sum())).sqrt().clamp(max=1)
    centres, contexts = _pairs(coded, kept, window, generator)
    torch.manual_seed(seed)
    model, curve = Word2Vec(len(words), width), []
    optimizer = torch.optim.Adam(model.parameters(), learning_rate)
    decay = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.05, steps)
    for step in tqdm(range(1, steps + 1), "word vectors", leave=False):
        chosen = torch.randint(len(centres), (batch_size,), generator=generator)
        negatives = draw_negatives(counts, batch_size, generator=generator)
        loss = model(centres[chosen], contexts[chosen], negatives).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        decay.step()
        curve.append((step, loss.item()))
    return WordVectors(model, words, curve)


def _code(texts: Iterable[str], size: int) -> tuple[list[torch.Tensor], list[str], torch.Tensor]:
    """Texts as numbers of their words, the words by frequency, and how often each occurs."""
    split = [words_of(text) for text in texts]
    common = Counter(word for text in split for word in text).most_common(size)
    number = {word: i for i, (word, _) in enumerate(common)}
    coded = [torch.tensor([number[w] for w in text if w in number]) for text in split]
    return coded, list(number), torch.tensor([count for _, count in common])


def _pairs(
    coded: list[torch.Tensor], kept: torch.Tensor, window: int, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """All (centre, context), after words were left out, each kept with its probability `kept`."""
    texts = [
        ids[torch.rand(len(ids), generator=generator) < kept[ids]] for ids in coded if len(ids)
    ]
    # Long texts in pieces: every pair is looked up in a table of length squared.
    pieces = [piece for ids in texts for piece in ids.split(256) if len(piece) > 1]
    if not pieces:
        raise ValueError("no two words stand side by side: give more text")
    centres, contexts = zip(*(skip_gram_pairs(ids, window) for ids in pieces), strict=True)
    return torch.cat(centres), torch.cat(contexts)
