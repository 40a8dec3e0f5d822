import types

import pytest
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    DistributedSampler,
    SequentialSampler,
    SubsetRandomSampler,
)

from cookbook.doctor import hooks, order
from cookbook.doctor.order import shuffles
from cookbook.doctor.records import Run

ROWS = list(range(8))


class Drawn(SequentialSampler):
    """Of one's own, and told the epoch."""

    def set_epoch(self, epoch):
        pass


@pytest.mark.parametrize(
    "loader, drawn",
    [
        (DataLoader(ROWS, shuffle=True), True),
        (DataLoader(ROWS, sampler=SubsetRandomSampler(ROWS)), True),
        (DataLoader(ROWS, sampler=DistributedSampler(ROWS, 2, 0)), True),
        (DataLoader(ROWS, sampler=DistributedSampler(ROWS, 2, 0, shuffle=False)), False),
        (DataLoader(ROWS, sampler=Drawn(ROWS)), True),
        (DataLoader(ROWS), False),
        (DataLoader(ROWS, batch_sampler=BatchSampler(SequentialSampler(ROWS), 2, True)), False),
        ([1, 2, 3], False),
        (types.SimpleNamespace(sampler=None), False),
    ],
)
def test_which_loaders_shuffle(loader, drawn):
    assert shuffles(loader) is drawn


def read(loader, seen, backward=True):
    """An epoch of a loop: every batch is followed by a backward pass, if it trains."""
    for batch in loader:
        if backward:
            seen.run.backwards += 1
            seen.batches.append((seen.epoch, batch.tolist()))
            seen.epoch = None


class Seen:
    """As much of `batches.Seen` as a follower needs."""

    def __init__(self):
        self.run, self.batches, self.epoch = Run(), [], None

    def new_epoch(self, epoch):
        self.epoch = epoch


def followed(loops, seen):
    stop = order.follow(seen, hooks.Cost())
    try:
        for loader, backward in loops:
            read(loader, seen, backward)
    finally:
        stop()
    return [epoch for epoch, _ in seen.batches if epoch is not None]


def test_the_loader_that_gradients_follow_is_that_of_training():
    train, held_out = DataLoader(ROWS, 2, shuffle=True), DataLoader([1, 2, 3, 4], 2)
    loops = [(held_out, False), (train, True), (held_out, False), (train, True), (train, True)]
    seen = Seen()
    assert followed(loops, seen) == [0, 1, 2] and seen.run.facts["shuffles"]
    assert "__iter__" in DataLoader.__dict__ and len(list(train)) == 4  # as it was


def test_a_loader_made_anew_counts_and_one_of_a_single_batch_does_not():
    anew = [(DataLoader(ROWS, 2, shuffle=True), True) for _ in range(3)]
    assert followed(anew, Seen()) == [0, 1, 2]
    single = DataLoader(ROWS, 8, shuffle=True)
    assert followed([(single, True), (single, True)], Seen()) == []
