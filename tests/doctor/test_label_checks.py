import types

import pytest
import torch
import transformers
from torch import nn

from cookbook.doctor import label_checks
from cookbook.doctor.checks import Skip
from cookbook.doctor.subject import Subject

WORDS = ["the solver computes two tensors", "a copy", "this function returns an array of several"]


def found(check, subject):
    try:
        return [(f.fault, f.severity) for f in check(subject)]
    except Skip:
        return []


def rows_of(tokenizer, count=32, **more):
    return [
        dict(tokenizer(WORDS[i % 3])) | {k: v(i) for k, v in more.items()} for i in range(count)
    ]


# -- T14 -----------------------------------------------------------------------------------------


def classifier(tiny_bert):
    return tiny_bert("BertForSequenceClassification", num_labels=3)


@pytest.mark.parametrize("column", ["label_", "gold", "sentiment", "target"])
def test_a_renamed_label_column_is_missed_by_name(tiny_bert, tokenizer, column):
    rows = rows_of(tokenizer, **{column: lambda i: i % 3})
    subject = Subject(classifier(tiny_bert), train_dataset=rows, processing_class=tokenizer)
    (finding,) = label_checks.check_labels_arrive(subject)
    assert (finding.fault, finding.severity) == ("T14", "error")
    assert repr(column) in finding.evidence and "'labels'" in finding.remedy


def test_a_dropped_label_column_is_an_error_for_a_classifier(tiny_bert, tokenizer):
    subject = Subject(
        classifier(tiny_bert), train_dataset=rows_of(tokenizer), processing_class=tokenizer
    )
    assert found(label_checks.check_labels_arrive, subject) == [("T14", "error")]


@pytest.mark.parametrize("column", ["label", "labels", "label_ids"])
def test_labels_under_their_usual_names_arrive(tiny_bert, tokenizer, column):
    collator = transformers.DataCollatorWithPadding(tokenizer) if column != "label_ids" else None
    texts = [dict(tokenizer("a copy")) | {column: i % 3} for i in range(8)]
    subject = Subject(classifier(tiny_bert), train_dataset=texts, data_collator=collator,
                      processing_class=None if column == "label_ids" else tokenizer)  # fmt: skip
    assert found(label_checks.check_labels_arrive, subject) == []


def test_whose_loss_is_elsewhere_needs_no_labels(tiny_bert, tokenizer):
    rows, model = rows_of(tokenizer), classifier(tiny_bert)
    own = Subject(model, train_dataset=rows, processing_class=tokenizer,
                  loss_fn=lambda outputs, batch: outputs.logits.sum())  # fmt: skip
    assert found(label_checks.check_labels_arrive, own) == []

    class Contrastive(transformers.Trainer):
        def compute_loss(self, model, inputs, return_outputs=False, **kwargs):
            return model(**inputs).logits.sum()

    trainer = Contrastive.__new__(Contrastive)
    held = Subject(model, train_dataset=rows, processing_class=tokenizer, trainer=trainer)
    assert found(label_checks.check_labels_arrive, held) == []
    pairs = Subject(nn.Linear(3, 2), train_dataset=[(torch.zeros(3), 1)] * 8)
    assert found(label_checks.check_labels_arrive, pairs) == []


def test_a_language_model_whose_loop_makes_the_labels_is_only_told(tokenizer):
    subject = Subject(gpt2(tokenizer), train_dataset=rows_of(tokenizer), processing_class=tokenizer)
    assert found(label_checks.check_labels_arrive, subject) == [("T14", "info")]
    trainers = Subject(gpt2(tokenizer), train_dataset=rows_of(tokenizer),
                       processing_class=tokenizer, args=types.SimpleNamespace())  # fmt: skip
    assert found(label_checks.check_labels_arrive, trainers) == [("T14", "error")]
    lost = Subject(gpt2(tokenizer), train_dataset=rows_of(tokenizer, gold=lambda i: i % 3),
                   processing_class=tokenizer)  # fmt: skip
    assert found(label_checks.check_labels_arrive, lost) == [("T14", "error")]


def test_a_backbone_without_a_head_has_no_loss_to_train_by(tiny_bert, tokenizer):
    rows = rows_of(tokenizer, labels=lambda i: i % 3)
    backbone = transformers.BertModel(classifier(tiny_bert).config)
    given = {"train_dataset": rows, "processing_class": tokenizer}
    asked = Subject(backbone, args=types.SimpleNamespace(), **given)
    (one,) = label_checks.check_labels_arrive(asked)
    assert one.severity == "error" and "BertModel" in one.evidence and "AutoModelFor" in one.remedy
    # A loop of one's own, a loss of one's own and a model of one's own may know what they do.
    assert found(label_checks.check_labels_arrive, Subject(backbone, **given)) == []
    loss = {"loss_fn": lambda outputs, batch: outputs[0].mean(), "args": asked.args}
    assert found(label_checks.check_labels_arrive, Subject(backbone, **loss, **given)) == []

    class Embedding(transformers.BertModel):
        def forward(self, input_ids, attention_mask=None):
            return {"loss": super().forward(input_ids, attention_mask)[0].square().mean()}

    own = Subject(Embedding(backbone.config), args=asked.args, **given)
    assert found(label_checks.check_labels_arrive, own) == []


