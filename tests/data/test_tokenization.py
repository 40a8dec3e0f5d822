"""Encoding is stable, packing loses no token, and what is packed apart stays apart."""

import copy
import os
import string
import subprocess
import sys

import numpy as np
import pytest
import torch
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st

from cookbook.data.tokenization import encode, pack, train_tokenizer
from cookbook.models.initialization import load_tokenizer
from cookbook.training.objectives import MaskedLMCollator
from cookbook.training.order import Keyed

CLEAN = st.text(
    alphabet=string.ascii_letters + string.digits + string.punctuation + " ", max_size=99
)
DOCUMENTS = st.lists(st.lists(st.integers(1, 10**6), max_size=23), max_size=12)


def ids(tokenizer, text):
    return tokenizer(text, add_special_tokens=False)["input_ids"]


@given(text=CLEAN)
def test_clean_ascii_comes_back_and_is_encoded_the_same_again(tokenizer, text):
    if any(token in text for token in tokenizer.all_special_tokens):
        return
    encoded = ids(tokenizer, text)
    decoded = tokenizer.decode(encoded)
    assert tokenizer.unk_token_id not in encoded
    assert ids(tokenizer, decoded) == encoded
    assert decoded.replace(" ", "") == text.replace(" ", "")


@pytest.mark.parametrize(
    "text", ["I do not know", "we do not n't 'm 's 've 're", "a . b , c ! d ?"]
)
def test_decoding_does_not_rewrite_english(tokenizer, text):
    decoded = tokenizer.decode(ids(tokenizer, text))
    assert decoded.replace(" ", "") == text.replace(" ", "")


def test_a_tokenizer_has_the_special_tokens_of_bert_and_keeps_case(tokenizer):
    special = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"}
    assert set(tokenizer.all_special_tokens) == special
    assert tokenizer.pad_token_id == 0
    assert tokenizer.decode(ids(tokenizer, "Tensor tensor")) == "Tensor tensor"
    both = tokenizer("a", "b")
    decoded = tokenizer.decode(both["input_ids"])
    assert decoded == "[CLS] a [SEP] b [SEP]"
    assert both["token_type_ids"] == [0, 0, 0, 1, 1]


def test_a_vocabulary_keeps_to_its_size_and_a_saved_tokenizer_to_its_numbers(tmp_path):
    texts = ["the Solver computes the gradient of the loss"] * 5
    tokenizer = train_tokenizer(iter(texts), 60, max_length=32)
    assert len(tokenizer) <= 60 and tokenizer.model_max_length == 32
    tokenizer.save_pretrained(tmp_path)
    stored = load_tokenizer(str(tmp_path))
    assert stored.get_vocab() == tokenizer.get_vocab()
    assert stored(texts[0], "Solver") == tokenizer(texts[0], "Solver")
    assert stored.model_max_length == 32
    assert stored.decode(ids(stored, "the Solver")) == "the Solver"


def test_what_was_never_seen_is_unknown():
    tokenizer = train_tokenizer(["the cat"] * 3, 40)
    assert ids(tokenizer, "数") == [tokenizer.unk_token_id]


def test_encode_drops_the_texts_and_keeps_the_rest(tokenizer):
    rows = Dataset.from_dict({"text": ["The solver", "computes"], "label": [1, 0]})
    encoded = encode(rows, tokenizer)
    assert set(encoded.column_names) == {
        "label", "input_ids", "token_type_ids", "attention_mask",
    }  # fmt: skip
    assert encoded["input_ids"][0] == tokenizer("The solver")["input_ids"]
    assert encoded["label"][:] == [1, 0]


def test_encode_cuts_only_when_told_and_warns_never(tokenizer, caplog):
    rows = Dataset.from_dict({"text": ["tensor " * 300]})
    fresh = copy.deepcopy(tokenizer)  # a tokenizer warns but once in its life
    limit = fresh.model_max_length
    assert len(encode(rows, fresh)["input_ids"][0]) > 300 > limit
    assert len(encode(rows, fresh, max_length=16)["input_ids"][0]) == 16
    assert fresh.model_max_length == limit
    assert not caplog.records


def test_encode_takes_a_pair_as_two_segments_and_another_text_column(tokenizer):
    pair = Dataset.from_dict({"text": ["a"], "text_pair": ["b"]})
    assert encode(pair, tokenizer)["token_type_ids"][0] == [0, 0, 0, 1, 1]
    assert encode(pair, tokenizer).column_names[0] not in ("text", "text_pair")
    other = Dataset.from_dict({"body": ["a"]})
    assert encode(other, tokenizer, text_column="body")["input_ids"][0][1:-1] == ids(tokenizer, "a")


