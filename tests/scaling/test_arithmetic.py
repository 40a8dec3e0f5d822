"""Operations: the formula against torch's counter."""

import pytest
import torch
import transformers
from torch import nn

from cookbook.scaling.arithmetic import Operations, counted, flops_per_token


def encoder(layers=2, hidden=32):
    config = transformers.BertConfig(
        vocab_size=50, hidden_size=hidden, num_attention_heads=2, num_hidden_layers=layers,
        intermediate_size=4 * hidden,
    )  # fmt: skip
    return transformers.BertModel(config, add_pooling_layer=False)


def batch(rows=3, length=16):
    return {"input_ids": torch.ones(rows, length, dtype=torch.long)}


def matrices(model):
    return sum(p.numel() for name, p in model.encoder.named_parameters() if p.ndim == 2)


def test_the_formula_is_what_is_counted():
    model, rows, length = encoder(), 3, 16
    found = counted(encoder, batch(rows, length), loss=lambda out: out[0].sum())
    asked = flops_per_token(matrices(model), layers=2, hidden=32, length=length)
    assert sum(found) == rows * length * asked
    assert found.forward * 3 == sum(found)


def test_frozen_weights_cost_the_products_that_pass_through_only():
    def head_on_top():
        model = encoder()
        model.encoder.requires_grad_(False)
        return model

    whole = counted(encoder, batch(), loss=lambda out: out[0].sum())
    frozen = counted(head_on_top, batch(), loss=lambda out: out[0].sum())
    through = flops_per_token(matrices(encoder()), layers=2, hidden=32, length=16, trained=0)
    assert frozen.forward == whole.forward
    assert sum(frozen) == 3 * 16 * through < sum(whole)


def test_a_layer_by_hand():
    found = counted(
        lambda: nn.Sequential(nn.Linear(4, 5)), {"input": torch.ones(2, 4)}, loss=torch.sum
    )
    assert found == Operations(2 * 2 * 4 * 5, 2 * 2 * 4 * 5)  # the input needs no gradient


def test_without_trained_weights_there_is_no_backward_pass():
    frozen = counted(
        lambda: nn.Sequential(nn.Linear(4, 5)).requires_grad_(False),
        {"input": torch.ones(2, 4)},
        loss=torch.sum,
    )
    assert frozen.backward == 0


@pytest.mark.parametrize(("length", "ratio"), [(1, 1), (512, 8)])
def test_attention_outgrows_the_weights_with_the_length(length, ratio):
    """With 12 h² weights a layer, attention is as much as all matrices at length 6 h."""
    per = flops_per_token(12 * 64 * 64, layers=1, hidden=64, length=length)
    alone = flops_per_token(12 * 64 * 64, layers=1, hidden=64, length=0)
    assert per / alone == pytest.approx(1 + length / (6 * 64))
    assert per / alone < 1 + ratio
