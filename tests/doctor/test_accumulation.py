import pytest
import torch
from torch import nn

from cookbook.doctor import accumulation, preserve


class Reader(nn.Module):
    """A tiny language model over (x, y) pairs, with dropout that must fall as it fell."""

    def __init__(self, dropout=0.0):
        super().__init__()
        torch.manual_seed(0)
        self.table, self.drop, self.out = nn.Embedding(20, 8), nn.Dropout(dropout), nn.Linear(8, 20)

    def forward(self, x):
        return self.out(self.drop(torch.tanh(self.table(x))))


def token_loss(outputs, y):
    return nn.functional.cross_entropy(outputs.flatten(0, 1), y.flatten())


def windows(lengths, seed=0):
    draw = torch.Generator().manual_seed(seed)
    found = []
    for length in lengths:
        x = torch.randint(0, 20, (3, 13), generator=draw)
        y = torch.randint(0, 20, (3, 13), generator=draw)
        y[:, length:] = -100
        found.append((x, y))
    return found


def accumulate(model, batches, divide, loss_fn=token_loss):
    """What a loop would do: backward each, keep what lands in .grad and the random states."""
    model.zero_grad()
    states = []
    for batch in batches:
        states.append(preserve.random_state())
        (loss_fn(model(batch[0]), batch[1]) / divide(batch)).backward()
    seen = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    return seen, states


def verdict(model, batches, divide, loss_fn=token_loss, scale=1.0):
    seen, states = accumulate(model, batches, divide, loss_fn)
    found = accumulation.compare_gradients(
        model, batches, seen, loss_fn=loss_fn, random_states=states, scale=scale
    )
    return found, found and accumulation.judge(found)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_a_window_that_is_not_divided_is_a_multiple(dropout):
    found, said = verdict(Reader(dropout), windows([12, 12, 12, 12]), lambda b: 1)
    assert found.ratio == pytest.approx(4, rel=1e-4)
    assert (said.fault, said.severity) == ("L3", "error") and "×4" in said.evidence


def test_divided_twice_is_a_multiple_too():
    found, said = verdict(Reader(), windows([12, 12]), lambda b: 4)
    assert said.fault == "L3" and said.measured["ratio"] == pytest.approx(0.5, rel=1e-4)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_the_mean_over_all_labels_is_silent(dropout):
    batches = windows([12, 3, 7, 1])
    total = sum(int((y != -100).sum()) for _, y in batches)
    share = lambda b: total / int((b[1] != -100).sum())  # noqa: E731
    found, said = verdict(Reader(dropout), batches, share)
    assert found.error < 1e-4 and said is None


def test_the_mean_of_means_is_silent_for_equal_counts_and_warned_of_for_very_unequal_ones():
    assert verdict(Reader(), windows([9, 9, 9]), lambda b: 3)[1] is None
    assert verdict(Reader(), windows([10, 9, 11]), lambda b: 3)[1] is None
    said = verdict(Reader(), windows([12, 2, 1]), lambda b: 3)[1]
    assert (said.fault, said.severity) == ("L3", "warn")


def test_a_classifier_with_a_smaller_last_batch_is_silent():
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))
    batches = [(torch.randn(n, 4), torch.randint(0, 3, (n,))) for n in (8, 8, 3)]
    found, said = verdict(model, batches, lambda b: 3, nn.functional.cross_entropy)
    assert found is not None and said is None


def test_a_scaled_loss_is_put_right_by_its_scale():
    found, said = verdict(Reader(), windows([12, 12]), lambda b: 2 / 1024, scale=1024.0)
    assert found.error < 1e-4 and said is None


def test_what_is_no_mean_or_no_multiple_gets_no_verdict():
    summed = lambda out, y: token_loss(out, y) * len(y)  # noqa: E731
    assert verdict(Reader(), windows([12, 12]), lambda b: 1, summed)[0] is None
    model, batches = Reader(), windows([12, 12])
    seen, states = accumulate(model, batches, lambda b: 1)
    noise = {name: g + torch.randn_like(g) * g.std() for name, g in seen.items()}
    found = accumulation.compare_gradients(model, batches, noise, loss_fn=token_loss)
    assert accumulation.judge(found) is None


def test_nothing_is_left_behind():
    model, batches = Reader(0.3), windows([12, 5])
    seen, states = accumulate(model, batches, lambda b: 1)
    model.out.weight.grad = kept = torch.ones_like(model.out.weight)
    before = torch.get_rng_state()
    accumulation.compare_gradients(model, batches, seen, loss_fn=token_loss, random_states=states)
    assert model.out.weight.grad is kept and bool((kept == 1).all())
    assert torch.equal(torch.get_rng_state(), before)


def test_names_of_a_wrapped_model_serve():
    model, batches = Reader(), windows([12, 12])
    seen, states = accumulate(model, batches, lambda b: 2)
    wrapped = {f"module._orig_mod.{name}": grad for name, grad in seen.items()}
    found = accumulation.compare_gradients(model, batches, wrapped, loss_fn=token_loss)
    assert found.error < 1e-4
