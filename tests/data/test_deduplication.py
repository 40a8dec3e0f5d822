"""Exact and near duplicates against brute force, against datasketch, and at their edges."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cookbook.data import deduplication
from cookbook.data.deduplication import (
    bands_for,
    exact_duplicates,
    jaccard,
    near_duplicates,
    near_duplicates_across,
)

SENTENCE = "the quick brown fox jumps over the lazy dog and then it runs away into the wood"


def corpus(originals=40, copies=3, seed=0):
    """Random texts, each with copies in which a few words are exchanged."""
    rng = random.Random(seed)
    vocabulary = [f"w{i}" for i in range(400)]
    texts = []
    for _ in range(originals):
        words = rng.choices(vocabulary, k=rng.randint(30, 120))
        texts.append(" ".join(words))
        for _ in range(copies):
            edited = list(words)
            for _ in range(rng.randint(0, 3)):
                edited[rng.randrange(len(edited))] = rng.choice(vocabulary)
            texts.append(" ".join(edited))
    rng.shuffle(texts)
    return texts


def brute_force(texts, threshold):
    """Connected components of all pairs, by the definition."""
    leader = list(range(len(texts)))

    def find(row):
        while leader[row] != row:
            row = leader[row]
        return row

    for j in range(len(texts)):
        for i in range(j):
            if jaccard(texts[i], texts[j]) >= threshold:
                a, b = sorted((find(i), find(j)))
                leader[b] = a
    return [find(row) for row in range(len(texts))]


def test_no_texts_and_one_text():
    assert near_duplicates([]).tolist() == [] and exact_duplicates([]).tolist() == []
    assert near_duplicates(["a"]).tolist() == [0]
    assert near_duplicates_across([], ["a"]).tolist() == [-1]
    assert near_duplicates_across(["a"], []).tolist() == []


def test_identical_rows_are_one_cluster():
    assert near_duplicates([SENTENCE] * 500).tolist() == [0] * 500


def test_unlike_rows_stay_alone():
    texts = [f"{i} {i * i} {i + 7} {i * 31} nothing {i * 17} repeats {i * 13}" for i in range(200)]
    assert near_duplicates(texts).tolist() == list(range(200))


def test_empty_and_wordless_texts_meet_only_their_own_kind():
    assert near_duplicates(["", "?!", "", "one", "?!", "One."]).tolist() == [0, 1, 0, 3, 1, 3]


@pytest.mark.parametrize("threshold", [0.5, 0.8, 0.95])
def test_equals_brute_force(threshold):
    texts = corpus()
    expected = brute_force(texts, threshold)
    assert len(set(expected)) < len(texts)  # there is something to find
    assert near_duplicates(texts, threshold=threshold).tolist() == expected


@settings(max_examples=40)
@given(st.lists(st.text(alphabet="ab .", max_size=40), max_size=12), st.sampled_from([0.3, 0.8]))
def test_every_verdict_is_verified_and_final(texts, threshold):
    found = near_duplicates(texts, threshold=threshold, shingle_size=2)
    assert (found <= np.arange(len(texts))).all()
    assert (found[found] == found).all()
    kept = [text for row, text in enumerate(texts) if found[row] == row]
    again = near_duplicates(kept, threshold=threshold, shingle_size=2)
    assert again.tolist() == list(range(len(kept)))


def test_a_chain_is_one_cluster_although_its_ends_differ():
    words = [f"w{i}" for i in range(130)]
    texts = [" ".join(words[start : start + 100]) for start in (0, 8, 16, 24)]
    assert jaccard(texts[0], texts[3]) < 0.8 < jaccard(texts[0], texts[1])
    assert near_duplicates(texts).tolist() == [0, 0, 0, 0]


def test_chinese_has_shingles_of_characters():
    review = "送餐速度很快，味道也特别好，包装完整，骑士态度非常热情，下次还会再来点这家的外卖"
    other = "等了两个小时还没有送到，打电话也没有人接，菜都凉了，再也不会点了，太让人失望了吧"
    assert near_duplicates([review, other, review + "！真的"]).tolist() == [0, 1, 0]


def test_a_full_bucket_is_searched_to_the_end(monkeypatch):
    monkeypatch.setattr(deduplication, "BUCKET", 1)
    texts = corpus(originals=12, copies=5)
    kept = [text for row, text in enumerate(texts) if near_duplicates(texts)[row] == row]
    assert near_duplicates(kept).tolist() == list(range(len(kept)))


def test_across_finds_what_leaks_and_nothing_else():
    train = [SENTENCE, "unrelated words that no test row repeats at all, ever, anywhere"]
    test = ["Unlike them", SENTENCE.upper() + "!", SENTENCE + " again", SENTENCE[:30], SENTENCE]
    assert near_duplicates_across(train, test).tolist() == [-1, 0, 0, -1, 0]


def test_across_agrees_with_brute_force():
    texts = corpus(originals=30)
    train, test = texts[:60], texts[60:]
    found = near_duplicates_across(train, test)
    for text, row in zip(test, found, strict=True):
        best = max(jaccard(text, other) for other in train)
        assert (row >= 0) == (best >= 0.8)
        assert row < 0 or jaccard(text, train[row]) >= 0.8


def test_bands_keep_their_promise():
    for threshold in (0.3, 0.5, 0.8, 0.9):
        bands, rows = bands_for(threshold)
        assert bands * rows <= 128
        assert 1 - (1 - threshold**rows) ** bands >= 0.99
    assert bands_for(1.0) == (1, 128)


@pytest.mark.parametrize("threshold", [0, -0.1, 1.01, float("nan")])
def test_a_threshold_that_is_none(threshold):
    with pytest.raises(ValueError, match=f"threshold is {threshold}: a Jaccard similarity"):
        near_duplicates(["a", "b"], threshold=threshold)


def test_the_signatures_estimate_the_jaccard_similarity():
    """128 permutations: the share of equal bands is what `bands_for` reckons with."""
    from cookbook.data.shingles import shingle_hashes

    texts = corpus(originals=20, copies=1)
    signatures = deduplication.signatures(*shingle_hashes(texts, 5))
    assert signatures.shape == (len(texts), 128)
    pairs = [(i, j) for j in range(len(texts)) for i in range(j)]
    errors = [
        (signatures[i] == signatures[j]).mean() - jaccard(texts[i], texts[j]) for i, j in pairs
    ]
    # Standard error sqrt(s (1 - s) / 128) is 0.044 at worst; 5 of them over 780 pairs.
    assert np.abs(errors).max() < 0.22 and abs(np.mean(errors)) < 0.005


def test_the_removed_set_agrees_with_datasketch():
    """Small and quick; `benchmarks/deduplication.py` does it on 60,000 docstrings."""
    from datasketch import MinHash, MinHashLSH

    texts = corpus(originals=60)
    index = MinHashLSH(threshold=0.8, num_perm=128, params=bands_for(0.8))
    sets = [[" ".join(s).encode() for s in deduplication.shingles(text)] for text in texts]
    hashes = MinHash.bulk(sets, num_perm=128)
    removed = set()
    for row, hashed in enumerate(hashes):
        alike = [other for other in index.query(hashed) if jaccard(texts[row], texts[other]) >= 0.8]
        if alike:
            removed.add(row)
        index.insert(row, hashed)
    found = near_duplicates(texts)
    ours = set(np.flatnonzero(found != np.arange(len(texts))).tolist())
    assert len(ours & removed) >= 0.95 * len(ours | removed) > 0
