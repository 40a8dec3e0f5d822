"""BERT and GPT-2 of our own blocks, filled with a library's weights, give the library's logits."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cookbook.maths import language_models, pouring

IDS = torch.randint(5, 99, (3, 12), generator=torch.Generator().manual_seed(0))
MASK = torch.ones(3, 12, dtype=torch.long)
MASK[1, 7:] = MASK[2, 1:] = 0


def tiny_bert(**settings):
    from transformers import BertConfig, BertForMaskedLM

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=99, hidden_size=32, num_hidden_layers=3, num_attention_heads=4,
        intermediate_size=64, max_position_embeddings=16, initializer_range=0.2,
        attn_implementation="eager", **settings,
    )  # fmt: skip
    return BertForMaskedLM(config).eval()


def tiny_gpt2(**settings):
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=99, n_embd=32, n_layer=3, n_head=4, n_positions=16, initializer_range=0.2,
        attn_implementation="eager", **settings,
    )  # fmt: skip
    return GPT2LMHeadModel(config).eval()


def assert_same_model(ours, theirs, ids, mask, **more):
    with torch.no_grad():
        logits, weights = ours(ids, mask, **more)
        expected = theirs(input_ids=ids, attention_mask=mask, output_attentions=True, **more)
    real = mask.bool()  # what stands at padding is nobody's business
    torch.testing.assert_close(logits[real], expected.logits[real], rtol=0, atol=1e-4)
    queries = real[:, None, None, :, None]
    theirs_weights = torch.stack(expected.attentions, 1)
    torch.testing.assert_close(weights * queries, theirs_weights * queries, rtol=0, atol=1e-5)


def test_bert_gives_the_librarys_logits_and_attention():
    theirs = tiny_bert()
    segments = torch.tensor([[0] * 6 + [1] * 6] * 3)
    assert_same_model(pouring.bert(theirs), theirs, IDS, MASK, token_type_ids=segments)


def test_gpt2_gives_the_librarys_logits_and_attention():
    theirs = tiny_gpt2()
    assert_same_model(pouring.gpt2(theirs), theirs, IDS, MASK)


def test_docbert_of_our_own_blocks_gives_its_logits():
    from cookbook.models import load_model, load_tokenizer

    theirs = load_model("docbert", attn_implementation="eager").eval()
    texts = ["Returns the [MASK] of the array.", "Sort."]
    batch = load_tokenizer("docbert")(texts, padding=True, return_tensors="pt")
    assert_same_model(pouring.bert(theirs), theirs, batch["input_ids"], batch["attention_mask"])


@given(st.integers(0, 10_000), st.integers(1, 11))
@settings(max_examples=25)
def test_a_later_token_never_moves_an_earlier_logit_of_gpt2(seed, at):
    torch.manual_seed(seed)
    model = language_models.Gpt2(99, 32, 2, 4, 64, 16)
    changed = IDS.clone()
    changed[:, at:] = torch.randint(5, 99, (3, 12 - at))
    with torch.no_grad():
        before, after = model(IDS)[0], model(changed)[0]
    torch.testing.assert_close(before[:, :at], after[:, :at], rtol=0, atol=1e-5)


@given(st.integers(0, 10_000), st.integers(1, 4))
@settings(max_examples=25)
def test_padding_moves_no_logit_of_bert(seed, extra):
    torch.manual_seed(seed)
    model = language_models.Bert(99, 32, 2, 4, 64, 16)
    padded = torch.cat((IDS, torch.randint(0, 99, (3, extra))), 1)
    mask = torch.cat((torch.ones_like(IDS), torch.zeros(3, extra, dtype=torch.long)), 1)
    with torch.no_grad():
        alone, together, broken = model(IDS)[0], model(padded, mask)[0], model(padded)[0]
    torch.testing.assert_close(together[:, :12], alone, rtol=0, atol=1e-5)
    assert (broken[:, :12] - alone).abs().max() > 1e-4


def test_what_was_poured_is_a_copy():
    theirs = tiny_gpt2()
    ours = pouring.gpt2(theirs)
    with torch.no_grad():
        for weight in ours.parameters():
            weight.zero_()
    assert theirs.transformer.wte.weight.abs().sum() > 0


@pytest.mark.parametrize("make", [tiny_bert, tiny_gpt2])
def test_every_weight_of_ours_came_from_theirs(make):
    theirs = make()
    for weight in theirs.parameters():
        torch.nn.init.constant_(weight, 7.0)
    ours = (pouring.bert if make is tiny_bert else pouring.gpt2)(theirs)
    assert all((weight == 7).all() for weight in ours.parameters())
