"""Nothing is lost, whatever the text; specials have the ids that the models expect."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cookbook.data import pack, train_tokenizer
from cookbook.data.byte_pairs import train_byte_pairs
from cookbook.data.tokenization import SPECIAL

TEXTS = ["def sum(x):\n    return the sum of x\n", "Returns the sum.  Then more.\n\n\tx : int"] * 30
TOKENIZER = train_byte_pairs(TEXTS, 330)
SPECIAL_WORDS = set(SPECIAL.values())


def ids_of(text):
    return TOKENIZER(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]


@given(st.text(max_size=60))
def test_every_text_comes_back(text):
    assert TOKENIZER.decode(ids_of(text)) == text


@pytest.mark.parametrize(
    "text", ["", "  two  spaces ", "tab\tend\r\n", "春眠不覺曉", "naïve 😀", "a [MASK] [PAD]"]
)
def test_texts_that_wordpiece_would_change_come_back(text):
    assert TOKENIZER.decode(ids_of(text)) == text
    assert not set(TOKENIZER.all_special_ids) & set(ids_of(text))


def test_special_tokens_of_a_text_can_be_meant():
    found = TOKENIZER("a [MASK]")["input_ids"]
    assert found[-2] == TOKENIZER.mask_token_id


def test_special_tokens_have_the_ids_of_the_other_tokenizer():
    other = train_tokenizer(TEXTS, 100)
    for name in SPECIAL_WORDS:
        assert TOKENIZER.convert_tokens_to_ids(name) == other.convert_tokens_to_ids(name)
    assert TOKENIZER("x")["input_ids"][:: len(ids_of("x")) + 1] == [2, 3]
    assert (TOKENIZER.bos_token_id, TOKENIZER.eos_token_id) == (2, 3)


def test_frequent_words_are_one_piece_and_the_size_is_kept():
    assert len(TOKENIZER) <= 330
    assert len(ids_of(" the sum")) == 2


def test_what_is_packed_decodes_to_the_documents():
    rows = pack(TOKENIZER(TEXTS[:4])["input_ids"], 16).input_ids
    joined = TOKENIZER.decode(rows.ravel(), skip_special_tokens=True)
    assert joined == "".join(TEXTS[:4])


def test_fewer_tokens_than_bytes_are_refused():
    with pytest.raises(ValueError, match="take 261"):
        train_byte_pairs(TEXTS, 260)


def test_digits_may_stand_alone():
    years = ["in 1984 and 1984"] * 50
    plain, alone = (train_byte_pairs(years, 300, digits=digits) for digits in (False, True))
    assert len(plain.tokenize("1984")) < 4 == len(alone.tokenize("1984"))
    assert alone.decode(alone("1,985 公里", add_special_tokens=False)["input_ids"]) == "1,985 公里"
