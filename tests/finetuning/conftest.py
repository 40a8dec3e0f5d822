"""A tiny checkpoint and a small labelled set for it."""

import pytest


@pytest.fixture(scope="module")
def checkpoint(tokenizer, tmp_path_factory):
    """The folder of a BERT of two layers and hidden size 32, with its tokenizer."""
    import torch
    import transformers

    from cookbook.models.text import bert_config

    folder = str(tmp_path_factory.mktemp("checkpoint"))
    torch.manual_seed(0)
    # dropout 0.1, as shipped; weights wide enough for a few steps to teach it something
    config = bert_config(len(tokenizer), "tiny", length=64, initializer_range=0.1)
    transformers.BertForMaskedLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def labelled():
    """90 rows whose words give the class away, in three splits."""
    from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

    names = ["solver", "matrix", "estimator"]
    features = Features({"text": Value("string"), "label": ClassLabel(names=names)})

    def part(start, stop):
        texts = [f"{names[i % 3]} " * (2 + i % 5) + f"number {i}" for i in range(start, stop)]
        rows = {"text": texts, "label": [i % 3 for i in range(start, stop)]}
        return Dataset.from_dict(rows, features=features)

    return DatasetDict(train=part(0, 48), validation=part(48, 69), test=part(69, 90))


@pytest.fixture
def job(checkpoint, labelled, tmp_path):
    """What a strategy gets: encoded rows of the small set, four steps at a rate of 5e-3."""
    from cookbook.finetuning.strategies import prepare

    settings = {"seed": 0, "epochs": 1, "max_steps": 4, "batch_size": 8, "precision": "fp32"}
    how = {"random_weights": False, "output_dir": str(tmp_path)}
    import dataclasses

    job = prepare(checkpoint, labelled, max_length=64, **settings, **how)
    return dataclasses.replace(job, learning_rate=5e-3)


@pytest.fixture
def new(checkpoint):
    """Makes the tiny checkpoint's classifier for three classes, without dropout."""
    from cookbook.models.initialization import load_model

    off = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    return lambda **more: load_model(checkpoint, "classification", num_labels=3, **off, **more)
