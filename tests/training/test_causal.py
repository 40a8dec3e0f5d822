"""The loss stands at offset 1, nothing asks about padding, and packed documents stay apart."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import GPT2Config, GPT2LMHeadModel

from cookbook.data.tokenization import pack
from cookbook.training.causal import CausalCollator, next_token_loss, own_past
from cookbook.training.stacking import IGNORE

VOCABULARY = 50
COLLATE = CausalCollator(pad_id=0)


@pytest.fixture(scope="module", params=["eager", "sdpa"])
def gpt(request):
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=VOCABULARY, n_positions=16, n_embd=16, n_layer=2, n_head=2,
                        bos_token_id=1, eos_token_id=2, pad_token_id=0,
                        attn_implementation=request.param)  # fmt: skip
    return GPT2LMHeadModel(config).eval()


def rows(*documents):
    return [{"input_ids": list(document)} for document in documents]


def test_the_loss_by_hand_is_the_loss_of_the_library(gpt):
    batch = COLLATE(rows([5, 6, 7, 8], [9, 4]))
    out = gpt(**batch)
    found = next_token_loss(out.logits, batch["labels"])
    torch.testing.assert_close(found, out.loss, rtol=1e-5, atol=1e-6)
    mine, theirs = (torch.autograd.grad(loss, out.logits, retain_graph=True)[0]
                    for loss in (found, out.loss))  # fmt: skip
    torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-6)


def test_in_double_precision_it_is_torchs_cross_entropy_of_the_neighbours():
    logits = torch.randn(2, 5, 9, dtype=torch.double, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([[4, 5, 6, 7, 8], [3, 2, 1, IGNORE, IGNORE]])
    pairs = [(logits[row, t], labels[row, t + 1]) for row in range(2) for t in range(4)]
    asked = [torch.nn.functional.cross_entropy(*pair) for pair in pairs if pair[1] != IGNORE]
    expected = torch.stack(asked).mean()
    torch.testing.assert_close(next_token_loss(logits, labels), expected, rtol=0, atol=1e-10)


def test_three_tokens_by_hand():
    logits = torch.log(torch.tensor([[[0.5, 0.25, 0.25], [0.1, 0.1, 0.8], [1.0, 1.0, 1.0]]]))
    labels = torch.tensor([[0, 1, 2]])  # p(1 | 0) = 0.25, then p(2 | 0, 1) = 0.8
    expected = -(torch.tensor(0.25).log() + torch.tensor(0.8).log()) / 2
    torch.testing.assert_close(next_token_loss(logits, labels), expected)


def test_a_model_that_copies_its_input_gains_nothing():
    """At offset 0 it would be perfect; asked for the next token it is wrong every time."""
    ids = torch.tensor([[4, 5, 6, 7]])
    logits = 50.0 * torch.nn.functional.one_hot(ids, VOCABULARY)
    assert next_token_loss(logits, ids) > 40
    assert next_token_loss(logits.roll(-1, 1), ids) < 1e-6


@given(st.lists(st.lists(st.integers(1, 49), min_size=1, max_size=12), min_size=1, max_size=4))
def test_every_token_is_asked_once_and_no_padding(documents):
    batch = COLLATE(rows(*documents))
    asked = batch["labels"] != IGNORE
    assert asked.sum(1).tolist() == [len(d) for d in documents]
    assert (asked == batch["attention_mask"].bool()).all()
    assert [row[row != IGNORE].tolist() for row in batch["labels"]] == documents


@given(st.lists(st.lists(st.integers(1, 49), min_size=1, max_size=9), min_size=1, max_size=6))
def test_packed_apart_no_token_is_asked_of_another_document(documents):
    packed = pack(documents, 12, cross_documents=False)
    batch = COLLATE([packed[i] for i in range(len(packed))])
    if batch["attention_mask"].dim() == 2:  # one document a row
        return
    asked = batch["labels"][:, 1:] != IGNORE
    # What the loss counts: all tokens of a document but its first.
    assert asked.sum() == sum(len(d) - 1 for d in documents)


def test_documents_packed_apart_get_the_logits_they_get_alone(gpt):
    documents = [[5, 6, 7], [8, 9], [10, 11, 12, 13]]
    packed = pack(documents, 6, cross_documents=False)
    batch = COLLATE([packed[i] for i in range(len(packed))])
    together = gpt(**batch)
    total = torch.zeros(())
    for document in documents:
        alone = gpt(input_ids=torch.tensor([document])).logits[0]
        found = packed.input_ids == document[0]  # no token stands twice
        row, start = (int(place[0]) for place in found.nonzero())
        seen = together.logits[row, start : start + len(document)]
        torch.testing.assert_close(seen, alone, rtol=1e-5, atol=1e-6)
        total += (len(document) - 1) * next_token_loss(alone[None], torch.tensor([document]))
    asked = sum(len(document) - 1 for document in documents)
    torch.testing.assert_close(together.loss, total / asked, rtol=1e-5, atol=1e-6)


def test_padding_changes_no_loss(gpt):
    alone = gpt(**COLLATE(rows([5, 6, 7]))).loss
    batch = COLLATE(rows([5, 6, 7], [5, 6, 7, 8, 9, 10]))
    logits = gpt(**batch).logits
    torch.testing.assert_close(next_token_loss(logits[:1], batch["labels"][:1]), alone)


def test_the_mask_lets_nobody_see_later_nor_foreign_tokens():
    documents = torch.tensor([[1, 1, 2, 2, 0]])
    seen = own_past(documents)[0, 0]
    for i in range(5):
        for j in range(5):
            same = documents[0, i] == documents[0, j] and documents[0, i] > 0
            assert seen[i, j] == bool((same and j <= i) or i == j)
