import pytest
import torch
from torch import nn

from cookbook.doctor import ascent_probes, examination, preserve
from cookbook.doctor.subject import Subject

functional = nn.functional


def model(classes=3):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Dropout(0.3), nn.Linear(16, classes))


def pairs(target=None, count=48):
    draw = torch.Generator().manual_seed(0)
    found = []
    for _ in range(count):
        x = torch.randn(6, generator=draw)
        found.append((x, int(x[0] > 0) if target is None else target(x)))
    return found


def found(check, it, data, loss_fn=functional.cross_entropy, optimizer=None):
    subject = Subject(it, train_dataset=data, loss_fn=loss_fn, optimizer=optimizer)
    with preserve.everything(it, optimizer):
        said, why = examination.attempt(check, subject)
    assert not why.startswith("failed")
    return said


def said_l4(said):
    return [(f.fault, f.severity) for f in said] == [("L4", "error")]


@pytest.mark.parametrize("classes", [2, 5])
def test_the_negative_of_a_cross_entropy(classes):
    negative = lambda out, y: -functional.cross_entropy(out, y)  # noqa: E731
    check = ascent_probes.check_negative_loss
    assert said_l4(found(check, model(classes), pairs(), negative))
    assert found(check, model(classes), pairs()) == []


@pytest.mark.parametrize("loss_fn", [
    functional.mse_loss, functional.l1_loss, functional.binary_cross_entropy_with_logits,
])  # fmt: skip
def test_the_negative_of_other_losses(loss_fn):
    data = pairs(lambda x: (x[:3] > 0).float())
    check = ascent_probes.check_negative_loss
    assert said_l4(found(check, model(), data, lambda out, y: -loss_fn(out, y)))
    assert found(check, model(), data, loss_fn) == []


@pytest.mark.parametrize("change", [
    lambda loss: 1 - loss, lambda loss: (-loss).exp(), lambda loss: 3.0 - 0.5 * loss,
])  # fmt: skip
def test_a_loss_that_rises_where_a_known_one_falls(change):
    check = ascent_probes.check_negative_loss
    turned = lambda out, y: change(functional.cross_entropy(out, y))  # noqa: E731
    said = found(check, model(), pairs(), turned)
    assert said_l4(said) and "reversed" in said[0].evidence


@pytest.mark.parametrize("loss_fn", [
    lambda out, y: functional.cross_entropy(out, y, label_smoothing=0.2),
    lambda out, y: functional.cross_entropy(out, y) - 0.1 * out.softmax(-1).std(),
    lambda out, y: functional.multi_margin_loss(out, y),
    lambda out, y: -functional.log_softmax(out, -1)[torch.arange(len(y)), y].mean(),
    lambda out, y: 1 - out.softmax(-1)[torch.arange(len(y)), y].mean(),
])  # fmt: skip
def test_other_losses_that_fall_with_the_cross_entropy(loss_fn):
    assert found(ascent_probes.check_negative_loss, model(), pairs(), loss_fn) == []


def test_a_loss_may_be_negative_by_right():
    data = pairs(lambda x: x[:3])
    gaussian = lambda out, y: ((out - y) ** 2).mean() - 5  # noqa: E731
    alike = lambda out, y: -functional.cosine_similarity(out, y).mean()  # noqa: E731
    for loss_fn in (gaussian, alike):
        assert found(ascent_probes.check_negative_loss, model(), data, loss_fn) == []


def test_maximize_climbs():
    it = model()
    optimizer = torch.optim.AdamW(it.parameters(), lr=1e-3, maximize=True)
    said = found(ascent_probes.check_ascent, it, pairs(), optimizer=optimizer)
    assert said_l4(said) and "maximize=True" in said[0].evidence
    assert said[0].measured["raised"] == 5


class Backwards(torch.optim.SGD):
    """An optimizer of the reader's own with a wrong sign."""

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                p.add_(p.grad, alpha=group["lr"])


def test_an_update_with_the_wrong_sign_climbs():
    it = model()
    said = found(ascent_probes.check_ascent, it, pairs(), optimizer=Backwards(it.parameters()))
    assert said_l4(said)


@pytest.mark.parametrize("rate", [0.0, 1e-5, 1e-2, 50.0])
def test_a_rate_that_is_zero_small_or_far_too_high_is_no_wrong_sign(rate):
    it = model()
    for optimizer in (torch.optim.SGD(it.parameters(), lr=rate, momentum=0.9),
                      torch.optim.AdamW(it.parameters(), lr=rate, weight_decay=10.0)):  # fmt: skip
        assert found(ascent_probes.check_ascent, it, pairs(), optimizer=optimizer) == []


def test_a_run_in_its_middle_is_left_as_it_was():
    it, data = model(), pairs()
    optimizer = torch.optim.Adam(it.parameters(), lr=0.1)
    for _ in range(5):
        functional.cross_entropy(it(torch.randn(8, 6)), torch.zeros(8, dtype=int)).backward()
        optimizer.step()
    before = [v.clone() for s in optimizer.state.values() for v in s.values()]
    weights = [p.detach().clone() for p in it.parameters()]
    assert found(ascent_probes.check_ascent, it, data, optimizer=optimizer) == []
    after = [v for s in optimizer.state.values() for v in s.values()]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(weights, it.parameters(), strict=True))


class Reversal(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        return -grad


class Adversarial(nn.Module):
    def __init__(self):
        super().__init__()
        self.features, self.domain = nn.Linear(6, 16), nn.Linear(16, 3)

    def forward(self, x):
        return self.domain(Reversal.apply(torch.tanh(self.features(x))))


def test_a_gradient_that_is_reversed_on_purpose_is_not_judged():
    it = Adversarial()
    for p in it.domain.parameters():
        p.requires_grad_(False)
    optimizer = torch.optim.SGD(it.features.parameters(), lr=0.1)
    assert found(ascent_probes.check_ascent, it, pairs(), optimizer=optimizer) == []


def test_functions_of_the_libraries_are_judged():
    class Activation(torch.autograd.Function):
        __module__ = "transformers.models.bloom"
        forward = staticmethod(lambda ctx, x: x.clone())
        backward = staticmethod(lambda ctx, grad: grad)

    it = nn.Sequential(nn.Linear(6, 3))
    it.register_forward_hook(lambda module, inputs, output: Activation.apply(output))
    optimizer = torch.optim.SGD(it.parameters(), lr=0.1, maximize=False)
    assert found(ascent_probes.check_ascent, it, pairs(), optimizer=optimizer) == []
    assert said_l4(found(ascent_probes.check_ascent, it, pairs(),
                         optimizer=Backwards(it.parameters())))  # fmt: skip


def test_an_optimizer_that_wants_a_closure_is_not_judged():
    it = model()
    optimizer = torch.optim.LBFGS(it.parameters())
    assert found(ascent_probes.check_ascent, it, pairs(), optimizer=optimizer) == []
