"""Drawn weights look drawn, by any usual way of drawing; trained ones and constants do not."""

import pytest
import torch
from torch import nn

from cookbook.doctor import drawn


@pytest.mark.parametrize("draw", [
    nn.init.xavier_normal_, nn.init.kaiming_uniform_, nn.init.normal_,
    lambda weight: nn.init.trunc_normal_(weight, std=0.02),
])  # fmt: skip
def test_what_was_just_drawn_looks_so(draw):
    torch.manual_seed(0)
    weight = draw(torch.empty(64, 64))
    assert drawn.looks_drawn(weight) and drawn.looks_drawn(weight, float(weight.std()))
    assert not drawn.looks_drawn(weight, 1.1 * float(weight.std()))


def test_what_was_trained_or_is_constant_does_not():
    torch.manual_seed(0)
    weight = torch.randn(64, 64)
    assert not drawn.looks_drawn(weight * (1 + 0.8 * torch.randn(64, 1).abs()))
    assert not drawn.looks_drawn(weight + 0.5) and not drawn.looks_drawn(torch.ones(8, 8))


def test_two_weights_are_alike_where_one_began_as_the_other():
    torch.manual_seed(0)
    one, other = torch.randn(64, 64), torch.randn(64, 64)
    assert drawn.cosine(one, one + 0.3 * other) > 0.9 and abs(drawn.cosine(one, other)) < 0.1
