"""Two tasks, one encoder, and as many batches of each as their sizes ask for."""

import dataclasses
from collections import Counter

import pytest
import torch

from cookbook.finetuning import multitask
from cookbook.finetuning.multitask import Mixed, SharedEncoder, mixing_shares
from cookbook.models.initialization import load_model


@pytest.mark.parametrize(
    ("sizes", "limit", "shares"),
    [([100, 100], 100, [0.5, 0.5]), ([100, 900], 100, [0.5, 0.5]), ([90, 30], 60, [0.75, 0.25])],
)
def test_shares_by_hand(sizes, limit, shares):
    assert mixing_shares(sizes, limit=limit) == shares


def test_an_epoch_shows_every_labelled_row_once_and_the_others_in_proportion():
    rows = [[{"id": i} for i in range(10)], [{"id": 100 + i} for i in range(7)]]
    batches = Mixed(rows, [2 / 3, 1 / 3], batch_size=2, seed=3)
    for _ in range(3):
        drawn = [batches[i] for i in range(len(batches))]
        assert Counter(task for task, _ in drawn) == {0: 5, 1: 2}
        first = [row["id"] for task, own in drawn if task == 0 for row in own]
        assert sorted(first) == list(range(10))
        assert all(row["id"] >= 100 for task, own in drawn if task for row in own)


def test_the_order_is_the_seeds():
    rows = [[{"id": i} for i in range(10)], [{"id": 100 + i} for i in range(7)]]
    orders = [[Mixed(rows, [0.5, 0.5], 2, seed=s)[i] for i in range(9)] for s in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]


def test_both_heads_read_one_encoder(new, checkpoint):
    both = SharedEncoder(new(), load_model(checkpoint, "masked-lm"))
    language = both.language_model
    assert language.bert is both.classifier.bert
    assert language.get_output_embeddings().weight is language.get_input_embeddings().weight
    ids = torch.tensor([[2, 5, 6, 3]])
    labels = torch.tensor([[-100, 7, -100, -100]])
    masked = both(input_ids=ids, attention_mask=torch.ones(1, 4), labels=labels)
    expected = language(input_ids=ids, attention_mask=torch.ones(1, 4), labels=labels)
    torch.testing.assert_close(masked["loss"], expected.loss)
    masked["loss"].backward()
    assert both.classifier.bert.encoder.layer[0].output.dense.weight.grad.abs().sum() > 0
    assert both.classifier.classifier.weight.grad is None


def test_the_first_task_gets_its_steps(job, monkeypatch):
    counts, forward = Counter(), SharedEncoder.forward

    def spy(self, **batch):
        counts[batch["labels"].ndim if self.training else 0] += 1
        return forward(self, **batch)

    monkeypatch.setattr(SharedEncoder, "forward", spy)
    trained = multitask.multitask(dataclasses.replace(job, max_steps=0, epochs=2))
    assert (counts[1], counts[2]) == (12, 6)  # 48 rows in batches of 8, twice; half as many
    assert type(trained.model).__name__ == "BertForSequenceClassification"
