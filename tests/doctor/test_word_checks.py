"""Words that a script numbers by itself: mostly unknown ones are T5, rows without any are D9."""

import pytest
import torch
from torch import nn

from cookbook.doctor import word_checks
from cookbook.doctor.checks import attempt
from cookbook.doctor.subject import Subject


class Reader(nn.Module):
    def __init__(self, padding=0):
        super().__init__()
        self.table = nn.Embedding(300, 8, padding_idx=padding)
        self.out = nn.Linear(8, 2)

    def forward(self, words):
        return self.out(self.table(words).mean(1))


def rows(unknown=0.1, kinds=200, count=80):
    draw, made = torch.Generator().manual_seed(0), []
    for _ in range(count):
        words = torch.randint(2, 2 + kinds, (12,), generator=draw)
        made.append((torch.where(torch.rand(12, generator=draw) < unknown, 1, words), 0))
    return made


def said(data, model=None):
    subject, faults = Subject(model or Reader(), train_dataset=data), []
    for check in word_checks.CHECKS:
        found, reason = attempt(check, subject)
        assert "failed" not in reason, reason
        faults += [(one.fault, one.severity) for one in found]
    return faults


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (rows(), []),
        (rows(unknown=0.8), [("T5", "warn")]),
        (rows(unknown=0.8, kinds=4), []),  # letters of a short alphabet are no words
        (rows(unknown=0.8, count=20), []),  # too few to tell
        ([(torch.rand(12), 0)] * 80, []),  # numbers that are measured
    ],
)
def test_most_words_are_one_number(data, expected):
    assert said(data) == expected


def test_rows_without_a_word():
    data = rows()
    nothing = [(torch.zeros(12, dtype=torch.long), 0), (torch.zeros(0, dtype=torch.long), 1)] * 4
    assert said([*data, *nothing]) == [("D9", "warn")]
    assert said([*data, nothing[0]]) == []  # one may be so
    assert said([*data, *nothing[::2]], Reader(padding=None)) == []  # there 0 may be a word
