"""Live bytes: hand-worked cases, what dies, what is shared, and the backward pass."""

import subprocess
import sys

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from cookbook.live_memory import LiveMemory, peak_resident_bytes, tensor_bytes

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


@pytest.mark.parametrize("device", DEVICES)
def test_a_chain_by_hand(device):
    """At most two links of 4,000 bytes are alive at a time."""
    with LiveMemory() as memory:
        x = torch.ones(1000, device=device)
        for _ in range(5):
            x = x * 2
    assert (memory.live, memory.peak) == (4000, 8000)


def test_autograd_keeps_what_the_backward_pass_needs():
    """exp saves its result: five links and the leaf stay alive until the backward pass."""
    leaf = torch.ones(1000, requires_grad=True)
    with LiveMemory(leaf) as memory:
        x = leaf
        for _ in range(5):
            x = (x / 10).exp()
        forward = memory.live
        x.sum().backward()
        del x
    # a division by a number saves nothing, so only leaf and five exponentials remain
    assert forward == 6 * 4000
    assert memory.live == 2 * 4000  # the leaf and its gradient
    assert memory.peak > forward


def test_views_and_in_place_results_count_once_and_sparse_tensors_not_at_all():
    with LiveMemory() as memory:
        x = torch.zeros(100, 10)
        y = x.view(10, 100).t()[3:]
        x.add_(1)
        torch.eye(3).to_sparse()
    assert memory.live == 4000
    assert y.shape == (97, 10)


def test_held_things_count_from_the_start_with_gradients_and_state():
    model = nn.Linear(10, 10, bias=False)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 10)).sum().backward()
    optimizer.step()
    step = 4  # Adam's step counter is a tensor of one float
    assert tensor_bytes(model, optimizer) == 4 * 400 + step
    assert LiveMemory({"all": [model, optimizer]}, model).peak == 4 * 400 + step


def test_tied_weights_count_once():
    model = nn.Sequential(nn.Embedding(5, 2), nn.Linear(2, 5, bias=False))
    model[1].weight = model[0].weight
    assert tensor_bytes(model) == 40


def test_a_storage_that_grows_is_measured_again():
    with LiveMemory() as memory:
        x = torch.zeros(10)
        x.resize_(1000)
    assert memory.live == 4000


def test_what_dies_after_the_end_changes_nothing():
    with LiveMemory() as memory:
        x = torch.zeros(1000)
    del x
    assert memory.live == 4000


def test_results_are_those_without_counting():
    torch.manual_seed(0)
    model, x = nn.Linear(8, 8), torch.randn(4, 8)
    plain = model(x)
    with LiveMemory(model):
        counted = model(x)
    assert torch.equal(plain, counted)


def test_the_process_is_larger_than_its_tensors():
    assert peak_resident_bytes() > 10_000_000


def test_a_child_does_not_inherit_the_peak_of_its_parent():
    code = "from cookbook.live_memory import peak_resident_bytes; print(peak_resident_bytes())"
    ballast = bytearray(2 * peak_resident_bytes())
    ballast[::4096] = b"x" * len(ballast[::4096])  # touched, so resident
    own = peak_resident_bytes()
    child = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    assert int(child.stdout) < 0.7 * own


def test_what_shapes_alone_would_hold():
    assert tensor_bytes(torch.empty(1000, device="meta")) == 0
    with FakeTensorMode(), LiveMemory() as memory:
        x = torch.empty(1000)
        x = x + 1
    assert memory.peak == 8000
