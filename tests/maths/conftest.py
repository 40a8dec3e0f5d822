"""What "equal to the library" means: the same values and the same gradients, in both precisions."""

import copy

import pytest
import torch

TOLERANCE = {
    torch.float64: {"rtol": 0, "atol": 1e-10},
    torch.float32: {"rtol": 1e-5, "atol": 1e-6},
}


def gradients(function, inputs):
    """The function's value on fresh leaves, and their gradients under uneven weights."""
    leaves = [x.detach().clone().requires_grad_() for x in inputs]
    value = function(*leaves)
    weights = torch.linspace(0.5, 1.5, value.numel(), dtype=value.dtype).view_as(value)
    (value * weights).mean().backward()
    return value.detach(), [leaf.grad for leaf in leaves]


@pytest.fixture(params=list(TOLERANCE), ids=lambda dtype: str(dtype)[6:])
def dtype(request):
    return request.param


@pytest.fixture
def assert_equal():
    """Checks two functions of the same inputs: values and gradients."""

    def check(ours, theirs, *inputs):
        value, grads = gradients(ours, inputs)
        expected, expected_grads = gradients(theirs, inputs)
        close = {"equal_nan": True, **TOLERANCE[value.dtype]}
        torch.testing.assert_close(value, expected, **close)
        for grad, expected_grad in zip(grads, expected_grads, strict=True):
            torch.testing.assert_close(grad, expected_grad, **close)

    return check


@pytest.fixture
def assert_equal_modules(assert_equal):
    """Pours a module of the library into ours and checks values, input and weight gradients.

    The gradients of their weights are poured as if they were weights: so each of ours finds its
    counterpart, however the library has stacked or transposed it.
    """

    def check(pour, theirs, call_ours, call_theirs, *inputs):
        ours = pour(theirs)
        assert_equal(lambda *x: call_ours(ours, *x), lambda *x: call_theirs(theirs, *x), *inputs)
        twin = copy.deepcopy(theirs)
        for weight, source in zip(twin.parameters(), theirs.parameters(), strict=True):
            weight.data = source.grad
        expected = dict(pour(twin).named_parameters())
        found = dict(ours.named_parameters())
        assert found and found.keys() == expected.keys()
        for name, weight in found.items():
            close = TOLERANCE[weight.dtype]
            torch.testing.assert_close(weight.grad, expected[name].data, **close)

    return check


@pytest.fixture
def draw():
    """Makes tensors from one seeded generator."""
    generator = torch.Generator().manual_seed(0)

    def make(*shape, dtype=torch.float64):
        return torch.randn(*shape, generator=generator, dtype=dtype)

    return make
