import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cookbook.training.order import Batches, EpochSampler, Keyed, key_generator, order

small = st.integers(0, 2**40)


@settings(max_examples=50, deadline=None)
@given(n=st.integers(0, 300), seed=small, epoch=small)
def test_an_epoch_visits_every_row_once_and_always_in_the_same_order(n, seed, epoch):
    first = order(n, seed, epoch)
    assert sorted(first.tolist()) == list(range(n))
    assert first.dtype == np.int64
    assert (first == order(n, seed, epoch)).all()


@settings(max_examples=50, deadline=None)
@given(a=st.tuples(small, small, small), b=st.tuples(small, small, small))
def test_every_key_has_its_own_stream(a, b):
    same = key_generator(*a).integers(2**63) == key_generator(*b).integers(2**63)
    assert same == (a == b)


def test_neighbouring_rows_draw_independent_numbers():
    draws = np.stack([key_generator(0, 0, row).random(64) for row in range(500)])
    correlation = np.corrcoef(draws)[np.triu_indices(500, 1)]
    assert abs(correlation).max() < 0.65  # 5 standard deviations of 1 / sqrt(64)
    assert abs(correlation.mean()) < 0.01


def test_no_stream_is_the_continuation_of_another():
    # A counter-based generator that starts row 1 one block after row 0 would repeat row 0's draws.
    keys = [(seed, epoch, row) for seed in range(3) for epoch in range(3) for row in range(20)]
    draws = np.stack([key_generator(*key).integers(2**63, size=64) for key in keys])
    assert len(np.unique(draws)) == draws.size


def test_a_seed_or_an_epoch_changes_the_order():
    orders = [order(50, seed, epoch).tolist() for seed in range(5) for epoch in range(5)]
    assert len({tuple(found) for found in orders}) == 25


def test_the_largest_keys_are_not_rounded():
    # As a Python int in a list, 2**63 + 1 would pass through float64 and meet its neighbour.
    first, second = key_generator(0, 0, 2**63 + 1), key_generator(0, 0, 2**63)
    assert first.random() != second.random()


def test_nothing_is_drawn_from_the_global_states():
    torch.manual_seed(1), np.random.seed(1)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    list(EpochSampler(10)), key_generator(0, 1, 2).random(), Batches([{"x": 1}] * 4, 2)[0]
    assert torch.equal(before[0], torch.get_rng_state())
    assert (before[1] == np.random.get_state()[1]).all()


def test_a_negative_key_is_refused():
    with pytest.raises(ValueError, match=r"must be at least 0, got \(0, -1, 3\)"):
        key_generator(0, -1, 3)


class Table:
    """Reads many rows at once, as `datasets.Dataset` does."""

    def __init__(self, n):
        self.n, self.reads = n, []

    def __len__(self):
        return self.n

    def __getitem__(self, row):
        return {"x": row}

    def __getitems__(self, rows):
        self.reads.append(rows)
        return [self[row] for row in rows]


def test_keyed_rows_say_where_they_come_from():
    keyed = Keyed([{"x": "a"}, {"x": "b"}])
    assert len(keyed) == 2
    assert keyed[(3, 1)] == {"x": "b", "epoch": 3, "row": 1}
    assert keyed[1] == {"x": "b", "epoch": 0, "row": 1}
    assert keyed[np.int64(1)] == {"x": "b", "epoch": 0, "row": 1}


@pytest.mark.parametrize("workers", [0, 1])
def test_a_loader_hands_the_epoch_to_the_rows(workers):
    sampler = EpochSampler(7, seed=3)
    loader = torch.utils.data.DataLoader(
        Keyed([{"x": i} for i in range(7)]), batch_size=3, sampler=sampler, num_workers=workers
    )
    for epoch in (0, 5):
        sampler.set_epoch(epoch)
        batches = list(loader)
        rows = torch.cat([batch["row"] for batch in batches]).tolist()
        assert rows == order(7, 3, epoch).tolist()
        assert torch.cat([batch["x"] for batch in batches]).tolist() == rows
        assert set(torch.cat([batch["epoch"] for batch in batches]).tolist()) == {epoch}


def test_a_batch_is_read_at_once_where_the_data_set_can():
    table = Table(6)
    list(torch.utils.data.DataLoader(Keyed(table), batch_size=3, sampler=EpochSampler(6)))
    assert [len(rows) for rows in table.reads] == [3, 3]


def test_a_batch_depends_on_its_number_alone():
    batches = Batches([{"x": i} for i in range(10)], 3, seed=1, collate=list)
    forwards = [batches[k] for k in range(9)]
    fresh = Batches([{"x": i} for i in range(10)], 3, seed=1, collate=list)
    assert [fresh[k] for k in reversed(range(9))] == forwards[::-1]


def test_each_epoch_leaves_out_what_does_not_fill_a_batch():
    batches = Batches([{"x": i} for i in range(10)], 3, collate=list)
    rows = [row for k in range(6) for row in batches[k]]
    for epoch in (0, 1):
        seen = [row["x"] for row in rows if row["epoch"] == epoch]
        assert seen == order(10, 0, epoch)[:9].tolist()


def test_the_default_collation_keeps_the_keys_out():
    assert set(Batches([{"x": 1, "labels": 0}] * 2, 2)[0]) == {"x", "labels"}


def test_too_few_rows_for_a_batch():
    with pytest.raises(ValueError, match="2 rows do not fill one batch of 4: use a batch size of"):
        Batches([{"x": 1}] * 2, 4)
