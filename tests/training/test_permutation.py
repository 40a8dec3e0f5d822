"""A predicted place sees neither itself nor what comes later in the order: asked by gradients."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import XLNetConfig, XLNetLMHeadModel

from cookbook.training.order import Keyed
from cookbook.training.permutation import (
    PermutationCollator,
    hidden_from,
    permuted,
    random_rank,
)
from cookbook.training.stacking import IGNORE


@pytest.fixture(scope="module")
def xlnet():
    torch.manual_seed(0)
    config = XLNetConfig(vocab_size=40, d_model=16, n_layer=2, n_head=2, d_inner=32, dropout=0.0)
    return XLNetLMHeadModel(config).eval()


def moves(model, batch):
    """(targets, length): how far a change of each token's vector moves each prediction."""
    vectors = model.transformer.word_embedding(batch["input_ids"]).detach().requires_grad_()
    asked = {name: batch[name] for name in ("attention_mask", "perm_mask", "target_mapping")}
    logits = model(inputs_embeds=vectors, **asked).logits
    found = []
    for target in range(logits.shape[1]):
        (slope,) = torch.autograd.grad(logits[0, target].square().sum(), vectors, retain_graph=True)
        found.append(slope[0].abs().sum(-1))
    return torch.stack(found)


@pytest.mark.parametrize("seed", range(4))
def test_a_position_sees_neither_itself_nor_a_later_one(xlnet, seed):
    length = 12
    rank = random_rank(length, np.random.default_rng(seed), predict=0.5)
    batch = permuted([np.arange(10, 10 + length)], [rank], pad_id=0)
    moved = moves(xlnet, batch)
    for row, place in enumerate(np.flatnonzero(rank >= 0)):
        sees = rank < rank[place]
        assert (moved[row][~sees] == 0).all(), "it sees itself, or one later in the order"
        assert (moved[row][sees] > 0).all(), "it should see context and those before it"


def test_the_order_of_reading_gives_a_causal_model(xlnet):
    """With places predicted from left to right each sees what a causal mask lets it see."""
    rank = np.arange(-1, 7)
    moved = moves(xlnet, permuted([np.arange(10, 18)], [rank], pad_id=0))
    assert ((moved > 0) == torch.ones(8, 8).tril(-1).bool()[1:]).all()


@given(st.integers(2, 60), st.integers(0, 999), st.floats(0.05, 0.95))
def test_exactly_a_share_is_predicted_each_place_once(length, seed, predict):
    rank = random_rank(length, np.random.default_rng(seed), predict=predict)
    wanted = min(max(round(predict * length), 1), length - 1)
    assert sorted(rank[rank >= 0]) == list(range(wanted))
    assert rank[0] == -1


@given(st.integers(2, 40), st.integers(0, 999))
def test_who_is_hidden_from_whom(length, seed):
    rank = random_rank(length, np.random.default_rng(seed), predict=0.4)
    hidden = hidden_from(rank)
    context, targets = rank < 0, rank >= 0
    assert not hidden[:, context].any(), "everyone sees the context"
    assert hidden[np.ix_(context, targets)].all(), "context sees no target"
    between = hidden[np.ix_(targets, targets)]
    assert between.diagonal().all()
    # Of two targets exactly one sees the other.
    assert (between ^ between.T)[~np.eye(len(between), dtype=bool)].all()


def test_every_order_of_three_is_equally_likely():
    def draw(s):
        return random_rank(6, np.random.default_rng(s), predict=0.5, mean_length=9)

    _, counts = np.unique([draw(s)[3:] for s in range(3000)], axis=0, return_counts=True)
    assert len(counts) == 6 and np.abs(counts - 500).max() < 4 * (500 * 5 / 6) ** 0.5


def test_a_batch_asks_for_the_targets_and_no_padding(xlnet):
    rows = Keyed([{"input_ids": list(range(5, 5 + n))} for n in (24, 12)])
    batch = PermutationCollator(pad_id=0, seed=1)([rows[0], rows[1]])
    assert (batch["labels"] != IGNORE).sum(1).tolist() == [4, 2]
    for ids, mapping, labels in zip(
        batch["input_ids"], batch["target_mapping"], batch["labels"], strict=True
    ):
        kept = labels != IGNORE
        assert (mapping[kept].sum(1) == 1).all() and mapping[~kept].sum() == 0
        assert (mapping[kept].long() @ ids == labels[kept]).all()
    assert torch.isfinite(xlnet(**batch).loss)


def test_padding_changes_no_prediction(xlnet):
    text, longer = np.arange(5, 17), np.arange(5, 35)
    ranks = [random_rank(len(t), np.random.default_rng(5)) for t in (text, longer)]

    def asked(texts):
        return {k: v for k, v in permuted(texts, ranks[: len(texts)], 0).items()
                               if k != "labels"}  # fmt: skip

    with torch.no_grad():
        alone, beside = (xlnet(**asked(texts)).logits[0] for texts in ([text], [text, longer]))
    torch.testing.assert_close(alone, beside[: len(alone)], rtol=1e-4, atol=1e-5)
