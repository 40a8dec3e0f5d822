import types

import pytest
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    DistributedSampler,
    SequentialSampler,
    SubsetRandomSampler,
)

from cookbook.doctor.order import shuffles

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
