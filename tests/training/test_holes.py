"""Every objective is asked for the same tokens, and no model is shown what it is asked for."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cookbook import models
from cookbook.training.holes import OBJECTIVES, Tokens, draw_holes, hidden_nats, question
from cookbook.training.stacking import IGNORE

TOKENS = Tokens(pad=0, mask=4, sentinel=59, end=3)
PASSAGES = [[2, *range(10, 20)], [2, *range(20, 26)], [2, *range(30, 45)]]
HOLES = [(3, 6), (1, 4), (12, 16)]
NAMES = {"causal": "gpt2", "span denoising": "t5", "text infilling": "bart", "permutation": "xlnet"}


def new(objective):
    return models.registry.build(NAMES[objective], "tiny", vocab_size=60, length=32, dropout=0.0)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_all_are_asked_for_the_hidden_tokens_and_nothing_else(objective):
    _, answers = question(objective, PASSAGES, HOLES, TOKENS)
    for ids, (start, stop), row in zip(PASSAGES, HOLES, answers, strict=True):
        assert row[row != IGNORE].tolist() == ids[start:stop]


@pytest.mark.parametrize("objective", ["span denoising", "text infilling"])
def test_what_is_hidden_does_not_stand_in_the_input(objective):
    batch, _ = question(objective, PASSAGES, HOLES, TOKENS)
    for ids, (start, stop), shown in zip(PASSAGES, HOLES, batch["input_ids"], strict=True):
        assert not set(shown.tolist()) & set(ids[start:stop])
        assert set(ids[:start] + ids[stop:]) <= set(shown.tolist())


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_an_untrained_model_pays_about_ln_v_a_token(objective):
    whole = [(1, len(ids)) for ids in PASSAGES]
    nats = hidden_nats(new(objective), objective, PASSAGES, whole, TOKENS, batch_size=2)
    per_token = nats / [len(ids) - 1 for ids in PASSAGES]
    assert nats.shape == (3,) and np.abs(per_token - np.log(60)).max() < 1.5  # T5 starts louder


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_last_hidden_token_gives_nothing_away_to_those_before_it(objective):
    """Only what stands before a token, and what is shown, may move its price."""
    model = new(objective).eval()
    costs = []
    for last in (50, 51):
        ids = [2, 10, 11, 12, last, 14]
        batch, answers = question(objective, [ids], [(2, 5)], TOKENS)
        with torch.no_grad():
            logits = model(**batch).logits[:, : answers.shape[1]]
        price = -logits.log_softmax(-1).gather(-1, answers.clamp(min=0)[..., None])[..., 0]
        costs.append(price[answers != IGNORE])
    torch.testing.assert_close(costs[0][:-1], costs[1][:-1])
    assert costs[0][-1] != costs[1][-1]


def test_for_a_causal_model_it_is_the_loss_of_the_model():
    model = new("causal").eval()
    ids = torch.tensor(PASSAGES[:1])
    whole = hidden_nats(model, "causal", PASSAGES[:1], [(1, len(PASSAGES[0]))], TOKENS)
    own = model(input_ids=ids, labels=ids).loss.item()
    assert abs(whole[0] / (len(PASSAGES[0]) - 1) - own) < 1e-5


@given(st.integers(1, 6), st.integers(0, 99))
def test_a_hole_leaves_a_token_on_each_side(length, seed):
    passages = [range(n) for n in range(length + 2, length + 9)]
    for ids, hole in zip(
        passages, draw_holes(passages, length, np.random.default_rng(seed)), strict=True
    ):
        assert 1 <= hole[0] < hole[1] < len(ids) and hole[1] - hole[0] == length


def test_what_cannot_be_asked_is_refused():
    with pytest.raises(ValueError, match="unknown objective"):
        question("masking", PASSAGES, HOLES, TOKENS)
    with pytest.raises(ValueError, match="behind the first token"):
        question("causal", [[2, 5]], [(0, 1)], TOKENS)
