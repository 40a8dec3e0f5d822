"""Zeros where torch puts them; a cut head is a silent head; what is saved comes back."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import prune
from transformers import BertForSequenceClassification

from cookbook.finetuning import pruning
from cookbook.finetuning.layers import layers_of

IDS = torch.randint(5, 300, (4, 9), generator=torch.Generator().manual_seed(0))


@pytest.fixture
def model(tiny_bert):
    return tiny_bert("BertForSequenceClassification", num_labels=3, num_attention_heads=4).eval()


def logits(model):
    with torch.no_grad():
        return model(IDS).logits


def silenced(model, heads):
    """The same model whose projections read nothing from `heads`."""
    twin = copy.deepcopy(model)
    for number, gone in heads.items():
        own, output = pruning.attention(layers_of(twin)[number])
        for head in gone:
            part = slice(head * own.attention_head_size, (head + 1) * own.attention_head_size)
            output.weight.data[:, part] = 0
    return twin


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_the_same_weights_as_torch_prunes(model, share):
    twin = copy.deepcopy(model)
    linears = [m for m in layers_of(twin).modules() if isinstance(m, nn.Linear)]
    prune.global_unstructured(
        [(m, "weight") for m in linears], pruning_method=prune.L1Unstructured, amount=share
    )
    assert pruning.prune_smallest(model, share) == pytest.approx(share, abs=1e-3)
    ours = [m for m in layers_of(model).modules() if isinstance(m, nn.Linear)]
    for mine, theirs in zip(ours, linears, strict=True):
        assert torch.equal(mine.weight, theirs.weight)


def test_a_share_that_leaves_nothing_is_refused(model):
    with pytest.raises(ValueError, match="share 1"):
        pruning.prune_smallest(model, 1)


def test_a_cut_head_is_a_silent_head_and_its_weights_are_gone(model):
    heads = {0: [1, 3], 1: [0]}
    expected, before = logits(silenced(model, heads)), sum(p.numel() for p in model.parameters())
    pruning.cut_heads(model, heads)
    assert torch.allclose(logits(model), expected, atol=1e-6)
    each = 8 * (4 * 32 + 3)  # rows and biases of query, key, value, columns of the projection
    assert before - sum(p.numel() for p in model.parameters()) == 3 * each


def test_cut_twice_by_the_numbers_of_the_uncut_model(model):
    once = pruning.cut_heads(copy.deepcopy(model), {0: [0, 2]})
    twice = pruning.cut_heads(pruning.cut_heads(model, {0: [0]}), {0: [2]})
    assert torch.equal(logits(once), logits(twice)) and once.cut_heads == twice.cut_heads
    with pytest.raises(ValueError, match=r"no head 2: there are \[1, 3\]"):
        pruning.cut_heads(twice, {0: [2]})
    with pytest.raises(ValueError, match="leave one"):
        pruning.cut_heads(twice, {0: [1, 3]})


def test_saved_and_reloaded(model, tmp_path):
    pruning.cut_heads(model, {0: [1], 1: [2, 3]})
    folder = pruning.save_cut(model, tmp_path / "cut")
    back = pruning.load_cut(folder, BertForSequenceClassification)
    assert torch.equal(logits(back), logits(model)) and back.cut_heads == model.cut_heads
    (folder / pruning.CUT).unlink()
    with pytest.raises(ValueError, match="was not written by save_cut"):
        pruning.load_cut(folder, BertForSequenceClassification)


def test_importance_by_hand_and_nothing_left_behind(model):
    batch = {"input_ids": IDS, "labels": torch.tensor([0, 1, 2, 0])}
    model.train()
    found = pruning.head_importance(model, [batch])
    assert model.training and all(p.grad is None for p in model.parameters())
    assert found.shape == (2, 4) and (found > 0).all()
    # each row alone, by the same definition
    rows = [{k: v[i : i + 1] for k, v in batch.items()} for i in range(4)]
    alone = torch.stack([pruning.head_importance(model, [row]) for row in rows]).mean(0)
    assert torch.allclose(found, alone, rtol=1e-4, atol=1e-7)


def test_a_head_that_nobody_reads_has_no_importance(model):
    batch = {"input_ids": IDS, "labels": torch.tensor([0, 1, 2, 0])}
    found = pruning.head_importance(silenced(model, {1: [2]}), [batch])
    assert found[1, 2] == 0 and (found > 0).sum() == 7
