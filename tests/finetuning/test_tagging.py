"""Tags go in as words and come out as words; the baseline remembers; a mistake is a mistake."""

import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, List, Value

from cookbook.data import DataError
from cookbook.evaluation import entities
from cookbook.finetuning import tagging, task_mistakes
from cookbook.finetuning.tuning import tune
from cookbook.models import load_model, load_tokenizer

WORDS = [["unknowable", "of", "matrix"], ["a", "matrix", "estimator", "."]]
TAGS = [["B-a", "O", "B-b"], ["O", "B-b", "I-b", "O"]]


def dataset(tags=TAGS, feature=None):
    features = Features({"tokens": List(Value("string")), "tags": List(feature or Value("string"))})
    part = Dataset.from_dict({"tokens": WORDS, "tags": tags}, features=features)
    return DatasetDict(train=part, validation=part, test=part)


def test_names_are_found_as_words_and_as_numbers():
    names = ["O", "B-a", "B-b", "I-b"]
    assert tagging.names_of(dataset()) == names
    numbered = dataset([[1, 0, 2], [0, 2, 3, 0]], ClassLabel(names=names))
    assert tagging.names_of(numbered) == names
    assert tagging.words_and_tags(numbered["test"], names) == (WORDS, TAGS)


def test_tags_that_mark_no_entities_are_refused():
    with pytest.raises(DataError, match="in BIO here"):
        tagging.names_of(dataset([["NN", "IN", "NN"], ["DT", "NN", "NN", "."]]))
    with pytest.raises(DataError, match="without names"):
        tagging.names_of(dataset([[1, 0, 2], [0, 2, 3, 0]], Value("int64")))
    with pytest.raises(DataError, match="tags_column"):
        tagging.names_of(dataset().remove_columns("tags"))


def test_a_tagger_learns_two_sentences_by_heart_and_not_where_labels_are_unaligned(checkpoint):
    data, tokenizer = dataset(), load_tokenizer(checkpoint)
    names = tagging.names_of(data)
    rows = tagging.encode(data["train"], names, tokenizer, max_length=64)
    numbers = [[names.index(tag) for tag in tags] for tags in TAGS]
    spoilt = task_mistakes.unaligned(rows, numbers)
    assert max(len(one.row["input_ids"]) for one in rows) > max(map(len, WORDS)) + 2
    found = {}
    for name, way in (("aligned", rows), ("unaligned", spoilt)):
        model = load_model(checkpoint, "tagging", num_labels=len(names), hidden_dropout_prob=0.0)
        tune(model, [one.row for one in way], tagging.collator(tokenizer), learning_rate=1e-2,
             max_steps=25, output_dir=checkpoint + "-out")  # fmt: skip
        found[name] = tagging.predict(model, rows, names, tokenizer)
    assert found["aligned"] == TAGS
    assert entities.entity_scores(found["unaligned"], TAGS).f1 < 0.9


def test_the_baseline_knows_the_words_that_it_saw():
    assert tagging.remember(WORDS, TAGS, [["matrix", "unknowable", "new"]]) == [["B-b", "B-a", "O"]]
