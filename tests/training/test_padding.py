"""With the mask padding changes nothing, without it everything; the questions stay the same."""

import pytest
import torch

from cookbook.training import masked_accuracy, padding

TEXTS = ["the solver computes the gradient", "returns a copy", "an estimator of two tensors"]


@pytest.fixture
def batch(tokenizer):
    rows = [{"input_ids": ids} for ids in tokenizer(TEXTS)["input_ids"]]
    (batch,) = masked_accuracy.masked_batches(rows, tokenizer)
    return batch


def test_widened_columns_are_padding_and_ask_nothing(batch, tokenizer):
    wide = padding.widen(batch, 3, tokenizer.pad_token_id)
    assert wide.keys() == batch.keys()
    for name, value in wide.items():
        assert torch.equal(value[:, :-3], batch[name])
    assert (wide["input_ids"][:, -3:] == tokenizer.pad_token_id).all()
    assert (wide["attention_mask"][:, -3:] == 0).all() and (wide["labels"][:, -3:] == -100).all()
    assert padding.widen(batch, 0, 0)["input_ids"].shape == batch["input_ids"].shape


def test_without_mask_says_that_all_is_text_and_leaves_the_batch_alone(batch):
    before = batch["attention_mask"].clone()
    assert padding.without_mask(batch)["attention_mask"].all()
    assert torch.equal(batch["attention_mask"], before) and not before.all()


def test_the_loss_knows_padding_only_without_the_mask(batch, tokenizer, tiny_bert):
    model = tiny_bert(initializer_range=0.5).train()
    columns, pad = [0, 5, 20], tokenizer.pad_token_id
    right, wrong = (
        padding.losses_by_padding(model, batch, columns, pad, masked=m) for m in (True, False)
    )
    first = right["loss"][0][1]
    assert [x for x, _ in right["loss"]] == columns == [x for x, _ in wrong["changed"]]
    assert all(abs(loss - first) < 1e-5 for _, loss in right["loss"])
    assert all(abs(loss - first) > 1e-3 for _, loss in wrong["loss"])
    assert [share for _, share in right["changed"]] == [0, 0, 0]
    assert wrong["changed"][-1][1] > 0
    assert model.training, "measuring must not switch the model to evaluation for good"


def test_the_loss_is_the_librarys(batch, tokenizer, tiny_bert):
    model = tiny_bert()
    found = padding.losses_by_padding(model, batch, [4], tokenizer.pad_token_id)
    wide = padding.widen(batch, 4, tokenizer.pad_token_id)
    with torch.no_grad():
        assert abs(model(**wide).loss - found["loss"][0][1]) < 1e-4
