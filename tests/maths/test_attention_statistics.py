"""Numbers about attention weights: by hand, against torch, and where they are known exactly."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cookbook.maths import attention_statistics as statistics


def test_entropy_equals_torch_and_its_bounds(draw):
    weights = draw(5, 7).softmax(-1)
    torch.testing.assert_close(statistics.entropy(weights), torch.special.entr(weights).sum(-1))
    one, even = torch.eye(4), torch.full((4,), 0.25)
    assert (statistics.entropy(one) == 0).all()
    assert math.isclose(statistics.entropy(even), math.log(4), rel_tol=1e-6)


@given(st.integers(0, 10_000), st.integers(1, 9))
@settings(max_examples=50)
def test_entropy_lies_between_one_key_and_all(seed, keys):
    generator = torch.Generator().manual_seed(seed)
    weights = torch.randn(3, keys, generator=generator, dtype=torch.float64).mul(5).softmax(-1)
    found = statistics.entropy(weights)
    assert (found >= -1e-12).all() and (found <= math.log(keys) + 1e-12).all()


@pytest.mark.parametrize("width", [4, 64, 1024])
def test_the_variance_of_scores_is_the_width_and_1_when_scaled(width):
    raw, scaled = (statistics.score_statistics(width, scaled=s) for s in (False, True))
    assert raw["variance"] == pytest.approx(width, rel=0.25)
    assert scaled["variance"] == pytest.approx(raw["variance"] / width, rel=1e-4)
    assert raw["entropy"] < scaled["entropy"] < math.log(64)
    assert raw["slope"] < scaled["slope"] and raw["largest"] > scaled["largest"]


def test_wide_heads_without_the_scale_look_at_one_key():
    raw, scaled = (statistics.score_statistics(4096, scaled=s) for s in (False, True))
    assert raw["largest"] > 0.95 and raw["slope"] < 0.1
    assert scaled["largest"] < 0.2 and scaled["slope"] > 0.9


def test_the_slope_is_the_trace_of_the_softmax_jacobian(draw):
    scores = draw(6)
    jacobian = torch.autograd.functional.jacobian(lambda s: s.softmax(-1), scores)
    weights = scores.softmax(-1)
    torch.testing.assert_close(jacobian.trace(), 1 - weights.square().sum())


def test_shares_by_hand():
    # row 0: three tokens, one padding; row 1: four tokens; every head looks at its left neighbour
    left = torch.zeros(4, 4)
    left[[0, 1, 2, 3], [0, 0, 1, 2]] = 1
    weights = left.expand(2, 1, 1, 4, 4)
    shares = statistics.head_shares(weights, torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1]]))
    found = {name: float(value) for name, value in shares.items()}
    assert found == pytest.approx(
        {"itself": 2 / 7, "previous": 5 / 7, "next": 0, "first": 4 / 7, "last": 0, "keys": 1}
    )


def test_next_and_last_by_hand():
    right = torch.tensor([[0.0, 1, 0], [0, 0, 1], [0, 0, 1]]).expand(1, 2, 3, 3, 3)
    shares = statistics.head_shares(right, torch.ones(1, 3, dtype=torch.long))
    assert shares["next"].shape == (2, 3)
    assert shares["next"].eq(2 / 3).all() and shares["last"].eq(2 / 3).all()
    assert shares["itself"].eq(1 / 3).all()


def test_padding_changes_no_share(draw):
    weights = draw(1, 2, 2, 5, 5).softmax(-1)
    wider = torch.zeros(1, 2, 2, 8, 8, dtype=torch.float64)
    wider[..., :5, :5] = weights
    wider[..., 5:, :] = 1 / 8  # what padding looks at must not count
    alone = statistics.head_shares(weights, torch.ones(1, 5))
    padded = statistics.head_shares(wider, torch.tensor([[1] * 5 + [0] * 3]))
    for name, value in alone.items():
        torch.testing.assert_close(padded[name], value)


def test_habits_name_the_place_of_every_head_that_has_one():
    shares = {
        "previous": torch.tensor([[0.98, 0.3], [0.0, 0.5]]),
        "next": torch.tensor([[0.02, 0.4], [1.0, 0.5]]),
        "keys": torch.full((2, 2), 7.0),
    }
    assert statistics.habits(shares) == {
        (0, 0): "previous 98 %", (1, 0): "next 100 %", (1, 1): "previous 50 %"
    }  # fmt: skip
    assert statistics.habits(shares, least=0.99) == {(1, 0): "next 100 %"}
