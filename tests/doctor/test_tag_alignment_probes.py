"""D8 of taggers: tags of other sentences, and tags a place late; true and noisy ones are let be."""

import numpy as np
import pytest
import torch
import transformers

from cookbook.doctor import examination, preserve
from cookbook.doctor import tag_alignment_probes as probes
from cookbook.doctor.subject import Subject

WORDS, KINDS = 40, 3  # ids from 5 on; what a word is follows from its id


def sentences(change=lambda tags, draw: tags, count=60, seed=0):
    """Sentences of four to nineteen words behind a special token, whose tag is ignored."""
    draw, rows = np.random.default_rng(seed), []
    lengths = draw.integers(4, 20, count)
    ids = [draw.integers(5, 5 + WORDS, length) for length in lengths]
    for words, tags in zip(ids, change([w % KINDS for w in ids], draw), strict=True):
        rows.append({"input_ids": [2, *words.tolist()], "attention_mask": [1] * (len(words) + 1),
                     "labels": [-100, *np.resize(tags, len(words)).tolist()]})  # fmt: skip
    return rows


def of_another(tags, draw):
    return [tags[place] for place in draw.permutation(len(tags))]


def late(tags, draw):
    return [np.append(row[1:], 0) for row in tags]


def noisy(tags, draw):
    """Seven in ten are drawn by lot."""
    return [np.where(draw.random(len(t)) < 0.7, draw.integers(0, KINDS, len(t)), t) for t in tags]


def by_the_word_before(tags, draw):
    """A task in which context decides as much as the word does."""
    return [(row + np.insert(row[:-1], 0, 0) % 2) % KINDS for row in tags]


def by_place(tags, draw):
    return [np.where(np.arange(len(row)) < 2, 0, 1 + (row > 0)) for row in tags]


@pytest.fixture
def found(tiny_bert, tokenizer):
    def of(change, **given):
        model = tiny_bert("BertForTokenClassification", num_labels=KINDS)
        collator = transformers.DataCollatorForTokenClassification(tokenizer)
        subject = Subject(model, train_dataset=sentences(change, **given), data_collator=collator,
                          processing_class=tokenizer)  # fmt: skip
        with preserve.everything(model):
            said, why = examination.attempt(probes.check_tags_belong, subject)
        assert not why.startswith("failed"), why
        return [(f.fault, f.severity) for f in said], why

    return of


def test_tags_of_another_sentence_are_named(found):
    assert found(of_another, seed=4)[0] == [("D8", "warn")]


def test_tags_a_place_late_are_advice_since_a_task_may_ask_for_what_stands_beside(found):
    assert found(late)[0] == [("D8", "info")]


@pytest.mark.parametrize("change", [noisy, by_the_word_before, by_place, lambda tags, draw: tags])
def test_tags_that_owe_something_to_their_words_are_let_be(found, change):
    assert found(change) == ([], "")


def test_few_sentences_or_one_tag_do_not_apply(found):
    assert found(of_another, count=12) == ([], "does not apply")
    assert found(lambda tags, draw: [0 * row for row in tags]) == ([], "does not apply")


def test_the_probe_permutes_within_a_place_only(found):
    """Tags that depend on nothing but their place are no better than those of other sentences."""
    row = torch.tensor([[5, 6, 7, 8]]).repeat(120, 1)
    ids = torch.randint(5, 45, row.shape, generator=torch.Generator().manual_seed(0))
    labels = (torch.arange(4) % 2).repeat(120, 1)
    table = probes._table(ids, labels, torch.ones_like(ids, dtype=torch.bool))
    places = np.eye(4, dtype=np.float32)[table.places]
    assert abs(probes._probe("place", places @ places.T, table).distance) < 1


@pytest.mark.parametrize(
    ("worn", "expected"), [("none", []), ("one kind", []), ("a word's", [("D8", "error")])]
)
def test_tags_on_the_tokens_that_a_tokenizer_adds(tiny_bert, tokenizer, worn, expected):
    data = []
    for i in range(60):
        row = dict(tokenizer("the solver returns an array"))
        size = len(row["input_ids"])
        tags = [(i + k) % 3 for k in range(size - 2)]
        own = {"none": [-100, *tags], "one kind": [0, *tags], "a word's": [*tags, 0]}[worn]
        data.append(row | {"labels": [*own, -100]})
    model = tiny_bert("BertForTokenClassification", num_labels=3)
    subject = Subject(model, train_dataset=data, processing_class=tokenizer)
    check = probes.check_special_tokens_have_no_tags
    said, why = examination.attempt(check, subject)
    assert not why and [(f.fault, f.severity) for f in said] == expected
