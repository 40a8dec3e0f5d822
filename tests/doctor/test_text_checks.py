import copy
import types

import pytest
import torch
import transformers
from torch import nn

from cookbook.doctor import text_checks
from cookbook.doctor.checks import Skip
from cookbook.doctor.subject import Subject


def found(check, subject):
    try:
        return [(f.fault, f.severity) for f in check(subject)]
    except Skip:
        return []


def encoded(tokenizer, texts):
    return [dict(tokenizer(text)) | {"labels": i % 2} for i, text in enumerate(texts)]


def gpt2(tokenizer, size=None):
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(
        vocab_size=size or len(tokenizer), n_positions=64, n_embd=32, n_layer=1, n_head=2,
    ))  # fmt: skip


# -- T5 ------------------------------------------------------------------------------------------

KNOWN, FOREIGN = "the solver computes two tensors and returns", "das Öl fließt"


@pytest.mark.parametrize("raw", [True, False])
@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ([KNOWN] * 40, []),
        ([KNOWN] * 39 + [FOREIGN], []),
        ([KNOWN] * 30 + [FOREIGN] * 10 + [KNOWN + " ß"] * 10, [("T5", "warn")]),
        ([FOREIGN] * 40 + ["ß ß ß ß"] * 40, [("T5", "error")]),
        (["ß"] * 3, []),  # too few to tell
    ],
)
def test_unknown_tokens(tokenizer, texts, expected, raw):
    rows = [{"text": text, "label": 0} for text in texts] if raw else encoded(tokenizer, texts)
    subject = Subject(None, train_dataset=rows, processing_class=tokenizer)
    assert found(text_checks.check_tokens_are_known, subject) == expected


def test_an_unknown_token_that_is_also_the_end_counts_for_nothing(tokenizer):
    shared = copy.deepcopy(tokenizer)
    shared.eos_token = shared.unk_token  # as in GPT-2
    rows = [{"text": "ß ß ß ß"}] * 100
    subject = Subject(None, train_dataset=rows, processing_class=shared)
    assert found(text_checks.check_tokens_are_known, subject) == []


# -- T6, T9 --------------------------------------------------------------------------------------


def ids(subject):
    return found(text_checks.check_ids_have_an_embedding, subject)


def test_added_tokens_need_rows(tiny_bert, tokenizer):
    larger = copy.deepcopy(tokenizer)
    larger.add_tokens(["<new>", "<other>"])
    model = tiny_bert("BertForSequenceClassification")
    for texts in (["a <new> copy"] * 8, ["a copy"] * 8):
        rows = encoded(larger, texts)
        subject = Subject(model, train_dataset=rows, processing_class=larger)
        assert ids(subject) == [("T9", "error")]
    model.resize_token_embeddings(len(larger))
    assert ids(Subject(model, train_dataset=rows, processing_class=larger)) == []


def test_a_tokenizer_of_another_model(tiny_bert, tokenizer):
    rows = encoded(tokenizer, ["the solver computes two tensors"] * 8)
    small = gpt2(tokenizer, size=100)
    assert ids(Subject(small, train_dataset=rows, processing_class=tokenizer)) == [("T6", "error")]
    assert ids(Subject(small, train_dataset=rows)) == [("T6", "error")]
    large = gpt2(tokenizer, size=512)  # padded to a round number, as many checkpoints are
    assert ids(Subject(large, train_dataset=rows, processing_class=tokenizer)) == []


def test_plain_modules_and_other_inputs():
    class Plain(nn.Module):
        def __init__(self):
            super().__init__()
            self.words, self.places = nn.Embedding(50, 4), nn.Embedding(8, 4)

        def forward(self, x):
            return self.words(x)

    for largest, expected in ((49, []), (50, [("T6", "error")])):
        pairs = [(torch.tensor([1, largest]), 0)] * 8
        assert ids(Subject(Plain(), train_dataset=pairs)) == expected
    pixels = [(torch.rand(4) * 100, 0)] * 8
    assert ids(Subject(nn.Linear(4, 2), train_dataset=pixels)) == []
    assert ids(Subject(Plain(), train_dataset=pixels)) == []
    assert ids(Subject(None, train_dataset=pixels)) == []


def test_unknown_tokens_of_one_text_of_a_pair(tokenizer):
    def rows(second, kinds_of=0):
        return [{"text_ids": tokenizer(KNOWN)["input_ids"], "pair_ids": tokenizer(second)[
            "input_ids"], "segment_ids": [kinds_of] * 9} for _ in range(40)]  # fmt: skip

    def of(given):
        subject = Subject(None, train_dataset=given, processing_class=tokenizer)
        return found(text_checks.check_tokens_are_known, subject)

    unknown = tokenizer.unk_token_id
    assert of(rows(KNOWN)) == of(rows(KNOWN, unknown)) == []  # kinds of segments are no tokens
    assert of(rows(KNOWN + " ß")) == [("T5", "warn")]
    assert of(rows(FOREIGN + " ß ß ß")) == [("T5", "error")]


# -- T8 ------------------------------------------------------------------------------------------

CHAT = "<|im_start|> the solver <|im_end|>"


def markers(tokenizer, texts, raw=True):
    rows = [{"text": text, "label": 0} for text in texts] if raw else encoded(tokenizer, texts)
    subject = Subject(None, train_dataset=rows, processing_class=tokenizer)
    return found(text_checks.check_markers_are_whole, subject)