@given(DOCUMENTS, st.integers(1, 9))
def test_packing_a_stream_loses_no_token_and_keeps_the_order(documents, length):
    packed = pack(documents, length)
    stream = [token for document in documents for token in document]
    kept = packed.input_ids[packed.document_ids > 0]
    assert kept.tolist() == stream
    assert packed.tokens == len(stream)
    assert len(packed) == -(-len(stream) // length)
    assert (packed.input_ids[packed.document_ids == 0] == 0).all()


@given(DOCUMENTS, st.integers(1, 9))
def test_packing_whole_documents_loses_no_token_and_cuts_only_long_ones(documents, length):
    packed = pack(documents, length, cross_documents=False)
    pieces = [d[i : i + length] for d in documents for i in range(0, len(d), length)]
    found = []
    for row in range(len(packed)):
        numbers = packed.document_ids[row]
        last = numbers.max()
        padding = np.flatnonzero(numbers == 0)
        assert (padding == np.arange(length - len(padding), length)).all()
        assert numbers[numbers > 0].tolist() == sorted(numbers[numbers > 0])
        for number in range(1, last + 1):
            at = numbers == number
            found.append(packed.input_ids[row][at].tolist())
            assert packed.position_ids[row][at].tolist() == list(range(at.sum()))
    assert sorted(found) == sorted(pieces)
    assert packed.tokens == sum(map(len, documents))


def test_documents_keep_their_order_within_a_row():
    packed = pack([[1] * 3, [2] * 2, [3] * 3, [4]], length=4, cross_documents=False)
    assert packed.input_ids.tolist() == [[1, 1, 1, 4], [2, 2, 0, 0], [3, 3, 3, 0]]
    assert packed.document_ids.tolist() == [[1, 1, 1, 2], [1, 1, 0, 0], [1, 1, 1, 0]]
    assert packed.position_ids.tolist() == [[0, 1, 2, 0], [0, 1, 0, 0], [0, 1, 2, 0]]


def test_a_document_longer_than_the_row_is_cut_into_rows():
    packed = pack([list(range(1, 11))], length=4, cross_documents=False)
    assert packed.input_ids.tolist() == [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 0, 0]]
    assert packed.position_ids[1].tolist() == [0, 1, 2, 3]


def test_full_rows_do_not_keep_those_with_room_from_being_filled():
    documents = [[1] * 3, *([[2] * 4] * 100), [3]]
    packed = pack(documents, length=4, cross_documents=False)
    assert len(packed) == 101 and packed.input_ids[0].tolist() == [1, 1, 1, 3]


def test_a_row_that_was_left_behind_is_closed():
    # Linear time: of rows with room only the 64 newest are looked at.
    packed = pack([*([[1] * 3] * 100), [2]], length=4, cross_documents=False)
    assert packed.document_ids.max(1).tolist().index(2) == 36


@pytest.mark.parametrize("documents", [[], [[]], [[], []]])
@pytest.mark.parametrize("cross_documents", [True, False])
def test_nothing_packs_into_no_rows(documents, cross_documents):
    packed = pack(documents, length=4, cross_documents=cross_documents)
    assert packed.input_ids.shape == (0, 4) and len(packed) == packed.tokens == 0


def test_padding_is_what_the_tokenizer_says():
    assert pack([[5, 6]], length=4, pad_id=9).input_ids.tolist() == [[5, 6, 9, 9]]


def test_a_row_needs_a_token():
    with pytest.raises(ValueError, match="^length is 0: a row needs at least one token$"):
        pack([[1]], length=0)


@pytest.fixture
def logits_of(tiny_bert, tokenizer):
    model = tiny_bert().eval()
    collate = MaskedLMCollator(tokenizer)

    def logits(packed, row=0):
        batch = collate([Keyed(packed)[row]])
        batch["input_ids"] = torch.tensor(
            packed.input_ids[[row]]
        ).long()  # unmasked: only perturbed
        batch.pop("labels")
        with torch.no_grad():
            return model(**batch).logits[0]

    return logits


def test_packed_documents_do_not_see_each_other(logits_of):
    first, second = [11, 12, 13, 14], [21, 22, 23]
    together = logits_of(pack([first, second], 10, pad_id=0, cross_documents=False))
    perturbed = logits_of(pack([[31, 32, 33, 34], second], 10, cross_documents=False))
    assert torch.equal(together[4:7], perturbed[4:7])
    assert not torch.allclose(together[:4], perturbed[:4])
    alone = logits_of(pack([second], 10, cross_documents=False))
    assert torch.allclose(together[4:7], alone[:3], atol=1e-6)
    assert together.isfinite().all()


def test_documents_in_a_stream_do_see_each_other(logits_of):
    second = [21, 22, 23]
    together = logits_of(pack([[11, 12, 13, 14], second], 7))
    perturbed = logits_of(pack([[31, 32, 33, 34], second], 7))
    assert not torch.allclose(together[4:], perturbed[4:])


def test_another_process_trains_the_same_tokenizer():
    """`tokenizers` alone hashes anew in each process; Python's hashes are made to differ too."""
    code = (
        "from cookbook.data.tokenization import train_tokenizer as train\n"
        "texts = ['Übung macht den Meister, the Solver computes a gradient', 'naïve cafés']\n"
        "print(sorted(train(texts, 60).get_vocab().items()))"
    )
    runs = [
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": str(seed)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in (1, 2)
    ]
    assert runs[0] == runs[1] and "##b" in runs[0]
