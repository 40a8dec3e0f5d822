"""Where a step's time goes: what was planted in a part is found in that part."""

import itertools

import pytest
import torch
from torch import nn

from cookbook.scaling.speed_profile import PARTS, Profile, profile_step


class Loss(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(8, 8)

    def forward(self, x):
        return {"loss": self.layer(x).square().mean()}


def batches():
    while True:
        torch.sort(torch.randn(100))  # nothing else sorts
        yield {"x": torch.randn(4, 8)}


@pytest.fixture(scope="module")
def found():
    return profile_step(Loss(), batches(), steps=2)


def test_all_four_parts_have_time_and_their_shares_make_one(found):
    assert tuple(found.seconds) == PARTS and min(found.seconds.values()) > 0
    assert sum(found.shares.values()) == pytest.approx(1.0)
    for part, operators in found.operators.items():
        assert sum(operators.values()) <= found.seconds[part] * 1.05


def test_operators_are_found_in_the_part_that_called_them(found):
    where = {name: {part for part in PARTS if name in found.operators[part]}
             for name in ("aten::sort", "aten::addmm", "aten::_fused_adamw_")}  # fmt: skip
    assert where["aten::sort"] == {"data"}
    assert where["aten::addmm"] == {"forward"}
    assert where["aten::_fused_adamw_"] == {"optimizer"}
    assert "aten::mm" in found.operators["backward"]


def test_the_steps_are_real_ones():
    model = Loss()
    before = model.layer.weight.detach().clone()
    profile_step(model, batches(), steps=1, warmup=0)
    assert not torch.equal(model.layer.weight, before)
    assert model.layer.weight.grad is None


def test_a_loss_of_ones_own_and_a_table_of_the_dearest(found):
    seen = profile_step(
        nn.Linear(8, 8), batches(), loss_of=lambda m, b: m(b["x"]).cos().sum(), steps=1
    )
    assert "aten::cos" in seen.operators["forward"]
    rows = found.top(2)
    assert len(rows) == 8 and rows[0]["seconds"] >= rows[1]["seconds"]


def test_batches_that_run_out_are_named():
    with pytest.raises(ValueError, match="ran out"):
        profile_step(Loss(), list(itertools.islice(batches(), 2)), steps=2, warmup=1)


def test_nothing_measured_has_no_rows():
    assert Profile(1, {"data": 1.0}, {"data": {}}).top() == []
