"""The small BERT configurations."""

import pytest
from transformers import BertForMaskedLM

from cookbook.models.initialization import count_parameters
from cookbook.models.text import SIZES, bert_config


@pytest.mark.parametrize("size", SIZES)
def test_heads_divide_the_hidden_size_of_every_size(size):
    config = bert_config(100, size)
    assert config.hidden_size % config.num_attention_heads == 0
    assert config.intermediate_size == 4 * config.hidden_size
    assert config.max_position_embeddings == 128


def test_small_has_about_five_million_parameters():
    total, trainable = count_parameters(BertForMaskedLM(bert_config()))
    assert 4.5e6 < total < 6e6 and trainable == total


def test_any_setting_can_be_overridden_sizes_too():
    config = bert_config(50, "tiny", length=16, hidden_size=64, hidden_dropout_prob=0.3)
    assert (config.vocab_size, config.hidden_size, config.hidden_dropout_prob) == (50, 64, 0.3)
    assert config.max_position_embeddings == 16 and config.num_hidden_layers == 2


def test_an_unknown_size_is_named():
    with pytest.raises(ValueError) as caught:
        bert_config(size="huge")
    assert str(caught.value) == "unknown size 'huge': choose one of tiny, mini, small, base"
