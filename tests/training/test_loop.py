import copy
import math

import pytest
import torch
from torch.nn.functional import cross_entropy

from cookbook.training import checkpoints, loop
from cookbook.training.checkpoints import CheckpointError
from cookbook.training.order import Batches


class Tagger(torch.nn.Module):
    """Logits for every token, as a language model has them."""

    def __init__(self, classes=11):
        super().__init__()
        self.embed = torch.nn.Embedding(20, 8)
        self.head = torch.nn.Linear(8, classes)

    def forward(self, ids):
        return self.head(torch.tanh(self.embed(ids)))


class Classifier(Tagger):
    """Logits for every row."""

    def forward(self, ids):
        return super().forward(ids).mean(1)


def rows_of(model, labels_per_row):
    generator = torch.Generator().manual_seed(0)
    for wanted in labels_per_row:
        ids = torch.randint(0, 20, (6,), generator=generator)
        if isinstance(model, Classifier):
            yield {"ids": ids, "labels": torch.randint(0, 11, (), generator=generator)}
        else:
            labels = torch.where(torch.arange(6) < wanted, ids % 11, -100)
            yield {"ids": ids, "labels": labels}


def stack(rows):
    return torch.utils.data.default_collate(rows)


def sgd(model, lr=1.0):
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    return optimizer, torch.optim.lr_scheduler.ConstantLR(optimizer, 1.0)


def gradient_of_one_step(model, batches, **options):
    """What one step of SGD at rate 1 took off the weights."""
    model = copy.deepcopy(model)
    before = [p.detach().clone() for p in model.parameters()]
    options = {"clip": math.inf, "accumulation": len(batches), **options}
    losses = loop.train(model, batches, *sgd(model), steps=1, **options)
    moved = [b - a.detach() for b, a in zip(before, model.parameters(), strict=True)]
    return torch.cat([move.flatten() for move in moved]), losses


# Rows a micro-batch, labels a row: few, many, none at all.
WINDOWS = {
    "unequal": [[1, 1], [6, 6, 6, 6], [2]],
    "one empty": [[0, 0], [6, 5], [0, 1, 2]],
    "equal": [[3, 3], [3, 3]],
    "single": [[2, 5]],
}


