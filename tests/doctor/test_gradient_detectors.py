import pytest
import torch
from torch import nn

from cookbook.doctor import Watch
from cookbook.doctor.findings import Finding
from cookbook.doctor.records import Record, Run


def run_of(steps=12, records=None, **fields):
    again = fields.pop("again", 0)
    records = records or [Record(i + 1, **fields) for i in range(steps)]
    return Run(records=records, steps=len(records), again=again)


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
    assert "O9" in found(run_of(60, clipped=0.002)) and found(run_of(60, clipped=0.02)) == {}
    assert found(run_of(30, clipped=0.002)) == {}
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


def square(told_by_own=1.0, factor=1 / 16, **fields):
    run = micro_batches(loss_gradients=[factor] * 12, **fields)
    run.told_by_own = [told_by_own] * 12
    return run


def test_a_loss_divided_twice_is_l3_and_a_part_of_a_sum_is_not(found):
    assert "4² = 16" in found(square())["L3"].evidence
    assert found(square(told_by_own=0.25)) == {}  # the loop's loss holds a weight of its own
    assert found(square(told_by_own=2.3)) == {}  # or other terms
    assert found(square(factor=0.25)) == {} == found(square(factor=0.05))
    assert found(square(of=1, factor=1.0)) == {}


def emptied(discarded=36, factor=0.25, of=4, told=48):
    run = micro_batches(of=of, told=told, loss_gradients=[factor] * 12)
    run.records = [Record(i + 1, micro=of, fresh=True) for i in range(12)]
    run.discarded = discarded
    return run


def test_gradients_emptied_between_micro_batches_are_l3(found):
    assert "36 times in 12 windows" in found(emptied())["L3"].evidence
    assert found(emptied(discarded=0)) == {} == found(emptied(discarded=1))
    # A sharpness-aware step, and two networks that take turns: not divided, or told once a step.
    assert found(emptied(discarded=12, of=2, told=12, factor=0.5)) == {}
    assert "emptied" not in str(found(emptied(discarded=12, of=2, told=24, factor=0.3)))


def idle(steps=8, **fields):
    return run_of(steps, **({"moved": False, "rate": 1e-3, "grad": 0.0, "norm": None} | fields))


def test_a_loss_that_leads_to_no_weight_is_m8(found):
    assert found(idle())["M8"].severity == "error"
    assert found(idle(steps=2)) == {} == found(idle(rate=0.0)) == found(idle(rate=None))
    assert found(idle(moved=True)) == {}  # an optimizer that needs no gradient, or a closure
    assert found(idle(norm=0.2)) == {}  # written there by hand
    reached = idle()
    reached.backwards = 8
    assert "M8" not in found(reached)


def test_unscaled_and_then_cut_to_a_limit_for_scaled_gradients_is_o9(found):
    def run(left):
        records = [
            Record(i + 1, clipped=left / 4096, scale=None if i % 50 else 4096.0) for i in range(240)
        ]
        made = Run(records=records, steps=240, attempts=240)
        made.facts["unscaled_first"] = 240
        return made

    assert "O9" in found(run(1 / 4096))
    assert found(run(1.0)) == {} == found(run(0.4))


@pytest.mark.parametrize("how, said", [("divide", []), ("empty", ["L3"]), ("again", ["L3"])])
def test_micro_batches_that_are_emptied_or_divided_again_are_l3(how, said):
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with Watch(model, optimizer) as watch:
        for step in range(64):
            x, y = torch.randn(4, 3), torch.randint(0, 2, (4,))
            loss = nn.functional.cross_entropy(model(x), y)
            if how == "empty":
                optimizer.zero_grad()
            (loss / 16 if how == "again" else loss / 4).backward()
            if step % 4 == 3:
                optimizer.step()
                optimizer.zero_grad()
            watch.step(loss, batch=(x, y))
    assert watch.report.faults() == said


@pytest.mark.parametrize("anew, said", [(True, ["M8"]), (False, [])])
def test_a_loss_made_anew_from_its_number_is_m8(anew, said):
    model = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 1))
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    with Watch(model, optimizer) as watch:
        for _ in range(24):
            loss = model(torch.randn(8, 6)).square().mean()
            loss = torch.tensor(loss.item(), requires_grad=True) if anew else loss
            loss.backward(), optimizer.step(), optimizer.zero_grad()
            watch.step(loss)
    assert watch.report.faults() == said


def test_a_sharpness_aware_step_is_no_accumulation():
    model = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 1))
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    with Watch(model, optimizer) as watch:
        for _ in range(24):
            x = torch.randn(8, 6)
            first = model(x).square().mean()
            first.backward()
            with torch.no_grad():
                away = [0.01 * p.grad for p in model.parameters()]
                for p, far in zip(model.parameters(), away, strict=True):
                    p.add_(far)
            optimizer.zero_grad()
            model(x).square().mean().backward()
            with torch.no_grad():
                for p, far in zip(model.parameters(), away, strict=True):
                    p.sub_(far)
            optimizer.step(), optimizer.zero_grad()
            watch.step(first)
    assert watch.report.faults() == []


def summing(model, optimizer, backward, steps=6, micro=3):
    """A loop of micro-batches; `backward` gets the losses of the window so far."""
    x, y = torch.randn(4, 5), torch.randn(4, 1)
    with Watch(model, optimizer) as watch:
        for _ in range(steps):
            held = []
            for _ in range(micro):
                held.append(nn.functional.mse_loss(model(x), y))
                backward(held)
                watch.step(held[-1])
            optimizer.step()
            optimizer.zero_grad()
    return watch.monitor.run.again


def test_a_growing_sum_that_is_differentiated_again_is_l3(found):
    model = nn.Linear(5, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    assert summing(model, optimizer, lambda held: sum(held).backward(retain_graph=True)) == 18
    assert "18 times" in found(run_of(again=18))["L3"].evidence
    assert summing(model, optimizer, lambda held: held[-1].backward()) == 0
    twice = lambda held: (held[-1].backward(retain_graph=True), held[-1].backward())  # noqa: E731
    assert summing(model, optimizer, twice) == 0  # two losses of one pass
    last = lambda held: sum(held).backward() if len(held) == 3 else None  # noqa: E731
    assert summing(model, optimizer, last) == 0  # a sum of three passes, once
