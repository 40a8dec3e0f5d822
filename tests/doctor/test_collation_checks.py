import copy

import pytest
import torch
import transformers
from torch import nn

from cookbook.doctor import collation_checks
from cookbook.doctor.checks import Skip
from cookbook.doctor.subject import Subject

WORDS = ["the solver computes two tensors", "a copy", "this function returns an array of several",
         "it"]  # fmt: skip


def found(check, subject):
    try:
        return [(f.fault, f.severity) for f in check(subject)]
    except Skip:
        return []


def t10(subject):
    return found(collation_checks.check_mask_hides_padding, subject)


def t7(subject):
    return found(collation_checks.check_rows_begin_once, subject)


def rows_of(tokenizer, **more):
    return [dict(tokenizer(WORDS[i % 4], **more)) | {"labels": i % 2} for i in range(32)]


def gpt2(tokenizer):
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(
        vocab_size=len(tokenizer), n_positions=64, n_embd=32, n_layer=1, n_head=2))  # fmt: skip


class Padding:
    """The library's padding, and what is then done to the mask."""

    def __init__(self, tokenizer, mask, side="right"):
        self.tokenizer, self.mask = copy.deepcopy(tokenizer), mask
        self.tokenizer.padding_side = side

    def __call__(self, rows):
        batch = dict(self.tokenizer.pad(rows, return_tensors="pt"))
        if self.mask == "ones":
            batch["attention_mask"] = torch.ones_like(batch["attention_mask"])
        elif self.mask == "missing":
            del batch["attention_mask"]
        return batch


# -- T10 -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize(
    ("mask", "expected"), [("right", []), ("ones", ["error"]), ("missing", ["error"])]
)
def test_a_bidirectional_model_needs_its_mask(tiny_bert, tokenizer, mask, side, expected):
    subject = Subject(
        tiny_bert("BertForSequenceClassification"), train_dataset=rows_of(tokenizer),
        data_collator=Padding(tokenizer, mask, side), processing_class=tokenizer,
    )  # fmt: skip
    assert t10(subject) == [("T10", severity) for severity in expected]


@pytest.mark.parametrize(
    ("mask", "side", "expected"),
    [("right", "left", []), ("ones", "right", ["warn"]), ("missing", "right", ["info"]),
     ("ones", "left", ["error"]), ("missing", "left", ["error"])],
)  # fmt: skip
def test_behind_a_causal_mask_the_padding_at_the_end_is_harmless(tokenizer, mask, side, expected):
    rows = [{k: v for k, v in row.items() if k != "labels"} for row in rows_of(tokenizer)]
    subject = Subject(gpt2(tokenizer), train_dataset=rows, processing_class=tokenizer,
                      data_collator=Padding(tokenizer, mask, side))  # fmt: skip
    assert t10(subject) == [("T10", severity) for severity in expected]


def test_padding_without_a_tokenizer_is_known_from_the_rows(tiny_bert, tokenizer):
    subject = Subject(tiny_bert("BertForSequenceClassification"), train_dataset=rows_of(tokenizer),
                      data_collator=Padding(tokenizer, "missing"))  # fmt: skip
    assert t10(subject) == [("T10", "error")]


def test_rows_padded_before_collation(tiny_bert, tokenizer):
    model = tiny_bert("BertForSequenceClassification")
    rows = rows_of(tokenizer, padding="max_length", max_length=24)
    for change, expected in ((lambda m: m, []), (lambda m: [1] * len(m), [("T10", "error")])):
        changed = [{**row, "attention_mask": change(row["attention_mask"])} for row in rows]
        subject = Subject(model, train_dataset=changed, processing_class=tokenizer)
        assert t10(subject) == expected


