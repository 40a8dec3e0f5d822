"""The wrong loss is wrong in the way that is claimed, and the right one is not."""

import pytest
import torch

from cookbook.data import train_tokenizer
from cookbook.models import bert_config
from cookbook.training import Batches, MaskedLMCollator, loop, masked_accuracy, pitfalls

TEXTS = ["the cat sat on the mat", "a dog ran over the long road and back again", "sun"] * 8


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(TEXTS, 100)


@pytest.fixture(scope="module")
def batches(tokenizer):
    rows = [{"input_ids": ids} for ids in tokenizer(TEXTS)["input_ids"]]
    return Batches(rows, 8, collate=MaskedLMCollator(tokenizer))


def new_model(tokenizer):
    from transformers import BertForMaskedLM

    torch.manual_seed(0)
    return BertForMaskedLM(bert_config(len(tokenizer), "tiny"))


def test_every_position_is_labelled_with_what_stood_there(batches, tokenizer):
    batch = batches[0]
    texts = [TEXTS[row] for _, row in batches.keys(0)]
    true = tokenizer(texts, padding=True, return_tensors="pt")["input_ids"]
    assert torch.equal(pitfalls.label_everything(batch)["labels"], true)
    assert batch["labels"].eq(-100).any(), "the batch that was given has changed"


def test_the_wrong_loss_counts_padding_and_the_right_one_does_not(batches, tokenizer):
    model, batch = new_model(tokenizer).eval(), batches[0]
    _, wrong = pitfalls.loss_over_everything(model, batch)
    _, right = loop.summed_cross_entropy(model, batch)
    assert wrong == batch["input_ids"].numel() > batch["attention_mask"].sum()
    assert right == batch["labels"].ne(-100).sum() < 0.25 * wrong


def test_the_wrong_loss_is_the_librarys_on_the_wrong_labels(batches, tokenizer):
    model, batch = new_model(tokenizer).eval(), batches[0]
    loss, count = pitfalls.loss_over_everything(model, batch)
    library = model(**pitfalls.label_everything(batch)).loss
    torch.testing.assert_close(loss / count, library)


def test_the_share_of_labels_tells_them_apart(batches):
    batch = batches[0]
    assert masked_accuracy.labelled_share(batch) < 0.35  # short rows: at least one each
    assert masked_accuracy.labelled_share(pitfalls.label_everything(batch)) > 1


def test_watched_measures_before_and_after_and_learns_to_copy(batches, tokenizer):
    held_out = [batches[0]]
    curves = pitfalls.watched(
        new_model(tokenizer), batches, held_out, mask_id=tokenizer.mask_token_id,
        loss_fn=pitfalls.loss_over_everything, steps=60, every=30, learning_rate=1e-2,
    )  # fmt: skip
    assert [step for step, _ in curves["loss"]] == list(range(1, 61))
    assert [step for step, _ in curves["hidden"]] == [0, 30, 60]
    assert curves["loss"][-1][1] < 0.5 * curves["loss"][0][1]
    assert curves["everywhere"][-1][1] > curves["everywhere"][0][1] + 0.3


def test_watched_can_be_repeated(batches, tokenizer):
    how = {"mask_id": 4, "loss_fn": loop.summed_cross_entropy, "steps": 3, "every": 2}
    runs = []
    for _ in range(2):
        torch.manual_seed(1)
        runs.append(pitfalls.watched(new_model(tokenizer), batches, [batches[1]], **how))
    assert runs[0] == runs[1]