def test_a_metric_without_labels_is_never_computed(tiny_bert, tokenizer):
    given = {"train_dataset": rows_of(tokenizer, labels=lambda i: i % 3),
             "processing_class": tokenizer, "compute_metrics": lambda p: {}}  # fmt: skip
    model = classifier(tiny_bert)
    without = Subject(model, eval_dataset=rows_of(tokenizer), **given)
    assert found(label_checks.check_labels_arrive, without) == [("T14", "error")]
    having = Subject(model, eval_dataset=given["train_dataset"], **given)
    assert found(label_checks.check_labels_arrive, having) == []


@pytest.mark.parametrize(
    ("names", "expected"), [(["start_positions"], [("T14", "error")]), (["labels"], []), (None, [])]
)
def test_label_names_of_another_task_leave_evaluation_without_a_loss(
    tiny_bert, tokenizer, names, expected
):
    rows = rows_of(tokenizer, labels=lambda i: i % 3)
    args = types.SimpleNamespace(label_names=names)
    subject = Subject(classifier(tiny_bert), train_dataset=rows, eval_dataset=rows,
                      processing_class=tokenizer, args=args)  # fmt: skip
    assert found(label_checks.check_labels_arrive, subject) == expected


def test_rows_of_a_task_that_the_forward_pass_cannot_take_are_passed_over(tokenizer):
    rows = [{"prompt_ids": [1, 2], "chosen_ids": [3], "rejected_ids": [4, 5]}] * 16
    subject = Subject(gpt2(tokenizer), train_dataset=rows, data_collator=lambda rows: rows[0])
    with pytest.raises(Skip, match="a trial run raised ValueError"):
        list(label_checks.check_labels_arrive(subject))


# -- T3 ------------------------------------------------------------------------------------------


def gpt2(tokenizer, **more):
    torch.manual_seed(0)
    return transformers.GPT2LMHeadModel(
        transformers.GPT2Config(
            vocab_size=len(tokenizer), n_positions=64, n_embd=32, n_layer=1, n_head=2, **more
        )
    )


def causal(tokenizer, labels, **more):
    """Rows with the labels that a function makes of (number, ids), padded by the library."""
    rows = rows_of(tokenizer)
    for i, row in enumerate(rows):
        row["labels"] = labels(i, row["input_ids"])
    collator = transformers.DataCollatorForSeq2Seq(tokenizer, padding=True)
    return Subject(gpt2(tokenizer), train_dataset=rows, data_collator=collator, **more)


@pytest.mark.parametrize(
    ("without", "expected"),
    [(32, ("T3", "error")), (4, ("T3", "warn")), (1, None), (0, None)],
)
def test_rows_and_batches_without_a_label(tokenizer, without, expected):
    subject = causal(tokenizer, lambda i, ids: [-100] * len(ids) if i < without else list(ids))
    assert found(label_checks.check_every_row_has_a_label, subject) == ([expected] * bool(expected))


def test_a_label_on_the_first_token_only_teaches_a_causal_model_nothing(tokenizer):
    subject = causal(tokenizer, lambda i, ids: [ids[0]] + [-100] * (len(ids) - 1))
    assert found(label_checks.check_every_row_has_a_label, subject) == [("T3", "error")]


def test_numbers_as_labels_are_all_there(tiny_bert, tokenizer):
    for labels in (lambda i: float(i), lambda i: i % 3):
        subject = Subject(classifier(tiny_bert), train_dataset=rows_of(tokenizer, labels=labels),
                          processing_class=tokenizer)  # fmt: skip
        assert found(label_checks.check_every_row_has_a_label, subject) == []


# -- T2 ------------------------------------------------------------------------------------------