def test_rows_of_one_length_models_without_masks_and_shared_padding(tiny_bert, tokenizer):
    model = tiny_bert("BertForSequenceClassification")
    same = [{"input_ids": [5, 6, 7], "labels": 0}] * 16
    assert t10(Subject(model, train_dataset=same, processing_class=tokenizer)) == []
    zeros = [{"input_ids": [5, 6, 0, 0], "labels": 0}] * 16  # 0 may be a token like any other
    assert t10(Subject(model, train_dataset=zeros)) == []

    class Bag(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.EmbeddingBag(400, 8)

        def forward(self, input_ids, labels=None):
            return self.table(input_ids)

    collator = Padding(tokenizer, "missing")
    assert t10(Subject(Bag(), train_dataset=rows_of(tokenizer), data_collator=collator)) == []
    shared = copy.deepcopy(tokenizer)
    shared.pad_token = "[SEP]"
    ended = [{"input_ids": [5, 6, 3, 3], "attention_mask": [1, 1, 1, 1], "labels": 0}] * 16
    assert t10(Subject(model, train_dataset=ended, processing_class=shared)) == []


def test_a_classifier_on_a_causal_backbone(tokenizer):
    config = gpt2(tokenizer).config
    config.pad_token_id = tokenizer.pad_token_id
    model = transformers.GPT2ForSequenceClassification(config)
    subject = Subject(model, train_dataset=rows_of(tokenizer), processing_class=tokenizer,
                      data_collator=Padding(tokenizer, "missing"))  # fmt: skip
    assert t10(subject) == [("T10", "info")]


# -- T7 ------------------------------------------------------------------------------------------


def twice(rows, token, every=1):
    return [{**row, "input_ids": [token, *row["input_ids"]],
             "attention_mask": [1, *row["attention_mask"]]} if i % every == 0 else row
            for i, row in enumerate(rows)]  # fmt: skip


@pytest.mark.parametrize("side", ["right", "left"])
def test_a_beginning_that_stands_twice(tiny_bert, tokenizer, side):
    model = tiny_bert("BertForSequenceClassification")
    collator = Padding(tokenizer, "right", side)
    rows = [{k: row[k] for k in ("input_ids", "attention_mask", "labels")}
            for row in rows_of(tokenizer)]  # fmt: skip
    for every, expected in ((1, [("T7", "error")]), (3, [])):
        subject = Subject(model, train_dataset=twice(rows, tokenizer.cls_token_id, every),
                          data_collator=collator, processing_class=tokenizer)  # fmt: skip
        assert t7(subject) == expected
    assert t7(Subject(model, train_dataset=rows, processing_class=tokenizer)) == []


def test_padding_that_is_bos_is_not_a_beginning(tokenizer):
    """Padded on the left with BOS itself: only what is attended to begins a row."""
    shared = copy.deepcopy(tokenizer)
    shared.pad_token = shared.bos_token = "[CLS]"
    rows = [{k: row[k] for k in ("input_ids", "attention_mask")} for row in rows_of(shared)]
    for mask in ("right", "missing"):
        subject = Subject(gpt2(tokenizer), train_dataset=rows, processing_class=shared,
                          data_collator=Padding(shared, mask, "left"))  # fmt: skip
        assert t7(subject) == []


def test_a_beginning_that_is_missing(tiny_bert, tokenizer):
    model = tiny_bert("BertForSequenceClassification")
    bare = rows_of(tokenizer, add_special_tokens=False)
    assert t7(Subject(model, train_dataset=bare, processing_class=tokenizer)) == [("T7", "warn")]
    # A stream that was cut into equal rows begins anywhere.
    cut = [{**row, "input_ids": [9] * 8, "attention_mask": [1] * 8, "token_type_ids": [0] * 8}
           for row in bare]  # fmt: skip
    assert t7(Subject(model, train_dataset=cut, processing_class=tokenizer)) == []
    tags = [{**row, "labels": [0] * len(row["input_ids"])} for row in bare]
    collator = transformers.DataCollatorForTokenClassification(tokenizer)
    tagger = Subject(tiny_bert("BertForTokenClassification"), train_dataset=tags,
                     data_collator=collator, processing_class=tokenizer)  # fmt: skip
    assert t7(tagger) == []
    assert t7(Subject(model, train_dataset=bare)) == []


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("twice", [("T7", "warn")]), ("masked", [("T7", "warn")]), ("once", []), ("turns", []),
        ("packed", []), ("separator", []), ("plain", []),
    ],
)  # fmt: skip
def test_an_answer_that_begins_as_a_text_does(tokenizer, form, expected):
    causal = copy.deepcopy(tokenizer)
    causal.bos_token, causal.eos_token = "[CLS]", "[SEP]"
    begin, end = causal.bos_token_id, causal.eos_token_id
    rows = []
    for i in range(32):
        asked, told = (causal(w, add_special_tokens=False)["input_ids"]
                       for w in (WORDS[i % 4], WORDS[i * 3 % 4]))  # fmt: skip
        prompt, answer = [begin, *asked], [*told, end]
        shown = [-100] * len(prompt) + answer
        if form in ("twice", "masked"):
            prompt = [*prompt, begin] if form == "masked" else prompt
            answer = [begin, *answer] if form == "twice" else answer
            shown = [-100] * len(prompt) + answer
        elif form == "turns":  # each turn is a text of its own, as in Llama's format
            prompt, shown = prompt + answer + prompt, [-100] * (len(prompt + answer + prompt))
            shown = shown + answer
        elif form == "packed":
            answer, shown = answer + prompt + answer, shown + shown
        elif form == "separator":  # between question and answer, and nowhere else
            prompt = [*asked, begin]
            shown = [-100] * len(prompt) + answer
        elif form == "plain":
            shown = prompt + answer
        rows.append({"input_ids": prompt + answer, "labels": shown,
                     "attention_mask": [1] * len(prompt + answer)})  # fmt: skip
    subject = Subject(gpt2(causal), train_dataset=rows, processing_class=causal,
                      data_collator=transformers.DataCollatorForSeq2Seq(causal))  # fmt: skip
    assert t7(subject) == expected


