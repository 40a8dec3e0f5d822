"""Penalties, thresholds and softened labels equal what torch calls by other names."""

import functools

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from cookbook.models.outputs import Output
from cookbook.training import loop, regularization
from cookbook.training.regularization import regularized_loss, set_dropout, smoothed_targets

EXACT = {"rtol": 0, "atol": 1e-10}


class Net(nn.Module):
    """Two maps with a norm and a dropout between them, in double precision."""

    def __init__(self, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        layers = [nn.Linear(5, 6), nn.LayerNorm(6), nn.Dropout(0.1), nn.Linear(6, 3)]
        self.layers = nn.Sequential(*layers).double()

    def forward(self, x):
        return Output(None, self.layers(x))


def batches(count=8):
    generator = torch.Generator().manual_seed(1)
    return [
        {
            "x": torch.randn(4, 5, generator=generator, dtype=torch.float64),
            "labels": torch.randint(3, (4,), generator=generator),
        }
        for _ in range(count)
    ]


def trained(optimizer, loss_of=regularized_loss, steps=8, **how):
    net = Net()
    set_dropout(net, 0.0)
    made = optimizer(groups(net), lr=0.05, **how)
    constant = torch.optim.lr_scheduler.ConstantLR(made, 1.0)
    loop.train(net, batches(), made, constant, steps=steps, loss_fn=loss_of(net), clip=1e9)
    return net


def groups(net):
    """The matrices, which decay, and the rest, which does not."""
    names = {name for name, _ in regularization.penalized(net)}
    parts = [
        [p for n, p in net.named_parameters() if (n in names) is inside] for inside in (True, False)
    ]
    return [{"params": parts[0]}, {"params": parts[1], "weight_decay": 0.0}]


def gap(one, other):
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    return max(float((a - b).detach().abs().max()) for a, b in pairs)


def test_l2_in_the_loss_is_weight_decay_of_sgd_and_not_of_adamw():
    penalty = functools.partial(regularized_loss, l2_weight=0.3)
    by_loss = trained(torch.optim.SGD, penalty)
    assert gap(by_loss, trained(torch.optim.SGD, weight_decay=0.3)) < 1e-10
    assert gap(by_loss, trained(torch.optim.SGD)) > 1e-2
    coupled = trained(torch.optim.Adam, penalty)
    assert gap(coupled, trained(torch.optim.Adam, weight_decay=0.3)) < 1e-9
    assert gap(coupled, trained(torch.optim.AdamW, weight_decay=0.3)) > 1e-2


def test_the_gradients_of_the_penalties_are_the_weight_and_its_sign():
    net = Net()
    found = dict(regularization.penalized(net))
    assert list(found) == ["layers.0.weight", "layers.3.weight"]
    for penalty, wanted in ((regularization.l1, torch.sign), (regularization.l2, torch.clone)):
        net.zero_grad()
        penalty(net).backward()
        for weight in found.values():
            torch.testing.assert_close(weight.grad, wanted(weight.detach()), **EXACT)
        assert net.layers[0].bias.grad is None and net.layers[1].weight.grad is None
    frozen = Net().requires_grad_(False)
    assert float(regularization.l1(frozen)) == float(regularization.l2(frozen)) == 0.0


def test_the_anchor_pulls_to_where_training_started_and_not_to_zero():
    held = trained(torch.optim.SGD, functools.partial(regularized_loss, anchor=10.0))
    shrunk = trained(torch.optim.SGD, functools.partial(regularized_loss, l2_weight=10.0))
    nets = held, trained(torch.optim.SGD), shrunk
    start, *ends = (net.layers[0].weight.detach() for net in (Net(), *nets))
    near, free, far = ((end - start).norm() for end in ends)
    assert near < 0.8 * free < far
    assert ends[2].norm() < 0.5 * start.norm() < ends[0].norm()


@settings(max_examples=25)
@given(st.floats(0, 2), st.integers(0, 2**31))
def test_the_soft_threshold_equals_softshrink(amount, seed):
    x = torch.randn(40, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    found = regularization.soft_threshold(x, amount)
    torch.testing.assert_close(found, F.softshrink(x, amount), **EXACT)
    assert (found[x.abs() <= amount] == 0).all()


def test_steps_along_the_sign_make_no_weight_zero_and_thresholds_do():
    x = torch.linspace(-1, 1, 100, dtype=torch.float64)
    stepped, cut = x.clone(), x.clone()
    for _ in range(200):
        stepped = stepped - 0.03 * stepped.sign()
        cut = regularization.soft_threshold(cut, 0.03)
    assert (cut == 0).all() and not (stepped == 0).any() and stepped.abs().max() < 0.04


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_smoothed_targets_give_torchs_label_smoothing(smoothing, dtype):
    logits = torch.randn(7, 5, dtype=dtype, requires_grad=True)
    labels = torch.tensor([0, 4, 2, 2, 1, 3, 0])
    shares = smoothed_targets(labels, 5, smoothing, dtype)
    theirs = F.cross_entropy(logits, labels, label_smoothing=smoothing)
    losses = F.cross_entropy(logits, shares), theirs
    close = EXACT if dtype == torch.float64 else {"rtol": 1e-5, "atol": 1e-6}
    torch.testing.assert_close(*losses, **close)
    torch.testing.assert_close(*(torch.autograd.grad(x, logits)[0] for x in losses), **close)
    torch.testing.assert_close(shares.sum(1), torch.ones(7, dtype=dtype))


def test_without_any_of_them_it_is_the_loss_of_the_loop():
    net, batch = Net().eval(), batches()[0]
    plain, count = loop.summed_cross_entropy(net, batch)
    torch.testing.assert_close(regularized_loss(net)(net, batch)[0].float(), plain)
    mean = regularized_loss(net, l1_weight=0.5)(net, batch)[0] / count
    wanted = plain / count + 0.5 * regularization.l1(net)
    torch.testing.assert_close(mean, wanted, check_dtype=False)


def test_a_loss_of_shares_is_the_blend_of_two_losses():
    """Mixup's targets: w of one label and 1 - w of another."""
    net, batch = Net().eval(), batches()[0]
    other, weight = torch.tensor([2, 2, 0, 1]), 0.3
    own, others = (F.one_hot(labels, 3).float() for labels in (batch["labels"], other))
    shares = weight * own + (1 - weight) * others
    blended, count = regularized_loss(net)(net, batch | {"labels": shares})
    parts = [regularized_loss(net)(net, batch | {"labels": y})[0] for y in (batch["labels"], other)]
    torch.testing.assert_close(blended, weight * parts[0] + (1 - weight) * parts[1])
    assert count == 4


def test_dropout_is_set_everywhere_attention_included():
    from cookbook.models.text import bert

    model = bert("tiny", vocab_size=20, length=8)
    assert set_dropout(model, 0.5) == 1 + 2 * 3  # embeddings; attention, output, feed-forward
    ids = torch.arange(8)[None]
    model.train()
    assert not torch.equal(model(ids).logits, model(ids).logits)
    set_dropout(model, 0.0)
    assert torch.equal(model(ids).logits, model(ids).logits)
    assert set_dropout(nn.Linear(2, 2), 0.0) == 0
    with pytest.raises(ValueError, match="Linear has no dropout"):
        set_dropout(nn.Linear(2, 2), 0.1)
    with pytest.raises(ValueError, match="at least 0 and below 1"):
        set_dropout(model, 1.0)
