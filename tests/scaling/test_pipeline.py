import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cookbook.scaling.pipeline import Stage, bubble, timeline
from cookbook.scaling.small_model import SmallLM

few = st.integers(1, 6)


def test_the_stages_one_after_the_other_are_the_model():
    torch.manual_seed(0)
    model, ids = SmallLM(20, layers=3), torch.randint(0, 20, (2, 5))
    x = ids
    for number in range(3):
        x = Stage(model, number, 3)(x)
    assert torch.allclose(x, model(ids), atol=1e-6)


@pytest.mark.parametrize("stages, shares", [(2, [2, 3]), (5, [1] * 5), (1, [5])])
def test_every_block_is_on_one_stage(stages, shares):
    model = SmallLM(20, layers=5)
    assert [len(Stage(model, n, stages).blocks) for n in range(stages)] == shares


@given(stages=few, microbatches=few)
def test_the_bubble_is_what_the_timeline_leaves_free(stages, microbatches):
    slots = timeline(stages, microbatches)
    busy = sum(slot.end - slot.start for slot in slots)
    whole = stages * max(slot.end for slot in slots)
    assert 1 - busy / whole == pytest.approx(bubble(stages, microbatches))


@given(stages=few, microbatches=few)
def test_no_stage_does_two_things_and_none_starts_before_its_input(stages, microbatches):
    slots = timeline(stages, microbatches)
    when = {(s.stage, s.microbatch, s.backward): s for s in slots}
    assert len(when) == len(slots) == 2 * stages * microbatches
    for stage in range(stages):
        mine = sorted(s for s in slots if s.stage == stage)
        mine.sort(key=lambda slot: slot.start)
        assert all(a.end <= b.start for a, b in zip(mine, mine[1:], strict=False))
    for slot in slots:
        before = slot.stage + (1 if slot.backward else -1)
        if 0 <= before < stages:
            assert when[before, slot.microbatch, slot.backward].end <= slot.start
    assert all(when[s.stage, s.microbatch, False].end <= s.start for s in slots if s.backward)


@pytest.mark.ranks
def test_two_ranks_equal_one_process(two_ranks):
    assert all(r["belts"] < 1e-6 for r in two_ranks)
