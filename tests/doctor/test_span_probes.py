"""Losses of spans that forget an end, cross them, or climb; and those that do as they should."""

import pytest
import torch
from torch import nn

from cookbook.doctor import examination, forward_probes, kinds, preserve, span_probes
from cookbook.doctor.subject import Subject

cross_entropy = nn.functional.cross_entropy


def rows(count=16, length=12):
    draw, found = torch.Generator().manual_seed(0), []
    for _ in range(count):
        ids = torch.randint(5, 90, (length,), generator=draw)
        first, last = sorted(torch.randint(1, length, (2,), generator=draw).tolist())
        found.append({"input_ids": ids, "attention_mask": torch.ones(length, dtype=torch.long),
                      "start_positions": first, "end_positions": last})  # fmt: skip
    return found


def found(model, loss_fn=None, check=span_probes.check_span_loss):
    subject = Subject(model, train_dataset=rows(), loss_fn=loss_fn)
    with preserve.everything(model):
        said, why = examination.attempt(check, subject)
    assert not why.startswith("failed"), why
    return [(f.fault, f.severity) for f in said]


def both(outputs, batch):
    return (outputs.start_logits, outputs.end_logits,
            batch["start_positions"], batch["end_positions"])  # fmt: skip


def right(o, b):
    a, z, s, e = both(o, b)
    return (cross_entropy(a, s) + cross_entropy(z, e)) / 2


LOSSES = {
    "right": (right, []),
    "summed": (lambda o, b: 3 * right(o, b), []),
    "smoothed": (lambda o, b: cross_entropy(o.start_logits, b["start_positions"],
                                            label_smoothing=0.1)
                 + cross_entropy(o.end_logits, b["end_positions"]), []),
    "start forgotten": (lambda o, b: cross_entropy(o.end_logits, b["end_positions"]),
                        [("M8", "error")]),
    "end detached": (lambda o, b: cross_entropy(o.start_logits, b["start_positions"])
                     + cross_entropy(o.end_logits.detach(), b["end_positions"]),
                     [("M8", "error")]),
    "crossed": (lambda o, b: cross_entropy(o.start_logits, b["end_positions"])
                + cross_entropy(o.end_logits, b["start_positions"]), [("D8", "error")]),
    "climbed": (lambda o, b: 1 - right(o, b), [("L4", "error")]),
}  # fmt: skip


@pytest.mark.parametrize("name", LOSSES)
def test_the_loss_of_a_span(tiny_bert, name):
    loss_fn, expected = LOSSES[name]
    assert found(tiny_bert("BertForQuestionAnswering"), loss_fn) == expected


def test_the_models_own_loss_is_right(tiny_bert):
    assert found(tiny_bert("BertForQuestionAnswering")) == []


def test_rows_that_are_mixed_are_seen_in_both_ends(tiny_bert):
    check = forward_probes.check_rows_are_apart
    model = tiny_bert("BertForQuestionAnswering")
    assert found(model, check=check) == []
    model.qa_outputs.register_forward_pre_hook(
        lambda module, given: (given[0] - given[0].mean(0, keepdim=True),)
    )
    assert found(model, check=check) == [("M10", "error")]


def test_dropout_in_the_head_of_a_span_is_heard_in_evaluation(tiny_bert):
    check = forward_probes.check_evaluation_is_certain
    model = tiny_bert("BertForQuestionAnswering")
    assert found(model, check=check) == []
    model.qa_outputs.register_forward_pre_hook(
        lambda module, given: (nn.functional.dropout(given[0], 0.2),)
    )
    assert found(model, check=check) == [("M7", "error")]


def test_what_is_no_span_has_no_span_logits():
    assert kinds.span_logits(torch.zeros(2, 3)) is None
    assert kinds.span_logits({"start_logits": torch.zeros(2, 3)}) is None
