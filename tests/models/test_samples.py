"""The batches are what they say, and no label stands in the inputs."""

import pytest
import torch

from cookbook.models import samples
from cookbook.models.registry import ARCHITECTURES
from cookbook.models.text import END, MASK, PAD, START


@pytest.mark.parametrize("entry", ARCHITECTURES, ids=lambda entry: entry.name)
def test_a_batch_depends_on_its_seed_only(entry):
    first, again = entry.batch(3), entry.batch(3)
    assert all(torch.equal(torch.as_tensor(first[k]), torch.as_tensor(again[k])) for k in first)


def test_text_is_real_begins_ends_and_is_padded():
    ids = samples.text_ids(rows=4, length=400)
    for row in ids:
        words = row[row != PAD]
        assert words[0] == START and words[-1] == END and len(words) > 10
        assert (row[len(words) :] == PAD).all()
    assert (samples.text_ids(vocab_size=60) < 60).all()


def test_masked_words_are_hidden_and_nothing_else_is_asked_for():
    batch, ids = samples.masked(), samples.text_ids()
    asked = batch["labels"] != -100
    assert 0.08 < asked.float().mean() < 0.25
    assert (batch["input_ids"][asked] == MASK).all()
    assert torch.equal(batch["labels"][asked], ids[asked])
    assert torch.equal(batch["input_ids"][~asked], ids[~asked])


def test_a_permutation_hides_from_each_target_itself_and_all_later_ones():
    batch = samples.permuted(targets=3)
    places = batch["target_mapping"].argmax(-1)
    for row, order in enumerate(places.tolist()):
        for turn, place in enumerate(order):
            hidden = batch["perm_mask"][row, place].nonzero().flatten().tolist()
            assert sorted(hidden) == sorted(order[turn:])
    assert torch.equal(batch["labels"], batch["input_ids"].gather(1, places))
    assert (batch["labels"] != PAD).all()


def test_span_and_infilling_take_out_what_they_ask_for():
    ids, spans, infilled = samples.text_ids(), samples.spans(), samples.infilled()
    assert torch.equal(spans["labels"][:, 1:4], ids[:, 3:6])
    assert (spans["input_ids"][:, 3] == 511).all() and (spans["labels"][:, 4] == 510).all()
    assert (infilled["input_ids"][:, 3] == MASK).all()
    assert infilled["input_ids"].shape[1] == ids.shape[1] - 2
    assert torch.equal(infilled["labels"], ids.masked_fill(ids == PAD, -100))


def test_neighbours_are_at_most_two_apart_and_never_special():
    batch = samples.neighbours()
    assert len(batch["centres"]) == len(batch["contexts"]) == len(batch["negatives"])
    assert all((part > MASK).all() for part in batch.values())
