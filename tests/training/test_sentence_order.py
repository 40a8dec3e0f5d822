"""Half of the rows are exchanged, nothing but the order differs, and no length tells which."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AlbertConfig, AlbertForPreTraining

from cookbook.data import train_tokenizer
from cookbook.training.sentence_order import sentence_order_pairs
from cookbook.training.stacking import IGNORE, stack

TEXT = "The cat sat down. Then it slept for an hour. It woke. A dog came by, and barked at it."
TOKENIZER = train_tokenizer([TEXT] * 20, 120)
WORDS = st.lists(st.sampled_from(["the cat sat.", "it slept.", "a dog barked."]), max_size=8)


def parts(row):
    second = row["token_type_ids"].index(1)
    return row["input_ids"][1 : second - 1], row["input_ids"][second:-1]


@given(st.lists(WORDS, max_size=12), st.integers(5, 40), st.integers(0, 99))
def test_half_of_the_rows_are_exchanged_and_both_parts_are_as_long(documents, length, seed):
    texts = ["\n".join(sentences) for sentences in documents]
    usable = [sentences for sentences in documents if len(sentences) >= 2]
    if not usable:
        return
    rows = sentence_order_pairs(texts, TOKENIZER, length=length, seed=seed)
    assert len(rows) == len(usable)
    assert sum(row["sentence_order_label"] for row in rows) == len(rows) // 2
    for row in rows:
        first, second = parts(row)
        assert len(first) == len(second) >= 1 and len(row["input_ids"]) <= length


def test_label_0_stands_as_it_stood_and_label_1_is_exchanged():
    whole = TOKENIZER(TEXT, add_special_tokens=False)["input_ids"]
    rows = sentence_order_pairs([TEXT] * 40, TOKENIZER, length=24)
    assert {row["sentence_order_label"] for row in rows} == {0, 1}
    for row in rows:
        first, second = parts(row)
        if row["sentence_order_label"]:
            first, second = second, first
        joined = first + second  # around the place where they met, so nothing lies between
        assert any(joined == whole[i : i + len(joined)] for i in range(len(whole)))


def test_a_row_is_what_albert_takes():
    rows = sentence_order_pairs([TEXT] * 4, TOKENIZER, length=24)
    config = AlbertConfig(
        vocab_size=len(TOKENIZER), embedding_size=8, hidden_size=16, num_attention_heads=2,
        num_hidden_layers=1, intermediate_size=16,
    )  # fmt: skip
    ids = stack([row["input_ids"] for row in rows], 0)
    out = AlbertForPreTraining(config)(
        input_ids=ids, labels=ids.masked_fill(ids == 0, IGNORE),
        sentence_order_label=torch.tensor([row["sentence_order_label"] for row in rows]),
    )  # fmt: skip
    assert out.sop_logits.shape == (4, 2) and torch.isfinite(out.loss)


@pytest.mark.parametrize(
    ("texts", "length", "told"),
    [([TEXT], 4, "at least 5"), (["One sentence."], 20, "none of 1 documents")],
)
def test_what_cannot_be_exchanged_is_refused(texts, length, told):
    with pytest.raises(ValueError, match=told):
        sentence_order_pairs(texts, TOKENIZER, length=length)
