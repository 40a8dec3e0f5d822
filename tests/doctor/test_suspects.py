import torch
from torch import nn

from cookbook.doctor import suspects


class Broken(nn.Module):
    def forward(self, x):
        return x / 0.0 - x / 0.0


def test_the_first_module_is_named_and_nothing_is_changed():
    model = nn.Sequential(
        nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(), Broken(), nn.Linear(4, 2)
    )
    before = {k: v.clone() for k, v in model.state_dict().items()}
    state = torch.get_rng_state()
    found = suspects.first(model, ((torch.arange(12.0).reshape(3, 4),), {}), "loss")
    assert "3 (Broken)" in found
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert torch.equal(state, torch.get_rng_state())


def test_a_graph_that_awaits_its_backward_pass_stays_whole():
    model = nn.Sequential(nn.BatchNorm1d(4), Broken())
    model.register_buffer("scale", torch.ones(4))
    x = torch.randn(3, 4, requires_grad=True)
    loss = (model[0](x) * model.scale).square().sum()
    suspects.first(model, ((x.detach(),), {}), "loss")
    loss.backward()
    assert x.grad is not None


def test_the_batch_the_weights_and_the_loss_are_told_apart():
    model = nn.Linear(2, 2)
    bad = torch.tensor([[1.0, float("nan")]])
    assert "batch itself" in suspects.first(model, ((bad,), {}), "loss")
    assert "loss function" in suspects.first(model, ((torch.ones(1, 2),), {}), "loss")
    with torch.no_grad():
        model.bias[0] = float("inf")
    assert "weights of bias" in suspects.first(model, None, "loss")


def test_a_mask_may_hold_minus_infinity():
    assert suspects.finite(torch.tensor([0.0, -float("inf")]))
    assert not suspects.finite(torch.tensor([0.0, float("inf")]))
    assert suspects.finite(torch.tensor([1]))
