"""Metrics of generated text: ROUGE by hand, BLEU and chrF through `sacrebleu`, as SQuAD scores.

Does: what chapters 12 and 15 report for summaries, translations and extracted answers. Does not:
judge meaning; all of these count words or letters in common.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Rouge(NamedTuple):
    """Shares from 0 to 1: of the candidate's pieces, of the reference's, and their F1."""

    precision: float
    recall: float
    f1: float


def rouge_n(candidate: str, reference: str, n: int = 1) -> Rouge:
    """Pieces of n words that both texts hold, each as often as both do.

    Words are runs of letters and digits, in lower case, without stemming. Equal to `rouge_score`
    with `use_stemmer=False`. Source: Lin 2004, ROUGE, section 2.

    >>> rouge_n("the cat sat", "the cat")
    Rouge(precision=0.6666666666666666, recall=1.0, f1=0.8)
    """
    found, wanted = (Counter(_pieces(_words(text), n)) for text in (candidate, reference))
    return _rouge((found & wanted).total(), found.total(), wanted.total())


def rouge_l(candidate: str, reference: str) -> Rouge:
    """The longest common subsequence of words, gaps allowed. Source: Lin 2004, section 3.

    >>> rouge_l("police killed the gunman", "police kill the gunman").recall
    0.75
    """
    found, wanted = _words(candidate), _words(reference)
    return _rouge(_common(found, wanted), len(found), len(wanted))


def rouge(candidates: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    """Mean F1 over the texts: `rouge1`, `rouge2`, `rougeL`, from 0 to 1.

    >>> rouge(["a b c"], ["a b c"])
    {'rouge1': 1.0, 'rouge2': 1.0, 'rougeL': 1.0}
    """
    pairs = _pairs(candidates, references)
    scores = {"rouge1": rouge_n, "rouge2": lambda c, r: rouge_n(c, r, 2), "rougeL": rouge_l}
    return {name: float(np.mean([score(*p).f1 for p in pairs])) for name, score in scores.items()}


def bleu(candidates: Sequence[str], references: Sequence[str], *, language: str = "en") -> float:
    """Corpus BLEU, 0 to 100, by `sacrebleu` with its own tokeniser ("zh": by characters).

    The counts are summed over the corpus before they are divided: the mean of sentences' BLEU is
    another, larger or smaller, number. Source: Papineni et al. 2002; Post 2018, arXiv:1804.08771.

    >>> round(bleu(["the cat sat on the mat"], ["the cat sat on the mat"]), 6)
    100.0
    """
    import sacrebleu

    pairs = _pairs(candidates, references)
    way = {"tokenize": "zh"} if language.startswith("zh") else {}
    found, wanted = zip(*pairs, strict=True)
    return float(sacrebleu.corpus_bleu(list(found), [list(wanted)], **way).score)


def chrf(candidates: Sequence[str], references: Sequence[str]) -> float:
    """chrF, 0 to 100: F2 of common runs of 1 to 6 letters, by `sacrebleu`. Popović 2015.

    Better than BLEU on short texts and on languages with long words.

    >>> round(chrf(["Haus"], ["Haus"]), 6)
    100.0
    """
    import sacrebleu

    found, wanted = zip(*_pairs(candidates, references), strict=True)
    return float(sacrebleu.corpus_chrf(list(found), [list(wanted)]).score)


def normalized_answer(text: str) -> str:
    """Lower case, no punctuation, no articles, single spaces: as SQuAD's script compares answers.

    >>> normalized_answer("The  Eiffel Tower!")
    'eiffel tower'
    """
    plain = "".join(letter for letter in text.lower() if letter not in set(string.punctuation))
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", plain).split())


def exact_match(answer: str, references: Sequence[str]) -> float:
    """1.0 if the answer equals one of the references after normalisation, else 0.0.

    >>> exact_match("the Tower", ["tower", "Paris"])
    1.0
    """
    return float(any(normalized_answer(answer) == normalized_answer(r) for r in references))


def answer_f1(answer: str, references: Sequence[str]) -> float:
    """Best F1 of words in common with one of the references. Rajpurkar et al. 2016, 1606.05250.

    An empty answer is right only where the reference is empty, too (SQuAD 2.0).

    >>> answer_f1("tower of London", ["the tower"])
    0.5
    """
    return max((_word_f1(answer, reference) for reference in references), default=0.0)


def _word_f1(answer: str, reference: str) -> float:
    found, wanted = normalized_answer(answer).split(), normalized_answer(reference).split()
    if not found or not wanted:
        return float(found == wanted)
    same = (Counter(found) & Counter(wanted)).total()
    return 2 * same / (len(found) + len(wanted))


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9]+", text.lower())


def _pieces(words: Sequence[str], n: int) -> list[tuple[str, ...]]:
    return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]


def _common(first: Sequence[str], second: Sequence[str]) -> int:
    """Length of the longest common subsequence, by rows of the table."""
    above = [0] * (len(second) + 1)
    for word in first:
        row = [0]
        for j, other in enumerate(second):
            row.append(above[j] + 1 if word == other else max(above[j + 1], row[j]))
        above = row
    return above[-1]


def _rouge(same: int, found: int, wanted: int) -> Rouge:
    precision, recall = same / max(1, found), same / max(1, wanted)
    return Rouge(precision, recall, 2 * precision * recall / (precision + recall) if same else 0.0)


def _pairs(candidates: Sequence[str], references: Sequence[str]) -> list[tuple[str, str]]:
    if len(candidates) != len(references) or not len(candidates):
        raise ValueError(
            f"{len(candidates)} candidates for {len(references)} references: pair them"
        )
    return list(zip(candidates, references, strict=True))
