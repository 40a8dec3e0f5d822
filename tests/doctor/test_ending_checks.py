import copy

import pytest
import torch
import transformers

from cookbook.doctor import ending_checks
from cookbook.doctor.checks import Skip
from cookbook.doctor.subject import Subject

QUESTIONS = ["what is it", "why", "how do you compute the gradient", "who", "where is the copy of"]
ANSWERS = ["a copy of two", "None and several more tensors of it", "an array of sparse tensors",
           "the gradient of the solver that it returns to the function", "tensors"]  # fmt: skip


def found(check, subject):
    try:
        return [(f.fault, f.severity) for f in check(subject)]
    except Skip:
        return []


def t1(subject):
    return found(ending_checks.check_end_is_learnt, subject)


def t4(subject):
    return found(ending_checks.check_truncation_spares_the_target, subject)


@pytest.fixture
def causal(tokenizer):
    """A causal tokenizer: [SEP] ends a text, [PAD] pads it; shared where pad is to be EOS."""

    def make(shared=False):
        made = copy.deepcopy(tokenizer)
        made.eos_token = "[SEP]"
        if shared:
            made.pad_token = "[SEP]"
        return made

    return make


def encoded(tokenizer, text):
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def pairs(tokenizer, *, end=True, prompt=True, limit=64, count=40):
    """Question and answer; without `prompt` labels are everywhere, as in plain language models."""
    rows = []
    for i in range(count):
        question = encoded(tokenizer, QUESTIONS[i % 5])
        answer = encoded(tokenizer, ANSWERS[i * 2 % 5]) + [tokenizer.eos_token_id] * end
        labels = ([-100] * len(question) if prompt else question) + answer
        rows.append({"input_ids": (question + answer)[:limit], "labels": labels[:limit]})
    return rows


def subject_of(tokenizer, rows, collator=None, model=None):
    model = model or transformers.GPT2LMHeadModel(transformers.GPT2Config(
        vocab_size=len(tokenizer), n_positions=64, n_embd=32, n_layer=1, n_head=2,
        eos_token_id=tokenizer.eos_token_id, bos_token_id=None,
    ))  # fmt: skip
    collator = collator or transformers.DataCollatorForSeq2Seq(tokenizer)
    return Subject(model, train_dataset=rows, data_collator=collator, processing_class=tokenizer)


def language_modelling(tokenizer):
    return transformers.DataCollatorForLanguageModeling(tokenizer, mlm=False)


# -- T1 ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize(("end", "expected"), [(True, []), (False, [("T1", "error")])])
def test_answers_need_an_end(causal, shared, end, expected):
    tokenizer = causal(shared)
    assert t1(subject_of(tokenizer, pairs(tokenizer, end=end))) == expected


def test_padding_that_is_eos_hides_every_end(causal):
    """The library's collator gives -100 to every token with the padding's id."""
    for shared, expected in ((True, [("T1", "error")]), (False, [])):
        tokenizer = causal(shared)
        rows = [{"input_ids": row["input_ids"]} for row in pairs(tokenizer)]
        subject = subject_of(tokenizer, rows, language_modelling(tokenizer))
        assert t1(subject) == expected
    (finding,) = ending_checks.check_end_is_learnt(
        subject_of(causal(True), rows, language_modelling(causal(True)))
    )
    assert "attended to" in finding.evidence and "attention mask" in finding.remedy


def test_ends_inside_packed_rows_count_too(causal):
    for shared, expected in ((True, [("T1", "error")]), (False, [])):
        tokenizer = causal(shared)
        stream = [token for row in pairs(tokenizer, count=200) for token in row["input_ids"]]
        rows = [{"input_ids": stream[i : i + 32]} for i in range(0, len(stream) - 32, 32)]
        subject = subject_of(tokenizer, rows, language_modelling(tokenizer))
        assert t1(subject) == expected


def test_plain_language_modelling_needs_no_end(causal):
    tokenizer = causal()
    stream = [token for row in pairs(tokenizer, end=False, count=99) for token in row["input_ids"]]
    packed = [{"input_ids": stream[i : i + 16]} for i in range(0, len(stream) - 16, 16)]
    assert t1(subject_of(tokenizer, packed, language_modelling(tokenizer))) == []
    lines = [{"input_ids": row["input_ids"]} for row in pairs(tokenizer, end=False)]
    for shared in (True, False):
        tokenizer = causal(shared)
        subject = subject_of(tokenizer, lines, language_modelling(tokenizer))
        assert t1(subject) == [("T1", "info")]


def test_answers_of_one_token_are_a_classification(causal):
    tokenizer = causal()
    rows = [{"input_ids": q + [9], "labels": [-100] * len(q) + [9]}
            for q in (encoded(tokenizer, QUESTIONS[i % 5]) for i in range(40))]  # fmt: skip
    assert t1(subject_of(tokenizer, rows)) == [("T1", "info")]


