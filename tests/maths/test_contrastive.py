"""InfoNCE and its derivatives equal torch's; every shortcut of a contrastive loss by hand."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from cookbook.maths import contrastive


def sides(n=6, d=5, seed=0, dtype=torch.float64):
    drawn = torch.randn(2, n, d, generator=torch.Generator().manual_seed(seed), dtype=dtype)
    return drawn[0].requires_grad_(), drawn[1].requires_grad_()


def by_torch(queries, keys, temperature, extra=None):
    candidates = keys if extra is None else torch.cat([keys, extra])
    scores = F.normalize(queries, dim=1) @ F.normalize(candidates, dim=1).T
    return F.cross_entropy(scores / temperature, torch.arange(len(queries)))


def close(ours, theirs):
    exact = theirs.dtype == torch.float64
    tolerance = {"rtol": 1e-10, "atol": 1e-10} if exact else {"rtol": 1e-5, "atol": 1e-6}
    torch.testing.assert_close(ours, theirs, **tolerance)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("temperature", [0.05, 1.0])
def test_info_nce_equals_a_cross_entropy_over_cosines(dtype, temperature):
    queries, keys = sides(dtype=dtype)
    ours = contrastive.info_nce(queries, keys, temperature=temperature)
    theirs = by_torch(queries, keys, temperature)
    close(ours, theirs)
    for mine, reference in zip(
        torch.autograd.grad(ours, (queries, keys)),
        torch.autograd.grad(theirs, (queries, keys)),
        strict=True,
    ):
        close(mine, reference)


def test_a_case_by_hand():
    """Two queries at right angles: e^1 against e^1 + e^0, so log(1 + 1/e)."""
    loss = contrastive.info_nce(torch.eye(2), 3 * torch.eye(2), temperature=1.0)
    assert float(loss) == pytest.approx(math.log(1 + math.exp(-1)), rel=1e-6)


def test_both_ways_is_the_mean_of_either_way():
    queries, keys = sides()
    both = contrastive.info_nce(queries, keys, temperature=0.1, symmetric=True)
    close(both, (by_torch(queries, keys, 0.1) + by_torch(keys, queries, 0.1)) / 2)


def test_hard_negatives_are_candidates_of_every_query():
    queries, keys = sides()
    hard = sides(seed=1)[0]
    ours = contrastive.info_nce(queries, keys, temperature=0.1, negatives=hard)
    close(ours, by_torch(queries, keys, 0.1, hard))
    assert ours > contrastive.info_nce(queries, keys, temperature=0.1)


def test_a_known_duplicate_is_no_negative():
    """Rows 0 and 1 say the same: without groups they push one another, with them they do not."""
    queries, keys = sides(3)
    same = [torch.cat([side[:1], side[:1], side[1:]]).detach() for side in (queries, keys)]
    blind = contrastive.info_nce(*same, temperature=0.05)
    seeing = contrastive.info_nce(*same, temperature=0.05, groups=torch.tensor([0, 0, 1, 2]))
    scores = contrastive.cosines(*same) / 0.05
    scores[0, 1] = scores[1, 0] = -math.inf
    close(seeing, F.cross_entropy(scores, torch.arange(4)))
    assert blind > seeing
    alone = contrastive.info_nce(queries, keys, groups=torch.arange(3))
    close(alone, contrastive.info_nce(queries, keys))


def test_a_learned_temperature_has_a_gradient_beside_known_duplicates():
    queries, keys = sides(4)
    temperature = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    groups = torch.tensor([0, 0, 1, 1])
    extra = sides(3, seed=1)[0].detach()
    ours = contrastive.info_nce(
        queries, keys, temperature=temperature, groups=groups, negatives=extra, symmetric=True
    )
    scores = F.normalize(queries, dim=1) @ F.normalize(torch.cat([keys, extra]), dim=1).T
    out = torch.zeros(4, 7, dtype=torch.bool)
    out[[0, 1, 2, 3], [1, 0, 3, 2]] = True
    logits = (scores / temperature).masked_fill(out, -1e30)
    own = torch.arange(4)
    theirs = (F.cross_entropy(logits, own) + F.cross_entropy(logits[:, :4].T, own)) / 2
    weights = [queries, keys, temperature]
    grads = [torch.autograd.grad(loss, weights) for loss in (ours, theirs)]
    close(ours, theirs)
    for mine, other in zip(*grads, strict=True):
        assert mine.isfinite().all()
        close(mine, other)


@given(st.integers(2, 9), st.floats(0.02, 5.0), st.integers(0, 1000))
def test_the_gradient_by_hand_is_autograds(n, temperature, seed):
    queries, keys = sides(n, seed=seed)
    scores = contrastive.cosines(queries, keys).detach().requires_grad_()
    heat = torch.tensor(temperature, dtype=torch.float64, requires_grad=True)
    loss = F.cross_entropy(scores / heat, torch.arange(n))
    theirs = torch.autograd.grad(loss, (scores, heat))
    ours = contrastive.gradient(scores.detach(), temperature)
    torch.testing.assert_close(ours[0], theirs[0], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(ours[1], theirs[1], rtol=1e-9, atol=1e-9)
    assert ours[0].sum(1).abs().max() < 1e-9


def test_the_push_is_the_negatives_share_of_the_gradient():
    scores = contrastive.cosines(*sides()).detach()
    by_score, _ = contrastive.gradient(scores, 0.1)
    negatives = by_score[0, 1:]
    close(contrastive.push(scores[0, 1:], 0.1), negatives / negatives.sum())


def test_pooling_equals_the_mean_of_the_kept_tokens_and_does_not_see_padding():
    hidden, mask = torch.randn(2, 4, 3), torch.tensor([[1, 1, 1, 0], [1, 0, 0, 0]])
    pooled = contrastive.mean_pool(hidden, mask)
    close(pooled[0], hidden[0, :3].mean(0))
    close(pooled[1], hidden[1, 0])
    noisy = hidden.clone()
    noisy[mask == 0] = 1e6
    assert torch.equal(contrastive.mean_pool(noisy, mask), pooled)
    assert not contrastive.mean_pool(hidden, torch.zeros(2, 4)).any()


def test_unit_equals_torch_and_survives_a_zero():
    vectors = torch.cat([torch.randn(3, 4, dtype=torch.float64), torch.zeros(1, 4).double()])
    close(contrastive.unit(vectors), F.normalize(vectors, dim=-1))


def test_alignment_and_uniformity_equal_the_papers_code():
    left, right = (side.detach() for side in sides(20, 8))
    x, y = F.normalize(left, dim=1), F.normalize(right, dim=1)
    close(contrastive.alignment(left, right), (x - y).norm(p=2, dim=1).pow(2).mean())
    close(contrastive.uniformity(left), torch.pdist(x, p=2).pow(2).mul(-2).exp().mean().log())


def test_alignment_of_a_thing_with_itself_and_uniformity_of_opposites():
    x = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    assert contrastive.alignment(x, x) == 0
    assert float(contrastive.uniformity(x)) == pytest.approx(-8)  # |x - y|² = 4


@pytest.mark.parametrize(
    ("keys", "temperature", "words"),
    [(torch.ones(3, 2), 0.1, "row i of one"), (torch.ones(2, 2), 0.0, "must be positive")],
)
def test_what_does_not_fit_is_refused(keys, temperature, words):
    with pytest.raises(ValueError, match=words):
        contrastive.info_nce(torch.ones(2, 2), keys, temperature=temperature)
