"""A text as words, as a key and as a set of shingles: what "the same text" is measured on.

A text is cut into words (into characters where a script writes no spaces); the words joined
again are its fingerprint, and every run of five neighbouring words is a shingle. It compares
no rows with each other: `deduplication` does. Used by chapters 00 and 01.
"""

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b
from itertools import chain

import numpy as np

# Thai, Lao, Myanmar, Khmer, kana, Han: written without spaces, so that a character is a word.
UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\U00020000-\U0003ffff"
# Soft hyphen, zero-width characters, direction marks, variation selectors: seen by no reader.
_INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff]"
)
# Unicode categories that end a word: punctuation, modifier symbols, separators, controls.
_GAPS = set("Pc Pd Ps Pe Pi Pf Po Sk Zs Zl Zp Cc Cf Cs".split())
_CHUNK = 20_000  # texts held as lists of words at one time


def _is_gap(character: str) -> bool:
    return unicodedata.category(character) in _GAPS


_ASCII_GAPS = {code: " " for code in range(128) if _is_gap(chr(code))}


@lru_cache(maxsize=1)
def _unicode_word() -> re.Pattern:
    """A word in any script: what lies between spaces, controls and punctuation.

    Not `\\w+`: that drops combining marks (Hindi would lose its vowels) and `+`, `$`, emoji.
    """
    # Only the basic plane: `re` looks characters beyond it up one by one, 500 times slower.
    gap = re.escape("".join(c for c in map(chr, range(0x10000)) if _is_gap(c)))
    return re.compile(f"[{UNSPACED}]|[^{gap}{UNSPACED}]+")


def words(text: str) -> list[str]:
    """Case-folded words of a text after NFKC; single characters where a script has no spaces.

    >>> words("Ｔｈｅ well-known CAFÉ, C++ & 数据!")
    ['the', 'well', 'known', 'café', 'c++', '数', '据']
    """
    if text.isascii():  # ten times faster than the pattern, and most of a corpus
        return text.lower().translate(_ASCII_GAPS).split()
    text = unicodedata.normalize("NFKC", _INVISIBLE.sub("", text)).casefold()
    return _unicode_word().findall(unicodedata.normalize("NFKC", text))


def fingerprint(text: str) -> str:
    """The key under which two texts count as the same one: case, spacing, punctuation aside.

    A text without any word (`":-)"`) is its own key. Chinese is keyed character by character.

    >>> fingerprint("Free entry!!  Text WIN.") == fingerprint("free  ENTRY, text: win")
    True
    >>> fingerprint(":-)") == fingerprint(":-(")
    False
    """
    return " ".join(words(text)) or " ".join(unicodedata.normalize("NFKC", text).split())


def shingles(text: str, size: int = 5) -> set[tuple[str, ...]]:
    """All runs of `size` neighbouring words; a shorter text is one shingle, an empty one none.

    >>> sorted(shingles("to be or not", size=3))
    [('be', 'or', 'not'), ('to', 'be', 'or')]
    """
    found = words(text)
    count = max(len(found) - size + 1, 1) if found else 0
    return {tuple(found[i : i + size]) for i in range(count)}


def jaccard(first: str, second: str, size: int = 5) -> float:
    """Shared shingles over all shingles of two texts, 0 to 1 (Jaccard 1901, Broder 1997).

    >>> jaccard("to be or not", "to be or not to", size=3)
    0.6666666666666666
    """
    a, b = shingles(first, size), shingles(second, size)
    return len(a & b) / len(a | b) if a | b else float(fingerprint(first) == fingerprint(second))


class _WordHashes(dict):
    """word -> 64-bit hash, the same in every process (Python's own `hash` is salted)."""

    def __missing__(self, word: str) -> int:
        digest = blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        self[word] = value = int.from_bytes(digest, "little")
        return value


def shingle_hashes(texts: Sequence[str], size: int) -> tuple[np.ndarray, np.ndarray]:
    """Hashes of the shingles of all texts, flat (uint64), and where each text starts (n + 1,)."""
    hashes, flats, counts = _WordHashes(), [np.zeros(0, np.uint64)], [np.zeros(1, np.int64)]
    for begin in range(0, len(texts), _CHUNK):
        split = [words(text) for text in texts[begin : begin + _CHUNK]]
        lengths = np.array([len(w) for w in split], dtype=np.int64)
        flat = np.fromiter(map(hashes.__getitem__, chain.from_iterable(split)), np.uint64)
        rolled, kept = _roll(flat, lengths, size)
        flats.append(rolled)
        counts.append(kept)
    return np.concatenate(flats), np.cumsum(np.concatenate(counts))


def _roll(flat: np.ndarray, lengths: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Polynomial hash of every window of `size` words that lies within one text."""
    ends = np.repeat(np.cumsum(lengths), lengths)
    place = np.arange(len(flat))
    rolled = np.zeros(len(flat), np.uint64)
    for step in range(size):  # a window cut off by the end of a short text hashes fewer words
        inside = place + step < ends
        ahead = flat[np.minimum(place + step, len(flat) - 1)] if len(flat) else flat
        rolled = np.where(inside, rolled * np.uint64(0x9E3779B97F4A7C15) + ahead, rolled)
    first = np.zeros(len(flat), bool)
    first[(np.cumsum(lengths) - lengths)[lengths > 0]] = True
    whole = (place + size <= ends) | first
    return rolled[whole], np.where(lengths > 0, np.maximum(lengths - size + 1, 1), 0)
