"""L4 online: by the sign of gradients and steps, and of an evaluation that mirrors the loss."""

import numpy as np

from cookbook.doctor.records import Evaluation, Record, Run

RANDOM = np.random.default_rng


def run_of(losses):
    records = [Record(i + 1, loss=float(v), rate=1e-3) for i, v in enumerate(losses)]
    return Run(records=records, steps=len(records))


def falling(steps=60):
    return np.linspace(2, 0.5, steps)


def test_three_ways_to_see_a_climb(found):
    run = run_of(falling())
    run.loss_gradients = [-1.0] * 5
    assert found(run)["L4"].severity == "error"
    run = run_of(falling())
    run.uphill = [(8, 1.0)] * 4
    assert "100 %" in found(run)["L4"].evidence
    run = run_of(np.linspace(1, 3, 40))
    for record in run.records:
        record.angle = 0.6
    assert "along the gradient" in found(run)["L4"].evidence


def test_descent_with_momentum_is_no_climb(found):
    run = run_of(np.linspace(1, 2, 40))
    for record, angle in zip(run.records, RANDOM(0).normal(-0.2, 0.3, 40), strict=True):
        record.angle = float(angle)
    run.uphill, run.loss_gradients = [(8, 0.1)] * 5, [1.0, 1.0, 1.0]
    assert "L4" not in found(run)
    run = run_of(falling())  # an objective that is maximised, and falls as a loss
    for record in run.records:
        record.angle = 0.9
    assert found(run) == {}


def test_gradients_reversed_before_the_step_are_a_climb(found):
    def turned(by, angle):
        run = run_of(falling(20))
        for record in run.records:
            record.turned, record.angle = by, angle
        return found(run)

    assert "reversed" in turned(-1.0, -0.6)["L4"].evidence
    assert turned(1.0, -0.6) == {} and turned(0.1, -0.6) == {}  # noise was added
    assert turned(-1.0, 0.6) == {}  # and the optimizer maximizes: a descent in the end


def mirrored(evaluations, losses=None):
    run = run_of(np.geomspace(1, 400, 40) * -1 if losses is None else losses)
    run.evaluations = [Evaluation(10 * (i + 1), {"loss": v}) for i, v in enumerate(evaluations)]
    return run


def test_an_evaluation_with_the_sign_of_the_loss_turned_says_that_it_is_climbed(found):
    grown = [4.2, 20.0, 90.0, 400.0]
    assert "sign turned" in found(mirrored(grown))["L4"].evidence
    assert found(mirrored([-v for v in grown])) == {}  # a likelihood, the same in both
    assert found(mirrored([4.2, 4.3, 4.4, 4.5])) == {}  # another loss is evaluated
    assert found(mirrored([4.2, 4.3, 4.4, 4.5], np.linspace(-4.2, -4.5, 40))) == {}  # not grown
    assert found(mirrored(grown, np.geomspace(1, 40, 40) * -1)) == {}  # not the same number
    assert found(mirrored(grown[:2])) == {}
    assert found(mirrored(grown, np.geomspace(1, 400, 40))) == {}  # it runs away: O1
