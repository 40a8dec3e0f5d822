import math
import random

import pytest

from cookbook.doctor import aftermath
from cookbook.doctor.aftermath import examine_log
from cookbook.doctor.logs import RunLog


def log(planned=None, best="", best_value=None, **lines):
    """A log from lines of values, one a step of 10."""
    length = max(map(len, lines.values()))
    entries = [
        {"step": 10.0 * (i + 1)} | {k: v[i] for k, v in lines.items() if i < len(v)}
        for i in range(length)
    ]
    return RunLog("log.csv", entries, planned, best, best_value)


def falling(n=30, start=3.0, end=1.0, noise=0.05, seed=0):
    draw = random.Random(seed)
    return [end + (start - end) * math.exp(-4 * i / n) + draw.gauss(0, noise) for i in range(n)]


def linear(n=30, top=1e-3, end=0.0):
    return [top + (end - top) * i / (n - 1) for i in range(n)]


def norms(n=30, seed=1):
    draw = random.Random(seed)
    return [abs(draw.gauss(1, 0.3)) + 0.1 for _ in range(n)]


@pytest.mark.parametrize("seed", range(5))
def test_healthy_runs_are_left_in_peace(seed):
    held_out = falling(10, 3.1, 1.2, 0.01, seed)
    run = log(300, loss=falling(seed=seed), learning_rate=linear(), grad_norm=norms(seed=seed),
              eval_loss=held_out)  # fmt: skip
    assert examine_log(run).healthy and examine_log(run).not_checked == {}


@pytest.mark.parametrize(
    "rates",
    [[1e-3] * 30, linear(), [*linear(5, 1e-3, 1e-3), *linear(25)],
     [1e-3 * (1 + math.cos(math.pi * (i % 10) / 10)) / 2 for i in range(30)]],
    ids=["constant", "linear", "stable, then linear", "warm restarts"],
)  # fmt: skip
def test_schedules_that_end_when_the_run_does(rates):
    assert examine_log(log(300, loss=falling(), learning_rate=rates)).healthy


def test_a_run_that_still_goes_on_has_not_lost_its_rate():
    assert examine_log(log(3000, loss=falling(), learning_rate=linear(end=9e-4))).healthy


def test_a_rate_that_dies_early_and_one_that_never_lived():
    early = [*linear(10), *([0.0] * 20)]
    found = examine_log(log(300, loss=falling(), learning_rate=early)).primary
    assert found.fault == "O4" and found.measured["step"] == 100
    assert examine_log(log(loss=falling(), learning_rate=[0.0] * 30)).primary.fault == "O2"


def test_a_nan_that_the_log_shows_as_zero():
    losses = [*falling(10), *([0.0] * 5)]
    gradient = [*norms(10), *([math.nan] * 5)]
    found = examine_log(log(loss=losses, grad_norm=gradient)).primary
    assert (
        found.fault == "P1" and "says 0.0" in found.evidence and found.measured["first_step"] == 110
    )


def test_divergence_needs_a_second_sign():
    up = [*falling(15), *([3.2 + 0.1 * i for i in range(15)])]
    assert examine_log(log(loss=up)).primary.fault == "O1"  # ends above its start
    halfway = [*falling(15), *([2.0] * 15)]
    assert examine_log(log(loss=halfway, grad_norm=norms())).healthy
    spiky = [*norms(15), 40.0, *norms(14)]
    assert examine_log(log(loss=halfway, grad_norm=spiky)).primary.fault == "O1"


def test_a_spike_in_the_first_steps_without_warm_up_is_its_own_fault():
    up = [2.0, *([6.0] * 99)]
    constant = [1e-2] * 100
    assert examine_log(log(loss=up, learning_rate=constant)).primary.fault == "O3"
    warm = [*linear(10, 1e-3, 1e-2), *constant[10:]]
    assert examine_log(log(loss=up, learning_rate=warm)).primary.fault == "O1"


def test_overfitting_and_its_guards():
    training = falling(30)
    down_up = [2.0, 1.5, 1.2, 1.25, 1.3, 1.4, 1.5]
    assert examine_log(log(loss=training, eval_loss=down_up)).primary.fault == "R1"
    jitter = [2.0, 1.5, 1.2, 1.25, 1.19, 1.24, 1.22]  # its best is two evaluations old
    assert examine_log(log(loss=training, eval_loss=jitter)).healthy
    one_epoch_up = [2.0, 1.5, 1.2, 1.3]
    assert examine_log(log(loss=training, eval_loss=one_epoch_up)).healthy


def test_evaluations_that_agree_to_the_last_digit():
    still = log(loss=falling(), eval_loss=[2.31] * 4, learning_rate=[1e-3] * 30)
    assert examine_log(still).primary.fault == "O7"
    moving = log(loss=falling(), eval_loss=[2.31, 2.3, 2.29, 2.28], learning_rate=[1e-3] * 30)
    assert examine_log(moving).healthy


@pytest.mark.parametrize(("value", "fault"), [(0.5, "K3"), (0.8, None)])
def test_the_checkpoint_that_counts_as_best(value, fault):
    run = log(best="checkpoint-10", best_value=value, loss=falling(),
              eval_accuracy=[0.5, 0.7, 0.8])  # fmt: skip
    primary = examine_log(run).primary
    assert (primary and primary.fault) == fault


def test_a_flat_loss_is_no_verdict_and_the_log_says_why():
    report = examine_log(log(loss=[2.08] * 30, learning_rate=[1e-3] * 30))
    assert report.healthy and "run examine(model" in report.not_checked["why the loss is flat"]


def test_what_the_log_lacks_is_said():
    run = log(loss=falling())
    assert examine_log(run).not_checked == {
        "the schedule": "the log has no learning_rate", "gradients": "the log has no grad_norm",
        "overfitting": "the log has no eval_loss",
    }  # fmt: skip
    assert "30 entries with loss." in aftermath.scope(run) and "seldom why" in aftermath.scope(run)
