"""The blocks equal torch's layers in value and gradient, norm first and last, masks included."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from cookbook.maths import blocks, pouring
from cookbook.maths.attention import causal_mask, padding_mask

TOKENS = torch.tensor([[1] * 6, [1] * 4 + [0] * 2])
SOURCE = torch.tensor([[1] * 3 + [0] * 5, [1] * 8])


def layer(kind, dtype, **options):
    torch.manual_seed(0)
    made = kind(8, 2, 16, dropout=0.0, batch_first=True, **options).to(dtype)
    for weight in made.parameters():  # norms that start as 1 and 0 would hide a swap
        nn.init.normal_(weight, std=0.4)
    return made


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("mask", ["none", "padding", "causal", "both"])
def test_encoder_block_equals_torchs(
    norm_first, activation, mask, dtype, draw, assert_equal_modules
):
    ours, theirs = {}, {}
    if mask in ("padding", "both"):
        ours["mask"], theirs["src_key_padding_mask"] = padding_mask(TOKENS), TOKENS == 0
    if mask in ("causal", "both"):
        ours["causal"], theirs["src_mask"] = True, ~causal_mask(6)
    assert_equal_modules(
        pouring.encoder_block,
        layer(nn.TransformerEncoderLayer, dtype, norm_first=norm_first, activation=activation),
        lambda block, x: block(x, **ours)[0],
        lambda block, x: block(x, **theirs),
        draw(2, 6, 8, dtype=dtype),
    )


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_decoder_block_equals_torchs(norm_first, masked, dtype, draw, assert_equal_modules):
    ours = {"mask": padding_mask(TOKENS), "memory_mask": padding_mask(SOURCE)}
    theirs = {"tgt_key_padding_mask": TOKENS == 0, "memory_key_padding_mask": SOURCE == 0}
    assert_equal_modules(
        pouring.decoder_block,
        layer(nn.TransformerDecoderLayer, dtype, norm_first=norm_first, activation="gelu"),
        lambda block, x, memory: block(x, memory, **(ours if masked else {}))[0],
        lambda block, x, memory: block(
            x, memory, tgt_mask=~causal_mask(6), **(theirs if masked else {})
        ),
        draw(2, 6, 8, dtype=dtype),
        draw(2, 8, 8, dtype=dtype),
    )


def test_decoder_block_can_look_both_ways(draw):
    theirs = layer(nn.TransformerDecoderLayer, torch.float64)
    x, memory = draw(2, 6, 8), draw(2, 8, 8)
    found, weights = pouring.decoder_block(theirs)(x, memory, causal=False)
    torch.testing.assert_close(found, theirs(x, memory), rtol=0, atol=1e-10)
    assert weights.shape == (2, 2, 6, 8)


ROWS = {
    "usual": torch.linspace(-3, 5, 24).view(3, 8),
    "constant": torch.full((2, 8), 7.0),
    "zeros": torch.zeros(2, 8),
}


@pytest.mark.parametrize("name", ROWS)
def test_layer_norm_equals_torch(name, dtype, assert_equal):
    weight, bias = torch.linspace(0.5, 2, 8, dtype=dtype), torch.linspace(-1, 1, 8, dtype=dtype)
    assert_equal(
        blocks.layer_norm,
        lambda x, w, b: F.layer_norm(x, (8,), w, b),
        ROWS[name].to(dtype), weight, bias,
    )  # fmt: skip


def test_layer_norm_equals_torch_far_from_0(assert_equal):
    # In fp64: in fp32 the digits are lost in the mean, before the two formulas could differ.
    weight, bias = torch.ones(8).double(), torch.zeros(8).double()
    far = torch.linspace(0, 1, 8, dtype=torch.float64) + 1e3
    assert_equal(blocks.layer_norm, lambda x, w, b: F.layer_norm(x, (8,), w, b), far, weight, bias)


def test_layer_norm_hand_worked():
    # mean 4, variance (9 + 1 + 16) / 3 = 26/3 over the width, not width - 1
    x, one, zero = torch.tensor([1.0, 3.0, 8.0]), torch.ones(3), torch.zeros(3)
    expected = torch.tensor([-3.0, -1.0, 4.0]) / (26 / 3) ** 0.5
    torch.testing.assert_close(blocks.layer_norm(x, one, zero, eps=0.0), expected)
    module = blocks.LayerNorm(3)
    torch.testing.assert_close(module(x), blocks.layer_norm(x, one, zero, 1e-5))


@given(st.integers(0, 10_000), st.floats(0.1, 100), st.floats(-100, 100))
@settings(max_examples=50)
def test_layer_norm_forgets_scale_and_offset(seed, scale, offset):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(4, 8, generator=generator, dtype=torch.float64)
    one, zero = torch.ones(8).double(), torch.zeros(8).double()
    normed = blocks.layer_norm(x, one, zero, eps=0.0)
    again = blocks.layer_norm(scale * x + offset, one, zero, eps=0.0)
    torch.testing.assert_close(again, normed, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(normed.var(-1, correction=0), one[:4])


ACTIVATIONS = {
    "relu": (blocks.relu, F.relu),
    "gelu": (blocks.gelu, F.gelu),
    "gelu_tanh": (blocks.gelu_tanh, lambda x: F.gelu(x, approximate="tanh")),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_equal_torchs(name, dtype, assert_equal):
    ours, theirs = ACTIVATIONS[name]
    assert_equal(ours, theirs, torch.tensor([-30, -5, -0.5, 0, 1e-8, 0.5, 5, 30], dtype=dtype))
    assert ours(torch.tensor([torch.nan])).isnan()


@pytest.mark.parametrize("norm_first", [False, True])
def test_padding_and_the_future_move_nothing(norm_first, draw):
    torch.manual_seed(0)
    block = blocks.EncoderBlock(8, 2, 16, norm_first=norm_first, rotary=True).double()
    x = draw(1, 5, 8)
    longer = torch.cat((x, 100 * draw(1, 3, 8)), 1)
    alone = block(x)[0]
    hidden = padding_mask(torch.tensor([[1] * 5 + [0] * 3]))
    torch.testing.assert_close(block(longer, mask=hidden)[0][:, :5], alone, rtol=0, atol=1e-12)
    assert (block(longer)[0][:, :5] - alone).abs().max() > 0.01
    causal = block(x, causal=True)[0]
    torch.testing.assert_close(block(longer, causal=True)[0][:, :5], causal, rtol=0, atol=1e-12)


def test_norm_last_ends_normalised_and_norm_first_keeps_the_sum(draw):
    torch.manual_seed(0)
    x = 10 * draw(1, 4, 8)
    last = blocks.EncoderBlock(8, 2, 16).double()(x)[0]
    first = blocks.EncoderBlock(8, 2, 16, norm_first=True).double()
    assert last.var(-1, correction=0).sub(1).abs().max() < 1e-4
    for linear in (first.attention.output, first.feed_forward.down):
        nn.init.zeros_(linear.weight), nn.init.zeros_(linear.bias)
    assert torch.equal(first(x)[0], x)  # nothing but the residual path: the identity
