"""Candidates made from one: what each shares with it, bit for bit, and what it does not."""

import pytest
import torch

from cookbook.finetuning import variants
from cookbook.finetuning.task_fit import family_of
from cookbook.models.initialization import load_config, load_model, load_tokenizer

TEXTS = ["The antidisestablishment of a tensor", "an antidisestablishment"] * 5


@pytest.fixture(scope="module")
def made(checkpoint, tmp_path_factory):
    folder = tmp_path_factory.mktemp("variants")
    return variants.make(checkpoint, folder, TEXTS, new_words=1, seed=1)


def weights(folder):
    return load_model(folder).state_dict()


def same(a, b):
    return torch.equal(a.half(), b.half())  # on disk they are halves


def test_the_cut_one_is_its_lower_half(checkpoint, made):
    whole, half = weights(checkpoint), weights(made["cut"])
    assert load_config(made["cut"]).num_hidden_layers == 1
    assert half.keys() < whole.keys() and not any(".layer.1." in name for name in half)
    assert all(same(half[name], whole[name]) for name in half)


def test_the_random_one_has_its_shapes_and_none_of_its_matrices(checkpoint, made):
    whole, new = weights(checkpoint), weights(made["random"])
    assert new.keys() == whole.keys()
    query = "bert.encoder.layer.0.attention.self.query.weight"
    assert new[query].shape == whole[query].shape and not same(new[query], whole[query])


def test_a_new_word_starts_as_the_mean_of_its_pieces(checkpoint, made):
    old = load_tokenizer(checkpoint)
    word = "antidisestablishment"
    pieces = old(word, add_special_tokens=False)["input_ids"]
    assert len(pieces) > 2
    assert load_tokenizer(made["extended"]).tokenize(word) == [word]
    rows = load_model(made["extended"]).get_input_embeddings().weight
    before = load_model(checkpoint).get_input_embeddings().weight
    assert len(rows) == len(before) + 1 and same(rows[:-1], before)
    assert torch.allclose(rows[-1], before[pieces].mean(0), atol=1e-3)


def test_the_others_are_of_other_families(made):
    assert family_of(load_config(made["decoder"])) == "decoder"
    assert family_of(load_config(made["vision"])) == "vision"
    assert len(load_tokenizer(made["decoder"])) == load_config(made["decoder"]).vocab_size


def test_words_are_chosen_by_the_pieces_they_would_spare(checkpoint):
    tokenizer = load_tokenizer(checkpoint)
    texts = ["zyzzyva zyzzyva zyzzyva zyzzyva zyzzyva"] + ["qqqqqqqqqqqqqqqqqq"] * 5
    found = variants.split_words(texts, tokenizer, 5)
    assert set(found) == {"zyzzyva", "qqqqqqqqqqqqqqqqqq"}
    assert variants.split_words(texts, tokenizer, 5, least=6) == []
