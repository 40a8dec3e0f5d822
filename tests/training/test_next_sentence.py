"""Pairs are padded, exchanged and scored by hand; the head learns; a frozen encoder stays."""

import numpy as np
import pytest
import torch

from cookbook.data import train_tokenizer
from cookbook.models import bert_config, freeze
from cookbook.training import next_sentence

CATS = "The cat sat. The cat slept. A cat purred."
ROADS = "This road is long. That road is wet. Every road ends."
TEXTS = [CATS, ROADS] * 10


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(TEXTS, 100)


@pytest.fixture(scope="module")
def rows(tokenizer):
    return next_sentence.pairs(TEXTS, tokenizer, length=32)


def new_model(tokenizer):
    from transformers import BertForNextSentencePrediction

    torch.manual_seed(0)
    return BertForNextSentencePrediction(bert_config(len(tokenizer), "tiny", length=32))


def row(first, second, label=0):
    ids = [2, *first, 3, *second, 3]
    return {
        "input_ids": ids,
        "token_type_ids": [0] * (len(first) + 2) + [1] * (len(second) + 1),
        "next_sentence_label": label,
    }


def test_a_batch_is_padded_where_nothing_is_attended_to():
    batch = next_sentence.collate([row([7], [8]), row([7, 9], [8, 8], 1)], pad_id=11)
    assert batch["input_ids"].tolist() == [[2, 7, 3, 8, 3, 11, 11], [2, 7, 9, 3, 8, 8, 3]]
    assert batch["attention_mask"].tolist() == [[1] * 5 + [0] * 2, [1] * 7]
    assert batch["token_type_ids"].tolist() == [[0, 0, 0, 1, 1, 0, 0], [0, 0, 0, 0, 1, 1, 1]]
    assert batch["labels"].tolist() == [0, 1]


def test_padding_changes_no_answer(tokenizer, rows):
    model = new_model(tokenizer).eval()
    long = max(rows, key=lambda row: len(row["input_ids"]))
    with torch.no_grad():
        alone, beside = (
            model(**{k: v for k, v in next_sentence.collate(part).items() if k != "labels"}).logits
            for part in ([rows[0]], [rows[0], long])
        )
    torch.testing.assert_close(alone[0], beside[0])


def test_exchanging_twice_gives_the_pair_back():
    pair = row([7, 9], [8])
    (once,) = next_sentence.swapped([pair])
    assert once == row([8], [7, 9], 1)
    (twice,) = next_sentence.swapped([{**once, "next_sentence_label": 0}])
    assert {**twice, "next_sentence_label": 0} == pair


def test_only_pairs_of_one_document_are_exchanged():
    assert next_sentence.swapped([row([7], [8], 1)]) == []


def test_shared_words_by_hand():
    scores = next_sentence.shared_words([row([7, 9, 9], [9, 8, 6]), row([7], [8])], special=(2, 3))
    assert scores.tolist() == [1 / 2, 0.0]
    assert next_sentence.shared_words([row([], [8])], special=(2, 3)).tolist() == [0.0]


def test_the_best_threshold_is_the_best_of_all():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 200)
    scores = np.round(rng.random(200) - 0.3 * labels, 2)
    threshold = next_sentence.best_threshold(scores, labels)
    right = {t: ((scores < t) == labels).mean() for t in np.linspace(-1, 2, 3001)}
    assert ((scores < threshold) == labels).mean() == max(right.values())


def test_the_threshold_may_be_to_answer_always_the_same():
    assert next_sentence.best_threshold(np.array([0.5, 0.5]), np.array([1, 1])) == np.inf
    assert next_sentence.best_threshold(np.array([0.5, 0.5]), np.array([0, 0])) == 0.5


def test_a_network_learns_two_topics_and_repeats_itself(tokenizer, rows):
    models = [new_model(tokenizer), new_model(tokenizer)]
    losses = []
    for model in models:
        torch.manual_seed(1)
        losses.append(
            next_sentence.train_pairs(model, rows, steps=60, batch_size=10, learning_rate=3e-3)
        )
    assert losses[0] == losses[1] and len(losses[0]) == 60
    right = next_sentence.says_other(models[0], rows) == next_sentence.labels_of(rows)
    assert right.mean() > 0.9


def test_what_is_frozen_stays(tokenizer, rows):
    model = new_model(tokenizer)
    freeze(model.bert.encoder)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    next_sentence.train_pairs(model, rows, steps=2, batch_size=4, learning_rate=1e-2)
    moved = {n for n, value in model.state_dict().items() if not torch.equal(value, before[n])}
    assert "cls.seq_relationship.weight" in moved
    assert not [name for name in moved if name.startswith("bert.encoder")]


def test_texts_of_one_sentence_are_broken_in_their_middle(tokenizer, capsys):
    texts = ["the cat sat over there", "this road is long", "猫坐在路上"]
    rows = next_sentence.pairs(texts, tokenizer, length=32)
    assert len(rows) == 3 and "broken in its middle" in capsys.readouterr().out
    assert next_sentence._halves(texts[0]) == "the cat sat\nover there"
    assert next_sentence._halves(texts[2]) == "猫坐\n在路上"


def test_texts_of_several_sentences_are_left_alone(tokenizer, capsys):
    assert len(next_sentence.pairs(TEXTS, tokenizer)) == len(TEXTS)
    assert capsys.readouterr().out == ""


def test_too_few_texts_are_refused(tokenizer):
    with pytest.raises(ValueError, match="next sentence prediction needs at least two"):
        next_sentence.pairs(["the cat sat"], tokenizer)
