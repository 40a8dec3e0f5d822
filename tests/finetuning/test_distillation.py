"""A student of fewer layers, taught by answers."""

import dataclasses

import pytest
import torch

from cookbook.finetuning import distillation, jobs
from cookbook.maths import losses
from cookbook.models.initialization import load_model


def test_the_student_is_the_lower_half_of_the_checkpoint(new, checkpoint):
    student, whole = distillation.shortened(new()), load_model(checkpoint, "encoder").state_dict()
    kept = {n: p for n, p in student.bert.state_dict().items() if "pooler" not in n}
    assert all(torch.equal(whole[name], value) for name, value in kept.items())
    assert student.config.num_hidden_layers == 1 and not any("layer.1." in n for n in kept)


def test_the_loss_is_that_of_labels_and_teacher(new):
    model = distillation.Student(new().eval(), temperature=3.0, soft=0.25)
    batch = {"input_ids": torch.tensor([[2, 5, 3], [2, 8, 3]]), "labels": torch.tensor([0, 2])}
    teacher = torch.tensor([[3.0, 0.0, 0.0], [0.0, 1.0, 2.0]])
    out = model(**batch, teacher=teacher)
    hard = losses.cross_entropy(out["logits"], batch["labels"])
    soft = losses.distillation(out["logits"], teacher, 3.0)
    torch.testing.assert_close(out["loss"], 0.25 * soft + 0.75 * hard)
    assert model(input_ids=batch["input_ids"]).keys() == {"logits"}


def test_one_teacher_serves_all_rates_of_a_seed(job, monkeypatch):
    trained, train = [], jobs.train

    def spy(job, model, **how):
        trained.append(type(model).__name__)
        return train(job, model, **how)

    monkeypatch.setattr(jobs, "train", spy)
    job = dataclasses.replace(job, max_steps=1)
    for rate in (1e-3, 3e-3):
        result = distillation.distil(dataclasses.replace(job, learning_rate=rate))
    assert trained == ["BertForSequenceClassification", "Student", "Student"]
    assert type(result.model).__name__ == "BertForSequenceClassification"
    distillation.distil(dataclasses.replace(job, seed=1))
    assert len(trained) == 5


def test_the_student_learns_what_the_teacher_says_not_the_labels(job, monkeypatch):
    """Labels of one class only, a teacher that knows all three: the student says three."""
    answers = [[9.0 * (i == row["labels"]) for i in range(3)] for row in job.rows["train"]]
    blind = [{**row, "labels": 0} for row in job.rows["train"]]
    monkeypatch.setattr(distillation, "teach", lambda job: answers)
    job = dataclasses.replace(job, rows={**job.rows, "train": blind}, max_steps=0, epochs=12)
    found = distillation.distil(dataclasses.replace(job, learning_rate=1e-2))
    assert jobs.accuracy(found.logits(job.rows["test"]), job.rows["test"]) == pytest.approx(
        1, abs=0.3
    )
