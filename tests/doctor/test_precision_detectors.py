from cookbook.doctor.records import Record, Run

NAN = float("nan")


def test_the_first_bad_step_batch_and_module_are_named(found):
    bad = {"what": "loss", "step": 7, "batch": 6, "where": "the first … is that of layer.3"}
    finding = found(Run(bad=bad, not_finite=[7, 8]))["P1"]
    assert "step 7, batch 6" in finding.evidence and "layer.3" in finding.evidence
    assert found(Run()) == {}


def test_a_loss_that_is_read_late_and_a_log_that_hides_it(found):
    assert "P1" in found(Run(records=[Record(1, loss=1.0), Record(2, loss=NAN)]))
    hidden = {"step": 10, "loss": 0.0, "grad_norm": NAN}
    assert "logged as a loss of 0.0" in found(Run(logs=[hidden]))["P1"].evidence
    assert found(Run(logs=[{"step": 10, "loss": 0.0, "grad_norm": 0.1}])) == {}


def test_a_scaler_may_skip_its_first_steps(found):
    overflow = {"what": "loss", "step": 1, "batch": 0, "where": "the outputs are finite: …"}
    run = Run(attempts=60, skipped=[1, 2, 3, 4], bad=overflow, not_finite=[1])
    assert found(run) == {}
    overflow["where"] = "the batch itself holds numbers that are not finite"
    assert "P1" in found(run)
    assert found(Run(attempts=8, skipped=list(range(1, 8)))) == {}
    assert found(Run(attempts=60, skipped=list(range(1, 23)))) == {}


def test_too_many_skipped_steps_are_p2(found):
    assert "P2" in found(Run(attempts=200, skipped=list(range(20, 200, 3))))
    assert "in a row" in found(Run(attempts=31, skipped=list(range(1, 31))))["P2"].evidence
    assert "P2" in found(Run(records=[Record(1, scale=0.5)], attempts=40))
    assert found(Run(attempts=400, skipped=list(range(50, 400, 50)))) == {}


def half(steps=10, rate=1e-5, **fields):
    return Run(records=[Record(i + 1, rate=rate, **fields) for i in range(steps)])


def test_swallowed_updates_are_p3(found):
    assert found(half(swallowed=0.97, stuck=0.95))["P3"].severity == "error"
    assert found(half(swallowed=0.97, stuck=0.2)) == {}  # Kahan: they move in the end
    assert found(half(swallowed=0.4, stuck=0.1)) == {}
    assert found(half(steps=2, swallowed=1.0, stuck=1.0)) == {}
    assert found(half(rate=0.0, swallowed=1.0)) == {}


def test_a_warm_up_or_a_decay_may_swallow(found):
    warm = [Record(i + 1, rate=i * 1e-4, swallowed=1.0 if i < 5 else 0.1) for i in range(12)]
    assert found(Run(records=warm)) == {}
    late = [Record(i + 1, rate=1e-3 / (i + 1), swallowed=i / 12, stuck=0.1) for i in range(12)]
    assert found(Run(records=late)) == {}


def test_fp16_weights_under_a_scaler_are_p4(found):
    assert "3 of 4" in found(Run(facts={"half_scaled": 3, "trainable": 4}))["P4"].evidence
    assert found(Run(facts={"half_scaled": 0, "trainable": 4})) == {}
