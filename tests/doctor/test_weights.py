import pytest
import torch
from torch import nn

from cookbook.doctor import weights
from cookbook.doctor.records import Record, Run


def stepped(model, change):
    """A record of one step that `change` makes."""
    samples, record = weights.WeightSamples(model), Record(1)
    samples.before()
    with torch.no_grad():
        change()
    samples.after(record)
    return samples, record


def test_matrices_are_chosen_and_embeddings_only_where_there_is_nothing_else():
    model = nn.Sequential(nn.Embedding(50, 4), *[nn.Linear(4, 4) for _ in range(12)])
    names = list(weights.choose(model))
    assert len(names) == 10 and "1.weight" in names and "12.weight" in names
    assert sum("bias" in n or n == "0.weight" for n in names) == 2
    assert list(weights.choose(nn.Embedding(5, 4))) == ["weight"]


def test_only_what_the_optimizer_holds_is_sampled_where_it_holds_anything():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    assert set(weights.choose(model, among=model[1].parameters())) == {"1.weight", "1.bias"}
    assert len(weights.choose(model, among=nn.Linear(4, 4).parameters())) == 4


def test_the_relative_update_is_that_of_the_whole_tensor():
    model = nn.Linear(64, 64, bias=False)
    with torch.no_grad():
        model.weight.fill_(2.0)
    model.weight.grad = torch.ones_like(model.weight)
    _, record = stepped(model, lambda: model.weight.sub_(0.02))
    assert abs(float(record.update) - 0.01) < 1e-6
    assert bool(record.moved) and abs(float(record.angle) + 1) < 1e-5


def test_nothing_moved_and_ascent():
    model = nn.Linear(8, 8)
    model(torch.ones(1, 8)).sum().backward()
    assert not bool(stepped(model, lambda: None)[1].moved)
    up = stepped(model, lambda: [p.add_(p.grad) for p in model.parameters()])[1]
    assert float(up.angle) > 0.99


def test_weights_that_begin_at_zero_have_no_relative_update():
    model = nn.Linear(4, 4)
    for p in model.parameters():
        nn.init.zeros_(p)
    assert stepped(model, lambda: model.weight.add_(1.0))[1].update is None


def test_half_precision_swallows_a_small_update_and_not_a_large_one():
    for size, swallowed in ((1e-4, 1.0), (0.1, 0.0)):
        model = nn.Linear(16, 16, bias=False).to(torch.bfloat16)
        nn.init.ones_(model.weight)
        model.weight.grad = torch.ones_like(model.weight)
        _, record = stepped(model, lambda m=model, s=size: m.weight.sub_(s))
        assert float(record.swallowed) == swallowed


def test_sparse_gradients_and_models_without_weights():
    model = nn.Embedding(10, 4, sparse=True)
    model(torch.tensor([1])).sum().backward()
    assert stepped(model, lambda: model.weight.add_(1))[1].moved
    assert stepped(nn.ReLU(), lambda: None)[1].moved is None


@pytest.mark.parametrize("put_back", [True, False])
def test_weights_that_come_back_before_the_next_step(put_back):
    model = nn.Linear(4, 4)
    samples, records, first = weights.WeightSamples(model), [], model.weight.detach().clone()
    for step in range(4):
        samples.before()
        with torch.no_grad():
            model.weight += 0.1
        samples.after(record := Record(step + 1))
        records.append(record)
        if put_back:
            with torch.no_grad():
                model.weight.copy_(first)
    assert records[0].undone is None
    assert [bool(r.undone) for r in records[1:]] == [put_back] * 3


@pytest.mark.parametrize(
    ("sign", "stepped", "expected"), [(1, 0, 1.0), (-1, 0, -1.0), (1, 3, None)]
)
def test_moves_by_hand_are_told_by_their_direction(sign, stepped, expected):
    leaf, hand, run = nn.Parameter(torch.randn(40)), weights.ByHand(), Run(steps=stepped)
    for _ in range(4):
        grad = torch.randn(40)
        hand.look(leaf, grad, run)
        with torch.no_grad():
            leaf += sign * 0.1 * grad
    told = run.facts.get("by_hand")
    assert told is None if expected is None else told == pytest.approx([expected] * 3, abs=1e-3)


def test_weights_that_rest_are_not_moved_by_hand():
    leaf, hand, run = nn.Parameter(torch.randn(40)), weights.ByHand(), Run()
    for _ in range(4):
        hand.look(leaf, torch.randn(40), run)
    assert "by_hand" not in run.facts
