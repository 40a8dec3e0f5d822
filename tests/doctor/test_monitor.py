import copy

import pytest
import torch
from torch import nn

from cookbook.doctor.monitor import Monitor
from cookbook.doctor.watch import Watch


@pytest.fixture
def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3))


def loss_of(model, rows=8):
    x = torch.randn(rows, 6)
    return nn.functional.cross_entropy(model(x), torch.randint(0, 3, (rows,)))


def test_nothing_stays_behind(model):
    optimizer = torch.optim.AdamW(model.parameters())
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer)
    kind = type(schedule)
    monitor = Monitor(model, [optimizer], schedule)
    loss_of(model).backward(), optimizer.step()
    monitor.close()
    assert not model._forward_hooks and not model._forward_pre_hooks
    assert all(not p._backward_hooks for p in model.parameters())
    assert not optimizer._optimizer_step_pre_hooks and type(schedule) is kind
    loss_of(model).backward(), optimizer.step()
    assert monitor.run.steps == 1 and monitor.run.closed


@pytest.mark.parametrize("micro", [1, 3])
@pytest.mark.parametrize("told", ["before", "after", "last"])
def test_losses_belong_to_the_step_they_came_before(model, micro, told):
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    monitor = Monitor(model, [optimizer])
    for number in range(4):
        for place in range(micro):
            loss_of(model).backward()
            if told == "before" or told == "after" and place < micro - 1:
                monitor.observing(float(number))
        optimizer.step(), optimizer.zero_grad()
        if told != "before":
            monitor.observing(float(number))
    records = monitor.run.records
    assert [r.loss for r in records] == [0.0, 1.0, 2.0, 3.0]
    assert [r.micro for r in records] == [micro] * 4 and monitor.run.backwards == 4 * micro


@pytest.mark.parametrize("order", ["after step", "before forward", "between"])
def test_gradients_are_fresh_whenever_they_are_emptied(model, order):
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    monitor = Monitor(model, [optimizer])
    for _ in range(5):
        if order == "before forward":
            optimizer.zero_grad(set_to_none=False)
        loss = loss_of(model)
        if order == "between":
            optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if order == "after step":
            optimizer.zero_grad()
    assert [r.fresh for r in monitor.run.records] == [True] * 5


def test_left_over_and_discarded_gradients(model):
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    monitor = Monitor(model, [optimizer])
    for _ in range(4):
        loss_of(model).backward(), optimizer.step()
    assert [r.fresh for r in monitor.run.records] == [True, False, False, False]
    monitor = Monitor(model, [optimizer])
    for _ in range(4):
        optimizer.zero_grad(), loss_of(model).backward()
    assert monitor.run.discarded == 3 and monitor.run.steps == 0


def test_a_closure_and_two_optimizers(model):
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=3)
    monitor = Monitor(model, [optimizer])

    def closure():
        optimizer.zero_grad()
        loss = loss_of(model)
        loss.backward()
        return loss

    optimizer.step(closure), optimizer.step(closure)
    assert monitor.run.steps == 2 and all(r.fresh is None for r in monitor.run.records)
    monitor.close()
    body = torch.optim.SGD(model[0].parameters(), 0.1)
    head = torch.optim.SGD(model[2].parameters(), 0.1)
    monitor = Monitor(model, [body, head])
    for _ in range(3):
        loss_of(model).backward(), body.step(), head.step(), model.zero_grad()
    assert monitor.run.steps == 3 and monitor.run.facts["lacking"] == []


def test_a_copy_of_the_model_is_not_watched(model):
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    monitor = Monitor(model, [optimizer])
    copied = copy.deepcopy(model)
    loss_of(copied).backward()
    assert monitor.run.backwards == 0 and monitor.cost.failure == ""


def test_a_scaler_that_skips(model):
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    monitor = Monitor(model, [optimizer], scaler=scaler)
    for number in range(6):
        optimizer.zero_grad()
        loss = loss_of(model) * (float("inf") if number in (1, 2) else 1.0)
        scaler.scale(loss).backward()
        scaler.step(optimizer), scaler.update()
    assert monitor.run.attempts == 6 and monitor.run.skipped == [2, 3] and monitor.run.steps == 4
    assert monitor.run.records[0].scale == 1024.0


def test_the_run_is_the_same_with_and_without(model):
    def trained(watched):
        net = copy.deepcopy(model)
        optimizer = torch.optim.AdamW(net.parameters(), 1e-2)
        monitor = Monitor(net, [optimizer]) if watched else None
        torch.manual_seed(1)
        for _ in range(20):
            optimizer.zero_grad()
            loss = loss_of(net)
            loss.backward(), optimizer.step()
            if monitor:
                monitor.observing(loss)
        return torch.cat([p.flatten() for p in net.parameters()])

    assert torch.equal(trained(True), trained(False))


def test_a_failure_inside_reaches_the_report_and_not_the_run(model):
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    monitor = Monitor(model, [optimizer])
    monitor.seen = None
    loss_of(model).backward(), optimizer.step()
    assert "AttributeError" in monitor.cost.failure


