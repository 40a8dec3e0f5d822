import peft
import pytest
import safetensors.torch
import torch
import transformers

from cookbook.doctor import checkpoint
from cookbook.doctor.checkpoint import compare_saved

BATCH = {"input_ids": torch.tensor([[5, 6, 7, 8]]), "attention_mask": torch.ones(1, 4).long()}


@pytest.fixture
def bert(tiny_bert):
    return tiny_bert("BertForSequenceClassification")


@pytest.mark.parametrize("head", ["BertForMaskedLM", "BertForSequenceClassification"])
def test_what_from_pretrained_loads_is_equal(tiny_bert, tmp_path, head):
    model = tiny_bert(head, hidden_dropout_prob=0.1)
    model.train().save_pretrained(tmp_path)
    state = torch.get_rng_state()
    assert compare_saved(model, tmp_path, BATCH) is None
    assert model.training and torch.equal(state, torch.get_rng_state())


def test_a_missing_head_and_other_weights_are_named(bert, tmp_path):
    state = bert.state_dict()
    less = {k: v for k, v in state.items() if not k.startswith("classifier")}
    safetensors.torch.save_file(less, tmp_path / "model.safetensors")
    finding = compare_saved(bert, tmp_path)
    assert finding.fault == "K1" and "classifier.weight" in finding.evidence
    torch.save(state, tmp_path / "whole.pt")
    assert compare_saved(bert, tmp_path / "whole.pt") is None
    with torch.no_grad():
        bert.classifier.bias.add_(1)
    assert "differ" in compare_saved(bert, tmp_path / "whole.pt").evidence


def test_a_wrappers_prefix(bert, tmp_path):
    torch.save({f"module.{k}": v for k, v in bert.state_dict().items()}, tmp_path / "m.pt")
    assert "wrapper's prefix" in compare_saved(bert, tmp_path / "m.pt").evidence


def test_peft_without_and_with_its_head(bert, tiny_bert, tmp_path):
    config = peft.LoraConfig(target_modules=["query"], r=2)
    lora = peft.get_peft_model(bert, config)
    lora.base_model.model.classifier.requires_grad_(True)  # trained, and not in modules_to_save
    lora.save_pretrained(tmp_path / "bad")
    assert "classifier" in compare_saved(lora, tmp_path / "bad").evidence
    config = peft.LoraConfig(target_modules=["query"], r=2, modules_to_save=["classifier"])
    lora = peft.get_peft_model(tiny_bert("BertForSequenceClassification"), config)
    lora.save_pretrained(tmp_path / "good")
    assert compare_saved(lora, tmp_path / "good") is None


def test_a_configuration_that_changes_the_logits(bert, tmp_path):
    bert.save_pretrained(tmp_path)
    config = transformers.AutoConfig.from_pretrained(tmp_path)
    config.hidden_act = "relu"
    config.save_pretrained(tmp_path)
    finding = compare_saved(bert, tmp_path, BATCH)
    assert finding.fault == "K1" and "fresh load" in finding.evidence


def test_half_precision_on_disk_and_an_empty_folder(bert, tmp_path):
    assert compare_saved(bert, tmp_path) is None
    half = {k: v.half() for k, v in bert.state_dict().items()}
    safetensors.torch.save_file(half, tmp_path / "model.safetensors")
    assert compare_saved(bert, tmp_path) is None
    assert checkpoint.read(tmp_path).keys() == half.keys()