def t5(tokenizer):
    return transformers.T5ForConditionalGeneration(transformers.T5Config(
        vocab_size=len(tokenizer), d_model=32, d_kv=16, d_ff=32, num_layers=1, num_heads=2,
        pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id,
        decoder_start_token_id=tokenizer.pad_token_id,
    ))  # fmt: skip


def answers(tokenizer, *, end=True, limit=64):
    rows = []
    for i in range(40):
        answer = encoded(tokenizer, ANSWERS[i % 5]) + [tokenizer.eos_token_id] * end
        rows.append({"input_ids": encoded(tokenizer, QUESTIONS[i % 5]), "labels": answer[:limit]})
    return rows


@pytest.mark.parametrize(("end", "expected"), [(True, []), (False, [("T1", "error")])])
def test_targets_of_a_decoder_need_an_end(causal, end, expected):
    tokenizer = causal()
    assert t1(subject_of(tokenizer, answers(tokenizer, end=end), model=t5(tokenizer))) == expected


def test_targets_of_one_length_and_sentinels_do_without(causal):
    tokenizer = causal()
    rows = [{"input_ids": [7, 8, 9], "labels": [9, 8, 7]}] * 40
    assert t1(subject_of(tokenizer, rows, model=t5(tokenizer))) == []
    tokenizer.add_tokens(["<extra_id_0>"])
    sentinel = tokenizer.convert_tokens_to_ids("<extra_id_0>")
    rows = answers(tokenizer, end=False)
    for row in rows:
        row["labels"] = [sentinel, *row["labels"]]
    assert t1(subject_of(tokenizer, rows, model=t5(tokenizer))) == []


def test_a_classifier_and_a_model_without_an_end_are_left_alone(tiny_bert, tokenizer):
    rows = [dict(tokenizer("a copy")) | {"labels": 0}] * 16
    assert t1(subject_of(tokenizer, rows, model=tiny_bert("BertForSequenceClassification"))) == []


# -- T4 ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("limit", "expected"), [(64, []), (13, [("T4", "warn")])])
def test_truncation_takes_the_ends(causal, limit, expected):
    tokenizer = causal()
    assert t4(subject_of(tokenizer, pairs(tokenizer, limit=limit))) == expected
    decoder = subject_of(tokenizer, answers(tokenizer, limit=limit - 3), model=t5(tokenizer))
    assert t4(decoder) == expected


def test_without_ends_the_answers_text_says_what_is_lost(causal):
    tokenizer = causal()
    for limit, expected in ((64, []), (9, [("T4", "warn")])):
        rows = pairs(tokenizer, limit=limit)
        for i, row in enumerate(rows):
            row["answer"] = ANSWERS[i * 2 % 5]
            row["input_ids"][-1] = row["labels"][-1] = tokenizer.eos_token_id

        def collate(rows):
            kept = [{k: row[k] for k in ("input_ids", "labels")} for row in rows]
            return transformers.DataCollatorForSeq2Seq(tokenizer)(kept)

        args = type("Args", (), {"remove_unused_columns": False})()
        subject = Subject(subject_of(tokenizer, rows).model, train_dataset=rows, args=args,
                          data_collator=collate, processing_class=tokenizer)  # fmt: skip
        assert t4(subject) == expected


def test_plain_language_modelling_may_be_cut(causal):
    tokenizer = causal()
    rows = [{"input_ids": row["input_ids"]} for row in pairs(tokenizer, limit=9)]
    assert t4(subject_of(tokenizer, rows, language_modelling(tokenizer))) == []
    assert torch.is_grad_enabled()


@pytest.mark.parametrize(
    ("limit", "used", "more", "expected"),
    [
        (8, 8, "", [("T4", "warn")]),
        (64, 8, "", []),  # a length that somebody chose
        (8, 8, "blocks", []),  # of a stream, whose text stands elsewhere
        (64, 64, "", []),
        (40, 40, "", []),  # of 64 positions: the model takes hardly more
    ],
)
def test_plain_texts_cut_at_the_limit_of_the_tokenizer(causal, limit, used, more, expected):
    tokenizer = causal()
    rows, text = [], "the solver computes the gradient of two tensors and returns an array of it"
    for i in range(40):
        words = text if i % 10 else "a copy"
        ids = tokenizer(words)["input_ids"][:used]
        kept = text[i % 7 :] if more else words
        rows.append({"text": kept, "input_ids": ids, "labels": ids})
    tokenizer.model_max_length = limit
    assert t4(subject_of(tokenizer, rows)) == expected


def test_targets_without_a_label_are_not_cut(causal):
    """T3 has a name of its own: nothing is left that a limit could have cut."""
    tokenizer = causal()
    model = transformers.T5ForConditionalGeneration(transformers.T5Config(
        vocab_size=len(tokenizer), d_model=32, d_kv=16, d_ff=32, num_layers=1, num_heads=2,
        decoder_start_token_id=0))  # fmt: skip
    rows = [{"input_ids": encoded(tokenizer, ANSWERS[i % 5]), "labels": [-100] * 4,
             "target": "a copy of two"} for i in range(40)]  # fmt: skip
    assert t4(subject_of(tokenizer, rows, model=model)) == []