@pytest.mark.parametrize("raw", [True, False])
def test_markers_that_fall_to_pieces(tokenizer, raw):
    assert markers(tokenizer, [CHAT] * 20, raw) == [("T8", "warn")]
    assert markers(tokenizer, [CHAT] * 2 + [KNOWN] * 20, raw) == []  # mentioned, not used
    whole = copy.deepcopy(tokenizer)
    whole.add_tokens(["<|im_start|>", "<|im_end|>"], special_tokens=True)
    assert markers(whole, [CHAT] * 20, raw) == []


@pytest.mark.parametrize("raw", [True, False])
def test_sentinels_that_the_tokenizer_does_not_know(tokenizer, raw):
    text = "the solver <extra_id_0> tensors <extra_id_1>"
    assert markers(tokenizer, [text] * 20, raw) == [("T8", "warn")]
    whole = copy.deepcopy(tokenizer)
    whole.add_tokens(["<extra_id_0>", "<extra_id_1>"], special_tokens=True)
    assert markers(whole, [text] * 20, raw) == []


@pytest.mark.parametrize(
    "text", ["<div> a copy </div>", "x <| y |> z", "[SEP] a [MASK]", "a [1] and [see]"]
)
def test_what_only_looks_like_a_marker(tokenizer, text):
    assert markers(tokenizer, [text] * 20) == []


def test_headers_that_the_template_itself_writes_as_text(tokenizer):
    texts = ["<|user|> who <|assistant|> it"] * 20
    assert markers(tokenizer, texts) == [("T8", "warn")]
    zephyr = copy.deepcopy(tokenizer)
    zephyr.chat_template = "{% for m in messages %}<|user|>{{ m }}<|assistant|>{% endfor %}"
    assert markers(zephyr, texts) == []


AROUND = "[E1] the solver [/E1] computes two tensors"


@pytest.mark.parametrize(
    ("text", "head", "expected"),
    [
        (AROUND, "BertForSequenceClassification", [("T8", "warn")]),
        ("a <e1> copy </e1> of <e2> it </e2>", "BertForTokenClassification", [("T8", "warn")]),
        (AROUND, None, []),  # a decoder may well write its format in pieces
        ("[INST] who is it [/INST]", "BertForSequenceClassification", []),
        ("[B] a [/B] copy [B] of [/B] it", "BertForSequenceClassification", []),  # of a forum
        ("<b> a copy </b> of it", "BertForSequenceClassification", []),
        ("[A] a copy, see [1]", "BertForSequenceClassification", []),
    ],
)
@pytest.mark.parametrize("raw", [True, False])
def test_marks_around_a_word_of_each_text(tiny_bert, tokenizer, text, head, expected, raw):
    texts = [text] * 20
    rows = [{"text": t} | dict(tokenizer(t)) | {"labels": 0} for t in texts]
    if not raw and text == AROUND:
        rows = [{k: v for k, v in row.items() if k != "text"} for row in rows]
    model = tiny_bert(head) if head else gpt2(tokenizer)
    subject = Subject(model, train_dataset=rows, processing_class=tokenizer)
    assert found(text_checks.check_markers_are_whole, subject) == expected
    if expected:
        whole = copy.deepcopy(tokenizer)
        whole.add_tokens(["[E1]", "[/E1]", "<e1>", "</e1>", "<e2>", "</e2>"])
        subject = Subject(model, train_dataset=rows, processing_class=whole)
        assert found(text_checks.check_markers_are_whole, subject) == []


def test_marks_that_stand_in_some_texts_only(tiny_bert, tokenizer):
    rows = [{"text": t} | dict(tokenizer(t)) | {"labels": 0} for t in [AROUND] * 20 + [KNOWN] * 20]
    model = tiny_bert("BertForSequenceClassification")
    subject = Subject(model, train_dataset=rows, processing_class=tokenizer)
    assert found(text_checks.check_markers_are_whole, subject) == []


# -- T11, H3 -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("side", "generates", "expected"),
    [("right", True, [("T11", "error")]), ("left", True, []), ("right", False, [])],
)
def test_prompts_that_are_generated_from(tokenizer, side, generates, expected):
    padded = copy.deepcopy(tokenizer)
    padded.padding_side = side
    rows = [{k: row[k] for k in ("input_ids", "attention_mask")}
            for row in encoded(tokenizer, ["a copy", KNOWN] * 8)]  # fmt: skip
    args = types.SimpleNamespace(predict_with_generate=generates)
    subject = Subject(gpt2(tokenizer), train_dataset=rows, eval_dataset=rows, args=args,
                      processing_class=padded)  # fmt: skip
    assert found(text_checks.check_prompts_are_padded_on_the_left, subject) == expected
    same = Subject(gpt2(tokenizer), eval_dataset=rows[::2], args=args, processing_class=padded)
    assert found(text_checks.check_prompts_are_padded_on_the_left, same) == []


def test_mostly_padding_is_advice(tiny_bert, tokenizer):
    model = tiny_bert("BertForSequenceClassification")
    for length, expected in ((60, [("H3", "info")]), (8, [])):
        rows = [dict(tokenizer(KNOWN, padding="max_length", max_length=length, truncation=True))
                | {"labels": 0} for _ in range(16)]  # fmt: skip
        subject = Subject(model, train_dataset=rows, processing_class=tokenizer)
        assert found(text_checks.check_padding_is_not_most, subject) == expected
