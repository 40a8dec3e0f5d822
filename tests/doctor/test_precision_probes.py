"""P4: an autocast that does not reach the layers is found; one that does is not."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from cookbook.doctor import examination, precision_probes
from cookbook.doctor.examination import attempt
from cookbook.doctor.subject import Subject

BF16, FULL = SimpleNamespace(bf16=True), SimpleNamespace(bf16=False)


class Shielded(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(3, 2)

    def forward(self, x):
        with torch.autocast("cpu", enabled=False):
            return self.inner(x)


class Mixed(nn.Module):
    """Some layers of three in fp32, as a head or a gate may be on purpose."""

    def __init__(self, full):
        super().__init__()
        self.layers, self.full = nn.ModuleList(nn.Linear(3, 3) for _ in range(3)), full

    def forward(self, x):
        for place, layer in enumerate(self.layers):
            with torch.autocast("cpu", torch.bfloat16, enabled=place >= self.full):
                x = layer(x.float())
        return x


@pytest.mark.parametrize(
    ("model", "args", "expected"),
    [
        (Mixed(2), BF16, [("P4", "warn")]),
        (Mixed(1), BF16, []),
        (Shielded(), BF16, [("P4", "warn")]),
        (Shielded(), FULL, []),
        (Shielded(), None, []),
        (nn.Sequential(nn.Linear(3, 2), nn.LayerNorm(2)), BF16, []),
        (nn.Linear(3, 2).bfloat16(), BF16, []),
        (nn.Embedding(3, 2), BF16, []),
    ],
)  # fmt: skip
def test_autocast(model, args, expected):
    subject = Subject(model, train_dataset=[(torch.randn(3), 0) for _ in range(4)], args=args)
    found, reason = attempt(precision_probes.check_autocast_reaches_linears, subject)
    assert [(one.fault, one.severity) for one in found] == expected
    assert "failed" not in reason


class Spelled(nn.Linear):
    """A product that autocast does not know."""

    def forward(self, x):
        return (x.float()[..., None, :] * self.weight).sum(-1) + self.bias


def test_a_linear_layer_of_ones_own_that_autocast_does_not_know():
    subject = Subject(Spelled(3, 2), train_dataset=[(torch.randn(3), 0)] * 4, args=BF16)
    (found,) = precision_probes.check_autocast_reaches_linears(subject)
    assert found.fault == "P4" and "1 of 1 outputs" in found.evidence


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2).double()), ["P4"]),
        (nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2).bfloat16()), ["P4"]),
        (nn.Sequential(nn.Linear(3, 3).double(), nn.Flatten()), None),
        (nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3)), None),
    ],
)
def test_weights_of_several_types(model, expected):
    subject = Subject(model, train_dataset=[(torch.randn(3), 0) for _ in range(4)])
    found, reason = attempt(precision_probes.check_types_meet, subject)
    assert [one.fault for one in found] == (expected or [])
    assert ("does not apply" in reason) == (expected is None)


class Casting(nn.Module):
    """A backbone in bf16 and a head in fp32, which is handed fp32: as adapters do it."""

    def __init__(self, casts=True):
        super().__init__()
        self.body, self.head, self.casts = nn.Linear(3, 3).bfloat16(), nn.Linear(3, 2), casts

    def forward(self, x):
        hidden = self.body(x.bfloat16())
        return self.head(hidden.float() if self.casts else hidden)


class OwnAutocast:
    """A trainer whose `compute_loss` opens an autocast of its own."""

    def compute_loss(self, model, inputs, return_outputs=False):
        with torch.autocast("cpu", torch.bfloat16):
            outputs = model(**inputs)
        return (outputs.float().mean(), outputs) if return_outputs else outputs.float().mean()


@pytest.mark.parametrize(
    ("casts", "args", "expected"),
    [
        (False, FULL, [("P4", "error")]),
        (False, BF16, []),
        (True, FULL, []),
        (False, None, [("P4", "info")]),  # the loop may open an autocast
    ],
)
def test_two_types_that_meet_under_an_autocast_alone(casts, args, expected):
    rows = [(torch.randn(3), 0) for _ in range(4)]
    report = examination.examine(Casting(casts), train_dataset=rows, args=args)
    found = [(one.fault, one.severity) for one in report.all if one.fault == "P4"]
    assert found == expected


def test_an_autocast_within_the_trainers_own_loss():
    rows = [{"x": torch.randn(3)} for _ in range(4)]
    for trainer, expected in ((OwnAutocast(), []), (None, ["P4"])):
        subject = Subject(Casting(False), train_dataset=rows, args=FULL, trainer=trainer)
        found, reason = attempt(precision_probes.check_types_meet, subject)
        assert [one.fault for one in found] == expected and "failed" not in reason, reason


def test_no_hook_is_left():
    model = Shielded()
    subject = Subject(model, train_dataset=[(torch.randn(3), 0)], args=BF16)
    attempt(precision_probes.check_autocast_reaches_linears, subject)
    assert not model.inner._forward_hooks


@pytest.mark.parametrize(("enabled", "expected"), [(True, []), (False, ["P4"])])
def test_a_loss_of_ones_own_that_switches_autocast_off(tiny_bert, enabled, expected):
    def compute_loss(model, inputs, return_outputs=False):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            outputs = model(**inputs)
        return (outputs.loss, outputs) if return_outputs else outputs.loss

    rows = [{"input_ids": [2, 5 + i, 7, 3], "labels": i % 2} for i in range(8)]
    subject = Subject(tiny_bert("BertForSequenceClassification"), train_dataset=rows, args=BF16,
                      trainer=SimpleNamespace(compute_loss=compute_loss))  # fmt: skip
    found, reason = attempt(precision_probes.check_autocast_reaches_linears, subject)
    assert [one.fault for one in found] == expected and "failed" not in reason
