"""Every token is scored once, with as much context as promised; a window over all is the loss."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import GPT2Config, GPT2LMHeadModel

from cookbook.evaluation.sliding_window import bits_per_character, token_nats, windows

SIZES = st.integers(2, 20).flatmap(lambda w: st.tuples(st.just(w), st.integers(1, w - 1)))


@pytest.fixture(scope="module")
def gpt():
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=30, n_positions=64, n_embd=16, n_layer=2, n_head=2, initializer_range=0.3,
        bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    return GPT2LMHeadModel(config).eval()


IDS = np.random.default_rng(0).integers(0, 30, 60)


@given(st.integers(0, 100), SIZES)
def test_every_token_but_the_first_is_scored_once(length, sizes):
    window, stride = sizes
    found = windows(length, window, stride)
    scored = [place for w in found for place in range(w.first, w.stop)]
    assert scored == list(range(1, length))
    for number, w in enumerate(found):
        assert 0 <= w.start < w.first < w.stop <= w.start + window
        if number:
            assert w.first - w.start >= window - stride, "less context than promised"
            assert w.stop - w.start == window


@pytest.mark.parametrize("stride", [1, 7, 59])
def test_a_window_over_all_gives_the_loss_of_the_model(gpt, stride):
    ids = torch.tensor(IDS)[None]
    own = gpt(input_ids=ids, labels=ids).loss
    found = token_nats(gpt, IDS, window=60, stride=stride).mean()
    torch.testing.assert_close(torch.tensor(found).float(), own.detach(), rtol=1e-5, atol=1e-6)


@given(SIZES, st.integers(1, 5))
def test_each_token_is_scored_with_what_its_window_shows(sizes, batch_size):
    window, stride = sizes
    torch.manual_seed(0)
    layer = torch.nn.Embedding(30, 30)

    def model(input_ids):  # the logits depend on the sum of all that was shown
        logits = layer(input_ids).cumsum(1)
        return type("Output", (), {"logits": logits})

    model.parameters, model.training = layer.parameters, False
    model.eval = model.train = lambda *_: None
    found = token_nats(model, IDS, window=window, stride=stride, batch_size=batch_size)
    assert found.shape == (59,)
    for w in windows(60, window, stride):
        for place in (w.first, w.stop - 1):
            shown = layer(torch.tensor(IDS[w.start : place])).sum(0)
            expected = -shown.log_softmax(-1)[IDS[place]].item()
            assert math.isclose(found[place - 1], expected, rel_tol=1e-4, abs_tol=1e-4)


def test_more_context_moves_the_score_only_of_later_tokens(gpt):
    near, far = (token_nats(gpt, IDS, window=w, stride=5) for w in (10, 20))
    np.testing.assert_allclose(near[:9], far[:9], rtol=1e-4)
    assert not np.allclose(near[20:], far[20:])


def test_the_mode_of_the_model_comes_back(gpt):
    gpt.train()
    token_nats(gpt, IDS, window=10, stride=5)
    assert gpt.training
    gpt.eval()


@pytest.mark.parametrize("stride", [0, 8, 9])
def test_a_stride_that_leaves_tokens_without_context_is_refused(stride):
    with pytest.raises(ValueError, match="choose 1 to 7"):
        windows(20, 8, stride)


def test_a_byte_that_costs_eight_bits_costs_eight_bits():
    assert math.isclose(bits_per_character(10 * math.log(256), 10), 8)
    with pytest.raises(ValueError, match="no text"):
        bits_per_character(1.0, 0)
