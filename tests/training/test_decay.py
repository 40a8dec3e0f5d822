"""Decoupled decay takes the same share of every weight; coupled decay does not."""

import pytest
import torch
from torch import nn

from cookbook.maths.optimizers import adam, adamw, sgd
from cookbook.training import decay
from cookbook.training.decay import Recording, by_size, felt, recorded

SIZES = torch.tensor([0.01, 0.1, 1.0, 10.0])


def recording(steps=40):
    """Four weights of 1 whose gradients cancel over time and differ in size by factors of ten."""
    signs = [1.0 if step % 2 else -1.0 for step in range(steps)]
    return Recording(torch.ones(4), [sign * SIZES for sign in signs])


def test_adamw_takes_the_same_from_all_and_adam_most_from_small_gradients():
    settings = {"rate": 1e-3, "decay": 0.01}
    torch.testing.assert_close(felt(adamw, recording(), **settings), torch.ones(4))
    coupled = felt(adam, recording(), **settings)
    assert (coupled[:-1] > 5 * coupled[1:]).all()  # about a tenth for ten times the gradient
    # decay / RMS of the gradient, in units of decay: 1 at a gradient of 1
    assert coupled[2] == pytest.approx(1, rel=0.3)


def test_for_plain_sgd_there_is_no_difference():
    found = felt(sgd, recording(), rate=1e-2, decay=0.1)
    torch.testing.assert_close(found, torch.ones(4))


def test_a_weight_without_any_gradient_shrinks_at_full_speed_under_coupled_decay():
    still = Recording(torch.ones(1), [torch.zeros(1)] * 20)
    rate, strength = 1e-3, 0.01
    lost = felt(adam, still, rate=rate, decay=strength).item() * 20 * rate * strength
    assert lost == pytest.approx(20 * rate, rel=0.02)  # the rate itself, every step
    assert felt(adamw, still, rate=rate, decay=strength).item() == pytest.approx(1)


def test_recording_takes_what_the_optimizer_gets_and_a_missing_gradient_as_zeros():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2))
    before = model[1].weight.detach().clone()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with recorded(model, optimizer) as found:
        for _ in range(2):
            model[1](torch.ones(1, 3)).sum().backward()
            optimizer.step()
            optimizer.zero_grad()
    optimizer.step()
    assert len(found.gradients) == 2 and found.start.shape == (9 + 6,)
    assert torch.equal(found.start[9:].sort().values, before.flatten().sort().values)
    assert torch.equal(found.gradient_size, torch.cat([torch.zeros(9), torch.ones(6)]))


def test_recording_takes_so_many_of_each_matrix_and_no_bias():
    model = nn.Sequential(nn.Linear(30, 10), nn.Linear(10, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with recorded(model, optimizer, count=50) as found:
        pass
    assert found.start.shape == (50 + 20,)


def test_by_size_leaves_out_what_has_no_logarithm():
    sizes, values = torch.tensor([0.0, 1.0, 2.0]), torch.tensor([9.0, float("nan"), 3.0])
    assert by_size(sizes, values, groups=1) == [(2.0, 3.0)]


def test_untouched_rows_are_those_that_no_text_names():
    class Model(nn.Module):
        def get_input_embeddings(self):
            return nn.Embedding(10, 2)

    rows = [{"input_ids": [2, 7]}, {"input_ids": [8]}]
    assert decay.untouched_rows(Model(), rows).tolist() == [5, 6, 9]
