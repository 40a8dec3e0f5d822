"""Convolution by hand: equal to torch's, and it does not care where in the image it is."""

import pytest
import torch
import torch.nn.functional as F

from cookbook.maths.convolution import convolve, weights


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(("tall", "wide", "padding"), [(3, 3, 1), (1, 1, 0), (5, 2, 2), (8, 8, 0)])
def test_equals_torch_in_value_and_gradient(dtype, tall, wide, padding):
    generator = torch.Generator().manual_seed(0)
    x, weight, bias = (
        torch.randn(*shape, generator=generator, dtype=dtype, requires_grad=True)
        for shape in ((2, 3, 8, 9), (4, 3, tall, wide), (4,))
    )
    near = {"rtol": 0, "atol": 1e-10} if dtype == torch.float64 else {"rtol": 1e-5, "atol": 1e-5}
    ours, theirs = convolve(x, weight, bias, padding=padding), F.conv2d(x, weight, bias, 1, padding)
    torch.testing.assert_close(ours, theirs, **near)
    gradients = [torch.autograd.grad(y.square().sum(), (x, weight, bias)) for y in (ours, theirs)]
    for mine, library in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, library, rtol=1e-4 if dtype == torch.float32 else 0,
                                   atol=1e-3 if dtype == torch.float32 else 1e-10)  # fmt: skip


def test_a_filter_of_one_weight_is_the_image():
    x = torch.randn(1, 1, 4, 4)
    assert torch.equal(convolve(x, torch.ones(1, 1, 1, 1)), x)


def test_a_shift_goes_through():
    x, weight = torch.zeros(1, 1, 9, 9), torch.randn(2, 1, 3, 3)
    x[..., 3:5, 3:6] = torch.rand(2, 3)
    there = convolve(torch.roll(x, (1, 2), (2, 3)), weight, padding=1)
    torch.testing.assert_close(there, torch.roll(convolve(x, weight, padding=1), (1, 2), (2, 3)))


@pytest.mark.parametrize(("inside", "outside", "size"), [(1, 8, 3), (3, 4, 5)])
def test_weights_are_those_of_the_layer(inside, outside, size):
    layer = torch.nn.Conv2d(inside, outside, size)
    assert weights(inside, outside, size) == sum(p.numel() for p in layer.parameters())
