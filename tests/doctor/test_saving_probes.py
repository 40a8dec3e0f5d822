"""K1 before a checkpoint: buffers and changes by hand that a reload would not bring back."""

import types

import peft
import pytest
import torch
import transformers
from torch import nn
from torch.nn.utils import prune

from cookbook.doctor import saving_probes
from cookbook.doctor.checks import attempt
from cookbook.doctor.subject import Subject

pytestmark = pytest.mark.filterwarnings("ignore")


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


SAVES = types.SimpleNamespace(per_device_train_batch_size=8)


def reloads(model, tokenizer, args=SAVES):
    rows = [dict(tokenizer("a copy of two tensors")) | {"labels": i % 3} for i in range(8)]
    subject = Subject(model, train_dataset=rows, processing_class=tokenizer, args=args)
    found, reason = attempt(saving_probes.check_a_reload_scores_the_same, subject)
    assert "failed" not in reason, reason
    return [(one.fault, one.severity) for one in found]


@pytest.fixture
def model(tiny_bert):
    return tiny_bert("BertForSequenceClassification", num_labels=3, initializer_range=0.3)


def deeper(model):
    size = model.config.hidden_size
    model.classifier = nn.Sequential(nn.Linear(size, size), nn.Tanh(), nn.Linear(size, 3))


def other_activation(model):
    for layer in model.bert.encoder.layer:
        layer.intermediate.intermediate_act_fn = nn.Tanh()


def scaling(model):
    model.bert.pooler.register_forward_hook(lambda module, given, out: 3 * out)


def fewer_layers(model):
    model.bert.encoder.layer = model.bert.encoder.layer[:1]


def own_forward(model):
    inner = model.bert.pooler.forward
    model.bert.pooler.forward = lambda hidden: inner(hidden.flip(1))


@pytest.mark.parametrize(
    "change", [deeper, other_activation, scaling, fewer_layers, own_forward]
)  # fmt: skip
def test_a_change_by_hand_is_gone_after_a_reload(change, model, tokenizer):
    assert reloads(model, tokenizer) == []
    change(model)
    assert reloads(model, tokenizer) == [("K1", "warn")]
    assert reloads(model, tokenizer, args=None) == [("K1", "info")]  # a loop saves as it likes


def test_a_model_that_only_grew_is_told_as_advice(model, tokenizer):
    model.gain = nn.Parameter(torch.full((), 3.0))
    model.bert.pooler.register_forward_hook(lambda module, given, out: model.gain * out)
    assert reloads(model, tokenizer) == [("K1", "info")]


def test_under_an_adapter_as_well(model, tokenizer):
    deeper(model)
    config = peft.LoraConfig(task_type="SEQ_CLS", target_modules=["query"], r=2)
    assert reloads(peft.get_peft_model(model, config), tokenizer) == [("K1", "warn")]


def observing(model):
    seen = []
    model.bert.pooler.register_forward_hook(lambda module, given, out: seen.append(out.mean()))


def same_head(model):
    model.classifier = nn.Linear(model.config.hidden_size, 3)


def unused(model):
    model.teacher = nn.Linear(4, 4)


def said_in_the_configuration(model):
    model.config.hidden_act = "relu"
    for layer in model.bert.encoder.layer:
        layer.intermediate.intermediate_act_fn = nn.ReLU()


def in_training_only(model):
    inner = model.bert.pooler.forward
    model.bert.pooler.forward = lambda hidden: inner(hidden) * (2 if model.training else 1)


def normalised(model):
    nn.utils.parametrizations.weight_norm(model.classifier)
    with torch.no_grad():
        model.classifier.parametrizations.weight.original0.mul_(2)


def pruned(model):
    prune.l1_unstructured(model.classifier, "weight", 0.5)


class LowRank(nn.Module):
    """LoRA by hand."""

    def __init__(self, linear):
        super().__init__()
        self.linear = linear.requires_grad_(False)
        self.a, self.b = nn.Linear(linear.in_features, 2), nn.Linear(2, linear.out_features)

    def forward(self, x):
        return self.linear(x) + self.b(self.a(x))


def adapters_by_hand(model):
    model.bert.requires_grad_(False)
    model.bert.pooler.dense = LowRank(model.bert.pooler.dense)


def lengthened(model):
    model.resize_token_embeddings(model.config.vocab_size + 8)


def in_half(model):
    model.to(torch.bfloat16)


@pytest.mark.parametrize(
    "change",
    [observing, same_head, unused, said_in_the_configuration, in_training_only, normalised,
     pruned, adapters_by_hand, lengthened, in_half],
)  # fmt: skip
def test_what_a_reload_brings_back_or_another_file_holds(change, model, tokenizer):
    change(model)
    assert reloads(model, tokenizer) == []


class Deeper(transformers.BertForSequenceClassification):
    """What its `__init__` makes, a reload makes, too."""

    def __init__(self, config):
        super().__init__(config)
        deeper(self)


def test_a_class_of_one_s_own(model, tokenizer):
    assert reloads(Deeper(model.config), tokenizer) == []


def test_an_adapter_alone_changes_nothing(model, tokenizer):
    config = peft.LoraConfig(
        task_type="SEQ_CLS", target_modules=["query", "dense"], r=2, init_lora_weights=False
    )  # fmt: skip
    assert reloads(peft.get_peft_model(model, config), tokenizer) == []


def test_the_model_is_left_as_it_was(model, tokenizer):
    model.bert.requires_grad_(False)
    deeper(model)
    flags = [p.requires_grad for p in model.parameters()]
    held = {name: value.clone() for name, value in model.state_dict().items()}
    assert reloads(model, tokenizer) == [("K1", "warn")]
    assert [p.requires_grad for p in model.parameters()] == flags
    assert all(torch.equal(value, held[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("deep", [True, False])
def test_a_reader_is_asked_by_both_ends_of_its_spans(tiny_bert, tokenizer, deep):
    reader = tiny_bert("BertForQuestionAnswering", initializer_range=0.3)
    if deep:
        reader.qa_outputs = nn.Sequential(nn.Linear(reader.config.hidden_size, 2), nn.Tanh())
    rows = [dict(tokenizer("a copy of two tensors")) | {"start_positions": 1, "end_positions": 2}]
    subject = Subject(reader, train_dataset=rows * 8, processing_class=tokenizer, args=SAVES)
    found, reason = attempt(saving_probes.check_a_reload_scores_the_same, subject)
    assert not reason and [(one.fault, one.severity) for one in found] == (
        [("K1", "warn")] if deep else []
    )
