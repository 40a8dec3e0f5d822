"""P4: an autocast that does not reach the layers is found; one that does is not."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from cookbook.doctor import precision_probes
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


def test_no_hook_is_left():
    model = Shielded()
    subject = Subject(model, train_dataset=[(torch.randn(3), 0)], args=BF16)
    attempt(precision_probes.check_autocast_reaches_linears, subject)
    assert not model.inner._forward_hooks
