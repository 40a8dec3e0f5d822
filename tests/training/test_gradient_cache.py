"""The gradient of chunks is that of the whole batch, dropout and random state included."""

import pytest
import torch

from cookbook.training import gradient_cache
from cookbook.training.contrastive import ContrastiveLoss, PairEncoder


def batch(rows=7, length=6):
    drawn = torch.Generator().manual_seed(3)
    ids = torch.randint(5, 300, (2, rows, length), generator=drawn)
    mask = (torch.arange(length) < torch.randint(2, length + 1, (rows, 1), generator=drawn)).long()
    return {"input_ids": ids[0], "attention_mask": mask, "pair_ids": ids[1], "pair_mask": mask}


@pytest.fixture
def model(tiny_bert):
    def make(dropout):
        settings = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
        return PairEncoder(tiny_bert("BertModel", **settings)).train()

    return make


def gradients(model):
    found = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return found


def assert_equal_to(theirs, ours):
    assert ours.keys() == theirs.keys() and len(ours) > 20
    largest = max(float(g.abs().max()) for g in theirs.values())
    for name, expected in theirs.items():
        assert float((ours[name] - expected).abs().max()) < 1e-4 * largest, name


@pytest.mark.parametrize("chunk", [1, 3, 7, 100])
def test_without_dropout_it_is_one_large_batch(model, chunk):
    net, whole = model(0.0), batch()
    loss = ContrastiveLoss(0.1, symmetric=True)
    expected = loss(net(**whole), whole)
    expected.backward()
    theirs = gradients(net)
    found = gradient_cache.backward(net, whole, loss, chunk=chunk)
    assert_equal_to(theirs, gradients(net))
    torch.testing.assert_close(found, expected.detach())


def test_with_dropout_both_passes_draw_the_same_masks(model):
    """Against the chunks encoded once, with all their graphs kept: the memory it saves."""
    net, whole, loss = model(0.3), batch(), ContrastiveLoss(0.1)
    torch.manual_seed(5)
    kept = [net(**part) for part in gradient_cache.split(whole, 3)]
    loss([torch.cat(side) for side in zip(*kept, strict=True)], whole).backward()
    theirs, after = gradients(net), torch.get_rng_state()
    torch.manual_seed(5)
    gradient_cache.backward(net, whole, loss, chunk=3)
    assert_equal_to(theirs, gradients(net))
    assert torch.equal(torch.get_rng_state(), after)  # the next step draws what it would have


def test_without_the_random_state_the_gradient_is_another(model, monkeypatch):
    net, whole, loss = model(0.3), batch(), ContrastiveLoss(0.1)
    torch.manual_seed(5)
    gradient_cache.backward(net, whole, loss, chunk=3)
    theirs = gradients(net)
    monkeypatch.setattr(gradient_cache, "set_random_state", lambda state, device: None)
    torch.manual_seed(5)
    gradient_cache.backward(net, whole, loss, chunk=3)
    with pytest.raises(AssertionError):
        assert_equal_to(theirs, gradients(net))


def test_a_learnt_temperature_gets_its_gradient(model):
    net, whole, found = model(0.0), batch(), []
    for chunk in (2, 7):
        loss = ContrastiveLoss()
        loss.temperature = torch.tensor(0.1, requires_grad=True)
        gradient_cache.backward(net, whole, loss, chunk=chunk)
        found.append(float(loss.temperature.grad))
    assert found[0] == pytest.approx(found[1], rel=1e-4) and found[0] != 0


def test_gradients_add_up_like_those_of_any_backward(model):
    net, whole, loss = model(0.0), batch(), ContrastiveLoss(0.1)
    gradient_cache.backward(net, whole, loss, chunk=2)
    gradient_cache.backward(net, whole, loss, chunk=2)
    twice = gradients(net)
    gradient_cache.backward(net, whole, loss, chunk=2)
    assert_equal_to(twice, {name: 2 * g for name, g in gradients(net).items()})


def test_a_model_with_one_side_and_a_scalar_in_the_batch():
    net, x = torch.nn.Linear(3, 2), torch.randn(5, 3)

    class Scaled(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = net

        def forward(self, x, scale):
            return self.inner(x) * scale

    wanted = (net(x) * 2).square().sum()
    wanted.backward()
    theirs = gradients(net)
    whole = {"x": x, "scale": torch.tensor(2.0)}
    gradient_cache.backward(Scaled(), whole, lambda s, b: s[0].square().sum(), chunk=2)
    for name, gradient in gradients(net).items():
        torch.testing.assert_close(gradient, theirs[name])


def test_a_chunk_of_no_rows_is_refused():
    with pytest.raises(ValueError, match="at least one row"):
        gradient_cache.split(batch(), 0)
