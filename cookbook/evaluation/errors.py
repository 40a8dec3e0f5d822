"""Where a classifier errs: by class, by slice of the rows, and where it was surest of itself.

Does: the pairs of classes that are confused, accuracy by slices with intervals, the mistakes worth
reading first, rows changed in one word to look for bias. Does not: find wrong labels
(`label_errors`), draw. Used by chapter 12.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from cookbook.evaluation.metrics import confusion_matrix
from cookbook.evaluation.significance import bootstrap_interval

if TYPE_CHECKING:
    import pandas as pd

FEW = 20  # rows under which a slice's accuracy says little


def confusions(
    predictions: Sequence[int], references: Sequence[int], names: Sequence[str]
) -> pd.DataFrame:
    """Pairs of classes by how often the one was taken for the other, the most frequent first.

    Columns `label`, `predicted`, `rows`, and `share` of the label's rows. `names` gives each class
    its name.

    >>> confusions([1, 1, 0], [0, 1, 0], ["ham", "spam"]).to_dict("records")
    [{'label': 'ham', 'predicted': 'spam', 'rows': 1, 'share': 0.5}]
    """
    import pandas as pd

    counts = confusion_matrix(predictions, references, range(len(names)))
    pairs = [
        {"label": names[i], "predicted": names[j], "rows": int(counts[i, j]),
         "share": float(counts[i, j] / counts[i].sum())}
        for i, j in zip(*np.nonzero(counts), strict=True) if i != j
    ]  # fmt: skip
    frame = pd.DataFrame(pairs, columns=["label", "predicted", "rows", "share"])
    return frame.sort_values("rows", ascending=False, kind="stable", ignore_index=True)


def slices(
    right: Sequence[bool], groups: Mapping[str, Sequence], *, few: int = FEW, seed: int = 0
) -> pd.DataFrame:
    """Accuracy in every slice, worst first: `groups` maps a property to its value for each row.

    Columns `property`, `value`, `rows`, `accuracy`, `low`, `high` (95 %, bootstrap) and `worse`: is
    the whole interval below the accuracy of all rows? Of 40 slices one is, by chance. Slices of
    fewer than `few` rows are put together under "(rare)". Raises ValueError where lengths differ.

    >>> found = slices([True] * 30 + [False] * 30, {"long": [False] * 30 + [True] * 30})
    >>> found[["value", "accuracy", "worse"]].values.tolist()
    [[True, 0.0, True], [False, 1.0, False]]
    """
    import pandas as pd

    hits = np.asarray(right, bool)
    rows = []
    for name, values in groups.items():
        if len(values) != len(hits):
            raise ValueError(f"{name!r} has {len(values)} values for {len(hits)} rows")
        often = Counter(values)
        kept = np.array([i if often[v] >= few else -1 for i, v in enumerate(values)])
        for value in [*(v for v, n in often.items() if n >= few), None]:
            mine = (
                np.array([k >= 0 and values[k] == value for k in kept])
                if value is not None
                else kept < 0
            )
            if mine.any():
                rows.append(_slice(name, "(rare)" if value is None else value, hits, mine, seed))
    frame = pd.DataFrame(rows)
    return frame.sort_values("accuracy", kind="stable", ignore_index=True)


def by_length(texts: Sequence[str], parts: int = 4) -> list[str]:
    """The part of each text among equally many, by its number of words: "1-12 words" and so on.

    >>> by_length(["a", "a b", "a b c", "a b c d"], 2)
    ['1-2 words', '1-2 words', '3-4 words', '3-4 words']
    """
    words = np.array([len(text.split()) for text in texts])
    edges = np.unique(np.quantile(words, np.linspace(0, 1, parts + 1)[1:], method="lower"))
    place = np.searchsorted(edges, words)
    lows = [int(words[place == k].min()) for k in range(len(edges))]
    return [f"{lows[k]}-{int(edges[k])} words" for k in place]


def rare_words(texts: Sequence[str], known: Sequence[str], *, often: int = 3) -> list[float]:
    """Share of each text's words that occur fewer than `often` times in the texts `known`.

    >>> rare_words(["alpha beta", "alpha"], ["alpha alpha alpha beta"])
    [0.5, 0.0]
    """
    counts = Counter(word for text in known for word in _words(text))
    found = [_words(text) for text in texts]
    return [sum(counts[w] < often for w in words) / max(1, len(words)) for words in found]


def surest_mistakes(
    probabilities: np.ndarray, labels: Sequence[int], count: int = 10
) -> np.ndarray:
    """The wrong rows with the most probability on the wrong class, the surest first: (<= count,).

    Read these before anything else: half of them are often wrong labels.

    >>> surest_mistakes(np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8]]), [1, 0, 1]).tolist()
    [0, 1]
    """
    given, truth = np.asarray(probabilities, float), np.asarray(labels)
    wrong = np.flatnonzero(given.argmax(1) != truth)
    return wrong[np.argsort(-given[wrong].max(1), kind="stable")][:count]


def swapped(texts: Sequence[str], pairs: Mapping[str, str]) -> tuple[list[str], np.ndarray]:
    """The same texts with each word of `pairs` replaced by its partner, both ways; who changed.

    Whole words, in the case in which they stand ("He" -> "She"). A fair model's answer for a
    changed row should not move where the pair is no reason for it. Returns the texts and a bool for
    each: (rows,). Source: Garg et al. 2019, arXiv:1809.10610, counterfactual token fairness.

    >>> swapped(["He said it.", "Nothing."], {"he": "she"})
    (['She said it.', 'Nothing.'], array([ True, False]))
    """
    both = {k.lower(): v for k, v in pairs.items()} | {v.lower(): k for k, v in pairs.items()}
    known = re.compile(r"\b(" + "|".join(map(re.escape, both)) + r")\b", re.IGNORECASE)
    changed = [known.sub(lambda found: _cased(both[found[0].lower()], found[0]), t) for t in texts]
    return changed, np.array([a != b for a, b in zip(texts, changed, strict=True)])


def _slice(name: str, value: object, hits: np.ndarray, mine: np.ndarray, seed: int) -> dict:
    found = bootstrap_interval(hits[mine], seed=seed)
    return {
        "property": name,
        "value": value,
        "rows": int(mine.sum()),
        "accuracy": found.estimate,
        "low": found.low,
        "high": found.high,
        "worse": bool(found.high < hits.mean()),
    }


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def _cased(word: str, like: str) -> str:
    return (
        word.upper()
        if like.isupper() and len(like) > 1
        else word.capitalize()
        if like[0].isupper()
        else word
    )
