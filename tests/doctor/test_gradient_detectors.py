import pytest

from cookbook.doctor.findings import Finding
from cookbook.doctor.records import Record, Run


def run_of(steps=12, records=None, **fields):
    records = records or [Record(i + 1, **fields) for i in range(steps)]
    return Run(records=records, steps=len(records))


def test_gradients_that_are_never_emptied_are_o5(found):
    assert "11 of 11" in found(run_of(fresh=False))["O5"].evidence
    assert found(run_of(fresh=True)) == {}
    assert found(run_of(fresh=None)) == {}
    assert found(run_of(steps=3, fresh=False)) == {}


def test_emptied_each_fourth_step_only_is_o5(found):
    records = [Record(i + 1, fresh=i % 4 == 0) for i in range(16)]
    assert "O5" in found(run_of(records=records))
    once = [Record(i + 1, fresh=i != 5) for i in range(16)]
    assert found(run_of(records=once)) == {}


def scaled(norms, unscaled=0):
    records = [Record(i + 1, norm=n / 1024, scale=1024.0) for i, n in enumerate(norms)]
    run = Run(records=records, steps=len(records), attempts=len(records))
    run.facts["unscaled_first"] = unscaled
    return run


def test_clipping_before_unscaling_is_o9(found):
    assert found(scaled([1.0] * 8))["O9"].severity == "error"
    assert found(scaled([1.0, 0.7, 1.3, 2.0, 1.1, 0.8])) == {}
    assert found(scaled([1.0] * 8, unscaled=8)) == {}


def test_clipping_nearly_always_to_a_tenth_is_o9(found):
    assert "O9" in found(run_of(240, clipped=0.02))
    assert found(run_of(240, clipped=0.4)) == {}
    assert found(run_of(60, clipped=0.02)) == {}  # the start of a pretraining
    run = run_of(240, clipped=1.0)
    run.facts["max_grad_norm"], run.logs = 1e-3, [{"grad_norm": 2.0, "loss": 1.0}] * 20
    assert "O9" in found(run)


@pytest.mark.parametrize("judged", [None, Finding("L3", "error", "4.00 times")])
def test_the_judgement_on_accumulation_is_passed_on(found, judged):
    run = run_of()
    run.facts["accumulation"] = judged
    assert found(run) == ({"L3": judged} if judged else {})


def micro_batches(of=4, told=48, loss_gradients=(1.0,) * 12, **fields):
    run = Run(records=[Record(i + 1, micro=of) for i in range(12)], steps=12, told=told, **fields)
    run.backwards, run.loss_gradients = 12 * of, list(loss_gradients)
    return run


def test_full_losses_of_micro_batches_are_l3(found):
    assert "×4" in found(micro_batches())["L3"].evidence
    assert found(micro_batches(loss_gradients=[0.25] * 12)) == {}  # divided
    multiplied = found(micro_batches(loss_gradients=[4.0] * 12))["L3"]
    assert multiplied.measured["ratio"] == 16
    assert found(micro_batches(loss_gradients=[3.0] * 12)) == {}  # some weight of one's own
    assert found(micro_batches(loss_gradients=[0.01] * 12)) == {}  # a sum over so many labels
    assert found(micro_batches(of=1)) == {}
    assert found(micro_batches(told=12)) == {}  # several losses of one batch, reported as one
    assert found(micro_batches(attempts=12)) == {}  # scaled, by a factor nobody knows here
    assert found(micro_batches(loss_gradients=[1.0, 1.0])) == {}


def test_full_losses_of_most_micro_batches_are_l3_and_weights_by_tokens_are_not(found):
    last_only = micro_batches(loss_gradients=(1.0, 1.0, 1.0, 0.25) * 3)
    assert found(last_only)["L3"].measured["ratio"] == pytest.approx(3.25)
    by_tokens = (0.31, 0.22, 0.27, 0.2) * 3
    assert found(micro_batches(loss_gradients=by_tokens)) == {}
    assert found(micro_batches(loss_gradients=(1.0, 0.25, 0.25, 0.25) * 3)) == {}  # by chance whole