# -- E2 ------------------------------------------------------------------------------------------


def e2(rows, collate, **more):
    subject = Subject(None, eval_dataset=rows, data_collator=collate, **more)
    return found(collation_checks.check_evaluation_keeps_its_rows, subject)


def short(collate, limit=8):
    return lambda rows: collate([r for r in rows if len(r["input_ids"]) < limit] or rows[:1])


def packed(rows):
    ids = torch.tensor(sum((row["input_ids"] for row in rows), []))
    cut = ids[: len(ids) // 8 * 8].view(-1, 8)
    return {"input_ids": cut, "attention_mask": torch.ones_like(cut), "labels": cut}


@pytest.mark.parametrize("size", [None, 6])
def test_long_rows_that_an_evaluation_leaves_out(tokenizer, size):
    """Also where those that stay are cut."""
    pad = transformers.DataCollatorWithPadding(tokenizer)
    cut = lambda rows: {k: v[:, :size] for k, v in pad(rows).items() if k != "labels"}  # noqa: E731
    rows = rows_of(tokenizer)
    assert len({len(row["input_ids"]) < 8 for row in rows}) == 2
    assert e2(rows, short(cut)) == [("E2", "error")]
    assert e2(rows, cut) == []


def test_pairs_that_an_evaluation_leaves_out():
    rows = [(torch.full((3,), float(i)), i % 2) for i in range(32)]
    whole = torch.utils.data.default_collate
    assert e2(rows, lambda pairs: whole([p for p in pairs if p[1]])) == [("E2", "error")]
    assert e2(rows, whole) == []
    halves = lambda pairs: [v[::2] + v[1::2] for v in whole(pairs)]  # noqa: E731
    assert e2(rows, halves) == []  # two rows made one


def test_rows_that_are_packed_split_or_have_no_label_are_not_lost(tokenizer):
    pad = transformers.DataCollatorWithPadding(tokenizer)
    rows = rows_of(tokenizer)
    assert e2(rows, packed) == []
    assert e2(rows, lambda some: pad([*some, *some])) == []
    unlabelled = [row | {"labels": -100 if len(row["input_ids"]) >= 8 else 1} for row in rows]
    assert e2(unlabelled, short(pad)) == []