def padded(tokenizer, label_of_padding, *, mask=True, side="right"):
    """A collator that pads ids and labels; padding's label is given, or its id."""

    def collate(rows):
        length = max(len(row["input_ids"]) for row in rows)
        batch = {"input_ids": [], "attention_mask": [], "labels": []}
        for row in rows:
            rest = [0] * (length - len(row["input_ids"]))
            label = tokenizer.pad_token_id if label_of_padding is None else label_of_padding
            parts = {"input_ids": [tokenizer.pad_token_id for _ in rest],
                     "attention_mask": rest, "labels": [label for _ in rest]}  # fmt: skip
            ids = list(row["input_ids"])
            real = {"input_ids": ids, "attention_mask": [1] * len(ids), "labels": ids}
            for name in batch:
                both = (real[name], parts[name])
                batch[name].append(sum(both if side == "right" else both[::-1], []))
        if not mask:
            del batch["attention_mask"]
        return {name: torch.tensor(value) for name, value in batch.items()}

    return collate


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("mask", [True, False])
@pytest.mark.parametrize(("label", "expected"), [(None, [("T2", "error")]), (-100, [])])
def test_labels_on_padding(tokenizer, label, expected, mask, side):
    subject = Subject(gpt2(tokenizer), train_dataset=rows_of(tokenizer), processing_class=tokenizer,
                      data_collator=padded(tokenizer, label, mask=mask, side=side))  # fmt: skip
    assert found(label_checks.check_padding_has_no_label, subject) == expected


def test_a_loss_that_leaves_padding_out_by_itself_is_believed(tokenizer):
    def loss(ignored):
        def compute(outputs, batch):
            logits, labels = outputs.logits[:, :-1], batch["labels"][:, 1:]
            return nn.functional.cross_entropy(
                logits.flatten(0, 1), labels.flatten(), ignore_index=ignored
            )

        return compute

    for ignored, expected in ((tokenizer.pad_token_id, []), (-100, [("T2", "error")])):
        subject = Subject(
            gpt2(tokenizer), train_dataset=rows_of(tokenizer), processing_class=tokenizer,
            data_collator=padded(tokenizer, None), loss_fn=loss(ignored),
        )  # fmt: skip
        assert found(label_checks.check_padding_has_no_label, subject) == expected


def test_the_end_token_as_label_of_the_first_padding_is_meant(tokenizer):
    ended = shared(tokenizer)

    def collate(rows):
        batch = padded(tokenizer, -100)(rows)
        ends = batch["attention_mask"].sum(1)
        for row, end in enumerate(ends.tolist()):
            if end < batch["labels"].shape[1]:
                batch["labels"][row, end] = ended.eos_token_id
        return batch

    subject = Subject(gpt2(tokenizer), train_dataset=rows_of(tokenizer), processing_class=ended,
                      data_collator=collate)  # fmt: skip
    assert found(label_checks.check_padding_has_no_label, subject) == []


def test_an_end_token_that_is_also_padding_is_no_padding_where_it_is_attended(tokenizer):
    """GPT-2's habit: pad == eos; the EOS that ends the row is attended to and has a label."""
    tokenizer = shared(tokenizer)
    rows = rows_of(tokenizer)
    for row in rows:
        row["input_ids"] = [*row["input_ids"], tokenizer.eos_token_id]
    for label, expected in ((-100, []), (None, [("T2", "error")])):
        subject = Subject(gpt2(tokenizer), train_dataset=rows, processing_class=tokenizer,
                          data_collator=padded(tokenizer, label))  # fmt: skip
        assert found(label_checks.check_padding_has_no_label, subject) == expected


def shared(tokenizer):
    import copy

    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.eos_token = tokenizer.pad_token
    return tokenizer


def test_targets_of_a_decoder(tokenizer):
    config = transformers.T5Config(
        vocab_size=len(tokenizer), d_model=32, d_kv=16, d_ff=32, num_layers=1, num_heads=2,
        pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.sep_token_id,
        decoder_start_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    model = transformers.T5ForConditionalGeneration(config)
    rows = rows_of(tokenizer, labels=lambda i: tokenizer(WORDS[(i + 1) % 3])["input_ids"])
    ends = [(pad, [("T2", "error")]) for pad in (tokenizer.pad_token_id, tokenizer.sep_token_id)]
    for pad, expected in ((-100, []), *ends):
        collator = transformers.DataCollatorForSeq2Seq(tokenizer, label_pad_token_id=pad)
        subject = Subject(model, train_dataset=rows, data_collator=collator)
        assert found(label_checks.check_padding_has_no_label, subject) == expected


def test_a_token_that_happens_to_have_the_paddings_id_is_no_padding():
    """Toy tasks count 0 as a digit; T5's default padding id is 0 as well."""
    config = transformers.T5Config(vocab_size=10, d_model=32, d_kv=16, d_ff=32, num_layers=1,
                                   num_heads=2, decoder_start_token_id=0)  # fmt: skip
    digits = torch.randint(0, 10, (32, 6), generator=torch.Generator().manual_seed(0)).tolist()
    rows = [{"input_ids": row, "labels": row} for row in digits]
    subject = Subject(transformers.T5ForConditionalGeneration(config), train_dataset=rows)
    assert found(label_checks.check_padding_has_no_label, subject) == []
