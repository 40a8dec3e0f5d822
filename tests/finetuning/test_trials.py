"""A run is a function of its settings and its seed, whoever looks on."""

import math
from contextlib import contextmanager

import pytest
import torch

from cookbook.finetuning.trials import NO_CLIP, Setting, Task, clipped
from cookbook.training import masked_accuracy, updates
from cookbook.training.pretraining import masked_lm_rows


@pytest.fixture(scope="module")
def task(checkpoint, labelled):
    return Task(checkpoint, labelled, max_length=16)


def test_the_same_setting_and_seed_give_the_same_run(task):
    one, two = (task.train(Setting(rate=1e-3), steps=3, seed=1) for _ in range(2))
    assert one.history == two.history and (one.accuracy, one.loss) == (two.accuracy, two.loss)
    assert one.history != task.train(Setting(rate=1e-3), steps=3, seed=2).history
    first = [task.train(Setting(rate=r, warmup=0), steps=1).history for r in (1e-5, 1e-2)]
    assert first[0] == first[1]  # the loss of the first batch is older than any update


def test_it_learns_what_words_give_away_and_beats_the_majority(task):
    found = task.train(Setting(rate=5e-3), steps=25)
    assert found.accuracy > 0.9 > task.majority()
    assert task.majority() == pytest.approx(1 / 3)
    assert found.history[0][1] == pytest.approx(math.log(3), abs=0.3)
    assert found.model is None and len(found.norms) == 25


def test_a_run_that_breaks_scores_nothing(task):
    model = task.new()
    with torch.no_grad():
        model.classifier.weight.fill_(math.nan)
    assert task.score(model, "validation") == (0.0, math.inf)


def test_whoever_looks_on_is_told_the_losses_and_changes_nothing(task):
    told = []

    class Looks:
        step = staticmethod(told.append)

    @contextmanager
    def around(model, optimizer, scheduler):
        assert optimizer.param_groups[0]["lr"] == scheduler.get_last_lr()[0]
        yield Looks

    found = task.train(Setting(), steps=3, around=around)
    assert found.seen is Looks and told == [loss for _, loss in found.history]
    plain = task.train(Setting(), steps=3)
    assert plain.history == found.history and plain.seen is None
    measured = task.train(Setting(), steps=3, around=lambda m, o, s: updates.measured(o))
    assert measured.history == found.history
    assert [update.rate for update in measured.seen] == pytest.approx([3e-4, 2e-4, 1e-4])


def test_clipping_is_that_of_torch_and_norms_are_of_before():
    ours, theirs = torch.nn.Linear(3, 1), torch.nn.Linear(3, 1)
    theirs.load_state_dict(ours.state_dict())
    for model in (ours, theirs):
        model(torch.full((1, 3), 100.0)).sum().backward()
    optimizer = torch.optim.SGD(ours.parameters(), lr=0.1)
    with clipped(ours, optimizer, 1.0) as norms:
        optimizer.step()
    optimizer.step()  # not watched any more
    expected = torch.nn.utils.clip_grad_norm_(theirs.parameters(), 1.0)
    assert norms == pytest.approx([float(expected)])
    torch.testing.assert_close(ours.weight.grad, theirs.weight.grad)
    with clipped(ours, optimizer, NO_CLIP):
        optimizer.step()
    torch.testing.assert_close(ours.weight.grad, theirs.weight.grad)


def test_recall_falls_when_the_encoder_is_destroyed_and_not_by_a_copy(task, labelled):
    rows = masked_lm_rows(labelled["train"]["text"], task.tokenizer, 16)
    batches = masked_accuracy.masked_batches(rows, task.tokenizer)
    fresh = task.new()
    kept = task.recall(fresh, batches)
    from cookbook.models import load_model

    reader = load_model(task.name, "masked-lm")
    mask = task.tokenizer.mask_token_id
    assert kept == masked_accuracy.accuracies(reader, batches, mask)["hidden"]
    with torch.no_grad():
        for x in fresh.base_model.parameters():
            x.zero_()
    assert task.recall(fresh, batches) <= kept + 0.05
    with pytest.raises(ValueError, match="another architecture"):
        wrong = torch.nn.Module()
        wrong.base_model = torch.nn.Linear(2, 2)
        task.recall(wrong, batches)


@pytest.mark.parametrize("name", ["constant", "linear", "cosine"])
def test_warm_up_is_a_share_of_the_steps(name):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=1.0)
    scheduler = Setting(schedule=name, warmup=0.2).scheduler(optimizer, 10)
    rates = []
    for _ in range(10):
        rates += scheduler.get_last_lr()
        optimizer.step()
        scheduler.step()
    assert rates[:3] == [0.0, 0.5, 1.0]
    assert (rates[9] == 1.0) is (name == "constant")


def test_right_answers_average_to_the_accuracy(task):
    found = task.train(Setting(), steps=2, keep=True)
    assert task.right(found.model, "validation").mean() == found.accuracy
    assert task.right(found.model).shape == (len(task.rows["test"]),)


def test_validation_chooses_and_only_the_best_keeps_its_model(task):
    rates = (1e-5, 5e-3, 1e-5)
    best, tried = task.choose([Setting(rate=rate) for rate in rates], steps=15)
    assert best.setting.rate == 5e-3 and best.accuracy == max(o.accuracy for o in tried)
    assert [o.setting.rate for o in tried] == list(rates)
    assert best.model is not None and not any(o.model for o in tried)


def test_a_batch_is_never_larger_than_the_data(task):
    rows = len(task.rows["train"])
    assert len(task.batches(10 * rows)[0]["labels"]) == rows
    assert set(task.batches(4)[0]) == {"input_ids", "token_type_ids", "attention_mask", "labels"}
