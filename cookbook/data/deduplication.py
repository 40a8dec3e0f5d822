"""Which rows say the same thing: exact duplicates by a normalised key, near ones by MinHash-LSH.

Two texts are near-duplicates when their sets of shingles (`shingles`: runs of five words, or
of five characters where a script writes no spaces) have a Jaccard similarity of at least 0.8.
Candidates come from MinHash signatures (`rensa`) banded by locality-sensitive hashing; every
candidate is then verified on the exact sets, so that chance never condemns a row: it can only
overlook one.

Why these parameters. Shingles of 5 words and the threshold 0.8 are those of Lee et al. (2022,
"Deduplicating Training Data Makes Language Models Better"); FineWeb (Penedo et al., 2024) uses
5-grams too, with 14 bands of 8. Since verifying is cheap here, the bands are chosen for recall:
the longest band that still finds 99 % of the pairs that lie exactly at the threshold (21 bands
of 6 hashes for 0.8 and 128 permutations), where the usual compromise between false positives
and false negatives (9 bands of 13, `datasketch`) finds 40 % of them.

It knows nothing of meaning (a paraphrase is no duplicate) and drops nothing itself: `cleaning`
does, and `splits` asks it what crosses a split. Used by chapters 00 and 01.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from cookbook.data.shingles import fingerprint, jaccard, shingle_hashes, shingles

__all__ = [
    "BUCKET",
    "band_keys",
    "bands_for",
    "components",
    "exact_duplicates",
    "fingerprint",
    "jaccard",
    "jaccard_of_pairs",
    "near_duplicates",
    "near_duplicates_across",
    "neighbours",
    "shingles",
    "signatures",
]

BUCKET = 64  # a row is compared with at most so many neighbours in one bucket: linear time
_CHUNK = 20_000  # pairs verified at one time


def exact_duplicates(texts: Iterable[str]) -> np.ndarray:
    """(n,) int64: for each row the first row with the same `fingerprint`, itself if unique.

    >>> exact_duplicates(["A cat.", "a dog", "a CAT"]).tolist()
    [0, 1, 0]
    """
    first: dict[str, int] = {}
    keys = (fingerprint(text) for text in texts)
    return np.array([first.setdefault(key, row) for row, key in enumerate(keys)], dtype=np.int64)


def near_duplicates(
    texts: Sequence[str],
    *,
    threshold: float = 0.8,
    shingle_size: int = 5,
    num_perm: int = 128,
    seed: int = 42,
) -> np.ndarray:
    """(n,) int64: for each row the first row of its cluster, itself if nothing is like it.

    Clusters are the connected components of "Jaccard of shingles >= threshold"; exact
    duplicates are among them. The rows with `result[i] == i` have no duplicate that a second
    call would find. Source: Broder (1997); Leskovec, Rajaraman, Ullman, "Mining of Massive
    Datasets", ch. 3. Raises ValueError on a threshold outside (0, 1].

    >>> a = "the quick brown fox jumps over the lazy dog and then it runs away into the wood"
    >>> near_duplicates([a, "something else", a + " again", "Something else!"]).tolist()
    [0, 1, 0, 1]
    """
    texts = list(texts)
    first = exact_duplicates(texts)
    rows = np.unique(first)  # representatives only: identical rows would fill whole buckets
    flat, starts = shingle_hashes([texts[row] for row in rows], shingle_size)
    keys = band_keys(flat, starts, threshold, num_perm, seed)
    leader = np.arange(len(rows))
    alive = np.flatnonzero(np.diff(starts) > 0)  # a text without words has only exact twins
    while True:  # a second round only matters where a bucket overflowed; then it may find more
        pairs = alive[_pairs_within(keys[alive])]
        pairs = pairs[jaccard_of_pairs(flat, starts, pairs) >= threshold]
        if not len(pairs):
            return rows[leader][np.searchsorted(rows, first)]
        leader = components(leader, pairs)
        alive = alive[leader[alive] == alive]


def near_duplicates_across(
    reference: Sequence[str],
    texts: Sequence[str],
    *,
    threshold: float = 0.8,
    shingle_size: int = 5,
    num_perm: int = 128,
    seed: int = 42,
) -> np.ndarray:
    """(len(texts),) int64: a row of `reference` that each text (nearly) repeats, or -1.

    Exact duplicates count. What lies inside `reference`, or inside `texts`, is not looked at:
    this is the question "does the test set leak into the training set?".

    >>> near_duplicates_across(["one", "two"], ["Two!", "three"]).tolist()
    [1, -1]
    """
    reference, texts = list(reference), list(texts)
    known = {fingerprint(text): row for row, text in reversed(list(enumerate(reference)))}
    found = np.array([known.get(fingerprint(text), -1) for text in texts], dtype=np.int64)
    flat, starts = shingle_hashes(reference + texts, shingle_size)
    keys = band_keys(flat, starts, threshold, num_perm, seed)
    size, full = len(reference), np.diff(starts) > 0
    old, new = np.flatnonzero(full[:size]), size + np.flatnonzero(full[size:] & (found < 0))
    pairs = _pairs_across(keys[old], keys[new])
    pairs = np.stack([old[pairs[:, 0]], new[pairs[:, 1]]], axis=1)
    pairs = pairs[jaccard_of_pairs(flat, starts, pairs) >= threshold]
    found[pairs[::-1, 1] - size] = pairs[::-1, 0]  # reversed: the first match is what stays
    return found


def bands_for(threshold: float, num_perm: int = 128, recall: float = 0.99) -> tuple[int, int]:
    """(bands, hashes per band): the longest bands that find `recall` of pairs at the threshold.

    A pair of similarity s shares a band of r hashes with probability s**r, at least one of b
    bands with 1 - (1 - s**r)**b.

    >>> bands_for(0.8)
    (21, 6)
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold is {threshold}: a Jaccard similarity in (0, 1] is needed")
    for rows in range(num_perm, 1, -1):
        if 1 - (1 - threshold**rows) ** (num_perm // rows) >= recall:
            return num_perm // rows, rows
    return num_perm, 1


def signatures(
    flat: np.ndarray, starts: np.ndarray, num_perm: int = 128, seed: int = 42
) -> np.ndarray:
    """(n, num_perm) uint64 MinHash signatures of the sets that `shingle_hashes` gives.

    The share of equal entries of two rows estimates their Jaccard similarity (Broder 1997).
    """
    from rensa import RMinHash

    matrix = RMinHash.digest_matrix_from_flat_token_hashes(
        flat, starts.astype(np.uint64), num_perm, seed
    )
    return np.array(matrix.to_rows(), dtype=np.uint64).reshape(-1, num_perm)


def band_keys(
    flat: np.ndarray, starts: np.ndarray, threshold: float, num_perm: int = 128, seed: int = 42
) -> np.ndarray:
    """(n, bands) uint64: two rows with an equal entry in one column are candidates."""
    bands, rows = bands_for(threshold, num_perm)
    hashes = signatures(flat, starts, num_perm, seed)[:, : bands * rows]
    keys = np.zeros((len(hashes), bands), np.uint64)
    for part in range(rows):
        keys = keys * np.uint64(0x9E3779B97F4A7C15) + hashes[:, part::rows]
        keys ^= keys >> np.uint64(29)
    return keys


def neighbours(ordered: np.ndarray) -> np.ndarray:
    """(p, 2) places of equal entries of a sorted array, at most 64 places apart.

    >>> neighbours(np.array([3, 5, 5, 5])).tolist()
    [[1, 2], [2, 3], [1, 3]]
    """
    found = [np.zeros((0, 2), np.int64)]
    for gap in range(1, min(BUCKET, len(ordered) - 1) + 1):
        same = np.flatnonzero(ordered[gap:] == ordered[:-gap])
        if not len(same):  # no bucket is longer than `gap`
            break
        found.append(np.stack([same, same + gap], axis=1))
    return np.concatenate(found)


def _pairs_within(keys: np.ndarray) -> np.ndarray:
    """(p, 2) pairs of rows i < j that share a bucket, each once."""
    found = [np.zeros(0, np.int64)]
    for band in keys.T:
        order = np.argsort(band, kind="stable")
        left, right = order[neighbours(band[order])].T
        found.append(left * len(keys) + right)
    return np.stack(np.divmod(np.unique(np.concatenate(found)), max(len(keys), 1)), axis=1)


def _pairs_across(old: np.ndarray, new: np.ndarray) -> np.ndarray:
    """(p, 2) pairs (row of old, row of new) that share a bucket, each once."""
    found = [np.zeros(0, np.int64)]
    for left, right in zip(old.T, new.T, strict=True):
        order = np.argsort(left, kind="stable")
        begin = np.searchsorted(left[order], right, "left")
        width = np.searchsorted(left[order], right, "right") - begin
        for gap in range(min(BUCKET, width.max(initial=0))):
            hit = np.flatnonzero(width > gap)
            found.append(order[begin[hit] + gap] * len(new) + hit)
    return np.stack(np.divmod(np.unique(np.concatenate(found)), max(len(new), 1)), axis=1)


def jaccard_of_pairs(flat: np.ndarray, starts: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """(p,) exact Jaccard similarity of the shingle sets of each pair of rows."""
    from scipy.sparse import csr_matrix

    if not len(pairs):
        return np.zeros(0)
    rows, local = np.unique(pairs, return_inverse=True)
    sets = [np.unique(flat[starts[row] : starts[row + 1]]) for row in rows]
    sizes = np.array([len(one) for one in sets], dtype=np.int64)
    columns = np.unique(np.concatenate(sets), return_inverse=True)[1]
    ends = np.concatenate([[0], np.cumsum(sizes)])
    matrix = csr_matrix((np.ones(len(columns), np.int32), columns, ends))
    shared, (left, right) = np.zeros(len(pairs)), local.reshape(-1, 2).T
    for at in range(0, len(pairs), _CHUNK):
        part = slice(at, at + _CHUNK)
        shared[part] = matrix[left[part]].multiply(matrix[right[part]]).sum(axis=1).ravel()
    return shared / (sizes[left] + sizes[right] - shared)


def components(leader: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Leaders (the first row of each component) after joining `pairs` to the components so far."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    edges = np.concatenate([pairs, np.stack([np.arange(len(leader)), leader], axis=1)])
    graph = coo_matrix((np.ones(len(edges), bool), edges.T), shape=(len(leader),) * 2)
    _, labels = connected_components(graph, directed=False)
    return np.unique(labels, return_index=True)[1][labels]
