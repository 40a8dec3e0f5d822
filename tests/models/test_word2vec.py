"""The loss by hand, the pairs by hand, the shares of the negatives."""

import math

import torch

from cookbook.models.word2vec import Word2Vec, draw_negatives, skip_gram_pairs


def random_model(dtype=torch.float64):
    torch.manual_seed(0)
    model = Word2Vec(12, 5).to(dtype)
    torch.nn.init.normal_(model.contexts.weight)
    torch.nn.init.normal_(model.centres.weight)
    return model


def by_hand(model, centres, contexts, negatives):
    """-log σ(u·v) - Σ log σ(-u_k·v), one pair and one word after the other."""
    total = 0.0
    for c, o, drawn in zip(centres.tolist(), contexts.tolist(), negatives.tolist(), strict=True):
        v = model.centres.weight[c]
        total = total - torch.log(1 / (1 + torch.exp(-(model.contexts.weight[o] @ v))))
        for k in drawn:
            total = total - torch.log(1 / (1 + torch.exp(model.contexts.weight[k] @ v)))
    return total / len(centres)


def test_the_loss_equals_the_formula_in_value_and_gradient():
    model = random_model()
    centres, contexts = torch.tensor([1, 2, 2]), torch.tensor([3, 4, 5])
    negatives = torch.tensor([[6, 7], [8, 4], [11, 11]])
    weights = list(model.parameters())
    ours = model(centres, contexts, negatives).loss
    expected = by_hand(model, centres, contexts, negatives)
    assert torch.allclose(ours, expected, rtol=0, atol=1e-10)
    for mine, reference in zip(
        torch.autograd.grad(ours, weights), torch.autograd.grad(expected, weights), strict=True
    ):
        assert torch.allclose(mine, reference, rtol=0, atol=1e-10)


def test_the_first_loss_is_exactly_k_plus_one_coins():
    ids = torch.arange(5)
    loss = Word2Vec(12, 5)(ids, ids, torch.randint(0, 12, (5, 7))).loss.item()
    assert math.isclose(loss, 8 * math.log(2), rel_tol=1e-6)


def test_pairs_by_hand_and_of_short_texts():
    pairs = set(zip(*(p.tolist() for p in skip_gram_pairs(torch.arange(4), 2)), strict=True))
    assert pairs == {(0, 1), (0, 2), (1, 0), (1, 2), (1, 3), (2, 0), (2, 1), (2, 3), (3, 1), (3, 2)}
    assert [len(p) for p in skip_gram_pairs(torch.tensor([7]))] == [0, 0]


def test_negatives_are_drawn_by_the_three_quarter_power():
    counts = torch.tensor([0, 1, 16, 81])  # to the power of 0.75: 0, 1, 8, 27
    drawn = draw_negatives(counts, 9000, 4, generator=torch.Generator().manual_seed(0))
    assert drawn.shape == (9000, 4)
    shares = torch.bincount(drawn.flatten(), minlength=4) / drawn.numel()
    assert torch.allclose(shares, torch.tensor([0, 1, 8, 27]) / 36, atol=0.01)


def test_words_of_the_same_contexts_become_neighbours():
    """Words 5 and 6 stand beside 8 and 9, word 7 beside 10 and 11."""
    model = Word2Vec(12, 8)
    torch.nn.init.normal_(model.centres.weight, std=0.1, generator=torch.Generator().manual_seed(0))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    centres = torch.tensor([5, 5, 6, 6, 7, 7])
    contexts = torch.tensor([8, 9, 8, 9, 10, 11])
    negatives = torch.tensor([[10, 11]] * 4 + [[8, 9]] * 2)
    for _ in range(30):
        optimizer.zero_grad()
        model(centres, contexts, negatives).loss.backward()
        optimizer.step()
    assert model.neighbours(5, 1) == [6] and model.neighbours(6, 1) == [5]
