"""D4: class weights that favour the frequent class are told; those of the rare ones are not."""

import pytest
import torch
from torch import nn

from cookbook.doctor import class_weight_probes
from cookbook.doctor.checks import attempt
from cookbook.doctor.subject import Subject

COUNTS = torch.tensor([60, 12, 8])


def found(loss, counts=COUNTS):
    rows = [(torch.randn(6), label) for label, n in enumerate(counts.tolist()) for _ in range(n)]
    subject = Subject(nn.Linear(6, 3), train_dataset=rows, loss_fn=loss)
    said, reason = attempt(class_weight_probes.check_rare_classes_weigh_no_less, subject)
    assert "failed" not in reason, reason
    return [(one.fault, one.severity) for one in said]


def focal(scores, labels):
    each = nn.functional.cross_entropy(scores, labels, reduction="none")
    return ((1 - (-each).exp()) ** 2 * each).mean()


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        (nn.CrossEntropyLoss(weight=COUNTS / COUNTS.sum()), [("D4", "warn")]),
        (nn.CrossEntropyLoss(weight=COUNTS.sum() / COUNTS), []),
        (nn.CrossEntropyLoss(), []),
        (nn.CrossEntropyLoss(label_smoothing=0.1), []),
        (focal, []),
    ],
)
def test_weights_of_classes(loss, expected):
    assert found(loss) == expected


def test_even_classes_may_weigh_what_they_like():
    heavy = nn.CrossEntropyLoss(weight=torch.tensor([9.0, 1.0, 1.0]))
    assert found(heavy, torch.tensor([30, 25, 25])) == []
