import numpy as np
import pytest

from cookbook.doctor import schedule_detectors as detectors
from cookbook.doctor.records import Evaluation, Record, Run, Schedule


def run_of(rates, schedule=None, micro=1, **how):
    records = [Record(i + 1, loss=1.0, rate=float(rate)) for i, rate in enumerate(rates)]
    steps = len(records)
    return Run(records=records, steps=steps, backwards=steps * micro, schedule=schedule, **how)


def found(run):
    return {f.fault: f for check in detectors.CHECKS for f in check(run)}


def linear(steps, warm=5):
    return [min(i / warm, (steps - i) / (steps - warm)) for i in range(steps)]


def lambda_lr(calls, horizon=None, steps=True):
    return Schedule("LambdaLR", calls=calls, horizon=horizon, counts_steps=steps)


def test_a_rate_of_zero_from_the_start_is_o2():
    assert found(run_of([0.0] * 8))["O2"].severity == "error"
    assert found(run_of([0.0, 0.1, 0.2, 0.2, 0.1, 0.0])) == {}  # a warm-up's first step
    assert found(run_of([0.0] * 5 + [1e-3] * 20)) == {}


@pytest.mark.parametrize("planned", [100, None])
def test_a_linear_schedule_that_ends_with_the_run_is_healthy(planned):
    assert found(run_of(linear(100), lambda_lr(100, 100), planned=planned, closed=True)) == {}


def test_stepped_twice_for_each_step():
    finding = found(run_of([1e-3] * 20, lambda_lr(40, 100), closed=True))["O4"]
    assert "2.00 times for each (bound: 1)" in finding.evidence


def test_stepped_for_each_micro_batch():
    rates = [*linear(10), *[0.0] * 30]
    assert "O4" in found(run_of(rates, lambda_lr(160, 40), micro=4, planned=40))
    assert "O4" in found(run_of(rates, lambda_lr(160, 40), micro=4, closed=True))
    planned_so = run_of(linear(40), lambda_lr(160, 160), micro=4, closed=True)
    assert found(planned_so) == {}  # planned in micro-batches, and ends with the run


def test_a_schedule_that_is_never_stepped():
    never = run_of([1e-3] * 30, lambda_lr(0, 30))
    assert "stepped 0 times" in found(never)["O4"].evidence
    assert found(run_of([1e-3] * 30, lambda_lr(0, 30, steps=None))) == {}  # may count epochs
    assert found(run_of([1e-3] * 10, lambda_lr(0, 30))) == {}


def test_planned_in_steps_and_stepped_in_epochs():
    seldom = run_of([1e-3] * 120, lambda_lr(3, 120), closed=True)
    assert "planned for 120" in found(seldom)["O4"].evidence
    epochs = run_of([1e-3] * 120, lambda_lr(3, 4), closed=True)
    assert found(epochs) == {}


def test_a_rate_that_dies_before_the_plan_ends():
    assert "O4" in found(run_of([*linear(30), *[0.0] * 40], lambda_lr(70, 30), planned=70))
    assert "O4" in found(run_of([*linear(30), *[0.0] * 40], lambda_lr(70, 30)))
    assert "O4" in found(run_of(0.5 ** np.arange(80), Schedule("ExponentialLR", calls=80)))


@pytest.mark.parametrize(
    "rates",
    [
        [1e-3] * 100,
        [1e-3 * 0.1 ** (i // 30) for i in range(100)],  # StepLR
        1e-3 * (1 + np.cos(np.linspace(0, np.pi, 100))) / 2,
        1e-3 * (1 + np.cos(np.linspace(0, 6 * np.pi, 100) % np.pi)) / 2,  # warm restarts
        [*linear(95), *[0.0] * 3],
    ],
)
def test_healthy_schedules(rates):
    assert found(run_of(rates, Schedule("Any", calls=len(rates)), planned=100, closed=True)) == {}
    assert found(run_of(rates, Schedule("Any", placed=4 * len(rates)), micro=4)) == {}
    assert found(run_of(rates, None, planned=100)) == {}


def test_a_scaler_that_skips_and_a_plateau_are_no_fault():
    run = run_of([1e-3] * 6, lambda_lr(14, 100))
    run.skipped = list(range(1, 9))
    assert found(run) == {}
    plateau = Schedule("ReduceLROnPlateau", calls=3, counts_steps=False)
    assert found(run_of([1e-3] * 40 + [1e-9] * 40, plateau, planned=200)) == {}


def plateau(mode, watched, losses=(), metrics=()):
    schedule = Schedule("ReduceLROnPlateau", calls=len(watched), counts_steps=False)
    schedule.mode, schedule.watched = mode, list(watched)
    run = run_of([1e-3] * 12, schedule)
    for record, loss in zip(run.records, losses, strict=False):
        record.loss = loss
    run.evaluations = [Evaluation(i, m) for i, m in enumerate(metrics)]
    return run


FALLING = [2.0 - 0.1 * i for i in range(12)]


def test_a_plateau_of_the_loss_that_waits_for_more_is_o4():
    assert "mode='max'" in found(plateau("max", FALLING, FALLING))["O4"].evidence
    assert found(plateau("min", FALLING, FALLING)) == {}
    assert found(plateau("max", [1 - x for x in FALLING], FALLING)) == {}  # something else
    assert found(plateau("max", FALLING[:3], FALLING)) == {}  # too few to know it by
    assert found(plateau("max", [0.0] * 12, [0.0] * 12)) == {}  # one value is no name


@pytest.mark.parametrize("mode, name, wrong", [
    ("min", "eval_accuracy", True), ("max", "eval_accuracy", False),
    ("max", "eval_loss", True), ("min", "eval_loss", False), ("min", "eval_speed", False),
])  # fmt: skip
def test_what_an_evaluation_measured_is_known_by_its_name(mode, name, wrong):
    metrics = [{name: value, "other": 1.0} for value in FALLING]
    assert ("O4" in found(plateau(mode, FALLING, metrics=metrics))) is wrong


def cosine(horizon, steps=60):
    return 0.5 + 0.5 * np.cos(np.pi * np.arange(steps) / horizon)


@pytest.mark.parametrize(
    ("horizon", "calls", "wrong"), [(3, 60, True), (20, 60, False), (60, 60, False), (3, 3, False)]
)
def test_a_cosine_of_epochs_that_is_stepped_by_batches(horizon, calls, wrong):
    schedule = Schedule("CosineAnnealingLR", calls=calls, horizon=horizon)
    said = found(run_of(cosine(horizon), schedule)).get("O4")
    assert (said is not None and "T_max=3" in said.evidence) == wrong
