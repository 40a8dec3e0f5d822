from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cookbook.scaling.sampler import ShardedBatches, share
from cookbook.training.order import order


def batches(rows, size, ranks, stop, start=0, seed=0):
    """The keys of each batch, by rank."""
    samplers = [ShardedBatches(rows, size, rank=r, ranks=ranks, seed=seed, start=start, stop=stop)
                for r in range(ranks)]  # fmt: skip
    return list(zip(*samplers, strict=True))


@given(
    rows=st.integers(1, 40), ranks=st.integers(1, 4), extra=st.integers(0, 20),
    epochs=st.integers(1, 3), seed=st.integers(0, 9),
)  # fmt: skip
def test_every_row_once_an_epoch_on_any_number_of_ranks(rows, ranks, extra, epochs, seed):
    size = ranks + extra
    stop = -(-rows * epochs // size)  # enough to finish the last epoch
    read = Counter(key for batch in batches(rows, size, ranks, stop, seed=seed)
                   for part in batch for key in part)  # fmt: skip
    for epoch in range(epochs):
        assert [read[epoch, row] for row in range(rows)] == [1] * rows
    assert sum(read.values()) == stop * size


@given(rows=st.integers(1, 40), size=st.integers(4, 20), stop=st.integers(1, 9), data=st.data())
def test_a_batch_is_the_same_rows_on_any_number_of_ranks(rows, size, stop, data):
    alone = [set(batch[0]) for batch in batches(rows, size, 1, stop)]
    ranks, start = data.draw(st.integers(2, 4)), data.draw(st.integers(0, stop - 1))
    many = batches(rows, size, ranks, stop, start=start)  # a resumed run begins in the middle
    assert [set().union(*batch) for batch in many] == alone[start:]
    assert all(max(map(len, batch)) - min(map(len, batch)) <= 1 for batch in many)


def test_by_hand():
    first = order(5, 0, 0).tolist()
    (zero, one), (rest, _) = batches(5, 4, 2, 2)
    assert [row for _, row in (zero[0], one[0], zero[1], one[1])] == first[:4]
    assert rest[0] == (0, first[4]) and rest[1][0] == 1  # the batch goes on in the next epoch


def test_what_cannot_be_dealt_out():
    with pytest.raises(ValueError, match="a batch of 3 rows leaves some of 4 ranks without"):
        ShardedBatches(10, 3, rank=0, ranks=4, stop=1)
    with pytest.raises(ValueError, match="no rows"):
        ShardedBatches(0, 3, rank=0, ranks=1, stop=1)
    assert len(ShardedBatches(10, 4, rank=0, ranks=1, start=3, stop=2)) == 0


@given(rows=st.integers(0, 30), ranks=st.integers(1, 8))
def test_evaluation_rows_are_dealt_out_once(rows, ranks):
    dealt = [row for rank in range(ranks) for row in share(rows, rank, ranks)]
    assert sorted(dealt) == list(range(rows))


def keys(found):
    return [[tuple(key) for key in batch] for batch in found]


@pytest.mark.ranks
def test_on_two_real_ranks(two_ranks):
    by_rank = [keys(found) for found in two_ranks[0]["shares"]]
    assert two_ranks[1]["shares"] == two_ranks[0]["shares"]
    assert list(zip(*by_rank, strict=True)) == batches(10, 4, 2, 5, seed=1)
    read = [key for batches in by_rank for batch in batches for key in batch]
    assert sorted(read) == [(epoch, row) for epoch in (0, 1) for row in range(10)]


@pytest.mark.ranks
def test_on_four_real_ranks(four_ranks):
    read = [key for found in four_ranks[2]["rows"] for batch in keys(found) for key in batch]
    assert sorted(read) == [(epoch, row) for epoch in (0, 1) for row in range(10)]
