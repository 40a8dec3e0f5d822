"""How far a measured score can be trusted: bootstrap intervals and paired tests.

Does: percentile bootstrap intervals over test rows, or over seeds and rows at once, for a mean
or any metric; the interval of a difference between two models on the same rows; McNemar's exact
test; a sign-flip permutation test. Does not: calibration, corrections for many comparisons (if
you test ten strategies, ask for p < 0.05 / 10), nor anything for rows that depend on one another.
Used wherever two numbers are compared (chapters 00, 03, 07), and explained in chapter 12.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

Metric = Callable[[np.ndarray, np.ndarray], float]


class Interval(NamedTuple):
    """A score with the bounds of its interval; unpacks as `(estimate, low, high)`."""

    estimate: float
    low: float
    high: float


class Difference(NamedTuple):
    """First minus second: estimate, bounds of its interval, two-sided p-value."""

    estimate: float
    low: float
    high: float
    p_value: float


class McNemar(NamedTuple):
    """Rows that only the first, and only the second, model got right; two-sided p-value."""

    only_first: int
    only_second: int
    p_value: float


def bootstrap_interval(
    values: Sequence,
    references: Sequence | None = None,
    *,
    metric: Metric | None = None,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Percentile bootstrap: draw the test rows again with replacement, look how the score moves.

    `values` holds one score per test row, `(rows,)`, such as 0/1 for right or wrong, and the
    statistic is their mean. Or it holds predictions, and `metric(predictions, references)`
    makes the score. With several training seeds, `(seeds, rows)` in the same row order, each
    resample draws seeds *and* rows: all seeds are scored on the same drawn rows, and averaged.
    The interval then covers another training run on another test set of this kind. With few
    seeds it is too narrow: of the variance between s seeds it sees about (s - 1) / s.

    Rows must be independent: where several come from one group, pass one mean per group. Where
    all values are the same the interval is a point, which only says that the bootstrap saw no
    variation. Raises ValueError on shapes that do not fit. Source: Efron and Tibshirani (1993),
    chapter 13; equal to `scipy.stats.bootstrap(method="percentile")` up to its random draws.

    >>> right = [1] * 80 + [0] * 20
    >>> interval = bootstrap_interval(right)  # near 0.8 +- 1.96 * sqrt(0.8 * 0.2 / 100)
    >>> interval.estimate, round(interval.low, 1), round(interval.high, 1)
    (0.8, 0.7, 0.9)
    """
    score, shape = _scorer(values, references, metric)
    drawn = [score(*draw) for draw in _draws(shape, resamples, seed)]
    return Interval(_estimate(score, shape), *_bounds(drawn, confidence))


