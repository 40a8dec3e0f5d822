"""Pouring copies every weight, or says what our blocks do not have.

That poured modules give the library's values and gradients is tested where the modules are: in
test_attention, test_blocks and test_language_models.
"""

import pytest
import torch
from torch import nn

from cookbook.maths import blocks, pouring


@pytest.mark.parametrize(
    ("pour", "theirs"),
    [
        (pouring.attention, nn.MultiheadAttention(8, 2)),
        (pouring.encoder_block, nn.TransformerEncoderLayer(8, 2, 16)),
        (pouring.decoder_block, nn.TransformerDecoderLayer(8, 2, 16)),
    ],
)
def test_dtype_mode_and_number_of_weights_are_kept_and_no_memory_is_shared(pour, theirs):
    theirs = theirs.double().eval()
    ours = pour(theirs)
    count = [sum(p.numel() for p in module.parameters()) for module in (ours, theirs)]
    assert count[0] == count[1] and {p.dtype for p in ours.parameters()} == {torch.float64}
    places = [{p.data_ptr() for p in module.parameters()} for module in (ours, theirs)]
    assert not places[0] & places[1]
    assert not ours.training or pour is pouring.attention


def test_settings_come_along():
    theirs = nn.TransformerEncoderLayer(
        8, 2, 16, norm_first=True, layer_norm_eps=0.1, activation=nn.GELU()
    )
    ours = pouring.encoder_block(theirs)
    assert ours.norm_first and ours.norm2.eps == 0.1 and ours.attention.heads == 2
    assert ours.feed_forward.activation is blocks.gelu


SIZES = {"vocab_size": 99, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}


def bert(**options):
    from transformers import BertConfig, BertForMaskedLM

    return BertForMaskedLM(BertConfig(**SIZES, **options))


def gpt2(**options):
    from transformers import GPT2Config, GPT2LMHeadModel

    return GPT2LMHeadModel(GPT2Config(**SIZES, **options))


@pytest.mark.parametrize(
    ("pour", "make", "found"),
    [
        (pouring.attention, lambda: nn.MultiheadAttention(8, 2, kdim=4), "keys or values"),
        (pouring.attention, lambda: nn.MultiheadAttention(8, 2, add_bias_kv=True), "extra keys"),
        (
            pouring.encoder_block,
            lambda: nn.TransformerEncoderLayer(8, 2, 16, activation=torch.tanh),
            "the activation",
        ),
        (
            pouring.decoder_block,
            lambda: nn.TransformerDecoderLayer(8, 2, 16, bias=False),
            "layers without bias",
        ),
        (pouring.bert, gpt2, "GPT2LMHeadModel of type 'gpt2'"),
        (pouring.bert, lambda: bert().bert, "a BertModel"),
        (pouring.bert, lambda: bert(hidden_act="relu"), "the activation 'relu'"),
        (pouring.gpt2, bert, "BertForMaskedLM of type 'bert'"),
        (pouring.gpt2, lambda: gpt2(activation_function="relu"), "the activation 'relu'"),
        (pouring.gpt2, lambda: gpt2(scale_attn_by_inverse_layer_idx=True), "another scale"),
    ],
)
def test_what_our_blocks_do_not_have_is_refused_by_name(pour, make, found):
    with pytest.raises(ValueError, match=f"our blocks do not have .*{found}"):
        pour(make())
