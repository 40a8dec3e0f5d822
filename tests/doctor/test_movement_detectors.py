import numpy as np

from cookbook.doctor.records import Record, Run


def run_of(steps=30, losses=None, facts=None, **fields):
    defaults = {"rate": 1e-3, "micro": 1, "grad": 1.0, "norm": 1.0, "moved": True, "update": 1e-3}
    losses = np.linspace(2, 1, steps) if losses is None else losses
    records = [Record(i + 1, loss=float(losses[i]), **(defaults | fields)) for i in range(steps)]
    return Run(records=records, steps=steps, backwards=steps, facts=facts or {})


def test_a_run_that_moves_is_healthy(found):
    assert found(run_of()) == {}


def test_steps_that_change_nothing_are_o7(found):
    assert found(run_of(moved=False))["O7"].severity == "error"
    assert found(run_of(steps=2, moved=False)) == {}
    assert found(run_of(moved=False, rate=0.0)) == {}  # nothing may move
    assert found(run_of(moved=False, grad=0.0)) == {}  # nothing to follow
    assert "O7" not in found(run_of(moved=False, rate=2e-12, update=0.0))  # O2: lost in rounding
    assert found(run_of(moved=False, swallowed=1.0)) == {}  # P3


def test_gradients_emptied_before_the_step_are_o7(found):
    run = run_of(moved=False, grad=0.0, norm=None, facts={"arrived": True})
    assert "emptied between" in found(run)["O7"].evidence


def test_an_optimizer_that_is_never_stepped_is_o7(found):
    run = Run(backwards=9, discarded=8)
    assert "called 0 times" in found(run)["O7"].evidence
    run.facts["by_hand"] = [-1.0] * 8  # written by hand, and downhill
    assert found(run)["O7"].severity == "info"
    ended = Run(backwards=40, closed=True)
    assert "the run ended after 40" in found(ended)["O7"].evidence
    assert found(Run(backwards=40)) == {} == found(Run(backwards=8, closed=True))
    assert found(Run(backwards=16, discarded=0)) == {}  # a long accumulation
    assert found(Run(backwards=9, discarded=8, attempts=9)) == {}  # a scaler skips


def facts(**more):
    return {"trainable": 4, "foreign": 0, "foreign_alike": 0, "lacking": []} | more


def test_stale_parameters_are_o6(found):
    stale = facts(lacking=["a", "b"], foreign=2, foreign_alike=2)
    assert "a, b" in found(run_of(facts=stale))["O6"].evidence
    resized = facts(lacking=["a"], lacking_graded=["a"], foreign=1, head_only=True)
    assert found(run_of(facts=resized))["O6"].severity == "error"
    assert found(run_of(facts=facts(foreign=1))) == {}  # a loss with weights of its own


def test_a_forgotten_parameter_is_o6_and_a_chosen_head_is_advice(found):
    forgotten = facts(lacking=["a"], lacking_graded=["a"])
    assert found(run_of(facts=forgotten))["O6"].severity == "error"
    assert found(run_of(facts=forgotten | {"head_only": True}))["O6"].severity == "info"
    assert found(run_of(facts=forgotten | {"lacking_moved": True})) == {}  # a second optimizer
    assert found(run_of(facts=facts(lacking=["a"], lacking_graded=[]))) == {}  # never used


def test_frozen_weights_that_move_are_o6(found):
    moved = found(run_of(facts=facts(frozen_moved={"w": 3})))
    assert "without requires_grad" in moved["O6"].evidence
    assert found(run_of(facts=facts(frozen_moved={"w": 1}))) == {}


def test_a_rate_far_too_low_is_o2(found):
    flat = np.full(60, 0.7) + np.random.default_rng(0).normal(0, 0.02, 60)
    assert "O2" in found(run_of(60, flat, update=1e-7))
    thrown = run_of(60, flat, update=1e-7)
    thrown.records[0].update = 7.0  # far away in one step, and still since: too high
    assert found(thrown) == {}
    assert found(run_of(60, flat, update=1e-4)) == {}
    assert found(run_of(60, np.linspace(2, 1, 60), update=1e-7)) == {}
    fitted = np.r_[np.linspace(2, 0.01, 20), np.full(40, 0.01)]
    assert found(run_of(60, fitted, update=1e-7)) == {}  # nothing is left to learn


def test_prompts_need_a_high_rate(found):
    flat, tuned = np.full(40, 0.7), {"prompt_method": "PROMPT_TUNING"}
    assert found(run_of(40, flat, facts=tuned, rate=3e-5))["O10"].severity == "warn"
    assert found(run_of(40, flat, facts=tuned, rate=3e-2)) == {}
    assert found(run_of(40, np.linspace(2, 1, 40), facts=tuned, rate=3e-5)) == {}


def test_lora_that_stays_zero_is_m6(found):
    assert "M6" in found(run_of(5, facts={"lora": 4, "lora_zero": 4}))
    assert found(run_of(5, facts={"lora": 4, "lora_zero": 0})) == {}
    assert found(run_of(5, facts={"lora": 4, "lora_zero": 4}, rate=0.0)) == {}  # a warm-up
    assert found(run_of(2, facts={"lora": 4, "lora_zero": 4})) == {}


def test_lora_that_is_cleared_before_each_step_is_m6_and_not_o7(found):
    cleared = {"lora": 4, "lora_zero": 0, "lora_cleared": 4}
    assert list(found(run_of(9, facts=cleared, undone=True))) == ["M6"]
    assert found(run_of(9, facts=cleared | {"lora_cleared": 1})) == {}  # merged and begun anew


def test_gradients_that_are_emptied_leave_lora_at_zero_and_are_o7(found):
    zero = {"lora": 4, "lora_zero": 4, "arrived": True}
    assert list(found(run_of(5, facts=zero, moved=False, grad=0.0, norm=0.0))) == ["O7"]


def test_weights_that_are_put_back_after_each_step_are_o7(found):
    assert "put back" in found(run_of(undone=True))["O7"].evidence
    assert found(run_of(undone=False)) == {}
    assert found(run_of(steps=2, undone=True)) == {}
    once = run_of(undone=False)
    once.records[5].undone = True  # such as the best weights, restored once
    assert found(once) == {}


def test_a_warm_up_without_end_is_a_rate_too_low(found):
    """It is near its highest for few of the steps that were measured."""

    def growing(update, steps=60):
        run = run_of(steps, np.full(steps, 1.0), update=None)
        for place, record in enumerate(run.records):
            record.rate = 1e-12 * place
            if place < 12 or place % 10 < 2:
                record.update = update
        return found(run)

    assert "O2" in growing(1e-9) and growing(1e-4) == {}


def test_what_thaws_outside_the_optimizer_is_o6(found):
    thawed = facts(thawed=["body.weight"], thawed_looks=4)
    assert "frozen at first" in found(run_of(facts=thawed))["O6"].evidence
    assert found(run_of(facts=facts(thawed=["body.weight"], thawed_looks=1))) == {}
    assert found(run_of(facts=facts(thawed=[], thawed_looks=4))) == {}  # added in the meantime