def paired_bootstrap(
    first: Sequence,
    second: Sequence,
    references: Sequence | None = None,
    *,
    metric: Metric | None = None,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Difference:
    """Interval and p-value of the difference between two models on the *same* test rows.

    Both are scored on each drawn set of rows, so rows that are hard for both cancel out: two
    intervals may overlap while the difference is clear. Arguments as in `bootstrap_interval`;
    with seeds, `first[i]` and `second[i]` come from the same seed and are drawn together. The
    p-value is twice the smaller share of resamples on either side of 0, at least
    2 / (resamples + 1).

    >>> easy = np.arange(100) < 60
    >>> result = paired_bootstrap(easy | (np.arange(100) > 85), easy)  # never worse
    >>> round(result.estimate, 2), result.low > 0, result.p_value < 0.01
    (0.14, True, True)
    """
    score_first, shape = _scorer(first, references, metric)
    score_second, other = _scorer(second, references, metric)
    if shape != other:
        raise ValueError(f"first {shape} and second {other} must hold the same (seeds, rows)")

    def score(*draw: np.ndarray) -> float:
        return score_first(*draw) - score_second(*draw)

    drawn = np.array([score(*draw) for draw in _draws(shape, resamples, seed)])
    tail = min((drawn <= 0).sum(), (drawn >= 0).sum())
    p_value = min(1.0, 2 * (tail + 1) / (resamples + 1))
    return Difference(_estimate(score, shape), *_bounds(drawn, confidence), float(p_value))


def mcnemar(first_right: Sequence[bool], second_right: Sequence[bool]) -> McNemar:
    """Exact test that two classifiers err equally often, from the rows on which they differ.

    Rows that both get right, or both wrong, say nothing about which is better. Of the rest each
    falls to either side like a fair coin if there is no difference: a two-sided binomial test.
    Inputs: one bool per test row, `(rows,)`. Source: McNemar (1947); Dietterich (1998).

    >>> mcnemar([1, 1, 1, 1, 1, 0], [0, 0, 0, 0, 0, 0])  # 5 to 0: p = 2 * (1/2) ** 5
    McNemar(only_first=5, only_second=0, p_value=0.0625)
    """
    first, second = (np.asarray(right, dtype=bool) for right in (first_right, second_right))
    _check_rows(first.shape, second.shape)
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    flips, fewer = only_first + only_second, min(only_first, only_second)
    term, tail = 1, 1  # binomial coefficients as integers: floats overflow beyond 1,000 flips
    for k in range(fewer):
        term = term * (flips - k) // (k + 1)
        tail += term
    return McNemar(only_first, only_second, min(1.0, 2 * tail / 2**flips))


def permutation_test(
    first: Sequence[float], second: Sequence[float], *, resamples: int = 9999, seed: int = 0
) -> float:
    """Two-sided p-value that paired scores have the same mean, by flipping signs at random.

    If there is no difference, each pair could as well have come the other way round. `first`
    and `second` are scores per test row (or per seed), `(n,)`. All 2 ** n flips are counted
    where that is at most `resamples`, else a random sample. With 3 pairs the smallest possible
    p is 2 / 8: three seeds alone prove nothing at 5 %. Equal to `scipy.stats.permutation_test`
    with `permutation_type="samples"`. Source: Fisher (1935).

    >>> permutation_test([0.9, 0.8, 0.95], [0.7, 0.6, 0.5])
    0.25
    """
    first, second = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    _check_rows(first.shape, second.shape)
    gaps = first - second
    observed = abs(gaps.sum()) * (1 - 1e-12)  # sums in another order differ in the last digit
    if len(gaps) < 63 and 2 ** len(gaps) <= resamples:
        flips = np.array(list(itertools.product((-1, 1), repeat=len(gaps))))
        return float(np.mean(np.abs(flips @ gaps) >= observed))
    rng = np.random.default_rng(seed)
    extreme = sum(
        int((np.abs((rng.integers(0, 2, (size, len(gaps))) * 2 - 1) @ gaps) >= observed).sum())
        for size in _portions(resamples, len(gaps))
    )
    return (extreme + 1) / (resamples + 1)  # the data themselves are one of the permutations


def _scorer(values, references, metric) -> tuple[Callable[..., float], tuple[int, int]]:
    """A function of (drawn seeds, drawn rows) that scores them, and the shape (seeds, rows)."""
    values = np.asarray(values)
    values = values[None] if values.ndim == 1 else values
    if values.ndim != 2 or 0 in values.shape:
        raise ValueError(f"values {values.shape} must be (rows,) or (seeds, rows), not empty")
    if (references is None) != (metric is None):
        raise ValueError("give both references and metric, or neither and one score per row")
    if metric is None:
        return _mean_scorer(values.astype(float)), values.shape
    truth = np.asarray(references)
    _check_rows(values.shape[1:], truth.shape)

    def score(seeds: np.ndarray, rows: np.ndarray) -> float:
        by_seed = {s: metric(values[s, rows], truth[rows]) for s in set(seeds.tolist())}
        return float(np.mean([by_seed[s] for s in seeds.tolist()]))

    return score, values.shape


def _mean_scorer(values: np.ndarray) -> Callable[..., float]:
    def score(seeds: np.ndarray, rows: np.ndarray) -> float:
        # how often each row was drawn, as weights: several times faster than values[:, rows]
        times = np.bincount(rows, minlength=values.shape[1])
        return (values @ times)[seeds].sum() / (len(rows) * len(seeds))

    return score


def _draws(shape, resamples: int, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(seed)
    for _ in range(resamples):
        yield tuple(rng.integers(0, size, size) for size in shape)


def _estimate(score: Callable[..., float], shape: tuple[int, int]) -> float:
    return float(score(*(np.arange(size) for size in shape)))


def _bounds(drawn: Sequence[float], confidence: float) -> tuple[float, float]:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence {confidence} must lie between 0 and 1, such as 0.95")
    low, high = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def _portions(resamples: int, width: int) -> Iterator[int]:
    """Sizes that sum to `resamples`, so that no block of signs takes more than a few MB."""
    block = max(1, 1_000_000 // width)
    for start in range(0, resamples, block):
        yield min(block, resamples - start)


def _check_rows(first: tuple, second: tuple) -> None:
    if first != second or len(first) != 1 or first[0] == 0:
        raise ValueError(f"found rows {first} and {second}; they must be paired, one row each")