def test_later_steps_are_measured_now_and_then(model):
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    monitor = Monitor(model, [optimizer])
    for _ in range(40):
        optimizer.zero_grad(), loss_of(model).backward(), optimizer.step()
    measured = [r.step for r in monitor.run.records if r.moved is not None]
    assert measured == [*range(1, 13), 21, 22, 31, 32]
    assert len(monitor.run.line("loss")) == 0 and len(monitor.run.values("overshoot")) == 13


def loop_with_scaler(model, scaler, steps=40):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    other = torch.optim.SGD([nn.Parameter(torch.zeros(2))], lr=0.1)
    with Watch(model, optimizer) as watch:
        for _ in range(steps):
            x = torch.randn(4, 3, dtype=next(model.parameters()).dtype)
            loss = model(x).float().square().mean()
            scaler.scale(loss).backward()
            scaler.unscale_(optimizer)
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
            watch.step(loss)
    return watch, other


def test_a_scaler_that_nobody_named_is_found_when_it_steps_our_optimizer():
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    before = torch.amp.GradScaler.__dict__["step"]
    watch, _ = loop_with_scaler(nn.Linear(3, 2), scaler)
    assert watch.monitor.scaler is scaler and watch.monitor.run.attempts == 40
    assert watch.monitor.run.skipped == [] and watch.report.healthy
    assert torch.amp.GradScaler.__dict__["step"] is before
    off = torch.amp.GradScaler("cpu", enabled=False)
    watch, _ = loop_with_scaler(nn.Linear(3, 2), off)
    assert watch.monitor.scaler is None and watch.monitor.run.attempts == 0


def test_another_optimizers_scaler_is_none_of_our_business():
    model, scaler = nn.Linear(3, 2), torch.amp.GradScaler("cpu")
    other = nn.Linear(3, 2)
    theirs = torch.optim.SGD(other.parameters(), lr=0.1)
    with Watch(model, torch.optim.SGD(model.parameters(), lr=0.1)) as watch:
        scaler.scale(other(torch.ones(1, 3)).sum()).backward()
        scaler.step(theirs)
    assert watch.monitor.scaler is None and watch.monitor.run.attempts == 0


def test_unscaling_gradients_of_fp16_weights_is_p4_though_it_raises():
    model = nn.Linear(3, 2).half()
    optimizer, scaler = torch.optim.SGD(model.parameters(), lr=0.1), torch.amp.GradScaler("cpu")
    with Watch(model, optimizer) as watch, pytest.raises(ValueError, match="unscale FP16"):
        scaler.scale(model(torch.ones(1, 3).half()).float().sum()).backward()
        scaler.unscale_(optimizer)
    assert watch.report.primary.fault == "P4"


@pytest.mark.parametrize("divided", [True, False])
def test_micro_batches_of_a_loop_are_divided_or_l3(divided):
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with Watch(model, optimizer) as watch:
        for step in range(48):
            x, y = torch.randn(4, 3), torch.randint(0, 2, (4,))
            loss = nn.functional.cross_entropy(model(x), y)
            (loss / 4 if divided else loss).backward()
            if step % 4 == 3:
                optimizer.step()
                optimizer.zero_grad()
            watch.step(loss, batch=(x, y))
    assert watch.report.faults() == ([] if divided else ["L3"])


def test_gradients_are_left_over_where_only_some_are_emptied(model):
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    monitor = Monitor(model, [optimizer])
    for _ in range(4):
        loss_of(model).backward(), optimizer.step(), model[2].zero_grad()
    assert [r.fresh for r in monitor.run.records] == [True, False, False, False]


def test_of_two_optimizers_each_empties_its_own(model):
    first, second = (torch.optim.SGD(model[i].parameters(), 0.1) for i in (0, 2))
    monitor = Monitor(model, [first, second])
    for _ in range(4):
        second.zero_grad(), loss_of(model).backward(), second.step()
    assert all(r.fresh for r in monitor.run.records)


@pytest.mark.parametrize("sign", [1, -1])
def test_what_happens_to_a_gradient_before_the_step_is_seen(model, sign):
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    monitor = Monitor(model, [optimizer])
    for _ in range(4):
        optimizer.zero_grad(), loss_of(model).backward()
        for parameter in model.parameters():
            parameter.grad.mul_(sign * 0.5)
        optimizer.step()
    monitor.run.settle()
    assert monitor.run.values("turned") == pytest.approx([sign] * 4)
    assert monitor.run.values("clipped") == pytest.approx([0.5] * 4)


def test_a_gradient_that_cancels_out_was_not_clipped():
    """The bias of a score of which only differences count: O9 would be told of zero over zero."""
    model = nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with Watch(model, optimizer) as watch:
        for _ in range(60):
            better, worse = model(torch.randn(8, 3))[:, 0].chunk(2)
            loss = -nn.functional.logsigmoid(better - worse).mean()
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            watch.step(loss)
    assert "O9" not in watch.report.faults()
    shares = [record.clipped for record in watch.monitor.run.records]
    assert None in shares and all(share is None or share > 0.5 for share in shares)
