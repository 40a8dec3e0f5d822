import numpy as np
import pytest
import torch
import transformers

from cookbook.data.tokenization import pack
from cookbook.doctor import masking_checks
from cookbook.doctor.checks import Skip
from cookbook.doctor.subject import Subject
from cookbook.training.objectives import MaskedLMCollator
from cookbook.training.order import Keyed


def found(subject):
    try:
        return [(f.fault, f.severity) for f in masking_checks.check_masking(subject)]
    except Skip:
        return []


def rows_of(tokenizer, count=128, words=40):
    generator = np.random.default_rng(0)
    letters = [chr(97 + i) for i in range(26)]
    texts = [" ".join(generator.choice(letters, generator.integers(words // 2, words)))
             for _ in range(count)]  # fmt: skip
    return [dict(tokenizer(text, truncation=True, max_length=64)) for text in texts]


def with_collator(tiny_bert, tokenizer, collator, rows=None, head="BertForMaskedLM"):
    rows = rows_of(tokenizer) if rows is None else rows
    return Subject(tiny_bert(head), train_dataset=rows, data_collator=collator,
                   processing_class=tokenizer)  # fmt: skip


def library(tokenizer, **settings):
    return transformers.DataCollatorForLanguageModeling(tokenizer, seed=0, **settings)


class Changed:
    """The library's collator, and a function on what it made; no share is stated."""

    def __init__(self, tokenizer, change, **settings):
        self.inner, self.change = library(tokenizer, **settings), change

    def __call__(self, rows):
        original = self.inner.tokenizer.pad(rows, return_tensors="pt")["input_ids"]
        batch = self.inner(rows)
        self.change(batch, original)
        return batch


@pytest.mark.parametrize("settings", [{}, {"mlm_probability": 0.3}, {"mlm_probability": 0.4},
                                      {"mask_replace_prob": 1.0, "random_replace_prob": 0.0},
                                      {"whole_word_mask": True, "mask_replace_prob": 1.0,
                                       "random_replace_prob": 0.0}])  # fmt: skip
def test_the_library_masks_well(tiny_bert, tokenizer, settings):
    assert found(with_collator(tiny_bert, tokenizer, library(tokenizer, **settings))) == []


@pytest.mark.parametrize("whole_word", [True, False])
def test_our_own_collator_masks_well_packed_too(tiny_bert, tokenizer, whole_word):
    collator = MaskedLMCollator(tokenizer, whole_word=whole_word)
    rows = rows_of(tokenizer)
    assert found(with_collator(tiny_bert, tokenizer, collator, Keyed(rows))) == []
    packed = pack([row["input_ids"] for row in rows], 64, cross_documents=False,
                  pad_id=tokenizer.pad_token_id)  # fmt: skip
    assert found(with_collator(tiny_bert, tokenizer, collator, Keyed(packed))) == []


def test_short_rows_may_have_no_mask(tiny_bert, tokenizer):
    rows = [dict(tokenizer(f"a {letter} b")) for letter in "cdefghijklmnopqrstuvwxyz"] * 10
    assert found(with_collator(tiny_bert, tokenizer, library(tokenizer), rows)) == []


def labels_everywhere(batch, original):
    batch["labels"] = torch.where(batch["attention_mask"] == 1, original, -100)


def nothing_masked(batch, original):
    batch["input_ids"] = original
    labels_everywhere(batch, original)


def answer_shown(batch, original):
    batch["input_ids"] = original


def no_labels(batch, original):
    batch["labels"][:] = -100


def hardly_any(batch, original):
    batch["input_ids"] = original
    chosen = torch.rand(original.shape) < 0.01
    batch["labels"] = torch.where(chosen & (batch["attention_mask"] == 1), original, -100)


def half_of_the_rows(batch, original):
    batch["labels"][::2] = -100


def unknown_as_mask(batch, original):
    batch["input_ids"][batch["input_ids"] == 4] = 1


def specials_too(batch, original):
    ends = torch.isin(original, torch.tensor([2, 3]))
    ends[:, 1:-1] &= False
    batch["labels"] = torch.where(ends, original, batch["labels"])


@pytest.mark.parametrize(
    ("change", "severity"),
    [(labels_everywhere, "error"), (nothing_masked, "error"), (answer_shown, "error"),
     (no_labels, "error"), (hardly_any, "error"), (half_of_the_rows, "error"),
     (unknown_as_mask, "error"),
     (specials_too, "warn")],
)  # fmt: skip
def test_masks_that_are_wrong(tiny_bert, tokenizer, change, severity):
    assert tokenizer.convert_tokens_to_ids(["[UNK]", "[CLS]", "[SEP]", "[MASK]"]) == [1, 2, 3, 4]
    collator, rows = Changed(tokenizer, change), rows_of(tokenizer)
    if change is half_of_the_rows:
        collator.mlm_probability, rows = 0.15, rows_of(tokenizer, words=60)
    assert found(with_collator(tiny_bert, tokenizer, collator, rows)) == [("T13", severity)]


@pytest.mark.parametrize(
    ("probability", "expected"), [(0.02, [("T13", "warn")]), (0.7, [("T13", "warn")]), (0.2, [])]
)
def test_a_share_far_from_the_usual(tiny_bert, tokenizer, probability, expected):
    collator = Changed(tokenizer, lambda *_: None, mlm_probability=probability)
    assert found(with_collator(tiny_bert, tokenizer, collator)) == expected


def test_a_share_that_is_not_the_stated_one(tiny_bert, tokenizer):
    collator = Changed(tokenizer, lambda *_: None, mlm_probability=0.3)
    collator.mlm_probability = 0.15
    assert found(with_collator(tiny_bert, tokenizer, collator)) == [("T13", "warn")]


def test_a_share_that_is_not_that_of_the_collator_inside(tiny_bert, tokenizer):
    inner = library(tokenizer)

    def halved(rows):
        batch = inner(rows)
        lost = torch.arange(len(rows)) % 2 == 0
        batch["labels"][lost] = -100
        return batch

    assert found(with_collator(tiny_bert, tokenizer, halved)) == [("T13", "warn")]
    assert found(with_collator(tiny_bert, tokenizer, lambda rows: inner(rows))) == []


def test_labels_as_inputs_without_any_collator_of_masks(tiny_bert, tokenizer):
    rows = [{**row, "labels": list(row["input_ids"])} for row in rows_of(tokenizer)]
    collator = transformers.DataCollatorForTokenClassification(tokenizer)
    assert found(with_collator(tiny_bert, tokenizer, collator, rows)) == [("T13", "error")]


def test_a_cloze_and_a_drawn_rate_are_other_tasks(tiny_bert, tokenizer):
    def cloze(batch, original):
        batch["input_ids"] = original.clone()
        batch["labels"] = torch.full_like(original, -100)
        batch["input_ids"][:, 5], batch["labels"][:, 5] = 4, original[:, 5]

    def drawn_rate(batch, original):
        generator = torch.Generator().manual_seed(int(original.sum()))
        rate = torch.rand(len(original), 1, generator=generator) * 0.9 + 0.1
        where = (torch.rand(original.shape, generator=generator) < rate) & (original > 4)
        batch["input_ids"] = torch.where(where, 4, original)
        batch["labels"] = torch.where(where, original, -100)

    for change in (cloze, drawn_rate):
        assert found(with_collator(tiny_bert, tokenizer, Changed(tokenizer, change))) == []


def test_other_models_are_none_of_its_business(tiny_bert, tokenizer):
    rows = [{**row, "labels": 0} for row in rows_of(tokenizer)]
    classifier = with_collator(tiny_bert, tokenizer, None, rows, "BertForSequenceClassification")
    assert found(classifier) == []
    config = transformers.ElectraConfig(vocab_size=len(tokenizer), hidden_size=32,
                                        embedding_size=32, num_hidden_layers=1,
                                        num_attention_heads=2, intermediate_size=32)  # fmt: skip
    replaced = [{**row, "labels": [i % 7 == 0 for i in range(len(row["input_ids"]))]}
                for row in rows_of(tokenizer)]  # fmt: skip
    replaced = [{**row, "labels": list(map(int, row["labels"]))} for row in replaced]
    subject = Subject(transformers.ElectraForPreTraining(config), train_dataset=replaced,
                      data_collator=transformers.DataCollatorForTokenClassification(tokenizer),
                      processing_class=tokenizer)  # fmt: skip
    assert found(subject) == []
