import copy
import io
import pickle
import warnings

import torch
from torch import nn

from cookbook.doctor import hooks


def test_a_hook_that_fails_is_turned_off_and_says_why():
    cost, calls = hooks.Cost(), []

    def fails(x):
        calls.append(x)
        raise ValueError("odd")

    hook = hooks.Hook(fails, cost)
    hook(1), hook(2)
    assert calls == [1] and cost.failure == "ValueError: odd" and cost.calls == 1


def test_copies_and_pickles_of_a_model_do_not_listen():
    seen, model = [], nn.Linear(2, 2)
    model.register_forward_hook(hooks.Hook(lambda *_: seen.append(1), hooks.Cost()))
    model.weight.register_hook(hooks.Hook(lambda *_: seen.append(2), hooks.Cost()))
    held = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        torch.save(model, held)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        other(torch.ones(1, 2)).sum().backward()
    assert seen == []
    model(torch.ones(1, 2)).sum().backward()
    assert seen == [1, 2]


def test_an_intercepted_schedule_saves_what_it_saved_before():
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
    before, kind, calls = schedule.state_dict(), type(schedule), []
    undo = hooks.intercept(schedule, "step", lambda *a, **k: calls.append(a))
    assert schedule.state_dict() == before and isinstance(schedule, kind)
    schedule.step()
    assert calls == [()] and schedule.last_epoch == 1
    undo()
    assert type(schedule) is kind


def test_what_cannot_be_intercepted_is_left_alone():
    held = []
    hooks.intercept(held, "append", lambda *_: 1 / 0)()
    held.append(1)
    assert held == [1] and type(held) is list


def test_all_of_a_class_are_heard_until_undone():
    class Counter:
        def add(self, number):
            return number + 1

    heard, told = [], []
    original = Counter.__dict__["add"]
    undo = hooks.intercept_all(
        Counter, "add", lambda thing, number: heard.append(number),
        lambda thing, result: told.append(result),
    )  # fmt: skip
    assert Counter().add(1) == 2 and (heard, told) == ([1], [2])
    undo()
    assert Counter().add(5) == 6 and heard == [1] and Counter.__dict__["add"] is original
