"""The wrong schedule ends early by the factor that it claims, the right one on time."""

from contextlib import nullcontext

import pytest
import torch

from cookbook.training import rate_mistakes, schedules


def rates(around, **settings):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=1.0)
    scheduler = schedules.scheduler(optimizer, "linear", total=20)
    seen = []
    with around(optimizer, scheduler, nullcontext(7), **settings) as looking:
        for _ in range(20):
            seen += scheduler.get_last_lr()
            optimizer.step()
            scheduler.step()
    assert looking == 7
    return seen


def test_four_processes_end_the_schedule_after_a_quarter():
    wrong = rates(rate_mistakes.once_for_each_process)
    assert [step for step, rate in enumerate(wrong) if rate > 0] == [0, 1, 2, 3, 4]
    assert rates(rate_mistakes.once_for_each_process, processes=1) == rates(
        rate_mistakes.once_for_each_update
    )


def test_the_right_one_reaches_the_end_at_the_end():
    right = rates(rate_mistakes.once_for_each_update)
    assert right == pytest.approx([1 - step / 20 for step in range(20)])
