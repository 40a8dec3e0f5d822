import pytest
import torch
import transformers
from torch import nn

from cookbook.doctor import examination, finite_probes
from cookbook.doctor.subject import Subject

functional = nn.functional


class Roots(nn.Module):
    """`inside` acts between two layers."""

    def __init__(self, inside=torch.tanh):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.act, self.last = nn.Linear(6, 8), Called(inside), nn.Linear(8, 3)

    def forward(self, x):
        return self.last(self.act(self.first(x)))


class Called(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def pairs(count=16):
    draw = torch.Generator().manual_seed(0)
    return [(torch.randn(6, generator=draw), i % 3) for i in range(count)]


def found(check, model, data=None, loss_fn=functional.cross_entropy, **given):
    subject = Subject(model, train_dataset=data or pairs(), loss_fn=loss_fn, **given)
    said, why = examination.attempt(check, subject)
    assert why in ("", "does not apply"), why
    return said


def test_the_first_module_that_returns_nan_is_named():
    (said,) = found(finite_probes.check_finite, Roots(torch.sqrt))
    assert (said.fault, said.severity) == ("P1", "error")
    assert said.measured["module"] == "act (Called)" and "NaN" in said.evidence


def test_a_loss_that_is_not_finite_by_itself():
    loss_fn = lambda out, y: functional.cross_entropy(out, y) / 0  # noqa: E731
    (said,) = found(finite_probes.check_finite, Roots(), loss_fn=loss_fn)
    assert said.fault == "P1" and "the loss itself" in said.evidence


def test_a_gradient_that_is_not_finite_behind_a_finite_loss():
    model = Roots(lambda h: h.mul(0).sqrt())
    (said,) = found(finite_probes.check_finite, model)
    assert said.fault == "P1" and "first." in said.evidence


def test_weights_that_are_not_finite():
    model = Roots()
    with torch.no_grad():
        model.last.weight[0, 0] = float("inf")
    (said,) = found(finite_probes.check_finite, model)
    assert said.measured["weight"] == "last.weight"


def test_a_sound_model_and_a_mask_of_minus_infinity_are_silent(tiny_bert):
    assert found(finite_probes.check_finite, Roots()) == []

    def hide(h):
        return torch.cat([h[:, :4], torch.full_like(h[:, 4:], -float("inf"))], 1).sigmoid()

    assert found(finite_probes.check_finite, Roots(hide)) == []


def test_faults_of_the_data_are_left_to_its_checks():
    broken = [(x * float("nan"), y) for x, y in pairs()]
    unlabelled = [(x, -100) for x, _ in pairs()]
    for data in (broken, unlabelled):
        assert found(finite_probes.check_finite, Roots(), data) == []


@pytest.mark.parametrize("scale, expected", [(1.0, []), (1e6, ["P2"])])
def test_an_activation_beyond_fp16(tmp_path, scale, expected):
    args = transformers.TrainingArguments(tmp_path, report_to="none", use_cpu=True)
    model = Roots(lambda h: torch.tanh(h) * scale)
    check = finite_probes.check_fits_half
    assert found(check, model, args=args) == []
    args.fp16 = True
    said = found(check, model, args=args)
    assert [f.fault for f in said] == expected
    assert all(f.severity == "error" and f.measured["activation"] > 65504 for f in said)
