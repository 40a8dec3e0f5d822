import random
import sys
import types

import numpy as np
import pytest
import torch
from torch import nn

from cookbook.doctor import examination, preserve
from cookbook.doctor.examination import Skip, examine
from cookbook.doctor.findings import Finding
from cookbook.doctor.subject import Subject


@pytest.fixture
def with_checks(monkeypatch):
    """Install functions as the only checks, under the name of a file."""

    def install(readers=(), probes=()):
        for name, checks in (("its_readers", readers), ("its_probes", probes)):
            module = types.ModuleType(f"cookbook.doctor.{name}")
            module.CHECKS = tuple(checks)
            monkeypatch.setitem(sys.modules, module.__name__, module)
        return {"readers": ["its_readers"], "probes": ["its_probes"]}

    return install


def test_a_check_that_fails_is_said_and_the_others_go_on(with_checks):
    def breaks(subject):
        raise RuntimeError("odd model")

    def applies_not(subject):
        raise Skip("does not apply")

    def has_a_reason(subject):
        raise Skip("no labels")

    def finds(subject):
        yield Finding("M5", "error", "…")

    files = with_checks([breaks, applies_not, has_a_reason, finds])
    report = examination.run(Subject(nn.Linear(1, 1)), **files)
    assert report.primary.fault == "M5" and report.checked == ["finds"]
    assert report.not_checked == {
        "breaks": "failed with RuntimeError: odd model", "has_a_reason": "no labels"
    }  # fmt: skip


def test_a_probe_may_do_anything_and_the_next_sees_nothing_of_it(with_checks):
    model = nn.Linear(2, 2)
    weights = model.weight.detach().clone()
    seen = []

    def ruins(subject):
        with torch.no_grad():
            subject.model.weight.zero_()
        subject.model.eval()
        torch.manual_seed(7)
        return []

    def looks(subject):
        seen.append((subject.model.weight.detach().clone(), subject.model.training))
        return []

    state = torch.get_rng_state()
    examination.run(Subject(model), **with_checks(probes=[ruins, looks]))
    assert torch.equal(seen[0][0], weights) and seen[0][1]
    assert torch.equal(model.weight, weights) and model.training
    assert torch.equal(torch.get_rng_state(), state)


def test_without_a_model_only_readers_run(with_checks):
    def reads(subject):
        return []

    def probes(subject):
        raise AssertionError("there is no model")

    report = examination.run(Subject(None), **with_checks([reads], [probes]))
    assert report.checked == ["reads"] and report.not_checked == {}


def test_all_real_checks_leave_a_training_run_as_it_was(tiny_bert, tokenizer):
    """The promise of the contract, on a run in the middle of its training: bit for bit."""
    rows = [tokenizer(f"the solver computes {i} tensors") | {"labels": i % 2} for i in range(24)]
    model = tiny_bert("BertForSequenceClassification", num_labels=2, hidden_dropout_prob=0.1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, total_iters=10)
    batch = tokenizer.pad(rows[:4], return_tensors="pt")
    for _ in range(2):
        model(**batch).loss.backward()
        optimizer.step()
        schedule.step()
    model.bert.embeddings.eval()
    tensors = [*model.state_dict().values(), *(p.grad for p in model.parameters()),
               *(v for s in optimizer.state.values() for v in s.values())]  # fmt: skip
    before = [None if t is None else t.clone() for t in tensors]
    flags = [m.training for m in model.modules()]
    states = preserve.random_state()
    report = examine(model, train_dataset=rows, eval_dataset=rows[:8], processing_class=tokenizer,
                     optimizer=optimizer, lr_scheduler=schedule)  # fmt: skip
    assert len(report.checked) > 5
    after = [*model.state_dict().values(), *(p.grad for p in model.parameters()),
             *(v for s in optimizer.state.values() for v in s.values())]  # fmt: skip
    assert all(a is b or torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert [m.training for m in model.modules()] == flags
    assert schedule.last_epoch == 2 and random.getstate() == states["python"]
    assert torch.equal(torch.get_rng_state(), states["torch"])
    assert (np.random.get_state()[1] == states["numpy"][1]).all()


def test_a_trainer_says_the_rest_by_itself(tiny_bert, tokenizer, tmp_path):
    import transformers

    rows = [tokenizer(f"a median of {i}") | {"labels": i % 2} for i in range(16)]
    args = transformers.TrainingArguments(tmp_path, report_to="none", use_cpu=True)
    trainer = transformers.Trainer(
        tiny_bert("BertForSequenceClassification"), args, train_dataset=rows,
        processing_class=tokenizer,
    )  # fmt: skip
    model, given = examination._of_trainer(trainer, {"train_dataset": None, "args": None})
    assert model is trainer.model and given["train_dataset"] is rows and given["trainer"] is trainer
    assert given["args"] is args and given["processing_class"] is tokenizer
