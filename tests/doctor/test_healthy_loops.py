"""Loops that are odd and healthy: the online doctor says nothing, and nothing of it fails."""

import copy

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler

from cookbook.doctor.watch import Watch


def net(out=3):
    torch.manual_seed(0)
    middle = [nn.Linear(8, 24), nn.GELU(), nn.Linear(24, 24), nn.GELU()]
    return nn.Sequential(*middle, nn.Linear(24, out))


X = torch.randn(192, 8, generator=torch.Generator().manual_seed(0))
Y = (X[:, 0] > 0).long() + (X[:, 1] > 0).long()


def batch(rows=16):
    chosen = torch.randint(0, len(X), (rows,))
    return X[chosen], Y[chosen]


def cross_entropy(model, held):
    return nn.functional.cross_entropy(model(held[0]), held[1])


def healthy(watch):
    assert watch.monitor.cost.failure == ""
    assert watch.report.faults() == [], str(watch.report)
    return watch


def fit(model, optimizer, schedule=None, steps=60, micro=1, **how):
    with Watch(model, optimizer, schedule, **how) as watch:
        for _ in range(steps):
            for _ in range(micro):
                held = batch()
                loss = cross_entropy(model, held) / micro
                loss.backward()
                watch.step(loss, batch=held)
            optimizer.step()
            if schedule is not None:
                schedule.step()
            optimizer.zero_grad()
    return healthy(watch)


@pytest.mark.parametrize("micro", [1, 4])
@pytest.mark.parametrize(
    "schedule",
    [
        lambda o: lr_scheduler.OneCycleLR(o, 1e-2, total_steps=60),
        lambda o: lr_scheduler.CosineAnnealingLR(o, 60),
        lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 20),
        lambda o: lr_scheduler.SequentialLR(
            o, [lr_scheduler.LinearLR(o, 0.01, total_iters=8), lr_scheduler.ConstantLR(o, 1.0)], [8]
        ),
        lambda o: lr_scheduler.LambdaLR(o, lambda s: min(1.0, s / 10)),
    ],
)
def test_schedules_stepped_with_the_optimizer(schedule, micro):
    model = net()
    optimizer = torch.optim.AdamW(model.parameters(), 5e-3)
    watch = fit(model, optimizer, schedule(optimizer), micro=micro)
    assert watch.monitor.run.schedule.calls == 60


@pytest.mark.parametrize(
    "schedule",
    [
        lambda o: lr_scheduler.StepLR(o, 1, 0.7),
        lambda o: lr_scheduler.LambdaLR(o, lambda epoch: 0.8**epoch),
        lambda o: lr_scheduler.ReduceLROnPlateau(o, patience=0),
        lambda o: lr_scheduler.MultiStepLR(o, [2, 4], 0.1),
    ],
)
def test_schedules_stepped_once_an_epoch(schedule):
    model = net()
    optimizer = torch.optim.AdamW(model.parameters(), 5e-3)
    stepped = schedule(optimizer)
    with Watch(model, optimizer, stepped) as watch:
        for _ in range(6):
            for _ in range(12):
                optimizer.zero_grad()
                held = batch()
                loss = cross_entropy(model, held)
                loss.backward(), optimizer.step()
                watch.step(loss.item())
            plateau = isinstance(stepped, lr_scheduler.ReduceLROnPlateau)
            stepped.step(*([loss.item()] if plateau else []))
    healthy(watch)


def test_fractions_of_an_epoch_given_for_each_micro_batch():
    model = net()
    optimizer = torch.optim.AdamW(model.parameters(), 5e-3)
    schedule = lr_scheduler.CosineAnnealingWarmRestarts(optimizer, 3)
    with Watch(model, optimizer, schedule) as watch:
        for number in range(120):
            loss = cross_entropy(model, batch()) / 2
            loss.backward()
            schedule.step(number / 24)
            watch.step(loss)
            if number % 2:
                optimizer.step(), optimizer.zero_grad()
    healthy(watch)


def test_a_generator_and_its_critic():
    maker, critic = net(2), nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 1))
    one = torch.optim.Adam(maker.parameters(), 1e-3)
    two = torch.optim.Adam(critic.parameters(), 1e-3)
    score = nn.functional.binary_cross_entropy_with_logits
    ones, zeros = torch.ones(16, 1), torch.zeros(16, 1)
    with Watch(critic, two) as watched, Watch(maker, one) as watching:
        for _ in range(40):
            real = torch.randn(16, 2)
            made = maker(torch.randn(16, 8))
            two.zero_grad()
            loss = score(critic(real), ones) + score(critic(made.detach()), zeros)
            loss.backward(), two.step(), watched.step(loss)
            one.zero_grad()
            loss = score(critic(made), ones)  # leaves gradients in the critic
            loss.backward(), one.step(), watching.step(loss)
    healthy(watched), healthy(watching)


