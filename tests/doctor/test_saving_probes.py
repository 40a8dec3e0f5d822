"""K1 before a checkpoint: buffers that nobody saves or makes are found, rotary ones are not."""

import pytest
import torch
import transformers

from cookbook.doctor import saving_probes
from cookbook.doctor.checks import attempt
from cookbook.doctor.subject import Subject


def verdicts(model, tokenizer):
    rows = [dict(tokenizer("a copy of two tensors")) | {"labels": i % 3} for i in range(8)]
    subject = Subject(model, train_dataset=rows, processing_class=tokenizer)
    found, reason = attempt(saving_probes.check_buffers_would_be_saved, subject)
    assert "failed" not in reason, reason
    return [(one.fault, one.severity) for one in found]


@pytest.mark.parametrize(
    ("persistent", "used", "expected"),
    [(False, True, [("K1", "error")]), (True, True, []), (False, False, [])],
)
def test_a_buffer_hung_onto_the_head(tiny_bert, tokenizer, persistent, used, expected):
    model = tiny_bert("BertForSequenceClassification", num_labels=3)
    head = model.classifier
    head.register_buffer("offset", torch.tensor([3.0, -2.0, 1.0]), persistent=persistent)
    if used:
        head.register_forward_hook(lambda module, given, out: out + module.offset)
    assert verdicts(model, tokenizer) == expected


def test_what_the_class_makes_itself_is_not_missed(tokenizer):
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=16, num_hidden_layers=1,
        num_attention_heads=2, num_labels=3, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    model = transformers.LlamaForSequenceClassification(config)
    assert saving_probes.left_out(model)  # the rotary frequencies
    assert verdicts(model, tokenizer) == []
