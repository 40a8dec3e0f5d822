"""A job trains what is not frozen, with the settings that it names."""

import dataclasses

import numpy as np
import pytest
import torch

from cookbook.finetuning import jobs
from cookbook.finetuning.encoding import encode_rows
from cookbook.models.initialization import load_tokenizer


@pytest.fixture
def job(checkpoint, labelled, tmp_path):
    tokenizer = load_tokenizer(checkpoint)
    rows = {name: encode_rows(part, tokenizer, 64) for name, part in labelled.items()}
    return jobs.Job(checkpoint, tokenizer, rows, 3, 5e-3, 0, 2, 0, 16, "fp32", False, str(tmp_path))


def test_only_unfrozen_weights_train(job, tmp_path):
    model = jobs.classifier(job)
    model.bert.embeddings.requires_grad_(False)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    trained = jobs.train(job, model)
    moved = {n for n, p in trained.model.named_parameters() if not torch.equal(p, before[n])}
    assert not any("embeddings" in name for name in moved)
    assert {"classifier.weight", "bert.encoder.layer.0.output.dense.weight"} <= moved
    assert [step for step, _ in trained.history] == [1, 5]  # six steps in two epochs
    assert list(tmp_path.rglob("*.safetensors")) == []  # nothing but memory holds the best epoch


def test_logits_come_without_dropout_and_leave_the_mode_alone(job):
    model = jobs.classifier(job).train()
    first, second = (jobs.logits(job, model, job.rows["test"]) for _ in range(2))
    assert np.array_equal(first, second)
    assert model.training


def test_after_half_precision_the_model_answers_in_its_own(job):
    half = dataclasses.replace(job, precision="bf16", max_steps=2)
    trained = jobs.train(half, jobs.classifier(job)).model.eval()
    fresh = jobs.classifier(job).eval()
    fresh.load_state_dict(trained.state_dict())
    ids = torch.tensor([job.rows["test"][0]["input_ids"]])
    with torch.no_grad():
        assert torch.equal(trained(ids).logits, fresh(ids).logits)


def test_accuracy_and_labels():
    rows = [{"labels": 1}, {"labels": 0}]
    assert jobs.labels_of(rows).tolist() == [1, 0]
    assert jobs.accuracy(np.array([[0.1, 0.9], [0.2, 0.8]]), rows) == 0.5
