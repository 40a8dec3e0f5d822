"""Accumulated gradients: equal to those of the whole batch, wrong where means are averaged."""

import pytest
import torch
import transformers
from torch import nn

from cookbook.training import Trainer, accumulation
from cookbook.training.accumulation import by_labels, by_means, distance, of_trainer


class Classifier(nn.Module):
    """A linear classifier in fp64, so that equal means equal to 1e-10."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(5, 3).double()

    def forward(self, x):
        return self.layer(x)


def batch(rows, labels, seed):
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, 5, generator=draw, dtype=torch.float64)
    targets = torch.full((rows,), -100)
    targets[:labels] = torch.randint(3, (labels,), generator=draw)
    return {"x": x, "labels": targets}


def whole(batches):
    return {name: torch.cat([b[name] for b in batches]) for name in batches[0]}


@pytest.mark.parametrize("shape", [[(4, 4), (4, 4)], [(4, 4), (4, 1)], [(6, 6), (2, 2)],
                                   [(4, 0), (4, 3)]])  # fmt: skip
def test_by_labels_is_the_gradient_of_the_whole_batch(shape):
    model = Classifier()
    batches = [batch(rows, labels, seed) for seed, (rows, labels) in enumerate(shape)]
    right = by_labels(model, [whole(batches)])
    assert torch.allclose(by_labels(model, batches), right, rtol=1e-5, atol=1e-6)


def test_the_mean_of_means_is_right_for_equal_counts_and_wrong_for_others():
    model = Classifier()
    equal = [batch(4, 4, 0), batch(4, 4, 1)]
    unequal = [batch(4, 4, 0), batch(4, 1, 1)]
    assert distance(by_means(model, equal), by_labels(model, equal)) < 1e-6
    assert distance(by_means(model, unequal), by_labels(model, unequal)) > 0.05


def test_the_models_own_gradients_are_left_alone():
    model = Classifier()
    by_labels(model, [batch(4, 4, 0)])
    assert model.layer.weight.grad is None


@pytest.fixture(scope="module")
def task(tokenizer):
    config = transformers.BertConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=64, num_labels=3, hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    torch.manual_seed(0)
    rows = [{"input_ids": tokenizer(f"A solver of {n}.")["input_ids"], "labels": n % 3}
            for n in range(8)]  # fmt: skip
    model = transformers.BertForSequenceClassification(config)
    return model, rows, transformers.DataCollatorWithPadding(tokenizer)


def test_the_library_multiplies_a_classifiers_gradient_and_our_trainer_does_not(task):
    kinds = {"theirs": transformers.Trainer, "ours": Trainer}
    found = {(name, parts): of_trainer(kind, *task, parts=parts)
             for name, kind in kinds.items() for parts in (1, 4)}  # fmt: skip
    right = found["theirs", 1]
    assert distance(found["theirs", 4] / 4, right) < 1e-4
    assert distance(found["ours", 1], right) < 1e-4 and distance(found["ours", 4], right) < 1e-4


def test_parts_that_do_not_divide_the_rows_are_named(task):
    with pytest.raises(ValueError, match="3 parts do not divide 8 rows"):
        accumulation.of_trainer(transformers.Trainer, *task, parts=3)
