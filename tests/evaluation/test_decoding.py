"""The filters are transformers' own, the loop writes what `generate` writes."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import GPT2Config, GPT2LMHeadModel
from transformers.generation import (
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from cookbook.evaluation.decoding import continue_ids, keep_top_k, keep_top_p, next_shares, temper

END = 3


@pytest.fixture(scope="module")
def gpt():
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=12, n_positions=32, n_embd=16, n_layer=2, n_head=2, initializer_range=0.4,
        bos_token_id=1, eos_token_id=END, pad_token_id=END,
    )  # fmt: skip
    return GPT2LMHeadModel(config).eval()


def scores(seed, rows=3, vocabulary=20):
    generator = torch.Generator().manual_seed(seed)
    return 3 * torch.randn(rows, vocabulary, dtype=torch.double, generator=generator)


@given(st.integers(0, 99), st.floats(0.1, 5), st.integers(1, 25), st.floats(0.01, 1))
def test_each_filter_is_the_librarys(seed, temperature, k, p):
    logits = scores(seed)
    for mine, theirs in (
        (temper(logits, temperature), TemperatureLogitsWarper(temperature)(None, logits)),
        (keep_top_k(logits, k), TopKLogitsWarper(k)(None, logits)),
        (keep_top_p(logits, p), TopPLogitsWarper(p)(None, logits)),
    ):
        assert torch.equal(mine, theirs)


@given(st.integers(0, 99), st.floats(0.1, 5), st.integers(1, 25), st.floats(0.01, 0.99))
def test_all_three_in_the_order_of_generate(seed, temperature, k, p):
    logits = scores(seed).float()
    theirs = TemperatureLogitsWarper(temperature)(None, logits)
    theirs = TopPLogitsWarper(p)(None, TopKLogitsWarper(k)(None, theirs)).softmax(-1)
    mine = next_shares(logits, temperature=temperature, top_k=k, top_p=p)
    torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-6)


@given(st.integers(0, 99), st.integers(1, 25), st.floats(0.01, 0.99))
def test_what_is_kept_is_the_least_that_is_enough(seed, k, p):
    shares = scores(seed).softmax(-1)
    by_k = keep_top_k(shares.log(), k).exp() > 0
    assert (by_k.sum(-1) == min(k, 20)).all()
    by_p = keep_top_p(shares.log(), p).exp() > 0
    kept = (shares * by_p).sum(-1)
    smallest = shares.masked_fill(~by_p, 2).min(-1).values
    assert (kept >= p - 1e-9).all() and (kept - smallest < p).all()


def test_a_hand_worked_case():
    logits = torch.tensor([0.4, 0.3, 0.2, 0.1]).log()
    torch.testing.assert_close(next_shares(logits, top_k=2), torch.tensor([4 / 7, 3 / 7, 0, 0]))
    torch.testing.assert_close(next_shares(logits, top_p=0.75), torch.tensor([4, 3, 2, 0]) / 9)
    squared = torch.tensor([16.0, 9, 4, 1]) / 30  # temperature 1/2 squares the shares
    torch.testing.assert_close(next_shares(logits, temperature=0.5), squared)


PROMPT = torch.tensor([[1, 5, 6], [1, 7, 8], [1, 9, 4]])


def test_greedy_is_what_generate_writes(gpt):
    mine = continue_ids(gpt, PROMPT, tokens=20, greedy=True, end_id=END)
    theirs = gpt.generate(
        PROMPT, attention_mask=torch.ones_like(PROMPT), max_new_tokens=20, do_sample=False
    )
    assert torch.equal(mine, theirs)


@pytest.mark.parametrize("filters", [{"temperature": 1.7}, {"top_k": 4}, {"top_p": 0.6},
                                     {"temperature": 1.3, "top_k": 7, "top_p": 0.8}])  # fmt: skip
def test_samples_are_what_generate_draws_from_the_same_seed(gpt, filters):
    torch.manual_seed(7)
    mine = continue_ids(gpt, PROMPT, tokens=20, end_id=END, **filters)
    torch.manual_seed(7)
    theirs = gpt.generate(
        PROMPT, attention_mask=torch.ones_like(PROMPT), max_new_tokens=20, do_sample=True,
        **({"top_k": 0} | filters),
    )  # fmt: skip
    assert torch.equal(mine, theirs)
    assert not torch.equal(mine, continue_ids(gpt, PROMPT, tokens=20, end_id=END, **filters))


def test_a_generator_of_its_own_leaves_the_global_state_alone(gpt):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    draw = [continue_ids(gpt, PROMPT, tokens=5, generator=torch.Generator().manual_seed(3))
            for _ in range(2)]  # fmt: skip
    assert torch.equal(*draw) and torch.equal(before, torch.get_rng_state())


def test_beyond_the_context_the_newest_tokens_are_kept(gpt):
    found = continue_ids(gpt, PROMPT, tokens=40, greedy=True, context=8)
    assert found.shape == (3, 43)
    last = gpt(input_ids=found[:, -9:-1]).logits[:, -1].argmax(-1)
    assert torch.equal(found[:, -1], last)


@pytest.mark.parametrize(
    "wrong", [lambda x: temper(x, 0), lambda x: keep_top_k(x, 0), lambda x: keep_top_p(x, 0)]
)
def test_settings_that_keep_nothing_are_refused(wrong):
    with pytest.raises(ValueError, match="is 0"):
        wrong(torch.zeros(3))
