import pytest
import torch
from torch import nn
from torch.nn import functional

from cookbook.doctor import target_checks
from cookbook.doctor.checks import Skip
from cookbook.doctor.subject import Subject


def found(subject):
    result = []
    for check in target_checks.CHECKS:
        try:
            result += [(f.fault, f.severity) for f in check(subject)]
        except Skip:
            pass
    return result


ERROR, WARN = [("M4", "error")], [("M4", "warn")]


def of_bert(tiny_bert, tokenizer, labels, head="BertForSequenceClassification", **settings):
    rows = [dict(tokenizer("a copy of two tensors")) | {"labels": labels(i)} for i in range(64)]
    return Subject(tiny_bert(head, **settings), train_dataset=rows, processing_class=tokenizer)


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (lambda i: i % 3, []),
        (lambda i: i % 2, []),  # fewer classes than the head has
        (lambda i: 1 + i % 3, ERROR),
        (lambda i: 3 if i == 40 else i % 3, ERROR),  # one row in 64
        (lambda i: -1 if i % 4 == 0 else i % 3, ERROR),
        (lambda i: -100 if i % 4 == 0 else i % 3, []),
        (lambda i: float(i % 3), ERROR),
        (lambda i: [i % 2, 1, 0], ERROR),
        (lambda i: [float(i % 2), 1.0, 0.0], []),  # the library takes BCE by itself
    ],
)
def test_a_classifier_of_three(tiny_bert, tokenizer, labels, expected):
    assert found(of_bert(tiny_bert, tokenizer, labels, num_labels=3)) == expected


@pytest.mark.parametrize(
    ("labels", "problem", "expected"),
    [
        (lambda i: i % 8, None, ERROR),
        (lambda i: i % 2, None, ERROR),
        (lambda i: float(i % 2), None, WARN),
        (lambda i: i % 8, "regression", []),
        (lambda i: i / 7, None, []),
        (lambda i: float(i % 6), None, [("M4", "info")]),  # ratings, or classes
        (lambda i: 18 + i % 50, None, []),  # ages
    ],
)
def test_a_head_of_one_output(tiny_bert, tokenizer, labels, problem, expected):
    subject = of_bert(tiny_bert, tokenizer, labels, num_labels=1, problem_type=problem)
    assert found(subject) == expected


@pytest.mark.parametrize(
    ("labels", "problem", "expected"),
    [
        (lambda i: [1.0, float(i % 2), 0.0], "multi_label_classification", []),
        (lambda i: [1, i % 2, 0], "multi_label_classification", ERROR),
        (lambda i: [1.0, float(i % 2), 0.0], "single_label_classification", ERROR),
        (lambda i: [1.0, float(i % 2)], "multi_label_classification", ERROR),
    ],
)
def test_several_labels_a_row(tiny_bert, tokenizer, labels, problem, expected):
    subject = of_bert(tiny_bert, tokenizer, labels, num_labels=3, problem_type=problem)
    assert found(subject) == expected


@pytest.mark.parametrize(("last", "expected"), [(2, []), (3, ERROR), (-1, ERROR), (-100, [])])
def test_tags(tiny_bert, tokenizer, last, expected):
    def tags(i):
        length = len(tokenizer("a copy of two tensors")["input_ids"])
        return [-100, *([0, 1] * length)[: length - 2], last]

    subject = of_bert(tiny_bert, tokenizer, tags, "BertForTokenClassification", num_labels=3)
    assert found(subject) == expected


@pytest.mark.parametrize(("ignored", "expected"), [(-100, []), (-1, ERROR)])
def test_the_library_ignores_only_one_negative_label(tiny_bert, tokenizer, ignored, expected):
    def masked(i):
        length = len(tokenizer("a copy of two tensors")["input_ids"])
        return [ignored] * (length - 2) + [5, ignored]

    assert found(of_bert(tiny_bert, tokenizer, masked, "BertForMaskedLM")) == expected


def test_the_classes_of_a_multiple_choice_are_its_choices(tiny_bert):
    rows = [{"input_ids": torch.randint(5, 99, (4, 8)), "labels": i % 4} for i in range(16)]
    assert found(Subject(tiny_bert("BertForMultipleChoice"), train_dataset=rows)) == []


# -- a loss of the reader's own --------------------------------------------------------------------


