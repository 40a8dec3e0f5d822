"""Unit vectors that padding does not move, batches with pairs and negatives, runs that learn."""

import numpy as np
import pytest
import torch
from datasets import Dataset

from cookbook.maths.contrastive import info_nce
from cookbook.training import contrastive
from cookbook.training.contrastive import ContrastiveLoss, PairCollator, PairEncoder
from cookbook.training.order import Batches

NOUNS = ("gradient", "matrix", "tensor", "median", "copy", "solver", "estimator", "eigenvalue")


def texts(n=8):
    return [f"This function computes the {noun} of two tensors" for noun in NOUNS[:n]]


def dataset(**columns):
    return Dataset.from_dict({"text": texts()} | columns)


@pytest.fixture
def encoder(tiny_bert):
    return PairEncoder(tiny_bert("BertModel", hidden_dropout_prob=0.1))


def test_padding_and_neighbours_do_not_move_a_vector(encoder, tokenizer):
    together = contrastive.encode(encoder, [*texts(), "Returns a copy"], tokenizer)
    alone = contrastive.encode(encoder, ["Returns a copy"], tokenizer)
    assert np.abs(together[-1] - alone[0]).max() < 1e-6
    batch = dict(tokenizer(["Returns a copy"], return_tensors="pt"))
    wide = torch.nn.functional.pad(batch["input_ids"], (0, 9), value=tokenizer.pad_token_id)
    mask = torch.nn.functional.pad(batch["attention_mask"], (0, 9))
    padded = encoder.eval().vectors(wide, mask).detach().numpy()
    assert np.abs(padded - alone).max() < 1e-6


def test_encode_keeps_the_order_and_gives_unit_vectors(encoder, tokenizer):
    heard = []
    many = [*texts(), "short", "and a longer text, which says more than that"]
    vectors = contrastive.encode(encoder, many, tokenizer, batch_size=3, on_rows=heard.append)
    assert vectors.dtype == np.float32 and sum(heard) == len(many)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(len(many)), abs=1e-5)
    for row, text in enumerate(many):
        assert vectors[row] == pytest.approx(
            contrastive.encode(encoder, [text], tokenizer)[0], abs=1e-5
        )
    assert len(contrastive.encode(encoder, [], tokenizer)) == 0


def test_a_row_without_a_pair_is_its_own_and_dropout_makes_the_difference(encoder, tokenizer):
    rows = contrastive.pair_rows(dataset(), tokenizer)
    batch = PairCollator(tokenizer)(rows)
    left, right = encoder.train()(**batch)
    assert not torch.equal(left, right)
    left, right = encoder.eval()(**batch)
    assert torch.equal(left, right)


def test_a_batch_has_each_side_at_its_own_width(tokenizer):
    pairs = [text + ", and returns a copy of it" for text in texts()]
    data = dataset(text_pair=pairs, negative=["None"] * 8)
    rows = contrastive.pair_rows(data, tokenizer, lengths=(6, 12))
    batch = PairCollator(tokenizer)(rows)
    assert batch["input_ids"].shape == (8, 6) and batch["pair_ids"].shape == (8, 12)
    assert batch["negative_ids"].shape[1] < 6 and "groups" not in batch
    assert batch["pair_mask"].shape == batch["pair_ids"].shape
    assert len(batch) == 6


def test_groups_number_the_different_texts(tokenizer):
    data = Dataset.from_dict({"text": ["a", "b", "a"], "text_pair": ["x", "y", "z"]})
    rows = contrastive.pair_rows(data, tokenizer)
    batch = PairCollator(tokenizer, groups=True)(rows)
    assert batch["groups"].tolist() == [0, 1, 0]


def test_the_loss_reads_negatives_and_groups(encoder, tokenizer):
    data = dataset(text_pair=texts()[::-1], negative=texts())
    batch = PairCollator(tokenizer, groups=True)(contrastive.pair_rows(data, tokenizer))
    outputs = encoder.eval()(**batch)
    found = ContrastiveLoss(0.1, symmetric=True)(outputs, batch)
    expected = info_nce(*outputs[:2], temperature=0.1, negatives=outputs[2], symmetric=True)
    torch.testing.assert_close(found, expected)
    same = batch | {"groups": torch.tensor([0, 0, 1, 2, 3, 4, 5, 6])}
    assert ContrastiveLoss(0.1, symmetric=True)(outputs, same) < found


def batches(tokenizer, size=8):
    data = dataset(text_pair=[f"Returns the {noun}" for noun in NOUNS])
    rows = contrastive.pair_rows(data, tokenizer)
    return Batches(rows, size, collate=PairCollator(tokenizer))


@pytest.mark.parametrize("chunk", [0, 4])
def test_a_batch_is_learnt_by_heart(tiny_bert, tokenizer, chunk):
    model = PairEncoder(tiny_bert("BertModel"))
    drawn = batches(tokenizer)
    losses = contrastive.train(
        model, drawn, ContrastiveLoss(0.1), steps=40, learning_rate=5e-3, chunk=chunk
    )
    assert abs(losses[0] - np.log(8)) < 1 and losses[-1] < 0.2
    left, right = model.eval()(**drawn[0])
    assert (left @ right.T).argmax(1).tolist() == list(range(8))


def test_chunks_train_to_the_same_weights(tiny_bert, tokenizer):
    ends = []
    for chunk in (0, 3):
        model = PairEncoder(tiny_bert("BertModel"))
        contrastive.train(model, batches(tokenizer), ContrastiveLoss(0.1), steps=2, chunk=chunk)
        ends.append(torch.cat([p.flatten() for p in model.parameters()]))
    assert (ends[0] - ends[1]).abs().max() < 1e-4


def test_the_budget_in_seconds_ends_a_run(encoder, tokenizer, monkeypatch):
    now = iter(range(1000))
    monkeypatch.setattr(contrastive.time, "monotonic", lambda: float(next(now)))
    losses = contrastive.train(
        encoder, batches(tokenizer), ContrastiveLoss(), steps=500, seconds=4.5
    )
    assert len(losses) == 4


def test_the_rate_rises_and_falls(encoder, tokenizer, monkeypatch):
    rates = []

    class Recorder(torch.optim.AdamW):
        def step(self, closure=None):
            rates.append(self.param_groups[0]["lr"])

    monkeypatch.setattr(torch.optim, "AdamW", Recorder)
    contrastive.train(
        encoder, batches(tokenizer), ContrastiveLoss(), steps=10, warmup=0.2, learning_rate=1.0
    )
    assert rates[:2] == pytest.approx([0.25, 0.75]) and max(rates) == pytest.approx(1.0)
    assert rates[2:] == sorted(rates[2:], reverse=True) and rates[-1] == pytest.approx(0.125)
