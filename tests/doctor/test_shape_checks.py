"""K1 before saving: shapes that the configuration cannot build; resized by the library is fine."""

import pytest
import torch
import transformers
from torch import nn

from cookbook.doctor import shape_checks
from cookbook.doctor.checks import Skip, attempt
from cookbook.doctor.subject import Subject

CHECK = shape_checks.check_configuration_builds_the_model


def found(model):
    return [(one.fault, one.severity) for one in attempt(CHECK, Subject(model))[0]]


def narrower(model):
    """A head of a layer gone, as pruning does it."""
    own = model.bert.encoder.layer[0].attention.self
    for linear in (own.query, own.key, own.value):
        linear.weight = nn.Parameter(linear.weight.detach()[:16])
        linear.bias = nn.Parameter(linear.bias.detach()[:16])
    return model


def test_a_cut_head_is_found_and_the_first_weight_named(tiny_bert):
    (one,) = attempt(CHECK, Subject(narrower(tiny_bert())))[0]
    assert (one.fault, one.severity) == ("K1", "error")
    assert one.measured["weights"] == 3 and "(16, 32)" in one.evidence


def test_rows_that_were_added_behind_the_configurations_back_are_found(tiny_bert):
    model = tiny_bert("BertForSequenceClassification")
    words = model.bert.embeddings.word_embeddings
    model.bert.embeddings.word_embeddings = nn.Embedding(words.num_embeddings + 3, 32)
    assert found(model) == [("K1", "error")]


@pytest.mark.parametrize("head", ["BertForMaskedLM", "BertForSequenceClassification", "BertModel"])
def test_the_library_s_own_ways_are_healthy(tiny_bert, head):
    model = tiny_bert(head)
    assert found(model) == []
    model.resize_token_embeddings(model.config.vocab_size + 7)
    assert found(model) == []


def test_another_head_and_fewer_layers_are_healthy(tiny_bert):
    model = tiny_bert("BertForSequenceClassification")
    model.classifier = nn.Sequential(nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 5))
    del model.bert.encoder.layer[1:]
    assert found(model) == []


def test_other_architectures_adapters_and_half_precision_are_healthy(tiny_bert):
    import peft

    small = {"n_embd": 32, "n_layer": 1, "n_head": 2, "vocab_size": 50}
    assert found(transformers.GPT2LMHeadModel(transformers.GPT2Config(**small))) == []
    small = {"d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 1, "num_heads": 2}
    small |= {"vocab_size": 50}
    assert found(transformers.T5ForConditionalGeneration(transformers.T5Config(**small))) == []
    adapted = peft.get_peft_model(
        tiny_bert("BertForSequenceClassification"), peft.LoraConfig(target_modules=["query"])
    )
    assert found(adapted) == []
    assert found(tiny_bert().to(torch.bfloat16)) == []


def test_a_module_without_a_configuration_is_left_alone():
    with pytest.raises(Skip, match="does not apply"):
        list(CHECK(Subject(nn.Linear(2, 2))))
