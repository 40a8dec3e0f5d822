"""A student beside its teacher: hidden states, and rows without labels."""

import dataclasses

import pytest
import torch
from torch.nn.functional import mse_loss

from cookbook.finetuning import jobs, layer_distillation
from cookbook.finetuning.layer_distillation import InsideStudent, distil_inside, hidden_loss
from cookbook.maths import losses

BATCH = {
    "input_ids": torch.tensor([[2, 5, 3, 0], [2, 8, 9, 3]]),
    "attention_mask": torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1]]),
}


@pytest.fixture
def states():
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(2, 4, 6, generator=generator) for _ in range(5)]


def test_a_case_by_hand():
    student, teacher = [torch.zeros(1, 1, 2)] * 2, [torch.tensor([[[3.0, 4.0]]])] * 2
    assert hidden_loss(student, teacher, torch.ones(1, 1)) == 1.0  # all of its size is missing
    assert hidden_loss([t * 0.9 for t in teacher], teacher, torch.ones(1, 1)).item() == (
        pytest.approx(0.01)
    )


def test_a_student_of_half_the_depth_sees_every_second_layer(states):
    found = hidden_loss([states[1], states[1], states[1]], states, torch.ones(2, 4))
    wanted = sum(mse_loss(states[1], states[i]) / (states[i] ** 2).mean() for i in (0, 2, 4)) / 3
    torch.testing.assert_close(found, wanted)


def test_padding_does_not_count(states):
    mask, other = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1]]), [s.clone() for s in states]
    for state in other:
        state[0, 2:] = 1e3
    ours = [state + 0.1 for state in states]
    torch.testing.assert_close(hidden_loss(ours, states, mask), hidden_loss(ours, other, mask))


def test_widths_that_differ_are_refused(states):
    with pytest.raises(ValueError, match="one width"):
        hidden_loss([torch.zeros(2, 4, 3)] * 2, states, torch.ones(2, 4))


def test_without_the_inside_the_loss_is_that_of_labels_and_answers(new):
    model, teacher, labels = new().eval(), new(random=True).eval(), torch.tensor([0, 2])
    out = InsideStudent(model, teacher, hidden=0.0, soft=0.25)(**BATCH, labels=labels)
    soft = losses.distillation(out["logits"], teacher(**BATCH).logits)
    hard = losses.cross_entropy(out["logits"], labels)
    torch.testing.assert_close(out["loss"], 0.25 * soft + 0.75 * hard)


def test_a_row_without_a_label_is_told_the_answer_only(new):
    both = InsideStudent(new().eval(), new(random=True).eval(), hidden=0.0, soft=0.5)
    out = both(**BATCH, labels=torch.tensor([-100, -100]))
    soft = losses.distillation(out["logits"], both.teacher(**BATCH).logits)
    torch.testing.assert_close(out["loss"], 0.5 * soft)
    assert both(**BATCH).keys() == {"logits"}


def test_the_student_comes_closer_inside_and_the_teacher_keeps_its_bits(job):
    teacher = jobs.classifier(dataclasses.replace(job, seed=5)).eval()
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    job = dataclasses.replace(job, max_steps=12)
    apart = {}
    for hidden in (0.0, 4.0):
        student = distil_inside(job, teacher, hidden=hidden, more=job.rows["test"]).model.eval()
        with torch.no_grad():
            shown = [
                m(**BATCH, output_hidden_states=True).hidden_states for m in (student, teacher)
            ]
        apart[hidden] = hidden_loss(*shown, BATCH["attention_mask"]).item()
        assert student.config.num_hidden_layers == 1
    assert apart[4.0] < apart[0.0]
    assert all(torch.equal(before[name], value) for name, value in teacher.state_dict().items())


def test_labels_of_further_rows_are_not_read(job, monkeypatch):
    seen = []
    monkeypatch.setattr(jobs, "train", lambda job, model, rows: seen.append(rows) or jobs.Trained(
        model, None, []))  # fmt: skip
    layer_distillation.distil_inside(job, jobs.classifier(job), more=job.rows["test"])
    assert [row["labels"] for row in seen[0]] == [
        *(row["labels"] for row in job.rows["train"]), *[-100] * len(job.rows["test"])
    ]  # fmt: skip
