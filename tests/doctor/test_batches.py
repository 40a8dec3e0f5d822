import gc

import pytest
import torch
from torch import nn

from cookbook.doctor.batches import Seen
from cookbook.doctor.records import Run

MODEL = nn.Sequential(nn.Dropout(0.5), nn.Linear(3, 2))
LABELS = torch.tensor([0, 1])


def passed(seen, labels=LABELS, training=True):
    """One pass of the model, and the backward pass that makes it one of training."""
    batch = {"x": torch.randn(2, 3), "labels": labels}
    output = {"logits": MODEL(batch["x"])}
    seen.forward((), batch, output, training=training, measure=True)
    if training:
        seen.commit()
    return batch


def test_a_pass_without_a_backward_is_no_training():
    seen = Seen(Run(), MODEL)
    seen.forward((), {}, torch.ones(1), training=True, measure=False)
    assert seen.run.forwards == 0
    seen.commit(), seen.commit()
    assert seen.run.forwards == 1


def test_batches_without_labels_are_counted_once():
    seen = Seen(Run(), MODEL)
    passed(seen)
    batch = passed(seen, torch.full((2,), -100))
    seen.loss(1.0, batch)
    assert (seen.run.labelled, seen.run.unlabelled) == (2, [2])


def test_modes_of_training_and_evaluation():
    run = Run()
    seen = Seen(run, MODEL)
    MODEL.train(), passed(seen)
    MODEL.eval(), passed(seen), passed(seen)
    assert (run.dropout_on, run.dropout_off) == (1, 2)
    MODEL.train(), passed(seen, training=False)
    found = seen.evaluation({"loss": 1.0})
    assert (found.scored, found.in_training_mode, int(found.counts.sum())) == (2, 1, 2)
    assert seen.evaluation({}).scored is None


def test_modes_of_a_model_with_batch_norm_alone():
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))

    def pass_by(seen, training=True):
        x = torch.randn(4, 3)
        seen.forward((x,), {}, model(x), training=training, measure=False)
        if training:
            seen.commit()

    run = Run()
    seen = Seen(run, model)
    model.train(), pass_by(seen), pass_by(seen, training=False)
    assert seen.evaluation({}).in_training_mode == 1
    model.eval(), pass_by(seen), pass_by(seen, training=False)
    assert (run.dropout_on, run.dropout_off) == (1, 1)
    assert seen.evaluation({}).in_training_mode == 0
    model.train(), model[1].eval(), pass_by(seen)  # the layer alone, on purpose
    assert run.dropout_off == 0
    resting = Run()
    model.eval(), pass_by(Seen(resting, model))
    assert (resting.dropout_on, resting.dropout_off) == (0, 0)  # never trained otherwise


def test_the_first_loss_that_is_not_finite_is_looked_into():
    seen = Seen(Run(), MODEL)
    passed(seen)
    seen.loss(1.0, None)
    assert seen.run.bad is None
    seen.loss(float("nan"), None), seen.loss(float("nan"), None)
    assert seen.run.bad["what"] == "loss" and "loss function" in seen.run.bad["where"]
    assert seen.run.not_finite == [1]


def test_the_gradient_at_the_labels_logit():
    for sign, share in ((1, 0.0), (-1, 1.0)):
        run = Run()
        seen, x = Seen(run, MODEL), torch.randn(4, 3)
        labels = torch.tensor([0, 1, 1, 0])
        logits = MODEL(x)
        seen.forward((x,), {}, logits, training=True, measure=True)
        (sign * nn.functional.cross_entropy(logits, labels)).backward()
        seen.loss(1.0, (x, labels))
        assert run.uphill == [(4, share)]


def test_graphs_that_are_kept_are_counted():
    run = Run()
    seen, kept = Seen(run, MODEL), []
    for _ in range(5):
        loss = MODEL(torch.ones(1, 3)).sum()
        seen.loss(loss, None)
    assert run.graphs == (1, 5)
    total = 0
    for _ in range(5):
        loss = MODEL(torch.ones(1, 3)).sum()
        total = total + loss
        seen.loss(loss, None)
    assert run.graphs == (5, 10) and kept == []


def test_the_first_batch_of_each_epoch_is_marked():
    run = Run()
    seen = Seen(run, MODEL, loader=[0, 1, 2])
    for _ in range(7):
        passed(seen)
    assert list(run.epochs) == [0, 1, 2] and len(set(run.epochs.values())) == 3
    assert [len(marks) for marks in run.epochs.values()] == [48, 48, 16]  # of three batches each


@pytest.mark.parametrize("keep", [True, False])
def test_kept_outputs_hold_their_graphs_too(keep):
    run, kept = Run(), []
    seen, x = Seen(run, MODEL), torch.ones(4, 3)
    for _ in range(5):
        logits = MODEL(x)
        kept += [logits] if keep else []
        seen.forward((x,), {}, logits, training=True, measure=False)
        seen.loss(nn.functional.cross_entropy(logits, torch.zeros(4, dtype=torch.long)), None)
    assert run.graphs == (5 if keep else 1, 5)


def test_an_evaluation_keeps_its_cross_entropy_and_training_the_rates_of_its_labels():
    seen = Seen(Run(), MODEL)
    MODEL.eval()
    passed(seen)
    batch = {"x": torch.randn(2, 3), "labels": LABELS}
    with torch.no_grad():
        output = {"logits": MODEL(batch["x"])}
    seen.forward((), batch, output, training=False, measure=True)
    expected = nn.functional.cross_entropy(output["logits"], LABELS).item()
    assert seen.evaluation({}).surprise == pytest.approx(expected)
    assert seen.run.facts["label_counts"] == [1, 1]


def test_what_is_looked_at_is_not_kept():
    """No circle of Python objects may hold a pass until the garbage collector comes by."""
    model, run = nn.Linear(3, 2), Run()
    seen = Seen(run, model)
    gc.disable()
    try:
        for _ in range(20):
            x, y = torch.randn(4, 3), torch.randint(0, 2, (4,))
            output = {"logits": model(x)}
            seen.forward((), {"x": x, "labels": y}, output, training=True, measure=True)
            nn.functional.cross_entropy(output["logits"], y).backward()
            seen.commit()
        assert run.graphs[0] <= 2 < run.graphs[1]
    finally:
        gc.enable()


def test_of_many_tokens_some_tell_the_spread():
    seen, draw = Seen(Run(), MODEL), torch.Generator().manual_seed(0)
    logits = torch.randn(5000, 40, generator=draw).requires_grad_()
    seen.forward((), {"x": logits.detach()}, {"logits": logits}, training=True, measure=True)
    assert float(seen.row_spread) == pytest.approx(float(logits.std(0).mean()), rel=0.1)
