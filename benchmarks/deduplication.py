"""Near de-duplication of docstrings: speed, and agreement with datasketch and with the truth.

Asserts that `cookbook.data.near_duplicates` takes at least 7,000 docstrings from text to verdict
in a CPU-second, and that what it removes of 60,000 agrees to at least 95 % (Jaccard of the removed
sets) with what `datasketch` removes: with its own default bands and its own estimate, as it is
commonly used, and with our bands and exact verification. On 20,000 rows it also compares with the
truth, all pairs of the sparse shingle matrix. Times are CPU time of the whole process, so that a
busy machine shows little. Writes `results/deduplication.json`. About a minute and a half.

    python benchmarks/deduplication.py
"""

from __future__ import annotations

import json
import os
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
from machine import describe, load_average
from scipy.sparse import csr_matrix

from cookbook.data import deduplication, embedded
from cookbook.data.shingles import shingle_hashes

ROWS, TRUTH_ROWS, ROUNDS = 60_000, 20_000, 3
THRESHOLD = 0.8
RESULTS = Path(__file__).parent / "results" / "deduplication.json"


def docstrings(rows: int) -> list[str]:
    """`rows` docstrings of the training split, duplicates included, in random order."""
    texts = embedded.build("docstrings")["train"]["text"][:]
    order = np.random.default_rng(0).permutation(len(texts))[:rows]
    return [texts[row] for row in order]


def removed(leader: np.ndarray) -> set[int]:
    """The rows that are not the first of their cluster."""
    return set(np.flatnonzero(leader != np.arange(len(leader))).tolist())


def agreement(ours: set[int], theirs: set[int]) -> float:
    """Jaccard similarity of two sets of removed rows."""
    return len(ours & theirs) / len(ours | theirs)


def datasketch(texts: list[str], bands: tuple[int, int] | None, exact: bool) -> tuple[set, float]:
    """Rows that datasketch removes, and the CPU seconds it takes, shingling included."""
    from datasketch import MinHash, MinHashLSH

    begin = time.process_time()
    index = MinHashLSH(threshold=THRESHOLD, num_perm=128, params=bands)
    sets = [[" ".join(s).encode() for s in deduplication.shingles(text)] for text in texts]
    hashes = MinHash.bulk(sets, num_perm=128)
    for row, hashed in enumerate(hashes):
        index.insert(row, hashed)
    pairs = []
    for row, hashed in enumerate(hashes):
        for other in index.query(hashed):
            if other < row and alike(texts, hashes, row, other, exact):
                pairs.append((other, row))
    leader = deduplication.components(np.arange(len(texts)), np.array(pairs).reshape(-1, 2))
    return removed(leader), time.process_time() - begin


def alike(texts: list[str], hashes: list, row: int, other: int, exact: bool) -> bool:
    """Whether a pair is similar enough: by its shingles, or by its signatures."""
    if not exact:
        return hashes[row].jaccard(hashes[other]) >= THRESHOLD
    return deduplication.jaccard(texts[row], texts[other]) >= THRESHOLD


def truth(texts: list[str]) -> set[int]:
    """Rows to remove according to all pairs: the product of the sparse shingle matrix."""
    first = deduplication.exact_duplicates(texts)
    rows = np.unique(first)
    flat, starts = shingle_hashes([texts[row] for row in rows], 5)
    sets = [np.unique(flat[a:b]) for a, b in zip(starts[:-1], starts[1:], strict=True)]
    sizes = np.array([len(one) for one in sets])
    columns = np.unique(np.concatenate(sets), return_inverse=True)[1]
    matrix = csr_matrix((np.ones(len(columns), np.int32), columns, np.cumsum([0, *sizes])))
    leader = np.arange(len(rows))
    for begin in range(0, len(rows), 500):
        shared = (matrix[begin : begin + 500] @ matrix.T).tocoo()
        left, right = shared.row + begin, shared.col
        share = shared.data / (sizes[left] + sizes[right] - shared.data)
        pairs = np.stack([left, right], axis=1)[(share >= THRESHOLD) & (left < right)]
        leader = deduplication.components(leader, pairs)
    return removed(rows[leader][np.searchsorted(rows, first)])


def main() -> None:
    texts = docstrings(ROWS)
    deduplication.near_duplicates(texts[:100])  # imports, outside the clock
    seconds = []
    for _ in range(ROUNDS):
        begin = time.process_time()
        leader = deduplication.near_duplicates(texts, threshold=THRESHOLD)
        seconds.append(time.process_time() - begin)
    ours = removed(leader)
    common, common_seconds = datasketch(texts, None, exact=False)
    verified, _ = datasketch(texts, deduplication.bands_for(THRESHOLD), exact=True)
    few = texts[:TRUTH_ROWS]
    true, found = truth(few), removed(deduplication.near_duplicates(few))
    result = {
        "documents": len(texts),
        "mean_characters": round(sum(map(len, texts)) / len(texts), 1),
        "documents_per_cpu_second": [round(len(texts) / one) for one in seconds],
        "removed": len(ours),
        "of_them_exact_copies": len(removed(deduplication.exact_duplicates(texts))),
        "datasketch_documents_per_cpu_second": round(len(texts) / common_seconds),
        "jaccard_with_datasketch_defaults_estimated": round(agreement(ours, common), 4),
        "jaccard_with_datasketch_our_bands_verified": round(agreement(ours, verified), 4),
        "truth_documents": len(few),
        "truth_removed": len(true),
        "truth_missed": len(true - found),
        "truth_wrongly_removed": len(found - true),
        "corpus": embedded.fingerprint(),
        "load_average": load_average(),
        "machine": describe() | {name: version(name) for name in ("rensa", "datasketch")},
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))
    assert len(texts) == ROWS and sum(map(len, texts)) / len(texts) > 400
    assert min(result["documents_per_cpu_second"]) >= 7_000
    assert agreement(ours, common) >= 0.95 and agreement(ours, verified) >= 0.95
    assert not found - true and len(true - found) <= 0.01 * len(true)


if __name__ == "__main__":
    os.environ.setdefault("RAYON_NUM_THREADS", "1")  # rensa: one thread, as everything else
    main()
