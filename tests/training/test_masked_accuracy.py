"""What is counted where: everywhere, asked, hidden; blanks; one table for several models."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from cookbook.data import train_tokenizer
from cookbook.models import bert_config
from cookbook.training import evaluate_masked_lm, masked_accuracy, masked_lm_rows
from cookbook.training.objectives import IGNORE

TEXTS = ["the cat sat on the mat and slept", "a dog ran over the long road", "the sun is out"] * 20
MASK = 4


class Copies(torch.nn.Module):
    """Answers with the token that it sees, and with token 6 for a mask."""

    def __init__(self):
        super().__init__()
        self.dropout = torch.nn.Dropout()
        self.anchor = torch.nn.Parameter(torch.zeros(()))

    def forward(self, input_ids, attention_mask=None):
        answer = torch.where(input_ids == MASK, 6, input_ids)
        return SimpleNamespace(logits=torch.nn.functional.one_hot(answer, 12) + self.anchor)


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(TEXTS, 120)


@pytest.fixture(scope="module")
def model(tokenizer):
    from transformers import BertForMaskedLM

    torch.manual_seed(0)
    return BertForMaskedLM(bert_config(len(tokenizer), "tiny")).eval()


def batch(shown, labels):
    shown, labels = torch.tensor(shown), torch.tensor(labels)
    return {"input_ids": shown, "labels": labels, "attention_mask": (shown != 0).long()}


HAND = batch(
    # kept: a copy is right. masked: 6 is right, 7 is not. swapped: a copy of 9 is wrong.
    [[5, MASK, MASK, 9, 0]],
    [[5, 6, 7, 8, IGNORE]],
)


def test_by_hand():
    found = masked_accuracy.accuracies(Copies(), [HAND], MASK)
    assert found == {"everywhere": 3 / 5, "asked": 2 / 4, "hidden": 1 / 2}


def test_counts_are_summed_before_they_are_divided():
    lonely = batch([[5, 6, 7]], [[IGNORE, 9, IGNORE]])  # one question, answered wrongly
    found = masked_accuracy.accuracies(Copies(), [HAND, lonely], MASK)
    assert found == {"everywhere": 5 / 8, "asked": 2 / 5, "hidden": 1 / 2}


def test_nothing_asked_is_nothing_right():
    found = masked_accuracy.accuracies(Copies(), [batch([[5, 6]], [[IGNORE, IGNORE]])], MASK)
    assert found == {"everywhere": 1.0, "asked": 0.0, "hidden": 0.0}


def test_the_modes_of_the_modules_come_back_after_an_error_too():
    model = Copies().train()
    model.dropout.eval()
    with pytest.raises(RuntimeError), masked_accuracy.evaluating(model):
        assert not model.training and not torch.is_grad_enabled()
        raise RuntimeError
    assert model.training and not model.dropout.training and torch.is_grad_enabled()


def test_asked_agrees_with_the_evaluation_of_pretraining(model, tokenizer):
    rows = masked_lm_rows(TEXTS, tokenizer, 16)
    batches = masked_accuracy.masked_batches(rows, tokenizer, batch_size=7)
    found = masked_accuracy.accuracies(model, batches, tokenizer.mask_token_id)["asked"]
    assert found == evaluate_masked_lm(model, tokenizer, rows)["masked_accuracy"]


def test_batches_hold_every_row_once_and_ask_the_same_again(tokenizer):
    rows = masked_lm_rows(TEXTS, tokenizer, 16)
    first, second = (masked_accuracy.masked_batches(rows, tokenizer, batch_size=9) for _ in "ab")
    stacked = torch.cat([masked_accuracy.original_tokens(batch) for batch in first])
    assert np.array_equal(stacked, rows.input_ids)
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one["input_ids"], other["input_ids"])


def test_labelled_share_leaves_padding_out_of_the_denominator():
    assert masked_accuracy.labelled_share(HAND) == 1.0
    everything = {**HAND, "labels": masked_accuracy.original_tokens(HAND)}
    assert masked_accuracy.labelled_share(everything) == 5 / 4


def test_a_blank_is_filled_as_the_library_fills_it(model, tokenizer):
    from transformers import pipeline

    text = "the cat [MASK] on the mat"
    library = pipeline("fill-mask", model=model, tokenizer=tokenizer, top_k=3, device="cpu")(text)
    found = masked_accuracy.fill(model, tokenizer, text, answers=3)
    assert [word for word, _ in found] == [entry["token_str"] for entry in library]
    assert [p for _, p in found] == pytest.approx([entry["score"] for entry in library])


@pytest.mark.parametrize("text", ["the cat sat", "the cat " * 200 + "[MASK]"])
def test_a_text_without_a_reachable_blank_is_refused(model, tokenizer, text):
    with pytest.raises(ValueError, match=r"^there is no \[MASK\] to fill in 'the cat"):
        masked_accuracy.fill(model, tokenizer, text)


def test_models_stand_in_one_table(model, tokenizer):
    blind = train_tokenizer(["好 天 气"] * 20, 60)  # has no piece for any of the words
    table = masked_accuracy.compare(
        {"a": (model, tokenizer), "b": (model, tokenizer), "c": (model, blind)}, TEXTS, length=16
    )
    first, second, unknown = table
    direct = evaluate_masked_lm(model, tokenizer, masked_lm_rows(TEXTS, tokenizer, 16))
    assert first["perplexity"] == direct["perplexity"]
    assert {**first, "model": "b"} == second and first["unknown"] == 0
    assert unknown["unknown"] > 0.5 and math.isnan(unknown["masked accuracy"])
