"""A tokenizer that cannot read the text is refused before anything is trained."""

import pytest

from cookbook.data.errors import DataError
from cookbook.finetuning.fit import WORD, check_tokenizer, tokenizer_fit
from cookbook.finetuning.strategies import fine_tune
from cookbook.models.initialization import load_tokenizer

CHINESE = ["味道不错,送餐很快", "太难吃了 下次不会再点"] * 20


def test_words_by_hand():
    assert WORD.findall("two words, x_1 naïve") == ["two", "words", "x", "1", "naïve"]
    assert WORD.findall("味道 ok") == ["味", "道", "ok"]


def test_english_fits(tokenizer):
    fit = tokenizer_fit(tokenizer, ["The solver computes the gradient", "of two tensors", ""])
    assert fit.unknown == 0 and fit.words == 8
    pieces = tokenizer.tokenize("The solver computes the gradient of two tensors")
    assert fit.pieces_per_word == len(pieces) / 8


def test_unknown_tokens_are_counted(tokenizer):
    assert tokenizer_fit(tokenizer, ["of 味 two 道"]).unknown == 0.5


def test_special_tokens_do_not_count(tokenizer):
    assert tokenizer_fit(tokenizer, ["of"]).tokens == 1


def test_docbert_refuses_chinese_in_one_line():
    with pytest.raises(DataError, match="docbert cannot read this text: its tokenizer has no") as e:
        check_tokenizer(load_tokenizer("docbert"), CHINESE, name="docbert")
    assert "\n" not in str(e.value) and len(str(e.value)) < 180


def test_fine_tuning_asks_before_it_trains(checkpoint, labelled, tmp_path):
    chinese = labelled.map(lambda row, i: {"text": CHINESE[i % 2]}, with_indices=True)
    with pytest.raises(DataError, match="cannot read this text"):
        fine_tune(checkpoint, chinese, output_dir=tmp_path)


def test_no_words(tokenizer):
    with pytest.raises(DataError, match="1 texts hold no words: name the column with text_column"):
        tokenizer_fit(tokenizer, ["", "..."])
