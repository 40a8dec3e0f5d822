"""BLEU and chrF by hand, to be read; equal to `sacrebleu`, which `generation` reports by.

Both count pieces that translation and reference have in common, over the whole corpus before
anything is divided. They take words and letters as they come: no tokeniser. Chapter 15.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

ORDER = 4  # BLEU's longest run of words
LETTERS, BETA = 6, 2  # chrF's longest run of letters, and how much more recall weighs


def bleu_by_hand(candidates: Sequence[str], references: Sequence[str]) -> float:
    """Corpus BLEU, 0 to 100, of words between spaces.

        BLEU = 100 · min(1, e^(1 - r/c)) · (p1 p2 p3 p4)^(1/4)

    p_n is the share of the candidates' runs of n words that their references have too, each run as
    often as there; c and r are the words of all candidates and references. Where no run of some n
    is right, its count is taken as 1/2, 1/4, ...: sacrebleu's "exp" smoothing. Equal to
    `sacrebleu.corpus_bleu(tokenize="none")`. Papineni et al. 2002; Chen and Cherry 2014.

    >>> round(bleu_by_hand(["the cat sat on the mat"], ["the cat sat on a mat"]), 2)
    53.73
    """
    right, total, words, wanted = [0] * ORDER, [0] * ORDER, 0, 0
    for candidate, reference in zip(candidates, references, strict=True):
        found, known = candidate.split(), reference.split()
        words, wanted = words + len(found), wanted + len(known)
        for n in range(1, ORDER + 1):
            ours, theirs = _runs(found, n), _runs(known, n)
            right[n - 1] += (ours & theirs).total()
            total[n - 1] += ours.total()
    if not right[0] or not all(total):
        return 0.0
    shares, halved = [], 1
    for same, of in zip(right, total, strict=True):
        halved *= 1 if same else 2
        shares.append(same / of if same else 1 / (halved * of))
    brevity = min(1.0, math.exp(1 - wanted / words))
    return 100 * brevity * math.exp(sum(map(math.log, shares)) / ORDER)


def chrf_by_hand(candidates: Sequence[str], references: Sequence[str]) -> float:
    """chrF2, 0 to 100: runs of 1 to 6 letters in common, spaces left out, recall counting double.

        chrF = 100 · (1 + 2²) P R / (2² P + R)

    P and R are means over the lengths of runs, of shares that are over the whole corpus; a length
    that no pair of texts has is left out. Equal to `sacrebleu.corpus_chrf`. Source: Popović 2015.

    >>> round(chrf_by_hand(["Häuser"], ["Haus"]), 1)
    24.4
    """
    shares = []
    for n in range(1, LETTERS + 1):
        same = found = wanted = 0
        for candidate, reference in zip(candidates, references, strict=True):
            ours, theirs = (_runs("".join(text.split()), n) for text in (candidate, reference))
            # A reference too short for runs of n letters says nothing about the candidate's.
            found += ours.total() if theirs else 0
            wanted += theirs.total()
            same += (ours & theirs).total()
        if found and wanted:
            shares.append((same / found, same / wanted))
    precision, recall = np.mean(shares, axis=0) if shares else (0.0, 0.0)
    below = BETA**2 * precision + recall
    return float(100 * (1 + BETA**2) * precision * recall / below) if below else 0.0


def _runs(pieces: Sequence[str] | str, n: int) -> Counter:
    """How often each run of n pieces occurs."""
    return Counter(tuple(pieces[i : i + n]) for i in range(len(pieces) - n + 1))
