"""M2, M3, M5, H3: broken models are found by ID; deliberate freezing and untying are not."""

import pytest
import torch
import transformers
from torch import nn

from cookbook.doctor import model_checks
from cookbook.doctor.checks import attempt
from cookbook.doctor.subject import Subject


def found(check, model, **given):
    return attempt(getattr(model_checks, check), Subject(model, **given))[0]


def faults(check, model, **given):
    return [one.fault for one in found(check, model, **given)]


def freeze(model, keep=lambda name: False):
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(bool(keep(name)))
    return model


TRAINABLE = "check_something_is_trainable"
HEAD = "check_new_head_is_trained"
TIES = "check_ties_hold"


def test_a_model_with_nothing_trainable_is_an_error(tiny_bert):
    (one,) = found(TRAINABLE, freeze(tiny_bert()))
    assert (one.fault, one.severity) == ("M5", "error")
    assert faults(TRAINABLE, freeze(nn.Linear(3, 3))) == ["M5"]


def test_a_model_of_which_only_norms_are_trainable_is_found(tiny_bert):
    model = freeze(tiny_bert(), lambda name: "LayerNorm" in name)
    assert [one.severity for one in found(TRAINABLE, model)] == ["warn"]
    model = freeze(tiny_bert("BertForSequenceClassification"), lambda name: "LayerNorm" in name)
    assert faults(TRAINABLE, model) == ["M5"] and faults(HEAD, model) == []


def test_norms_and_biases_alone_are_no_model_that_trains(tiny_bert):
    model = freeze(tiny_bert("BertForTokenClassification"), lambda name: (
        "LayerNorm" in name or name.endswith("bias")))  # fmt: skip
    assert faults(TRAINABLE, model) == ["M5"]


@pytest.mark.parametrize(
    "keep",
    [
        lambda name: name.endswith("bias"),  # BitFit on a language model
        lambda name: name.endswith("bias") or "classifier" in name,
        lambda name: "LayerNorm" in name or "classifier" in name,
        lambda name: "classifier" in name,
        lambda name: "layer.1" in name,
        lambda name: "embeddings" not in name,
    ],
)
def test_deliberate_freezing_is_healthy(tiny_bert, keep):
    model = freeze(tiny_bert("BertForSequenceClassification"), keep)
    assert faults(TRAINABLE, model) == []


def test_modules_that_hold_only_vectors_or_nothing_are_healthy():
    class Scale(nn.Module):
        def __init__(self):
            super().__init__()
            self.factor = nn.Parameter(torch.ones(3))

    assert faults(TRAINABLE, Scale()) == [] == faults(TRAINABLE, nn.Identity())
    quantised = torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Linear(4, 4)), {nn.Linear})
    assert faults(TRAINABLE, quantised) == []


def test_adapters_are_trained_on_purpose(tiny_bert):
    import peft

    for config in (
        peft.LoraConfig(target_modules=["query"]),
        peft.LNTuningConfig(target_modules=["LayerNorm"]),
        peft.PromptTuningConfig(num_virtual_tokens=2, task_type="SEQ_CLS"),
    ):
        model = peft.get_peft_model(tiny_bert("BertForSequenceClassification"), config)
        assert faults(TRAINABLE, model) == []


@pytest.fixture
def loaded(tiny_bert, tmp_path):
    tiny_bert().save_pretrained(tmp_path)
    return lambda: transformers.BertForSequenceClassification.from_pretrained(tmp_path)


def test_a_new_head_that_is_frozen_is_found(loaded):
    model = freeze(loaded(), lambda name: "classifier" not in name)
    (one,) = found(HEAD, model)
    assert (one.fault, one.severity) == ("M2", "error")
    assert faults(HEAD, loaded()) == []


def test_a_new_head_that_no_optimizer_holds_is_found(loaded):
    model = loaded()
    assert faults(HEAD, model, optimizer=torch.optim.AdamW(model.bert.parameters())) == ["M2"]
    assert faults(HEAD, model, optimizer=torch.optim.AdamW(model.parameters())) == []
    stale = torch.optim.AdamW(model.parameters())  # it holds the head that was replaced: O6
    model.classifier = nn.Linear(model.classifier.in_features, 3)
    assert faults(HEAD, model, optimizer=stale) == []
    two = [torch.optim.SGD(m.parameters(), 0.1) for m in (model.bert, model.classifier)]
    assert faults(HEAD, model, optimizer=two) == []


