import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cookbook.training import snapshots
from cookbook.training.errors import CheckpointError


def there_and_back(state):
    (name, data), *rest = snapshots.encode({"model": state})
    assert name == "model.safetensors"
    others = {}
    if rest:
        import io

        others = torch.load(io.BytesIO(rest[0][1]), weights_only=True)
    return snapshots.decode_model(data, others)


@settings(max_examples=30, deadline=None)
@given(
    shapes=st.lists(st.lists(st.integers(0, 4), max_size=3), max_size=4),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float16, torch.int64, torch.bool]),
)
def test_tensors_come_back_bit_for_bit(shapes, dtype):
    state = {str(i): (torch.randn(shape) * 9).to(dtype) for i, shape in enumerate(shapes)}
    back = there_and_back(state)
    assert back.keys() == state.keys()
    for name, value in state.items():
        assert back[name].dtype == dtype
        assert torch.equal(back[name], value)


def test_nan_and_infinity_come_back():
    back = there_and_back({"w": torch.tensor([float("nan"), float("inf"), -0.0])})["w"]
    assert back.isnan()[0] and back[1] == float("inf") and back[2].signbit()


def test_tied_weights_are_stored_once_and_come_back_under_both_names():
    weight = torch.randn(100, 100)
    data = dict(snapshots.encode({"model": {"a": weight, "b": weight}}))["model.safetensors"]
    assert len(data) < 1.5 * weight.nbytes
    back = snapshots.decode_model(data, {})
    assert torch.equal(back["a"], weight) and torch.equal(back["b"], weight)


def test_views_of_one_memory_are_kept_apart():
    memory = torch.arange(6.0)
    state = {"left": memory[:3], "right": memory[3:], "all": memory, "turned": memory.view(2, 3).T}
    back = there_and_back(state)
    for name, value in state.items():
        assert torch.equal(back[name], value)


def test_what_safetensors_cannot_hold_is_kept_beside_it():
    state = {"w": torch.ones(2), "_extra_state": {"calls": 3, "name": "x"}}
    back = there_and_back(state)
    assert back["_extra_state"] == {"calls": 3, "name": "x"}
    assert torch.equal(back["w"], torch.ones(2))


def test_all_generators_go_on_where_they_stood():
    def draw():
        return random.gauss(0, 1), np.random.randn(), torch.randn(()).item(), random.random()

    draw()  # an odd number of normal variates: each generator holds one back
    state = snapshots.random_state()
    expected = [draw() for _ in range(3)]
    snapshots.set_random_state(state)
    assert [draw() for _ in range(3)] == expected


class Widget:
    pass


def test_a_state_that_would_need_code_to_read_is_refused_when_it_is_saved():
    with pytest.raises(CheckpointError, match="the state of 'optimizer' holds .*Widget, which"):
        list(snapshots.encode({"model": {}, "optimizer": {"widget": Widget()}}))


def test_bytes_of_a_nested_state():
    state = {"model": {"w": torch.zeros(10)}, "optimizer": {"state": [torch.zeros(5), 1]}}
    assert snapshots.bytes_of(state) == 40 + 20 + 8
