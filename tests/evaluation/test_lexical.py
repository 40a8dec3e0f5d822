"""BM25 by its formula, TF-IDF by its definition, and how names are cut into words."""

import math

import numpy as np
import pytest

from cookbook.evaluation import lexical

DOCUMENTS = [
    "Reverse the order of elements in an array",
    "Sort an array in place, in place",
    "DataFrame.sort_values(by)",
    "",
]


def by_hand(query, k1=1.5, b=0.75):
    """Lucene's variant: idf = ln(1 + (N - n + 0.5) / (n + 0.5)), no (k1 + 1) on top."""
    cut = [lexical.words(text) for text in DOCUMENTS]
    mean = np.mean([len(c) for c in cut])
    found = []
    for document in cut:
        score = 0.0
        for word in lexical.words(query):
            n = sum(word in c for c in cut)
            idf = math.log(1 + (len(cut) - n + 0.5) / (n + 0.5))
            tf = document.count(word)
            score += idf * tf / (tf + k1 * (1 - b + b * len(document) / mean)) if n else 0
        found.append(score)
    return found


@pytest.mark.parametrize("query", ["array", "sort an array in place", "sort sort", "unheard"])
def test_bm25_is_its_formula(query):
    ours = lexical.bm25([query], DOCUMENTS)[0]
    assert ours.shape == (4,) and ours == pytest.approx(by_hand(query), rel=1e-5)


def test_nothing_known_scores_zero_everywhere():
    index = lexical.bm25_index(DOCUMENTS)
    assert not lexical.bm25_scores(index, "").any()
    assert not lexical.bm25_scores(index, "how do I").any()


def test_names_are_found_by_their_parts():
    assert lexical.words("HTMLParser.read_csv2") == [
        "htmlparser", "html", "parser", "read_csv2", "read", "csv", "2",
    ]  # fmt: skip
    assert lexical.bm25(["values"], DOCUMENTS).argmax() == 2
    assert lexical.words("__init__ of a _private") == ["init", "private"]


def test_tfidf_is_a_cosine():
    scores = lexical.tfidf(DOCUMENTS[:3], DOCUMENTS)
    assert np.diag(scores) == pytest.approx(np.ones(3), abs=1e-6)
    assert not scores[:, 3].any() and scores.max() <= 1 + 1e-6
    assert scores[0, 1] == pytest.approx(scores[1, 0]) and 0 < scores[0, 1] < 1
