import copy
import json

import pytest
import torch
import transformers

from cookbook.doctor.callback import Doctor
from cookbook.doctor.findings import Finding
from cookbook.doctor.report import Report
from cookbook.training.trainer import Trainer


def rows(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(5, 300, (count, 12), generator=generator)
    ones = torch.ones(12, dtype=torch.long)
    return [{"input_ids": i, "attention_mask": ones, "labels": int(i[1] > 150)} for i in ids]


@pytest.fixture
def fit(tiny_bert, tmp_path):
    """Trains a small classifier under a Doctor; returns the doctor."""

    def make(doctor=None, trainer=Trainer, model=None, steps=24, change=None, **settings):
        doctor = doctor or Doctor(examine=False)
        defaults = {
            "max_steps": steps, "per_device_train_batch_size": 8, "learning_rate": 1e-3,
            "eval_strategy": "steps", "eval_steps": 8, "save_strategy": "no", "report_to": [],
            "logging_steps": 5, "use_cpu": True, "disable_tqdm": True,
        }  # fmt: skip
        args = transformers.TrainingArguments(str(tmp_path), **(defaults | settings))
        running = trainer(
            model or tiny_bert("BertForSequenceClassification", num_labels=2), args,
            train_dataset=rows(96), eval_dataset=rows(40, 1), callbacks=[doctor],
            compute_metrics=lambda p: {"accuracy": float((p[0].argmax(-1) == p[1]).mean())},
        )  # fmt: skip
        if change:
            change(running)
        running.train()
        doctor.trainer = running
        return doctor

    return make


def test_a_healthy_run_is_healthy_and_seen(fit):
    doctor = fit(Doctor(), warmup_steps=3)
    assert doctor.report.faults() == []
    assert doctor.failure == "" == doctor.monitor.cost.failure
    run = doctor.monitor.run
    assert run.steps == 24 and run.planned == 24 and run.closed and len(run.values("loss")) == 24
    assert [e.scored for e in run.evaluations] == [40, 40, 40]
    assert int(run.evaluations[-1].counts.sum()) == 40
    assert "eval_accuracy" in run.evaluations[0].metrics
    assert len(run.epochs) == 2 and doctor.overhead > 0
    assert not doctor.trainer.model._forward_hooks and "training_step" not in vars(doctor.trainer)


def test_training_is_the_same_with_and_without(fit, tiny_bert):
    def weights(doctor):
        model = tiny_bert("BertForSequenceClassification", hidden_dropout_prob=0.1)
        fit(doctor, model=model, gradient_accumulation_steps=2, steps=8)
        return torch.cat([p.detach().flatten() for p in model.parameters()])

    class Silent(Doctor):
        def on_train_begin(self, *_, **__):
            pass

    assert torch.equal(weights(Doctor()), weights(Silent()))


@pytest.mark.parametrize("n", [2, 4])
def test_accumulation_of_the_library_is_l3_and_ours_is_not(fit, n):
    doctor = fit(trainer=transformers.Trainer, gradient_accumulation_steps=n, steps=4)
    assert doctor.report.primary.fault == "L3"
    assert f"({n}.00 times)" in doctor.report.primary.evidence
    assert "transformers.trainer.Trainer" in doctor.report.primary.evidence
    assert fit(gradient_accumulation_steps=n, steps=4).report.faults() == []


def test_a_nan_that_the_log_hides(fit):
    def broken(trainer):
        loss, count = trainer.compute_loss, iter(range(1000))
        trainer.compute_loss = lambda *a, **k: (
            loss(*a, **k) * (float("nan") if next(count) == 9 else 1.0)
        )

    doctor = fit(change=broken, eval_strategy="no")
    assert doctor.report.primary.fault == "P1" and "step 10" in doctor.report.primary.evidence


def test_a_stale_optimizer_and_a_schedule_that_runs_ahead(fit, tiny_bert):
    def stale(trainer):
        trainer.optimizer = torch.optim.AdamW(copy.deepcopy(trainer.model).parameters(), 1e-3)

    assert fit(change=stale).report.primary.fault == "O6"

    class Twice(transformers.TrainerCallback):
        def on_step_end(self, *_, lr_scheduler=None, **__):
            lr_scheduler.step()

    assert fit(change=lambda t: t.add_callback(Twice())).report.primary.fault == "O4"


def test_lora_whose_optimizer_came_first_is_m6(fit, tiny_bert):
    import peft

    base = tiny_bert("BertForSequenceClassification")
    optimizer = torch.optim.AdamW(base.parameters(), 1e-3)
    lora = peft.get_peft_model(base, peft.LoraConfig(target_modules=["query", "value"], r=2))

    def early(trainer):
        trainer.optimizer = optimizer

    assert "M6" in fit(model=lora, change=early).report.faults()
    again = peft.get_peft_model(
        tiny_bert("BertForSequenceClassification"),
        peft.LoraConfig(target_modules=["query", "value"], r=2, task_type="SEQ_CLS"),
    )
    assert fit(model=again).report.faults() == []


def test_rows_dropped_from_evaluation_are_e2(fit):
    doctor = fit(dataloader_drop_last=True, per_device_eval_batch_size=16)
    assert "E2" in doctor.report.faults()


def test_a_resumed_run_is_healthy_and_one_without_its_optimizer_is_k2(fit, tmp_path):
    fit(steps=12, save_strategy="steps", save_steps=12)
    folder = tmp_path / "checkpoint-12"

    def resumed(name=None):
        if name:
            (folder / name).unlink()
        doctor = Doctor(examine=False)

        def resume(trainer):
            train = trainer.train
            trainer.train = lambda: train(resume_from_checkpoint=str(folder))

        return fit(doctor, change=resume, trainer=transformers.Trainer)

    assert resumed().report.faults() == []
    file = folder / "trainer_state.json"
    counted = file.read_text()
    file.write_text(json.dumps(json.loads(counted) | {"global_step": 0, "epoch": 0}))
    assert "run counts 0" in resumed().report.primary.evidence
    file.write_text(counted)
    assert resumed("optimizer.pt").report.primary.fault == "K2"


def test_a_head_that_is_not_saved_is_k1_and_a_resume_without_random_state_is_k2(fit, tmp_path):
    def headless(trainer):
        save = trainer.model.save_pretrained
        trainer.model.save_pretrained = lambda folder, state_dict=None, **how: save(
            folder, state_dict={k: v for k, v in trainer.model.state_dict().items()
                                if "classifier" not in k}, **how
        )  # fmt: skip

    doctor = fit(steps=6, change=headless, save_strategy="steps", save_steps=6)
    assert doctor.report.primary.fault == "K1" and "classifier" in doctor.report.primary.evidence
    assert fit(steps=6, save_strategy="steps", save_steps=3).report.faults() == []
    (tmp_path / "checkpoint-6" / "rng_state.pth").unlink()

    def resume(trainer):
        train = trainer.train
        trainer.train = lambda: train(resume_from_checkpoint=str(tmp_path / "checkpoint-6"))

    doctor = fit(steps=9, change=resume, trainer=transformers.Trainer)
    assert "random state" in doctor.report.primary.evidence


def test_what_fails_inside_never_reaches_the_run(fit, monkeypatch):
    monkeypatch.setattr("cookbook.doctor.callback.Monitor", lambda *_, **__: 1 / 0)
    doctor = fit(steps=2, eval_strategy="no")
    assert "ZeroDivisionError" in doctor.report.not_checked["the run"]


def test_a_huge_model_is_watched_and_not_copied(fit, monkeypatch):
    monkeypatch.setattr("cookbook.doctor.callback.HUGE", 1000)
    doctor = fit(Doctor(), steps=2, eval_strategy="no")
    assert "second copy" in doctor.report.not_checked["the examination"]
    assert doctor.monitor.run.steps == 2


def test_findings_are_told_and_can_stop_the_run(fit, monkeypatch):
    error = Report([Finding("O7", "error", "…")])
    monkeypatch.setattr("cookbook.doctor.callback.judge", lambda run: error)
    told = []
    doctor = fit(Doctor(examine=False, on_finding=told.append, stop_on_error=True), steps=30)
    assert [f.fault for f in told] == ["O7"] and doctor.trainer.state.global_step == 10


def test_before_training_there_is_a_report():
    assert Doctor().report.healthy and "not begun" in str(Doctor().report.not_checked)
