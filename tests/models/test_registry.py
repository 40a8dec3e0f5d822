"""Every architecture learns one batch by heart, starts at its chance level, and has its facts."""

import math

import pytest
import torch

from cookbook.models.profiling import overfit, trainable
from cookbook.models.registry import ARCHITECTURES, architecture, architectures, build

BY_NAME = {entry.name: entry for entry in ARCHITECTURES}
LN_V = math.log(512)
# Half of a token's loss in each direction for ELMo; all judged at a coin's toss by ELECTRA.
CHANCE = {"elmo": 2 * LN_V, "electra": LN_V + 50 * math.log(2), "word2vec": 6 * math.log(2)}


def every(test):
    return pytest.mark.parametrize("name", BY_NAME)(test)


@every
def test_one_batch_is_learned_by_heart(name):
    entry = BY_NAME[name]
    losses, _ = overfit(trainable(entry), entry.batch(), steps=40, rate=entry.rate)
    assert all(map(math.isfinite, losses))
    assert losses[-1] < 0.4 * losses[0], f"{losses[0]:.3f} -> {losses[-1]:.3f}"


@pytest.mark.parametrize("name", [e.name for e in ARCHITECTURES if e.reads == "text"])
def test_the_first_loss_is_that_of_guessing(name):
    entry = BY_NAME[name]
    with torch.no_grad():
        loss = trainable(entry)(**entry.batch()).loss.item()
    assert loss == pytest.approx(CHANCE.get(name, LN_V), rel=0.05)


@every
def test_the_seed_alone_decides_the_weights(name):
    first, again, other = (trainable(BY_NAME[name], seed=seed) for seed in (0, 0, 1))
    same = [torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True)]
    differ = [
        not torch.equal(a, b) for a, b in zip(first.parameters(), other.parameters(), strict=True)
    ]
    assert all(same) and any(differ)


@every
def test_a_larger_size_has_more_parameters(name):
    tiny, mini = (
        sum(p.numel() for p in trainable(BY_NAME[name], size).parameters())
        for size in ("tiny", "mini")
    )
    assert mini > 1.5 * tiny


@every
def test_the_facts_are_there(name):
    entry = architecture(name)
    assert entry in architectures()
    assert all([entry.family, entry.objective, entry.paper, entry.good_for])


def test_an_unknown_name_lists_the_names():
    with pytest.raises(
        ValueError, match="unknown architecture 'bird': choose one of word2vec, rnn"
    ):
        build("bird")


@every
def test_an_unknown_size_is_named(name):
    with pytest.raises(ValueError, match="unknown size 'huge'"):
        build(name, "huge")


@every
def test_a_misspelt_setting_is_named_and_not_ignored(name):
    with pytest.raises(ValueError, match="drop_out"):
        build(name, drop_out=0.1)
