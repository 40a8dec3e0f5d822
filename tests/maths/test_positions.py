"""Positions equal the library's tables, and do what they are there for: tell places apart."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from cookbook.maths import positions


def test_sinusoidal_equals_the_librarys_tables():
    from transformers.models.marian.modeling_marian import MarianSinusoidalPositionalEmbedding
    from transformers.models.speecht5.modeling_speecht5 import SpeechT5ScaledPositionalEncoding

    ours = positions.sinusoidal(300, 16)
    interleaved = SpeechT5ScaledPositionalEncoding(0.0, 16, 300).pe[0]
    torch.testing.assert_close(ours, interleaved, rtol=1e-4, atol=3e-5)  # theirs: angles in fp32
    halves = MarianSinusoidalPositionalEmbedding(300, 16).create_weight()
    apart = torch.cat((ours[:, 0::2], ours[:, 1::2]), 1)
    torch.testing.assert_close(apart, halves, rtol=1e-6, atol=1e-7)


def test_sinusoidal_hand_worked():
    # width 4: the first hand turns by 1 radian a token, the second by 1/100
    at_two = torch.tensor([2.0, 2.0, 0.02, 0.02], dtype=torch.float64)
    expected = torch.where(torch.tensor([True, False] * 2), at_two.sin(), at_two.cos()).float()
    torch.testing.assert_close(positions.sinusoidal(3, 4)[2], expected)


@given(st.integers(0, 400), st.integers(0, 400), st.integers(0, 100))
@settings(max_examples=50)
def test_sinusoidal_similarity_depends_on_the_distance_only(first, second, shift):
    table = positions.sinusoidal(501, 32).double()
    here, there = table[first] @ table[second], table[first + shift] @ table[second + shift]
    assert abs(here - there) < 1e-5
    assert abs(table[first] @ table[first] - 16) < 1e-5  # sin² + cos² in each of 16 pairs


def test_rotate_equals_llamas_rotation(dtype, draw, assert_equal):
    from transformers.models.llama import modeling_llama as llama

    turns = llama.LlamaRotaryEmbedding(llama.LlamaConfig(hidden_size=16, num_attention_heads=2))
    query, key = draw(2, 2, 50, 8, dtype=dtype), draw(2, 2, 50, 8, dtype=dtype)
    turns.inv_freq = turns.inv_freq.double()
    angles = torch.arange(50).double()[:, None] * 10_000 ** -(torch.arange(0, 8, 2).double() / 8)
    torch.testing.assert_close(turns.inv_freq, angles[1], rtol=1e-6, atol=0)  # theirs: fp32
    cos, sin = (torch.cat((f, f), -1).to(dtype)[None] for f in (angles.cos(), angles.sin()))
    assert_equal(
        lambda q, k: torch.stack((positions.rotate(q), positions.rotate(k))),
        lambda q, k: torch.stack(llama.apply_rotary_pos_emb(q, k, cos, sin)),
        query,
        key,
    )


def test_rotate_equals_the_librarys_module_at_its_own_precision(draw):
    from transformers.models.llama import modeling_llama as llama

    turns = llama.LlamaRotaryEmbedding(llama.LlamaConfig(hidden_size=16, num_attention_heads=2))
    x = draw(1, 2, 50, 8).float()
    expected, _ = llama.apply_rotary_pos_emb(x, x, *turns(x, torch.arange(50)[None]))
    torch.testing.assert_close(positions.rotate(x), expected, rtol=1e-5, atol=1e-5)


def test_rotate_leaves_the_first_place_and_every_length_alone(draw):
    x = draw(3, 6, 8)
    turned = positions.rotate(x)
    torch.testing.assert_close(turned[:, 0], x[:, 0])
    torch.testing.assert_close(turned.norm(dim=-1), x.norm(dim=-1))
    half_turn = positions.rotate(torch.tensor([[3.0, 0.0]]), torch.tensor([torch.pi]))
    torch.testing.assert_close(half_turn, torch.tensor([[-3.0, 0.0]]), atol=1e-6, rtol=0)


@given(st.integers(0, 10_000), st.integers(0, 500), st.integers(0, 500), st.integers(0, 500))
@settings(max_examples=50)
def test_products_of_rotated_vectors_know_the_distance_only(seed, first, second, shift):
    generator = torch.Generator().manual_seed(seed)
    query, key = torch.randn(2, 1, 8, generator=generator, dtype=torch.float64)

    def product(m, n):
        places = torch.tensor([m]), torch.tensor([n])
        return positions.rotate(query, places[0]) @ positions.rotate(key, places[1]).T

    torch.testing.assert_close(product(first, second), product(first + shift, second + shift))


def test_learned_positions_equal_an_embedding(dtype, draw, assert_equal):
    torch.manual_seed(0)
    ours, theirs = positions.LearnedPositions(9, 8).to(dtype), nn.Embedding(9, 8, dtype=dtype)
    assert abs(ours.weight.std() - 0.02) < 0.005
    ours.weight.data = theirs.weight.data.clone()
    assert_equal(ours, lambda x: x + theirs(torch.arange(5)), draw(2, 5, 8, dtype=dtype))
    torch.testing.assert_close(ours.weight.grad, theirs.weight.grad)


def test_what_cannot_be_placed_is_refused(draw):
    with pytest.raises(ValueError, match="10 tokens, but only 9 positions were learned"):
        positions.LearnedPositions(9, 8)(draw(1, 10, 8))
    with pytest.raises(ValueError, match="in pairs, found a width of 5"):
        positions.sinusoidal(3, 5)
    with pytest.raises(ValueError, match="in pairs, found a width of 3"):
        positions.rotate(draw(2, 3))
