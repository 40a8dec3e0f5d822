"""The opponents of every dense retriever: BM25 and TF-IDF, over the words of code and prose.

BM25 is the library's (`bm25s`), TF-IDF scikit-learn's; what is ours is how text is cut into words,
so that `reverse_array` can be found by "array". Used by chapter 05 and `cookbook search`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

_NAME = re.compile(r"[A-Za-z_]\w*|\d+")
_PART = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
# Frequent words weigh little by themselves; these, of questions, are rare in documentation.
STOP = frozenset(
    "a an and are as at be by can could do does for from get how i if in is it its me my of on or "
    "should that the there this to use using want was we what when where which with you your"
    .split()
)  # fmt: skip


def words(text: str) -> list[str]:
    """Lower-case words, a compound name as a whole and in its parts; stop words left out.

    >>> words("How do I sort a DataFrame by_index?")
    ['sort', 'dataframe', 'data', 'frame', 'by_index', 'index']
    """
    found = []
    for name in _NAME.findall(text):
        parts = [part.lower() for part in _PART.findall(name)]
        found += [name.lower(), *parts] if len(parts) > 1 else parts
    return [word for word in found if word not in STOP]


def bm25_index(documents: Sequence[str]) -> Any:
    """A `bm25s.BM25` over the words of `documents`, k1 = 1.5 and b = 0.75, Lucene's variant.

    Its `get_scores(words(query))` gives one score a document, and its `save` writes a folder.
    """
    import bm25s

    index = bm25s.BM25()
    index.index([words(text) for text in documents], show_progress=False)
    return index


def bm25(queries: Sequence[str], documents: Sequence[str]) -> np.ndarray:
    """BM25 scores (queries, documents) float32; 0 where no word is shared.

    A document's score is the sum over the query's words of `idf * tf / (tf + norm)`, where `norm`
    grows with the document's length. Robertson and Zaragoza 2009, "The Probabilistic Relevance
    Framework: BM25 and Beyond".

    >>> bm25(["reverse"], ["sort it", "reverse_array"]).argmax()
    np.int64(1)
    """
    index = bm25_index(documents)
    return np.stack([bm25_scores(index, query) for query in queries])


def bm25_scores(index: Any, query: str) -> np.ndarray:
    """Scores (documents,) of one query by an index of `bm25_index`; all 0 for unknown words."""
    known = [word for word in words(query) if word in index.vocab_dict]
    if not known:
        return np.zeros(index.scores["num_docs"], dtype=np.float32)
    return index.get_scores(known)


def tfidf(queries: Sequence[str], documents: Sequence[str]) -> np.ndarray:
    """Cosines of TF-IDF vectors, (queries, documents) float32, by scikit-learn.

    >>> tfidf(["reverse"], ["sort it", "reverse_array"]).argmax()
    np.int64(1)
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    # With an analyzer of ours, the vectorizer's own pattern would be ignored with a warning.
    vectorizer = TfidfVectorizer(analyzer=words, sublinear_tf=True, dtype=np.float32)
    known = vectorizer.fit_transform(documents)
    return (vectorizer.transform(queries) @ known.T).toarray()
