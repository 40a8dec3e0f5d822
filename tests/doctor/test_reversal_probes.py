import torch
from torch import nn

from cookbook.doctor import examination, preserve, reversal_probes
from cookbook.doctor.subject import Subject

functional = nn.functional


class Reversal(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, by=1.0):
        ctx.by = by
        return x.view_as(x)

    @staticmethod
    def backward(ctx, grad):
        return -ctx.by * grad, None


class Model(nn.Module):
    """Three layers of features, a head, and what stands between them."""

    def __init__(self, between=lambda x: x, other=None):
        super().__init__()
        torch.manual_seed(0)
        layers = [nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 16)]
        self.features, self.head = nn.Sequential(*layers, nn.Tanh()), nn.Linear(16, 3)
        self.domain, self.between, self.other = nn.Linear(16, 3), between, other

    def forward(self, x):
        states = self.features(x)
        if self.other is None:
            return self.head(self.between(states))
        return self.head(states), self.domain(self.between(states))


def rows(count=48):
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(count, 6, generator=draw)
    return [(row, int(row[0] > 0) + int(row[1] > 0)) for row in x]


def found(it, loss_fn=functional.cross_entropy, optimizer=None):
    subject = Subject(it, train_dataset=rows(), loss_fn=loss_fn, optimizer=optimizer)
    before = {name: value.clone() for name, value in it.state_dict().items()}
    with preserve.everything(it, optimizer):
        said, why = examination.attempt(reversal_probes.check_reversed_part, subject)
    assert not why.startswith("failed"), why
    assert all(torch.equal(before[name], value) for name, value in it.state_dict().items())
    return said


def test_features_that_climb_what_the_head_descends_are_l4():
    for by in (1.0, 0.3):
        said = found(Model(lambda x, by=by: Reversal.apply(x, by)))
        assert [(f.fault, f.severity) for f in said] == [("L4", "error")]
    assert "features" in said[0].evidence and "head.weight is true" in said[0].evidence


def test_a_large_model_is_asked_on_fewer_rows(monkeypatch):
    monkeypatch.setattr(reversal_probes, "LARGE", 10)
    seen, real = [], reversal_probes.sampling.first_rows

    def first_rows(batch, count):
        seen.append(count)
        return real(batch, count)

    monkeypatch.setattr(reversal_probes.sampling, "first_rows", first_rows)
    assert found(Model(Reversal.apply)) and found(Model()) == []
    assert reversal_probes.FEW_ROWS in seen and reversal_probes.ROWS not in seen


def test_a_hook_that_turns_the_gradient_is_l4_too():
    def turned(x):
        x.register_hook(lambda grad: -grad) if x.requires_grad else None
        return x

    assert found(Model(turned))


def test_true_gradients_are_healthy():
    assert found(Model()) == []
    assert found(Model(lambda x: Reversal.apply(Reversal.apply(x)))) == []
    assert found(Model(lambda x: x + (x.round() - x).detach())) == []  # straight through
    assert found(Model(lambda x: x.detach())) == []  # cut: M8


def test_a_second_loss_may_be_climbed_on_purpose():
    def both(out, y):
        return functional.cross_entropy(out[0], y) + functional.cross_entropy(out[1], y.flip(0))

    assert found(Model(Reversal.apply, other=True), both) == []


def test_an_adversary_whose_judge_is_frozen_is_healthy():
    it = Model(Reversal.apply)
    it.head.requires_grad_(False)
    optimizer = torch.optim.SGD(it.features.parameters(), lr=0.1)
    assert found(it, optimizer=optimizer) == []
