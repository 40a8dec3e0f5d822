"""Runs note where they stand, ranks are those of the vectors, and a repetition costs ln k."""

import math

import numpy as np
import pytest
import torch
from datasets import Dataset, DatasetDict

from cookbook.data.errors import DataError
from cookbook.maths.contrastive import alignment, uniformity
from cookbook.training import contrastive, contrastive_runs
from cookbook.training.contrastive import ContrastiveLoss, PairCollator, PairEncoder

NOUNS = ("gradient", "matrix", "tensor", "median", "copy", "solver", "estimator", "eigenvalue")


@pytest.fixture
def pairs():
    return Dataset.from_dict(
        {
            "text": [f"computes the {noun} of two tensors" for noun in NOUNS],
            "text_pair": [f"Returns the {noun}" for noun in NOUNS],
        }
    )


def test_a_run_notes_its_losses_and_places(tiny_bert, tokenizer, pairs):
    encoder = tiny_bert("BertModel")
    start = {name: value.clone() for name, value in encoder.state_dict().items()}
    done = contrastive_runs.run(
        encoder, pairs, tokenizer, ContrastiveLoss(), steps=4, places=2, held_out=pairs, size=8
    )
    assert [step for step, _ in done.loss] == [1, 2, 3, 4] and len(done.path) == 3
    assert done.model.training and done.path[0] != done.path[-1]
    batch = PairCollator(tokenizer)(contrastive.pair_rows(pairs, tokenizer))
    left, right = (side.detach() for side in done.model.eval()(**batch))
    both = float(uniformity(torch.cat([left, right]))), float(alignment(left, right))
    assert done.path[-1] == pytest.approx(both, abs=1e-5)
    assert any(not torch.equal(v, start[k]) for k, v in encoder.state_dict().items())


def test_the_same_seed_is_the_same_run_and_nothing_is_noted_without_held_out(
    tiny_bert, tokenizer, pairs
):
    texts = contrastive_runs.alone(pairs)
    first, again, other = (
        contrastive_runs.run(
            tiny_bert("BertModel", hidden_dropout_prob=0.1), texts, tokenizer, ContrastiveLoss(),
            steps=2, size=8, seed=seed,
        ).loss
        for seed in (0, 0, 1)
    )  # fmt: skip
    assert first == again != other


def test_ranks_are_those_of_the_vectors(tiny_bert, tokenizer, pairs):
    model = PairEncoder(tiny_bert("BertModel"))
    found = contrastive_runs.ranks(model, pairs, tokenizer)
    left, right = (contrastive.encode(model, pairs[n], tokenizer) for n in ("text", "text_pair"))
    expected = [1 + int((row > row[i]).sum()) for i, row in enumerate(left @ right.T)]
    assert found.tolist() == pytest.approx(expected, abs=0.5)
    same = contrastive_runs.ranks(model, pairs, tokenizer, query="text_pair")
    assert same.tolist() == [1.0] * 8


def test_a_repetition_costs_ln_k_and_hides_what_the_model_can(pairs, tiny_bert, tokenizer):
    rows = contrastive.pair_rows(pairs, tokenizer)
    batch = PairCollator(tokenizer, groups=True)(rows)
    many, loss = contrastive_runs.repeated(batch, 4), ContrastiveLoss(0.05)
    model = PairEncoder(tiny_bert("BertModel")).eval()
    blind = {name: value for name, value in many.items() if name != "groups"}
    once = {name: value for name, value in batch.items() if name != "groups"}
    with torch.no_grad():
        costs = float(loss(model(**blind), blind)) - float(loss(model(**once), once))
        assert costs == pytest.approx(math.log(4), abs=1e-4)
        assert float(loss(model(**many), many)) < float(loss(model(**blind), blind))
    perfect = torch.eye(8).repeat_interleave(4, 0)
    assert contrastive_runs.in_batch_accuracy([perfect, perfect]) == 0.25
    assert contrastive_runs.in_batch_accuracy([torch.eye(8)] * 2) == 1.0


def test_every_text_stands_once_without_its_pair(pairs):
    texts = contrastive_runs.alone(pairs)
    assert texts.column_names == ["text"] and len(texts) == len(np.unique(texts["text"])) == 16


def test_data_without_pairs_is_refused_and_a_negative_is_renamed(pairs):
    data = DatasetDict(train=pairs.add_column("wrong", ["no"] * 8))
    assert "negative" in contrastive_runs.pairs_of(data, "wrong")["train"].column_names
    assert contrastive_runs.pairs_of(data) is data
    with pytest.raises(DataError, match="no column 'wrongs': there are text"):
        contrastive_runs.pairs_of(data, "wrongs")
    with pytest.raises(DataError, match="no pairs: the columns are text, wrong"):
        contrastive_runs.pairs_of(data.remove_columns("text_pair"))
