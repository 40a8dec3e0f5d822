import pytest
import torch
from torch import nn

from cookbook.doctor.subject import Subject


@pytest.fixture
def rows():
    return [{"input_ids": [2, 5 + i % 3, 3], "attention_mask": [1, 1, 1], "labels": i % 2}
            for i in range(40)]  # fmt: skip


def test_a_classifier_of_transformers(tiny_bert, rows):
    model = tiny_bert("BertForSequenceClassification", num_labels=2)
    subject = Subject(model, train_dataset=rows)
    batch = subject.batch(rows=2)
    assert subject.kind == "classifier" and batch["input_ids"].shape == (2, 3)
    with subject.mode(False):
        outputs = subject.forward(batch)
        loss = subject.loss(batch)
    torch.testing.assert_close(loss, model.eval()(**batch).loss)
    assert subject.logits(outputs).shape == (2, 2)
    assert subject.labels(batch).tolist() == batch["labels"].tolist()


def test_a_plain_module_and_pairs():
    data = torch.utils.data.TensorDataset(torch.randn(20, 3), torch.arange(20) % 2)
    subject = Subject(nn.Linear(3, 2), train_dataset=data, loss_fn=nn.functional.cross_entropy)
    x, y = subject.batch()
    assert subject.kind == "classifier" and subject.config is None and subject.tokenizer is None
    expected = nn.functional.cross_entropy(subject.model(x), y)
    torch.testing.assert_close(subject.loss((x, y)), expected)
    assert subject.labels((x, y)) is not None


def test_a_loss_of_ones_own_sees_outputs_and_the_dict(tiny_bert, rows):
    seen = {}

    def loss_fn(outputs, batch):
        seen.update(batch)
        return outputs["logits"].sum()

    subject = Subject(
        tiny_bert("BertForSequenceClassification"), train_dataset=rows, loss_fn=loss_fn
    )
    assert subject.loss(subject.batch()).dim() == 0
    assert "labels" in seen


def test_the_mode_is_given_back_module_by_module(tiny_bert):
    subject = Subject(tiny_bert())
    subject.model.train()
    subject.model.bert.eval()
    before = [m.training for m in subject.model.modules()]
    with subject.mode(True):
        assert all(m.training for m in subject.model.modules())
    assert [m.training for m in subject.model.modules()] == before


def test_evaluation_data_stand_in_for_missing_training_data(rows):
    subject = Subject(nn.Linear(2, 2), eval_dataset=rows)
    assert subject.train.batches == [] and subject.batch() is not None
    assert Subject(None).batch() is None and Subject(None).kind == "other"


def test_trainable_and_device(tiny_bert):
    model = tiny_bert()
    model.bert.requires_grad_(False)
    subject = Subject(model)
    assert subject.trainable.keys() == {n for n, p in model.named_parameters() if p.requires_grad}
    assert all(not name.startswith("bert") for name in subject.trainable)
    assert subject.device == torch.device("cpu") and Subject(nn.ReLU()).device.type == "cpu"
