import types

import torch
import transformers

from cookbook.doctor import resuming


def trained(steps):
    parameter = torch.zeros(2, requires_grad=True)
    optimizer = torch.optim.AdamW([parameter], lr=0.1)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, total_iters=10)
    for _ in range(steps):
        parameter.sum().backward()
        optimizer.step(), schedule.step()
    return optimizer, schedule


def test_a_run_that_was_restored_misses_nothing():
    assert resuming.missing(*trained(3), 3) == []
    assert resuming.missing(*trained(0), 0) == []


def test_what_was_not_restored_is_named():
    found = resuming.missing(*trained(0), 30)
    assert "optimizer's state is empty" in found[0] and "schedule stands at 0" in found[1]
    args = types.SimpleNamespace(ignore_data_skip=True)
    assert "start of the epoch" in resuming.missing(*trained(3), 3, args)[0]


def test_plain_sgd_has_nothing_to_remember():
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    assert resuming.missing(optimizer, None, 30) == []


def test_files_of_a_checkpoint(tmp_path):
    assert len(resuming.missing_files(tmp_path)) == 2
    for name in ("scheduler.pt", "rng_state_0.pth"):
        (tmp_path / name).touch()
    assert resuming.missing_files(tmp_path) == []


def test_a_schedule_in_steps_must_stand_at_the_step():
    optimizer, _ = trained(3)
    schedule = transformers.get_linear_schedule_with_warmup(optimizer, 0, 50)
    for _ in range(3):
        schedule.step()
    assert resuming.missing(optimizer, schedule, 3) == []
    assert "stands at 3" in resuming.missing(optimizer, schedule, 9)[0]


def test_what_remembers_more_steps_than_the_run_counts_is_named():
    assert resuming.ahead(*trained(3), 3) == [] == resuming.ahead(*trained(3), 5)  # some skipped
    assert "made 3 steps, of which the run counts 0" in resuming.ahead(*trained(3), 0)[0]
    assert resuming.ahead(*trained(0), 0) == []
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    schedule = transformers.get_linear_schedule_with_warmup(optimizer, 0, 50)
    assert resuming.ahead(optimizer, schedule, 0) == []
    optimizer.step(), schedule.step()
    assert "stands at 1" in resuming.ahead(optimizer, schedule, 0)[0]
    assert resuming.ahead(optimizer, schedule, 1) == []


def stepped(model, times=4, lr=0.1):
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    for _ in range(times):
        model(torch.arange(6)[None], labels=torch.tensor([1])).loss.backward()
        optimizer.step()
    return optimizer


def test_weights_of_the_beginning_under_later_states_are_named(tiny_bert, tmp_path):
    tiny_bert().save_pretrained(tmp_path)
    load = transformers.AutoModelForSequenceClassification.from_pretrained
    model, anew = load(tmp_path), load(tmp_path)
    optimizer = stepped(model)
    assert resuming.begun_anew(model, optimizer) == []  # they moved, as they should
    model.load_state_dict(anew.state_dict())
    assert "where the run began" in resuming.begun_anew(model, optimizer)[0]
    fresh = torch.optim.AdamW(model.parameters(), lr=0.1)
    assert resuming.begun_anew(model, fresh) == []  # no past
    waiting = stepped(model, 1, lr=0.0)
    assert resuming.begun_anew(model, waiting) == []  # a warm-up's first step
    (tmp_path / "training_args.bin").touch()
    assert resuming.begun_anew(model, optimizer) == []  # a source that training wrote


def test_a_model_without_a_source_has_no_beginning(tiny_bert):
    model = tiny_bert("BertForSequenceClassification")
    assert resuming.begun_anew(model, stepped(model)) == []
