import random
import types

import datasets
import numpy as np
import pytest
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    DistributedSampler,
    IterableDataset,
    Sampler,
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
        (DataLoader(ROWS, sampler=[5, 1, 7, 0, 3, 2, 6, 4] * 2), True),
        (DataLoader(ROWS, batch_sampler=[[4, 1], [2, 7], [0, 6], [5, 3]] * 3), True),
        (DataLoader(ROWS, sampler=ROWS * 2), False),
        (DataLoader(range(99), batch_sampler=[[i, i + 1] for i in range(0, 40, 2)]), False),
        (DataLoader(range(99), batch_sampler=[[i, i - 1] for i in range(90, 40, -2)]), False),
        (DataLoader(ROWS, sampler=[3, 1, 2]), False),
        ([1, 2, 3], False),
        (types.SimpleNamespace(sampler=None), False),
    ],
)
def test_which_loaders_shuffle(loader, drawn):
    assert shuffles(loader) is drawn


class Stream(IterableDataset):
    def __init__(self, shuffle=True):
        self.shuffle = shuffle

    def __iter__(self):
        return iter(ROWS)


class Sampled(Stream):
    def __iter__(self):
        return iter(random.Random(13).sample(ROWS, len(ROWS)))


class Buffered(Stream):
    def __iter__(self):
        yield from self.mixed(list(ROWS))

    def mixed(self, rows):
        random.shuffle(rows)
        return rows


class Measured(Stream):
    def __iter__(self):
        for sample in ROWS:
            yield self.sample(sample)

    def sample(self, row):
        return row


@pytest.mark.parametrize(
    "stream, drawn",
    [
        (Sampled(), True),
        (Buffered(), True),
        (Buffered(shuffle=False), False),
        (Stream(), False),
        (Measured(), False),
        (ROWS, False),
        (None, False),
    ],
)
def test_which_streams_shuffle_by_themselves(stream, drawn):
    assert order.draws(stream) is drawn


def test_a_stream_of_datasets_shuffles_where_it_was_told_to():
    stream = datasets.Dataset.from_list([{"a": i} for i in ROWS]).to_iterable_dataset()
    assert not order.draws(stream)
    mixed = stream.shuffle(seed=1, buffer_size=8)
    assert order.draws(mixed) and order.draws(mixed.map(lambda row: row))


def read(loader, seen, backward=True):
    """An epoch of a loop: every batch is followed by a backward pass, if it trains."""
    for batch in loader:
        if backward:
            seen.run.backwards += 1
            seen.batches.append((seen.epoch, batch.tolist()))
            seen.epoch = None


class Own(Sampler):
    """A sampler of a script's own; `order` is what it was given."""

    def __init__(self, order=(), **told):
        self.order = list(order)
        vars(self).update(told)

    def __len__(self):
        return len(self.order)

    def __iter__(self):
        return iter(self.order)


class Permuted(Own):
    def __iter__(self):
        return iter(np.random.RandomState(42).permutation(len(self)).tolist())


class Buckets(Own):
    def __iter__(self):
        return iter(random.Random(0).sample(self.order, len(self.order)))


class DrawnAtTheStart(Own):
    def __init__(self, count):
        self.order = np.random.permutation(count).tolist()


class Hardest(Own):
    """A curriculum: an order that looks drawn, and nobody drew it."""

    def __init__(self, hardness):
        self.order = np.argsort(hardness).tolist()


@pytest.mark.parametrize(
    ("sampler", "drawn"),
    [
        (Permuted(range(64)), True),
        (Buckets([[0, 1], [2, 3], [4, 5]]), True),
        (DrawnAtTheStart(64), True),
        (Permuted(range(64), shuffle=False), False),
        (Own(range(64)), False),
        (Hardest(np.random.RandomState(0).rand(64)), False),
        (Hardest(np.arange(64)[::-1]), False),
        (SequentialSampler(ROWS), False),
        (None, False),
    ],
)
def test_which_samplers_of_ones_own_draw_their_order(sampler, drawn):
    assert order.samples_by_itself(sampler) is drawn
    if sampler is not None:
        assert shuffles(DataLoader(range(64), sampler=sampler)) is drawn


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
