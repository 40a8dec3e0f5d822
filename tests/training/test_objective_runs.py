"""Sums are sums over what is asked, a run repeats itself, and every objective is learnt."""

import numpy as np
import pytest
import torch

from cookbook.data import pack
from cookbook.models.registry import build
from cookbook.training import (
    CausalCollator,
    Keyed,
    PermutationCollator,
    SpanDenoisingCollator,
    TextInfillingCollator,
)
from cookbook.training.objective_runs import by_place, fit, held_out_loss, own_loss

ROWS = pack([np.tile(np.arange(10, 19), 36)], 32)  # a pattern that is quickly known
COLLATE = {
    "gpt2": CausalCollator(0),
    "lstm": CausalCollator(0),
    "t5": SpanDenoisingCollator(range(50, 60), end_id=3, pad_id=0),
    "bart": TextInfillingCollator(mask_id=4, pad_id=0),
    "xlnet": PermutationCollator(pad_id=0),
}
LABELS = {"gpt2": 31, "lstm": 31, "t5": 5 + 2 + 1, "bart": 32, "xlnet": 5}  # a row


def new(name):
    return build(name, "tiny", vocab_size=60, length=40, dropout=0.0)


@pytest.mark.parametrize("name", COLLATE)
def test_the_sum_is_over_what_is_asked(name):
    model = new(name).eval()
    batch = COLLATE[name]([Keyed(ROWS)[i] for i in range(3)])
    loss, count = own_loss(model, batch, getattr(COLLATE[name], "ahead", 0))
    assert count == 3 * LABELS[name]
    torch.testing.assert_close(loss, model(**batch).loss * count)


@pytest.mark.parametrize("name", COLLATE)
def test_every_objective_is_learnt(name):
    model = new(name)
    before = held_out_loss(model, ROWS, COLLATE[name])
    settings = {"steps": 12, "batch_size": 5, "learning_rate": 1e-2}
    curve = fit(model, ROWS, COLLATE[name], **settings)
    assert [step for step, _ in curve] == list(range(1, 13))
    assert held_out_loss(model, ROWS, COLLATE[name]) < before - 0.3


def test_a_run_repeats_itself():
    curves = [fit(new("gpt2"), ROWS, COLLATE["gpt2"], steps=3, seed=1) for _ in range(2)]
    assert curves[0] == curves[1]
    assert fit(new("gpt2"), ROWS, COLLATE["gpt2"], steps=3, seed=2) != curves[0]


def test_the_mean_weighs_tokens_not_batches():
    model, rows = new("gpt2"), pack([np.arange(10, 50)], 32)  # 32 tokens, and 8
    whole = held_out_loss(model, rows, COLLATE["gpt2"])
    apart = held_out_loss(model, rows, COLLATE["gpt2"], batch_size=1)
    assert abs(whole - apart) < 1e-5


def test_the_prices_of_all_places_average_to_the_loss():
    model = new("gpt2")
    prices = by_place(model, [ROWS[i] for i in range(6)], batch_size=4)
    assert len(prices) == 31
    mean = held_out_loss(model, pack(ROWS.input_ids[:6], 32), COLLATE["gpt2"])
    assert abs(np.mean(prices) - mean) < 1e-5