@pytest.mark.parametrize("kind", [Tagger, Classifier])
@pytest.mark.parametrize("window", WINDOWS)
def test_the_accumulated_gradient_is_that_of_the_large_batch(kind, window):
    torch.manual_seed(0)
    model = kind()
    sizes = WINDOWS[window]
    rows = list(rows_of(model, [n for micro in sizes for n in micro]))
    large = stack(rows)
    micros, start = [], 0
    for micro in sizes:
        micros.append(stack(rows[start : start + len(micro)]))
        start += len(micro)

    logits = model(large["ids"])
    loss = cross_entropy(logits.flatten(0, -2), large["labels"].flatten(), ignore_index=-100)
    loss.backward()
    expected = torch.cat([p.grad.flatten() for p in model.parameters()])

    accumulated, losses = gradient_of_one_step(model, micros)
    whole, _ = gradient_of_one_step(model, [large])
    torch.testing.assert_close(accumulated, expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(whole, expected, rtol=0, atol=1e-6)
    assert losses == [pytest.approx(loss.item(), abs=1e-6)]


@pytest.mark.parametrize("kind, sizes", [(Tagger, [[1, 1], [6, 6]]), (Classifier, [[1], [1] * 7])])
def test_the_mean_of_means_is_another_gradient(kind, sizes):
    """The usual loop: each micro-batch's mean, divided by their number."""
    torch.manual_seed(0)
    model = kind()
    rows = list(rows_of(model, [n for micro in sizes for n in micro]))
    cut = len(sizes[0])
    micros = [stack(rows[:cut]), stack(rows[cut:])]

    def mean(model, batch):
        loss, labels = loop.summed_cross_entropy(model, batch)
        return loss / labels, 1  # as if each micro-batch were one label

    naive, _ = gradient_of_one_step(model, micros, loss_fn=mean)
    right, _ = gradient_of_one_step(model, micros)
    assert (naive - right).abs().max() > 1e-2


def test_a_window_without_labels_changes_nothing():
    model = Tagger()
    micros = [stack(list(rows_of(model, [0, 0])))] * 2
    step, losses = gradient_of_one_step(model, micros)
    assert losses == [0.0] and step.abs().max() == 0


def test_padding_does_not_change_the_loss():
    model = Tagger()
    batch = stack(list(rows_of(model, [3, 3])))
    padded = {
        "ids": torch.nn.functional.pad(batch["ids"], (0, 5)),
        "labels": torch.nn.functional.pad(batch["labels"], (0, 5), value=-100),
    }
    (a, count_a), (b, count_b) = (loop.summed_cross_entropy(model, x) for x in (batch, padded))
    assert count_a == count_b == 6
    torch.testing.assert_close(a, b)


def test_the_loss_at_the_beginning_is_that_of_a_guess():
    model = Tagger()
    torch.nn.init.zeros_(model.head.weight), torch.nn.init.zeros_(model.head.bias)
    _, losses = gradient_of_one_step(model, [stack(list(rows_of(model, [4, 4])))])
    assert losses == [pytest.approx(math.log(11), abs=1e-6)]


def test_clipping_applies_to_the_gradient_of_the_mean():
    model = Tagger()
    micros = [stack(list(rows_of(model, [4] * 8)))] * 3
    whole, _ = gradient_of_one_step(model, micros)
    bound = whole.norm().item()
    unclipped, _ = gradient_of_one_step(model, micros, clip=1.01 * bound)
    clipped, _ = gradient_of_one_step(model, micros, clip=0.5 * bound)
    torch.testing.assert_close(unclipped, whole)
    torch.testing.assert_close(clipped, whole * 0.5, rtol=0, atol=1e-6)


def test_the_schedule_moves_once_a_step():
    model, rates = Tagger(), []
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (step + 1))
    micros = [stack(list(rows_of(model, [2, 2])))] * 8
    loop.train(
        model, micros, optimizer, scheduler, steps=4, accumulation=2,
        on_step=lambda step, loss: rates.append((step, optimizer.param_groups[0]["lr"])),
    )  # fmt: skip
    assert rates == [(1, 1 / 2), (2, 1 / 3), (3, 1 / 4), (4, 1 / 5)]


def test_each_batch_is_used_once():
    class Counting(list):
        def __getitem__(self, k):
            asked.append(k)
            return super().__getitem__(k)

    model, asked = Tagger(), []
    batches = Counting([stack(list(rows_of(model, [2])))] * 6)
    loop.train(model, batches, *sgd(model), steps=3, accumulation=2)
    assert asked == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_is_close_to_fp32_and_leaves_the_weights_in_fp32(precision):
    torch.manual_seed(0)
    model = Tagger()
    micros = [stack(list(rows_of(model, [3, 3])))]
    full, (full_loss,) = gradient_of_one_step(model, micros)
    half, (half_loss,) = gradient_of_one_step(model, micros, precision=precision)
    assert full_loss != half_loss and half_loss == pytest.approx(full_loss, rel=1e-2)
    assert half.dtype == torch.float32
    assert torch.cosine_similarity(full, half, 0) > 0.99


@pytest.mark.filterwarnings("ignore:Detected call of .lr_scheduler.step")
def test_a_step_that_overflows_fp16_is_left_out_and_the_next_is_smaller():
    model = Tagger()
    micros = [stack(list(rows_of(model, [3, 3])))]

    def huge(model, batch):
        loss, labels = loop.summed_cross_entropy(model, batch)
        return loss * 1e6, labels

    moved, _ = gradient_of_one_step(model, micros, precision="fp16", loss_fn=huge)
    assert moved.abs().max() == 0


