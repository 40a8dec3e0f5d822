"""Attention by hand equals torch's in value and gradient, whatever the mask."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from cookbook.maths import attention, pouring
from cookbook.maths.attention import scaled_dot_product_attention as attend

ALLOWED = torch.rand(5, 7, generator=torch.Generator().manual_seed(3)) < 0.6
ALLOWED[:, 0] = True


def output(*inputs, **options):
    return attend(*inputs, **options)[0]


def drawn(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


MASKS = {
    "none": {},
    "bool": {"mask": ALLOWED},
    "added": {"mask": torch.linspace(-3, 3, 35).view(5, 7)},
    "added infinity": {"mask": torch.zeros(5, 7).masked_fill(~ALLOWED, -torch.inf)},
    "padding": {"mask": attention.padding_mask(torch.tensor([[1] * 7, [1] * 4 + [0] * 3]))},
    "causal": {"causal": True},
    "scale": {"scale": 0.3},
    "nowhere": {"mask": torch.tensor([False, True, True, False, True])[:, None].expand(5, 7)},
}


@pytest.mark.parametrize("name", MASKS)
def test_equals_torch_under_every_mask(name, dtype, draw, assert_equal):
    options = dict(MASKS[name])
    if "mask" in options and options["mask"].is_floating_point():
        options["mask"] = options["mask"].to(dtype)
    theirs = {"attn_mask" if k == "mask" else "is_causal" if k == "causal" else k: v
              for k, v in options.items()}  # fmt: skip
    inputs = (
        draw(2, 3, 5, 8, dtype=dtype),
        draw(2, 3, 7, 8, dtype=dtype),
        draw(2, 3, 7, 6, dtype=dtype),
    )
    assert_equal(
        lambda *x: output(*x, **options),
        lambda *x: F.scaled_dot_product_attention(*x, **theirs),
        *inputs,
    )


def test_the_added_mask_has_the_gradient_of_torchs(dtype, draw, assert_equal):
    query, key, value = (draw(2, 5, 4, dtype=dtype) for _ in range(3))
    assert_equal(
        lambda mask: output(query, key, value, mask),
        lambda mask: F.scaled_dot_product_attention(query, key, value, attn_mask=mask),
        draw(2, 5, 5, dtype=dtype),
    )


def test_causal_and_a_mask_are_both_obeyed(draw, assert_equal):
    both = ALLOWED & attention.causal_mask(5, 7)
    assert_equal(
        lambda *x: output(*x, mask=ALLOWED, causal=True),
        lambda *x: F.scaled_dot_product_attention(*x, attn_mask=both),
        draw(2, 5, 8), draw(2, 7, 8), draw(2, 7, 8),
    )  # fmt: skip


@pytest.mark.parametrize("scale", [1e3, 1e5])
def test_huge_scores_pick_one_key_and_stay_finite(scale, dtype, draw, assert_equal):
    query, key, value = (
        draw(4, 8, dtype=dtype) * scale,
        draw(6, 8, dtype=dtype),
        draw(6, 8, dtype=dtype),
    )
    assert_equal(output, F.scaled_dot_product_attention, query, key, value)
    found, weights = attend(query, key, value)
    assert torch.allclose(weights.amax(-1), torch.ones(4, dtype=dtype))
    assert torch.allclose(found, value[(query @ key.T).argmax(-1)])


def test_one_key_is_copied_and_equal_keys_are_averaged(draw):
    query, value = draw(3, 4), draw(5, 2)
    torch.testing.assert_close(output(query, draw(1, 4), value[:1]), value[:1].expand(3, 2))
    same = draw(1, 4).expand(5, 4)
    torch.testing.assert_close(output(query, same, value), value.mean(0).expand(3, 2))


def test_hand_worked():
    # d_k = 4, scores 2 log 3 / sqrt(4) = log 3 and 0: weights 3/4 and 1/4
    query, key = torch.tensor([[2 * math.log(3), 0, 0, 0]]), torch.eye(2, 4)
    found, weights = attend(query, key, torch.tensor([[4.0], [8.0]]))
    torch.testing.assert_close(weights, torch.tensor([[0.75, 0.25]]))
    torch.testing.assert_close(found, torch.tensor([[5.0]]))


@given(st.integers(0, 10_000), st.integers(1, 6), st.integers(1, 6))
@settings(max_examples=50)
def test_keys_are_a_set_and_outputs_lie_between_the_values(seed, queries, keys):
    query, key, value = drawn(seed, queries, 4), drawn(seed + 1, keys, 4), drawn(seed + 2, keys, 3)
    found, weights = attend(query, key, value)
    shuffled = torch.randperm(keys, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(output(query, key[shuffled], value[shuffled]), found)
    torch.testing.assert_close(weights.sum(-1), torch.ones(queries, dtype=torch.float64))
    assert (found <= value.amax(0) + 1e-12).all() and (found >= value.amin(0) - 1e-12).all()


@given(st.integers(0, 10_000), st.integers(1, 7), st.integers(0, 6))
@settings(max_examples=50)
def test_a_later_token_moves_nothing_earlier(seed, length, at):
    at = min(at, length - 1)
    x, other = drawn(seed, length, 4), drawn(seed + 1, length, 4)
    changed = torch.cat((x[:at], other[at:]))
    before, after = (output(t, t, t, causal=True) for t in (x, changed))
    assert torch.equal(before[:at], after[:at])


def test_what_is_hidden_gets_no_gradient(draw):
    key, value = draw(7, 4).requires_grad_(), draw(7, 4).requires_grad_()
    mask = torch.tensor([True, True, False, True, False, False, False])
    output(draw(5, 4), key, value, mask).sum().backward()
    assert (key.grad[~mask] == 0).all() and (value.grad[~mask] == 0).all()
    assert (value.grad[mask] != 0).all()


def test_a_mask_of_integers_is_refused(draw):
    with pytest.raises(ValueError, match="a mask of torch.int64 is ambiguous"):
        attend(draw(2, 4), draw(2, 4), draw(2, 4), torch.tensor([1, 0]))


@pytest.mark.parametrize("dim", [0, -1])
def test_softmax_equals_torch(dim, dtype, draw, assert_equal):
    scores = torch.cat((draw(4, 6, dtype=dtype) * 5, torch.full((1, 6), 1e4, dtype=dtype)))
    assert_equal(lambda x: attention.softmax(x, dim), lambda x: torch.softmax(x, dim), scores)


def test_softmax_of_nothing_is_zero_with_zero_gradient_and_nan_stays_nan():
    scores = torch.tensor([[-torch.inf, -torch.inf], [0.0, -torch.inf]], requires_grad=True)
    weights = attention.softmax(scores)
    weights.square().sum().backward()
    assert weights.tolist() == [[0, 0], [1, 0]] and torch.equal(scores.grad, torch.zeros(2, 2))
    assert attention.softmax(torch.tensor([0.0, torch.nan])).isnan().all()


@given(st.integers(0, 10_000), st.floats(-1e6, 1e6))
@settings(max_examples=50)
def test_softmax_ignores_a_common_offset(seed, offset):
    scores = drawn(seed, 3, 5)
    torch.testing.assert_close(
        attention.softmax(scores + offset), attention.softmax(scores), rtol=1e-7, atol=1e-9
    )


def test_masks_by_hand():
    assert torch.equal(attention.causal_mask(4, 6), torch.ones(4, 6).tril().bool())
    assert attention.causal_mask(2).tolist() == [[True, False], [True, True]]
    assert attention.padding_mask(torch.tensor([[1, 0], [1, 1]])).shape == (2, 1, 1, 2)


HIDDEN = torch.tensor([[False] * 5, [False] * 3 + [True] * 2])
MODULE_MASKS = {
    "none": ({}, {}),
    "padding": ({"mask": attention.padding_mask(~HIDDEN)}, {"key_padding_mask": HIDDEN}),
    "causal": ({"causal": True}, {"attn_mask": ~attention.causal_mask(5)}),
    "added": ({"mask": torch.eye(5).double()}, {"attn_mask": torch.eye(5).double()}),
}  # torch's module says True where a key is hidden: the opposite of ours and of its own function


@pytest.mark.parametrize("name", MODULE_MASKS)
@pytest.mark.parametrize("bias", [True, False])
def test_equals_multi_head_attention(name, bias, dtype, draw, assert_equal_modules):
    torch.manual_seed(0)
    theirs = nn.MultiheadAttention(8, 2, bias=bias, batch_first=True).to(dtype)
    for weight in theirs.parameters():
        nn.init.normal_(weight, std=0.4)
    ours, options = (
        {k: v.to(dtype) if torch.is_tensor(v) and v.is_floating_point() else v
         for k, v in side.items()} for side in MODULE_MASKS[name]
    )  # fmt: skip
    x = draw(2, 5, 8, dtype=dtype)
    assert_equal_modules(
        pouring.attention,
        theirs,
        lambda module, x: module(x, **ours)[0],
        lambda module, x: module(x, x, x, **options)[0],
        x,
    )
    weights = pouring.attention(theirs)(x, **ours)[1]
    expected = theirs(x, x, x, average_attn_weights=False, **options)[1]
    torch.testing.assert_close(weights, expected)


def test_cross_attention_equals_torchs(dtype, draw, assert_equal_modules):
    torch.manual_seed(0)
    assert_equal_modules(
        pouring.attention,
        nn.MultiheadAttention(8, 4, batch_first=True).to(dtype),
        lambda module, x, memory: module(x, memory)[0],
        lambda module, x, memory: module(x, memory, memory)[0],
        draw(2, 5, 8, dtype=dtype),
        draw(2, 7, 8, dtype=dtype),
    )


@given(st.integers(0, 10_000), st.integers(2, 7))
@settings(max_examples=25)
def test_without_positions_shuffled_tokens_give_shuffled_outputs(seed, length):
    torch.manual_seed(seed)
    x, order = drawn(seed, 1, length, 8), torch.randperm(length)
    layer = attention.MultiHeadAttention(8, 2).double()
    torch.testing.assert_close(layer(x[:, order])[0], layer(x)[0][:, order])


def test_rotary_attention_equals_llamas(draw):
    from transformers.models.llama import modeling_llama as llama

    config = llama.LlamaConfig(
        hidden_size=16, num_attention_heads=2, num_key_value_heads=2, attn_implementation="eager"
    )
    torch.manual_seed(0)
    theirs = llama.LlamaAttention(config, 0)
    ours = attention.MultiHeadAttention(16, 2, bias=False, rotary=True)
    for name in ("query", "key", "value", "output"):
        getattr(ours, name).weight = getattr(theirs, f"{name[0]}_proj").weight
    x = draw(2, 9, 16).float()
    turns = llama.LlamaRotaryEmbedding(config)(x, torch.arange(9)[None])
    hidden = torch.zeros(9, 9).masked_fill(~attention.causal_mask(9), -torch.inf)
    expected, _ = theirs(x, position_embeddings=turns, attention_mask=hidden[None, None])
    torch.testing.assert_close(ours(x, causal=True)[0], expected, rtol=1e-5, atol=1e-6)


def test_heads_must_share_the_width_evenly():
    with pytest.raises(ValueError, match="3 heads cannot share 8 columns"):
        attention.MultiHeadAttention(8, 3)
