import pytest
import torch
from torch import nn

from cookbook.doctor import trial
from cookbook.doctor.subject import Subject


def test_running_quietly_leaves_mode_and_configuration(tiny_bert):
    model = tiny_bert("BertForSequenceClassification", num_labels=2).train()
    model.config.problem_type = None
    subject = Subject(model)
    with trial.quiet(subject):
        model(input_ids=torch.ones(2, 3).long(), labels=torch.tensor([0, 1]))
        assert not model.training and not torch.is_grad_enabled()
        assert model.config.problem_type == "single_label_classification"
    assert model.training and model.config.problem_type is None


class Language(nn.Module):
    """A bigram model; with `ignored` it computes its own loss, as small projects do."""

    def __init__(self, ignored=None):
        super().__init__()
        self.table, self.ignored = nn.Embedding(9, 9), ignored

    def forward(self, input_ids, labels=None):
        logits = self.table(input_ids)
        return logits if self.ignored is None else (logits, loss_at(self.ignored)(logits, labels))


def loss_at(ignored):
    def shifted(logits, labels):
        return nn.functional.cross_entropy(
            logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=ignored
        )

    return shifted


@pytest.mark.parametrize(("ignored", "counted"), [(0, False), (-100, True)])
@pytest.mark.parametrize("inside", [True, False])
def test_the_loss_says_which_labels_count(ignored, counted, inside):
    ids = torch.tensor([[3, 4, 5, 0, 0, 0], [3, 4, 5, 6, 7, 8]])
    batch, where = {"input_ids": ids, "labels": ids}, ids == 0
    model = Language(ignored if inside else None)
    loss_fn = None if inside else lambda o, b: loss_at(ignored)(o, b["labels"])
    assert trial.counts(Subject(model, loss_fn=loss_fn), batch, where) is counted
    assert model.table.weight.grad is None


def test_whose_loss_it_is(tiny_bert):
    bert = tiny_bert()
    assert not trial.own_loss(Subject(bert)) and not trial.own_loss(Subject(None))
    assert trial.own_loss(Subject(bert, loss_fn=lambda outputs, batch: outputs.logits.sum()))
    assert trial.own_loss(Subject(nn.Linear(1, 1)))
