"""M5 and M6 of adapters: names that match nothing, adapters off, scaled to 0, or frozen."""

import peft
import pytest

from cookbook.doctor import adapter_checks
from cookbook.doctor.checks import attempt
from cookbook.doctor.subject import Subject


def found(check, model):
    return attempt(getattr(adapter_checks, check), Subject(model))[0]


@pytest.fixture
def lora(tiny_bert):
    def make(**settings):
        config = peft.LoraConfig(**({"target_modules": ["query", "value"]} | settings))
        return peft.get_peft_model(tiny_bert("BertForSequenceClassification"), config)

    return make


def test_a_name_that_matches_nothing_is_found(lora):
    (one,) = found("check_targets_are_matched", lora(target_modules=["query", "v_proj"]))
    assert (one.fault, one.severity) == ("M5", "warn")
    assert "v_proj" in one.evidence and "query" not in one.evidence


def test_names_that_match_are_healthy(lora):
    for targets in (["query", "value"], "all-linear", r".*attention.self.(query|key)", None):
        model = lora(target_modules=targets, task_type="SEQ_CLS")
        assert found("check_targets_are_matched", model) == []
    layered = lora(target_modules=["attention.output.dense"], layers_to_transform=[0])
    assert found("check_targets_are_matched", layered) == []


def test_names_in_a_head_that_is_trained_whole_are_matched(tokenizer):
    import transformers

    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
             "intermediate_size": 16, "vocab_size": 60}  # fmt: skip
    model = transformers.RobertaForSequenceClassification(transformers.RobertaConfig(**small))
    config = peft.LoraConfig(target_modules=["query", "classifier.dense"], task_type="SEQ_CLS")
    assert found("check_targets_are_matched", peft.get_peft_model(model, config)) == []


def test_an_adapter_that_is_off_is_found(lora):
    model = lora()
    assert found("check_adapter_is_on", model) == []
    model.base_model.disable_adapter_layers()
    (one,) = found("check_adapter_is_on", model)
    assert (one.fault, one.severity) == ("M6", "error")


def test_an_adapter_scaled_by_zero_is_found(lora):
    assert [one.fault for one in found("check_adapter_is_on", lora(lora_alpha=0))] == ["M6"]


def test_an_adapter_loaded_for_inference_is_found(lora, tiny_bert, tmp_path):
    lora().save_pretrained(tmp_path)
    base = tiny_bert("BertForSequenceClassification")
    model = peft.PeftModel.from_pretrained(base, tmp_path)
    assert found("check_adapter_is_on", model) == []  # nothing is trainable: M5 says it
    model.base_model.model.classifier.requires_grad_(True)
    (one,) = found("check_adapter_is_on", model)
    assert (one.fault, one.severity) == ("M6", "error")
    assert "inference" in one.evidence
    base = tiny_bert("BertForSequenceClassification")
    again = peft.PeftModel.from_pretrained(base, tmp_path, is_trainable=True)
    assert found("check_adapter_is_on", again) == []


def test_a_frozen_active_adapter_beside_a_trained_one_is_found(lora):
    model = lora()
    model.add_adapter("other", peft.LoraConfig(target_modules=["key"]))
    assert found("check_adapter_is_on", model) == []
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(".other." in name)
    assert [one.fault for one in found("check_adapter_is_on", model)] == ["M6"]


@pytest.mark.parametrize(
    "config",
    [
        peft.PromptTuningConfig(num_virtual_tokens=2, task_type="SEQ_CLS"),
        peft.PrefixTuningConfig(num_virtual_tokens=2, task_type="SEQ_CLS"),
        peft.IA3Config(
            target_modules=["key", "output.dense"], feedforward_modules=["output.dense"]
        ),
        peft.VeraConfig(target_modules=["query"]),
        peft.LNTuningConfig(target_modules=["LayerNorm"]),
    ],
    ids=lambda config: type(config).__name__,
)
def test_other_methods_are_healthy(tiny_bert, config):
    model = peft.get_peft_model(tiny_bert("BertForSequenceClassification"), config)
    assert found("check_adapter_is_on", model) == []
    assert found("check_targets_are_matched", model) == []


def test_a_model_without_an_adapter_does_not_apply(tiny_bert):
    for check in adapter_checks.CHECKS:
        assert attempt(check, Subject(tiny_bert())) == ([], "does not apply")


def test_an_adapter_that_is_merged_or_dropped_out_whole_is_found(lora):
    for task in (None, "SEQ_CLS"):  # the latter trains the head beside it, in a wrapper
        model = lora(task_type=task)
        model.merge_adapter()
        (one,) = found("check_adapter_is_on", model)
        assert (one.fault, one.severity) == ("M6", "error") and "merged" in one.evidence
        model.unmerge_adapter()
        assert found("check_adapter_is_on", model) == []
        (one,) = found("check_adapter_is_on", lora(task_type=task, lora_dropout=1.0))
        assert one.fault == "M6" and "dropout" in one.evidence
        assert found("check_adapter_is_on", lora(task_type=task, lora_dropout=0.5)) == []
