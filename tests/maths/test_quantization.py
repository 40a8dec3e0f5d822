"""Eight bits by hand equal torch's, are off by half a step at most, and sum exactly."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cookbook.maths import quantization


@given(st.integers(0, 1000), st.integers(1, 6), st.integers(1, 9))
def test_equal_to_torch_and_off_by_half_a_step_at_most(seed, rows, columns):
    torch.manual_seed(seed)
    weight = torch.randn(rows, columns) * torch.logspace(-3, 3, rows)[:, None]
    integers, scale = quantization.quantize(weight)
    theirs = torch.quantize_per_channel(
        weight, scale.double(), torch.zeros(rows, dtype=torch.long), 0, torch.qint8
    )
    assert torch.equal(integers, theirs.int_repr())
    back = quantization.dequantize(integers, scale)
    assert torch.allclose(back, theirs.dequantize(), rtol=1e-5)
    assert ((back - weight).abs() <= scale[:, None] / 2 * (1 + 1e-4)).all()
    assert (integers.abs().amax(1) == 127).all()


def test_zeros_stay_zeros():
    integers, scale = quantization.quantize(torch.zeros(2, 3))
    assert not integers.any() and torch.equal(scale, torch.ones(2))


def test_one_scale_for_all_rows_would_lose_the_small_ones():
    weight = torch.tensor([[1000.0, -500.0], [0.01, -0.02]])
    integers, scale = quantization.quantize(weight)
    assert torch.allclose(quantization.dequantize(integers, scale), weight, rtol=0.02)
    assert not (weight / (1000 / 127)).round()[1].any()


def test_a_linear_map_in_integers():
    torch.manual_seed(0)
    linear, x = torch.nn.Linear(64, 8), torch.randn(2, 5, 64)
    integers, scale = quantization.quantize(linear.weight.detach())
    found = quantization.int8_linear(x, integers, scale, linear.bias.detach())
    q, s = quantization.quantize(x.reshape(-1, 64))
    exact = (
        quantization.dequantize(q, s).double() @ quantization.dequantize(integers, scale).double().T
    )
    assert torch.allclose(found.reshape(-1, 8).double(), exact + linear.bias.detach(), atol=1e-5)
    assert (found - linear(x)).abs().max() < 0.05 * linear(x).abs().max()
    assert found.shape == (2, 5, 8)


def test_whole_numbers_within_the_range_come_back_exactly():
    weight = torch.tensor([[127.0, -3.0, 40.0]])
    assert torch.equal(quantization.dequantize(*quantization.quantize(weight)), weight)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_precision_is_kept(dtype):
    integers, scale = quantization.quantize(torch.ones(1, 2, dtype=dtype))
    assert quantization.dequantize(integers, scale).dtype == dtype