def of_pairs(y, loss_fn, outputs=3):
    torch.manual_seed(0)
    x = torch.randn(len(y), 4)
    return Subject(
        nn.Linear(4, outputs), train_dataset=list(zip(x, y, strict=True)), loss_fn=loss_fn
    )


NUMBERS = torch.arange(64)
SEVERAL = torch.stack([NUMBERS % 2, (NUMBERS % 3 > 0).long(), torch.ones(64).long()], 1).float()


@pytest.mark.parametrize(
    ("y", "loss_fn", "expected"),
    [
        (NUMBERS % 3, functional.cross_entropy, []),
        (1 + NUMBERS % 3, functional.cross_entropy, ERROR),
        (torch.where(NUMBERS == 41, 3, NUMBERS % 3), nn.CrossEntropyLoss(), ERROR),
        (torch.where(NUMBERS == 41, -1, NUMBERS % 3), nn.CrossEntropyLoss(ignore_index=-1), []),
        (torch.where(NUMBERS == 41, -1, NUMBERS % 3), nn.CrossEntropyLoss(), ERROR),
        ((NUMBERS % 3).float(), nn.CrossEntropyLoss(), ERROR),
        (NUMBERS, lambda o, y: (o.norm(dim=1) * (y + 1)).mean(), []),  # labels as identities
        (SEVERAL, functional.cross_entropy, ERROR),
        (SEVERAL, nn.BCEWithLogitsLoss(), []),
        (SEVERAL / SEVERAL.sum(1, keepdim=True), functional.cross_entropy, []),  # soft labels
        (functional.one_hot(NUMBERS % 3).float(), functional.cross_entropy, []),
        ((NUMBERS % 3)[:, None].expand(-1, 3), nn.BCEWithLogitsLoss(), ERROR),  # whole numbers
    ],
)
def test_the_loss_is_asked(y, loss_fn, expected):
    assert found(of_pairs(y, loss_fn)) == expected


@pytest.mark.parametrize(
    ("loss_fn", "y", "expected"),
    [
        (functional.mse_loss, NUMBERS / 7, ERROR),
        (functional.mse_loss, (NUMBERS / 7)[:, None], []),
        (lambda o, y: functional.mse_loss(o.squeeze(-1), y), NUMBERS / 7, []),
        (lambda o, y: functional.huber_loss(o[:, 0], y), NUMBERS / 7, []),
        (nn.BCEWithLogitsLoss(), (NUMBERS % 2).float(), ERROR),
        (nn.BCEWithLogitsLoss(), (NUMBERS % 2).float()[:, None], []),
    ],
)
def test_a_column_against_a_row(loss_fn, y, expected):
    assert found(of_pairs(y, loss_fn, outputs=1)) == expected


def test_a_loss_in_the_model_is_asked_too():
    class Classifier(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(4, 3)

        def forward(self, x, labels=None):
            logits = self.head(x)
            return {"loss": functional.cross_entropy(logits, labels), "logits": logits}

    for shift, expected in ((0, []), (1, ERROR)):
        rows = [{"x": torch.zeros(4), "labels": shift + i % 3} for i in range(16)]
        assert found(Subject(Classifier(), train_dataset=rows)) == expected


def test_without_a_model_nothing_is_said():
    assert found(Subject(None, train_dataset=[{"text": "a", "label": 7}] * 8)) == []


@pytest.mark.parametrize(
    ("labels", "problem", "expected"),
    [
        (lambda i: [float(i % 3 == k) for k in range(3)], None, WARN),
        (lambda i: [float(i % 3 == k) for k in range(3)], "multi_label_classification", []),
        (lambda i: [float(i % 4 == k) for k in range(3)], None, []),  # some rows have no label
        (lambda i: [float(i % 3 == k or i == 5) for k in range(3)], None, []),  # one has three
        (lambda i: [0.9 if i % 3 == k else 0.05 for k in range(3)], None, []),  # shares
    ],
)
def test_one_hot_floats_for_one_choice(tiny_bert, tokenizer, labels, problem, expected):
    given = of_bert(tiny_bert, tokenizer, labels, num_labels=3, problem_type=problem)
    assert found(given) == expected
    if expected:
        given.loss_fn = lambda outputs, y: functional.cross_entropy(outputs.logits, y["labels"])
        assert found(given) == []  # one-hot rows are probabilities, which this loss takes