def test_an_unknown_precision_is_named():
    with pytest.raises(ValueError, match="precision is 'fp8': use 'fp32', 'bf16' or 'fp16'"):
        gradient_of_one_step(Tagger(), [stack(list(rows_of(Tagger(), [2])))], precision="fp8")


# ---- going on -------------------------------------------------------------------------------


class Dropping(Tagger):
    def forward(self, ids):
        return self.head(torch.nn.functional.dropout(self.embed(ids), 0.3, self.training))


def run(folder, steps, save_every=2, **options):
    """A run of its own from the start, or from what lies in `folder`."""
    torch.manual_seed(5)
    model = Dropping()
    rows = list(rows_of(model, [1, 2, 3, 4, 5, 6, 1, 2, 3]))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.02)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.02, total_steps=12)
    losses = loop.train(
        model, Batches(rows, 2, seed=1), optimizer, scheduler, steps=steps, accumulation=3,
        checkpoint_folder=str(folder), save_every=save_every, **options,
    )  # fmt: skip
    return checkpoints.snapshot(model, optimizer=optimizer, scheduler=scheduler), losses


def equal(a, b):
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(equal, a, b))
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


@pytest.mark.parametrize("stop, precision", [(2, "fp32"), (5, "fp32"), (7, "fp16"), (12, "fp32")])
def test_a_run_that_stopped_ends_like_one_that_did_not(tmp_path, capsys, stop, precision):
    whole, losses = run(tmp_path / "whole", 12, precision=precision)

    class Stop(Exception):
        pass

    def on_step(step, loss):
        if step == stop:
            raise Stop

    with pytest.raises(Stop):
        run(tmp_path / "parts", 12, on_step=on_step, precision=precision)
    state, rest = run(tmp_path / "parts", 12, precision=precision)
    assert equal(state, whole)
    begun = (stop - 1) // 2 * 2
    assert rest == losses[begun:]
    said = f"going on from {tmp_path / 'parts'}/checkpoint-{begun}\n" if begun else ""
    assert capsys.readouterr().out == said


def test_a_finished_run_is_not_trained_further(tmp_path):
    first, _ = run(tmp_path, 12, save_every=5)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint-10", "checkpoint-12"]
    again, losses = run(tmp_path, 12, save_every=5)
    assert losses == [] and equal(first, again)


def test_a_damaged_last_checkpoint_costs_steps_but_not_the_result(tmp_path, capsys):
    whole, _ = run(tmp_path / "a", 12)
    run(tmp_path / "b", 8)
    (tmp_path / "b" / "checkpoint-8" / "optimizer.pt").write_bytes(b"")
    state, _ = run(tmp_path / "b", 12)
    assert equal(state, whole)
    assert "passed over: checkpoint-8 has 0 of" in capsys.readouterr().out


def test_a_full_disk_ends_the_run_in_one_line_and_it_goes_on_later(tmp_path, monkeypatch):
    import errno

    whole, _ = run(tmp_path / "a", 12)
    write, calls = checkpoints.manifests.write, []

    def full(path, data):
        calls.append(path)
        if len(calls) > 14:  # 6 files to a checkpoint: in the middle of the third
            raise OSError(errno.ENOSPC, "No space left on device")
        write(path, data)

    monkeypatch.setattr(checkpoints.manifests, "write", full)
    with pytest.raises(CheckpointError, match="the disk is full: checkpoint-6 needs about"):
        run(tmp_path / "b", 12)
    assert sorted(p.name for p in (tmp_path / "b").iterdir()) == ["checkpoint-2", "checkpoint-4"]
    monkeypatch.undo()
    state, losses = run(tmp_path / "b", 12)
    assert equal(state, whole) and len(losses) == 8


def test_saving_needs_a_folder_and_says_so_before_it_trains():
    with pytest.raises(ValueError, match="save_every is set but checkpoint_folder is empty"):
        loop.train(Tagger(), [], *sgd(Tagger()), steps=1, save_every=1)
