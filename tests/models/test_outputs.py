"""The loss of the next token, by hand."""

import math

import torch

from cookbook.models.outputs import Output, next_token_loss


def test_token_t_plus_1_is_scored_at_t():
    logits = torch.zeros(1, 3, 4)
    logits[0, 0, 2] = logits[0, 1, 1] = 100.0  # certain of 2, then of 1
    assert next_token_loss(logits, torch.tensor([[0, 2, 1]])).item() < 1e-6
    shifted_twice = next_token_loss(logits, torch.tensor([[2, 1, 0]]))
    assert math.isclose(shifted_twice.item(), 100.0)


def test_ignored_labels_and_none():
    logits = torch.zeros(1, 3, 4)
    loss = next_token_loss(logits, torch.tensor([[0, 2, -100]]))
    assert math.isclose(loss.item(), math.log(4), rel_tol=1e-6)
    assert next_token_loss(logits, None) is None


def test_the_loss_stands_first_as_the_trainer_expects():
    output = Output(1.0, "logits")
    assert output[0] == output.loss == 1.0 and output.extra is None
