import random

import numpy as np
import pytest
import torch
from torch import nn

from cookbook.doctor import preserve


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.norm, self.two = nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 4)
        self.two.weight = self.one.weight  # tied

    def forward(self, x):
        return self.two(nn.functional.dropout(self.norm(self.one(x)), training=self.training))


def ruin(model, optimizer, schedule):
    """What a careless probe does."""
    for _ in range(3):
        model(torch.randn(8, 4)).square().sum().backward()
        optimizer.step()
        schedule.step()
    model.eval()
    model.norm.train()
    model.one.bias.requires_grad_(False)
    model.one.bias.grad = None
    optimizer.param_groups[0]["lr"] = 7.0
    optimizer.param_groups[0]["new"] = 1
    random.random(), np.random.rand(), torch.rand(1)


def everything_of(model, optimizer, schedule):
    """All that a reader could compare, bit for bit."""
    return {
        "weights": {k: v.clone() for k, v in model.state_dict().items()},
        "grads": [None if p.grad is None else p.grad.clone() for p in model.parameters()],
        "flags": [m.training for m in model.modules()],
        "needs": [p.requires_grad for p in model.parameters()],
        "optimizer": optimizer.state_dict(),
        "schedule": {k: v for k, v in schedule.state_dict().items()},
        "random": (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()),
    }


def assert_same(a, b):
    assert type(a) is type(b)
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b)
    elif isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            assert_same(a[key], b[key])
    elif isinstance(a, list | tuple):
        assert len(a) == len(b)
        for one, other in zip(a, b, strict=True):
            assert_same(one, other)
    else:
        assert a == b


def made(steps, kind=torch.optim.AdamW):
    torch.manual_seed(0)
    model = Net()
    optimizer = kind(model.parameters(), lr=0.1)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 2)
    for _ in range(steps):
        model(torch.randn(8, 4)).square().sum().backward()
        optimizer.step()
        schedule.step()
    return model, optimizer, schedule


@pytest.mark.parametrize("steps", [0, 1, 3])
@pytest.mark.parametrize("kind", [torch.optim.AdamW, torch.optim.SGD, torch.optim.Adagrad])
def test_after_a_careless_probe_nothing_has_happened(steps, kind):
    parts = made(steps, kind)
    before = everything_of(*[*parts])
    import copy

    before = copy.deepcopy(before)
    with preserve.everything(*parts):
        ruin(*parts)
    assert_same(everything_of(*parts), before)


def test_and_training_goes_on_as_if_it_had_not_been():
    watched, alone = made(2), made(2)
    torch.manual_seed(1)
    with preserve.everything(*watched):
        ruin(*watched)
    results = []
    for model, optimizer, schedule in (watched, alone):
        torch.manual_seed(5)
        for _ in range(3):
            optimizer.zero_grad()
            model(torch.randn(8, 4)).square().sum().backward()
            optimizer.step()
            schedule.step()
        results.append(model.state_dict())
    assert_same(dict(results[0]), dict(results[1]))


def test_objects_stay_the_same_ones():
    """An optimizer that the reader holds points at these tensors."""
    model, optimizer, schedule = made(2)
    grads = [id(p.grad) for p in model.parameters()]
    moments = [id(s["exp_avg"]) for s in optimizer.state.values()]
    with preserve.everything(model, optimizer, schedule):
        ruin(model, optimizer, schedule)
    assert [id(p.grad) for p in model.parameters()] == grads
    assert [id(s["exp_avg"]) for s in optimizer.state.values()] == moments
    assert model.two.weight is model.one.weight


def test_an_error_inside_restores_too():
    parts = made(1)
    before = {k: v.clone() for k, v in parts[0].state_dict().items()}
    with pytest.raises(RuntimeError, match="inside"), preserve.everything(*parts):
        ruin(*parts)
        raise RuntimeError("inside")
    assert_same(dict(parts[0].state_dict()), before)


@pytest.mark.parametrize(
    "source",
    [torch.Generator(), np.random.default_rng(0), np.random.RandomState(0), random.Random(0)],
    ids=lambda source: type(source).__name__,
)
def test_generators_that_a_collator_holds(source):
    class Collator:
        def __init__(self):
            self.generator = source

    def draw():
        if isinstance(source, torch.Generator):
            return torch.rand(1, generator=source).item()
        return source.random() if hasattr(source, "random") else source.rand()

    collator = Collator()
    with preserve.everything(None, others=(collator, None)):
        first = draw()
        draw()
    assert draw() == first


def test_accelerates_wrapper_is_looked_through():
    from accelerate import Accelerator

    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=1.0)
    assert preserve.unwrap(Accelerator(cpu=True).prepare(optimizer)) is optimizer
    assert preserve.unwrap(optimizer) is optimizer and preserve.unwrap(None) is None


def test_generators_are_found_inside_loaders_subsets_and_transforms():
    class Transform:
        def __init__(self):
            self.draws = random.Random(0)

    class Rows(torch.utils.data.Dataset):
        def __init__(self):
            self.steps, self.rows = [Transform()], list(range(100))

        def __len__(self):
            return 100

    loader = torch.utils.data.DataLoader(torch.utils.data.Subset(Rows(), [1, 2]))
    held = loader.dataset.dataset.steps[0].draws
    assert held in preserve.random_sources(loader)
    expected = random.Random(0).random()
    with preserve.everything(None, others=(loader.dataset,)):
        held.random()
    assert held.random() == expected
