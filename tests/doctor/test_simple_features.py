import numpy as np
import pytest
import torch

from cookbook.doctor import simple_features

ROWS = 300


def largest(batch, labels):
    """The greatest distance over all views."""
    return max(
        simple_features.probe(name, kernel, labels).distance
        for view, columns in simple_features.views(batch)
        for name, kernel in simple_features.kernels(view, columns)
    )


TOKENS = torch.from_numpy(np.random.default_rng(0).integers(5, 200, (ROWS, 24)))
NUMBERS = torch.from_numpy(np.random.default_rng(1).normal(size=(ROWS, 8))).float()
WAVES = torch.sin(
    torch.arange(128)[None] * torch.tensor([0.3, 0.5]).repeat(ROWS // 2)[:, None]
    + torch.rand(ROWS, 1, generator=torch.Generator().manual_seed(0)) * 7
)


@pytest.mark.parametrize("task", [
    lambda ids: (ids == 10).any(1), lambda ids: ids[:, 0] > 100, lambda ids: ids[:, -1] % 3,
    lambda ids: ids[:, :12].sum(1) > ids[:, 12:].sum(1), lambda ids: ids.sum(1) % 2,
    lambda ids: ids[:, 0] > ids[:, -1], lambda ids: ids[:, 7] > 100,
])  # fmt: skip
def test_tasks_on_tokens_show(task):
    assert largest({"input_ids": TOKENS}, task(TOKENS).long().numpy()) > 4


@pytest.mark.parametrize("task", [
    lambda x: x[:, 0] > 0, lambda x: x[:, 0] * x[:, 1] > 0, lambda x: x.square().sum(1) > 8,
    lambda x: x[:, :3].argmax(1),
])  # fmt: skip
def test_tasks_on_numbers_show(task):
    assert largest((NUMBERS, None), task(NUMBERS).long().numpy()) > 4


def test_a_spectrum_shows_where_the_phase_is_random():
    labels = np.arange(ROWS) % 2
    assert largest({"input_values": WAVES}, labels) > 4


def test_padding_is_no_token():
    mask = (torch.arange(24) < 12).long().repeat(ROWS, 1)
    other = torch.where(mask > 0, TOKENS, TOKENS.roll(1, 0))
    first, second = (
        dict(simple_features.views({"input_ids": ids, "attention_mask": mask}))
        for ids in (TOKENS, other)
    )
    assert all(np.array_equal(first[view], second[view]) for view in first) and len(first) == 4


@pytest.mark.parametrize("batch", [{"input_ids": TOKENS}, (NUMBERS, None)])
def test_permuted_labels_seldom_show(batch):
    labels = np.arange(ROWS) % 3
    shown = [largest(batch, np.random.default_rng(s).permutation(labels)) > 2.5 for s in range(12)]
    assert sum(shown) <= 2


def test_the_probe_of_a_perfect_view():
    labels = np.arange(ROWS) % 4
    kernel = np.eye(4, dtype=np.float32)[labels][:, labels]
    found = simple_features.probe("perfect", kernel, labels)
    assert found.accuracy == 1.0 and found.permuted < 0.4 and found.distance > 20


def test_inputs_that_are_neither_have_no_view():
    assert list(simple_features.views(({"graph": 1}, None))) == []
    assert list(simple_features.views({"labels": torch.ones(4)})) == []


def test_what_training_rows_say_holds_of_rows_that_were_held():
    draw = np.random.default_rng(0)
    labels = draw.integers(0, 3, 300)
    columns = np.eye(3)[labels] + 0.3 * draw.normal(size=(300, 3))
    held = np.arange(300) >= 200
    _, kernel = next(simple_features.kernels("columns", columns))
    true = simple_features.transfer("columns", kernel, labels, held)
    mixed = np.concatenate([labels[:200], draw.permutation(labels[200:])])
    other = simple_features.transfer("columns", kernel, mixed, held)
    assert true.accuracy > 0.9 and true.distance > 8
    assert abs(other.accuracy - other.permuted) < 0.15 and abs(other.distance) < 3