def test_a_teacher_that_follows_and_copies_for_an_average():
    model = nn.ModuleDict({"student": net(), "teacher": net()})  # the teacher is an average
    model["teacher"].requires_grad_(False)
    optimizer = torch.optim.AdamW(model["student"].parameters(), 5e-3)
    with Watch(model, optimizer) as watch:
        for number in range(40):
            held = batch()
            loss = cross_entropy(model["student"], held)  # the model is called in parts
            optimizer.zero_grad(), loss.backward(), optimizer.step()
            with torch.no_grad():
                for slow, fast in zip(*(part.parameters() for part in model.values()), strict=True):
                    fast.lerp_(slow, 0.1)
            watch.step(loss, batch=held)
            if number % 10 == 0:
                copy.deepcopy(model)
    healthy(watch)


def test_an_optimizer_of_the_head_and_one_for_each_half():
    model = net()
    fit(model, torch.optim.AdamW(model[4].parameters(), 5e-3))
    model = net()
    body = torch.optim.AdamW(model[:4].parameters(), 5e-3)
    head = torch.optim.AdamW(model[4].parameters(), 5e-3)
    with Watch(model, head) as watch:  # the other half is nobody's business
        for _ in range(30):
            loss = cross_entropy(model, batch())
            loss.backward(), body.step(), head.step(), model.zero_grad()
            watch.step(loss)
    healthy(watch)


def test_stages_that_unfreeze_and_a_second_optimizer():
    model = net()
    model[:4].requires_grad_(False)
    head = torch.optim.AdamW(model[4].parameters(), 5e-3)
    with Watch(model, head) as watch:
        for number in range(60):
            if number == 20:
                model.requires_grad_(True)
                head.add_param_group({"params": model[:4].parameters()})
            if number == 40:
                head = torch.optim.AdamW(model.parameters(), 1e-3)
            held = batch()
            head.zero_grad()
            loss = cross_entropy(model, held)
            loss.backward(), head.step()
            watch.step(loss, batch=held)
    healthy(watch)


@pytest.mark.parametrize("scale", [2.0**10, 2.0**32])
def test_a_scaler_that_finds_its_scale(scale):
    model = net()
    optimizer = torch.optim.AdamW(model.parameters(), 5e-3)
    scaler = torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=20)
    with Watch(model, optimizer, scaler=scaler) as watch:
        for _ in range(60):
            optimizer.zero_grad()
            held = batch()
            with torch.autocast("cpu", torch.float16):
                loss = cross_entropy(model, held)
            scaler.scale(loss).backward()
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            scaler.step(optimizer), scaler.update()
            watch.step(loss, batch=held)
    healthy(watch)


def test_clipping_before_unscaling_is_not():
    model = net()
    optimizer = torch.optim.AdamW(model.parameters(), 5e-3)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**12)
    with Watch(model, optimizer, scaler=scaler) as watch:
        for _ in range(30):
            optimizer.zero_grad()
            scaler.scale(cross_entropy(model, batch())).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            scaler.step(optimizer), scaler.update()
    assert watch.report.faults() == ["O9"]


def test_rewards_that_are_maximised_and_losses_that_are_filtered():
    model = net(2)
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3, maximize=True)
    with Watch(model, optimizer) as watch:
        for _ in range(60):
            reward = -(model(X[:32]).tanh() - 0.5).square().mean()
            optimizer.zero_grad(), reward.backward(), optimizer.step()
            watch.step(-reward)
    healthy(watch)


def test_models_without_weights_to_sample_and_sparse_gradients():
    model = nn.Sequential(nn.EmbeddingBag(50, 8, sparse=True), nn.Linear(8, 3))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with Watch(model, optimizer) as watch:
        for _ in range(30):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(
                model(torch.randint(0, 50, (16, 5))), torch.randint(0, 3, (16,))
            )
            loss.backward(), optimizer.step(), watch.step(loss)
    healthy(watch)
    frozen = net().requires_grad_(False)
    with Watch(frozen, torch.optim.SGD([torch.zeros(1, requires_grad=True)], 0.1)) as watch:
        watch.step(1.0), watch.evaluate(0.5)
    healthy(watch)


def test_a_compiled_model_is_watched_from_outside():
    model = net()
    compiled = torch.compile(model, backend="eager")
    optimizer = torch.optim.AdamW(model.parameters(), 5e-3)
    watch = fit(compiled, optimizer, steps=20)
    assert watch.monitor.run.forwards == 20
