"""T6: a tokenizer that is not the checkpoint's is found; extended and new ones are not."""

import random

import pytest
import torch
import transformers

from cookbook.data.tokenization import train_tokenizer
from cookbook.doctor import tokenizer_probes
from cookbook.doctor.checks import attempt
from cookbook.doctor.subject import Subject

CHECK = tokenizer_probes.check_tokenizer_is_the_checkpoints


@pytest.fixture
def folder(tiny_bert, tokenizer, tmp_path):
    tiny_bert().save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    return tmp_path


def verdicts(model, tokenizer, dataset=None):
    given = {"processing_class": tokenizer, "train_dataset": dataset}
    found, reason = attempt(CHECK, Subject(model, **given))
    assert "failed" not in reason, reason
    return [(one.fault, one.severity) for one in found]


def shuffled(tokenizer):
    texts = ["zebra quilt vortex jumbled wizard proxy", "ghjk plokij mnhbg"] * 20
    return train_tokenizer(texts, vocab_size=len(tokenizer), max_length=64)


@pytest.mark.parametrize("head", ["BertForMaskedLM", "BertForSequenceClassification"])
def test_another_tokenizer_is_found(folder, tokenizer, head):
    model = getattr(transformers, head).from_pretrained(folder)
    assert verdicts(model, tokenizer) == []
    assert verdicts(model, transformers.AutoTokenizer.from_pretrained(folder)) == []
    assert verdicts(model, shuffled(tokenizer)) == [("T6", "error")]


def test_added_tokens_are_healthy(folder):
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens([f"<new{i}>" for i in range(30)])
    model = transformers.BertForMaskedLM.from_pretrained(folder)
    model.resize_token_embeddings(len(tokenizer))
    assert verdicts(model, tokenizer) == []


def test_a_new_embedding_for_a_new_tokenizer_is_healthy(folder, tokenizer):
    model = transformers.BertForMaskedLM.from_pretrained(folder)
    model.set_input_embeddings(torch.nn.Embedding(len(tokenizer), 32))
    model.tie_weights()
    assert verdicts(model, shuffled(tokenizer)) == []


def test_a_model_from_scratch_may_use_any(tiny_bert, tokenizer):
    assert verdicts(tiny_bert(), shuffled(tokenizer)) == []


def test_a_checkpoint_without_a_tokenizer_is_judged_by_its_loss(tiny_bert, tokenizer, tmp_path):
    tiny_bert().save_pretrained(tmp_path / "model")
    model = transformers.BertForMaskedLM.from_pretrained(tmp_path / "model")
    ids = torch.arange(10, 30)
    dataset = [{"input_ids": ids, "labels": ids}] * 4
    other = shuffled(tokenizer)
    other.name_or_path = "someone/else"
    assert verdicts(model, other, dataset) == [("T6", "error")]
    other.name_or_path = "somewhere/model"
    assert verdicts(model, other, dataset) == []
    with torch.no_grad():
        model.cls.predictions.bias[10:30] = 20.0  # a loss far below a blind guess
    other.name_or_path = "someone/else"
    assert verdicts(model, other, dataset) == []


def rows_beside_text(tokenizer, change=lambda text: text, noise=False):
    draw, rows = random.Random(0), []
    words = "sum mean product gradient of two arrays tensors rows with an axis and loss".split()
    for _ in range(64):
        text = " ".join(draw.choices(words, k=12))
        row = {"text": text, **tokenizer(change(text)), "labels": 0}
        if noise:
            row["input_ids"] = [draw.randrange(5, len(tokenizer)) for _ in row["input_ids"]]
        rows.append(row)
    return rows


@pytest.mark.parametrize(
    ("read_by", "change", "noise", "expected"),
    [
        ("own", lambda text: text, False, []),
        ("own", str.upper, False, []),  # the words are the same
        ("own", lambda text: f"{text} It was a good day for all of us.", False, []),  # a template
        ("other", lambda text: text, False, [("T6", "error")]),
        ("own", lambda text: text, True, []),  # ids of no text at all: not the tokenizer's fault
    ],
)
def test_ids_that_the_tokenizer_did_not_make(
    tiny_bert, tokenizer, read_by, change, noise, expected
):
    used = tokenizer if read_by == "own" else shuffled(tokenizer)
    data = rows_beside_text(tokenizer, change, noise)
    check = tokenizer_probes.check_ids_are_those_of_the_text
    subject = Subject(tiny_bert(), processing_class=used, train_dataset=data)
    found, reason = attempt(check, subject)
    assert not reason and [(one.fault, one.severity) for one in found] == expected
