import numpy as np
import pytest
import torch

from cookbook.scaling import world as worlds
from cookbook.scaling.world import RanksError, World, in_order, joined


def test_alone_is_a_world_of_one():
    with joined(expected=1) as world:
        assert (world.rank, world.size, world.attempt) == (0, 1, 0)
        assert world.sum(2.0, 0.5) == [2.0, 0.5]
        assert world.everyone("a") == ["a"] and world.from_first("b") == "b"
        world.together()
    assert not torch.distributed.is_initialized()


def test_a_launcher_that_started_one_process_is_found_out():
    """`accelerate launch --cpu --num_processes 2` does: no error, twice the time."""
    with pytest.raises(RanksError, match="2 ranks were asked for and 1 came: .* 2`"):
        with joined(expected=2):
            pytest.fail("it must not train")


def test_it_leaves_even_when_the_training_fails():
    with pytest.raises(ZeroDivisionError):
        with joined():
            raise ZeroDivisionError
    with joined() as world:
        assert world.size == 1


def test_a_group_is_kept_until_the_process_ends():
    """Freed at once, gloo's can wait for ever for a thread that waits for the interpreter."""
    with joined():
        group = torch.distributed.group.WORLD
    assert group in worlds._ended


class Two(World):
    """Two ranks in one process: the other one's part is given."""

    def everyone(self, thing):
        return [thing, self.other]


def two(rows, values):
    world = Two(0, 2, torch.device("cpu"))
    object.__setattr__(world, "other", (np.array(rows, np.int64), np.array(values)))
    return world


def test_rows_come_back_in_their_order():
    assert in_order(two([1], [10.0]), [2, 0], [20.0, 0.0], 3).tolist() == [0.0, 10.0, 20.0]


def test_a_rank_without_rows_gives_none():
    assert in_order(two([], []), [1, 0], [[1, 1], [0, 0]], 2).tolist() == [[0, 0], [1, 1]]


@pytest.mark.parametrize(
    "rows, said",
    [([0], "1 came more than once"), ([], "1 not at all"), ([1, 2], "the highest was row 2")],
)
def test_a_row_that_was_repeated_or_lost(rows, said):
    with pytest.raises(RanksError, match=said):
        in_order(two(rows, [0.0] * len(rows)), [0], [0.0], 2)


@pytest.mark.parametrize(
    "gpus, ranks, wanted, found",
    [(0, 2, "", "cpu"), (1, 2, "", "cpu"), (2, 2, "", "cuda:1"), (2, 2, "cpu", "cpu")],
)
def test_a_gpu_for_each_rank_or_for_none(monkeypatch, gpus, ranks, wanted, found):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(ranks))
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert str(worlds._device(wanted)) == found


def test_each_attempt_meets_on_pages_of_its_own(monkeypatch):
    """Else a restarted rank calls the addresses that the dead ones have left in the store."""
    store = torch.distributed.HashStore()
    for name, value in {"RANK": "0", "TORCHELASTIC_RESTART_COUNT": "3"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.distributed, "rendezvous", lambda _: iter([(store, 0, 1)]))
    found, rank, size, attempt = worlds._meeting_place()
    again, *_ = worlds._meeting_place()
    found.set("key", "mine")
    assert (rank, size, attempt) == (0, 1, 3)
    assert not again.check(["key"]) and not store.check(["key"]) and found.check(["key"])


@pytest.mark.ranks
def test_what_two_ranks_tell_each_other(two_ranks):
    for rank, found in enumerate(r["talk"] for r in two_ranks):
        assert (found["size"], found["rank"], found["backend"]) == (2, rank, "gloo")
        assert found["sum"] == [3.0, 20.0]
        assert (found["first"], found["everyone"]) == (0, ["0", "1"])
        assert (found["fine"], found["problem"]) == (None, "no room")


@pytest.mark.ranks
def test_metrics_of_two_ranks_hold_each_row_once(two_ranks):
    for found in (r["numbers"] for r in two_ranks):
        assert found["values"] == [[float(row), 0.5] for row in range(7)]
        assert found["twice"] == "of 7 rows 1 came more than once and 0 not at all"


@pytest.mark.ranks
def test_two_are_not_three(two_ranks):
    assert all("3 ranks were asked for and 2 came" in r["alone"] for r in two_ranks)