def test_a_frozen_head_that_was_trained_before_is_healthy(tiny_bert, tmp_path):
    model = tiny_bert("BertForSequenceClassification")
    nn.init.normal_(model.classifier.bias)
    freeze(model, lambda name: "classifier" not in name)
    assert faults(HEAD, model) == []
    model.save_pretrained(tmp_path)
    again = transformers.BertForSequenceClassification.from_pretrained(tmp_path)
    assert faults(HEAD, freeze(again, lambda name: "classifier" not in name)) == []


def test_lora_without_a_task_leaves_a_new_head_behind(loaded):
    import peft

    bare = peft.get_peft_model(loaded(), peft.LoraConfig(target_modules=["query"]))
    assert faults(HEAD, bare) == ["M2"]
    full = peft.LoraConfig(target_modules=["query"], task_type="SEQ_CLS")
    assert faults(HEAD, peft.get_peft_model(loaded(), full)) == []


def test_an_optimizer_that_lacks_the_whole_adapter_has_not_forgotten_the_head(loaded):
    import peft

    model = loaded()
    early = torch.optim.AdamW(model.parameters())
    config = peft.LoraConfig(target_modules=["query"], task_type="SEQ_CLS")
    assert faults(HEAD, peft.get_peft_model(model, config), optimizer=early) == []


def test_a_broken_tie_is_found_and_a_deliberate_one_is_not(tiny_bert):
    model = tiny_bert()
    assert faults(TIES, model) == []
    decoder = model.cls.predictions.decoder
    decoder.weight = nn.Parameter(decoder.weight.detach().clone())
    (one,) = found(TIES, model)
    assert (one.fault, one.severity) == ("M3", "error")
    model.config.tie_word_embeddings = False
    assert faults(TIES, model) == []


@pytest.mark.parametrize("head", ["GPT2LMHeadModel", "T5ForConditionalGeneration"])
def test_ties_of_other_families(head):
    small = {"n_embd": 32, "n_layer": 1, "n_head": 2} if "GPT2" in head else {
        "d_model": 32, "d_kv": 16, "d_ff": 32, "num_layers": 1, "num_heads": 2}  # fmt: skip
    kind = getattr(transformers, head)
    model = kind(kind.config_class(vocab_size=99, **small))
    assert faults(TIES, model) == []
    model.lm_head = nn.Linear(32, 99, bias=False)
    assert faults(TIES, model) == ["M3"]


def test_adapters_and_classifiers_are_not_asked_for_ties(tiny_bert):
    import peft

    saved = peft.LoraConfig(target_modules=["query"], modules_to_save=["word_embeddings"])
    assert faults(TIES, peft.get_peft_model(tiny_bert(), saved)) == []
    assert faults(TIES, tiny_bert("BertForSequenceClassification")) == []


def test_a_large_model_on_the_cpu_beside_a_gpu_is_found(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    model = nn.Linear(5000, 5000)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    check = "check_accelerator_is_used"
    assert [one.severity for one in found(check, model, optimizer=optimizer)] == ["warn"]
    assert faults(check, model, optimizer=optimizer, args=object()) == []  # a Trainer moves it
    small = nn.Linear(3, 3)
    optimizer = torch.optim.SGD(small.parameters(), 0.1)
    assert [one.severity for one in found(check, small, optimizer=optimizer)] == ["info"]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert faults(check, model, optimizer=optimizer) == []


def test_a_frozen_last_layer_of_a_plain_module_whose_rest_is_trained():
    def said(*frozen):
        model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.Linear(8, 3))
        for place in frozen:
            model[place].requires_grad_(False)
        subject = Subject(model, train_dataset=[(torch.randn(4), i % 3) for i in range(9)],
                          loss_fn=nn.CrossEntropyLoss())  # fmt: skip
        return [f.fault for f in attempt(model_checks.check_new_head_is_trained, subject)[0]]

    assert said(3) == ["M2"]
    assert said() == said(0) == said(0, 3) == []  # what else is frozen is frozen on purpose
