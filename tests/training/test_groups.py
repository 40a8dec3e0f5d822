"""Every trainable parameter in exactly one group, whatever the architecture."""

import pytest
import torch
from torch import nn

from cookbook.training import groups


def small(architecture):
    if architecture == "plain":
        return nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.ReLU(), nn.Linear(4, 2))
    import transformers as hf

    sizes = {"num_hidden_layers": 2, "hidden_size": 32, "num_attention_heads": 2}
    if architecture == "bert":
        config = hf.BertConfig(vocab_size=50, intermediate_size=32, **sizes)
        return hf.BertForSequenceClassification(config)
    if architecture == "gpt2":
        return hf.GPT2LMHeadModel(hf.GPT2Config(vocab_size=50, n_layer=2, n_embd=32, n_head=2))
    if architecture == "vit":
        config = hf.ViTConfig(image_size=8, patch_size=4, intermediate_size=32, **sizes)
        return hf.ViTForImageClassification(config)
    if architecture == "clip":
        tower = {**sizes, "intermediate_size": 32}
        config = hf.CLIPConfig(
            text_config={"vocab_size": 50, **tower},
            vision_config={"image_size": 8, "patch_size": 4, **tower},
        )
        return hf.CLIPModel(config)
    t5 = {"vocab_size": 50, "d_model": 32, "d_kv": 16, "d_ff": 32, "num_layers": 2, "num_heads": 2}
    return hf.T5ForConditionalGeneration(hf.T5Config(**t5))


@pytest.mark.parametrize("architecture", ["bert", "gpt2", "vit", "t5"])
def test_decay_spares_what_the_trainer_spares(architecture):
    from transformers import Trainer

    model = small(architecture)
    theirs = set(Trainer.get_decay_parameter_names(None, model))
    ours = groups.decays(model)
    names = {name for name, _ in model.named_parameters()}
    assert set(ours) == names
    assert {name for name, decayed in ours.items() if decayed} == theirs & names


ARCHITECTURES = ["bert", "gpt2", "vit", "clip", "t5", "plain"]


@pytest.mark.parametrize("frozen", ["", "embed", "bias"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_each_trainable_parameter_is_in_exactly_one_group(architecture, frozen):
    model = small(architecture)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not frozen or frozen not in name)
    trainable = {id(p) for p in model.parameters() if p.requires_grad}
    for found in (
        groups.parameter_groups(model, 0.01),
        groups.layer_wise_groups(model, 1e-3, 0.5, 0.01),
    ):
        listed = [id(p) for group in found for p in group["params"]]
        assert len(listed) == len(set(listed))
        assert set(listed) == trainable
        torch.optim.AdamW(found, lr=1e-3)  # torch itself refuses a parameter in two groups
    inside, rest = groups.hidden_matrices(model)
    listed = {name for name, p in model.named_parameters() if p.requires_grad}
    assert set(inside) | set(rest) == listed and len(inside) + len(rest) == len(listed)


def test_norms_and_biases_are_spared():
    model = small("bert")
    norm = model.bert.encoder.layer[0].output.LayerNorm.weight
    for group in groups.parameter_groups(model, 0.01):
        spared = any(p is norm for p in group["params"])
        assert group["weight_decay"] == (0.0 if spared else 0.01)


@pytest.mark.parametrize(
    ("architecture", "matrices"), [("bert", 6), ("gpt2", 4), ("t5", 6 + 10), ("plain", None)]
)
def test_muon_gets_the_matrices_inside_the_layers(architecture, matrices):
    model = small(architecture)
    inside, rest = groups.hidden_matrices(model)
    shapes = {name: p.ndim for name, p in model.named_parameters()}
    assert all(shapes[name] == 2 for name in inside)
    assert not [name for name in inside if "embed" in name or "classifier" in name]
    # bert: 4 of attention, 2 feed-forward, in each of 2 layers
    assert len(inside) == (2 if matrices is None else 2 * matrices)
    if architecture == "bert":
        assert {"classifier.weight", "bert.embeddings.word_embeddings.weight"} <= set(rest)


def test_layer_wise_rates_of_bert():
    model = small("bert")
    rate = {}
    for group in groups.layer_wise_groups(model, 1.0, 0.5):
        rate.update({id(p): group["lr"] for p in group["params"]})
    by_name = {name: rate[id(p)] for name, p in model.named_parameters()}
    assert by_name["classifier.weight"] == by_name["bert.pooler.dense.bias"] == 1.0
    assert by_name["bert.encoder.layer.1.output.dense.weight"] == 0.5
    assert by_name["bert.encoder.layer.0.output.LayerNorm.weight"] == 0.25
    assert by_name["bert.embeddings.word_embeddings.weight"] == 0.125


@pytest.mark.parametrize(
    ("architecture", "name", "depth"),
    [
        ("gpt2", "transformer.wpe.weight", 3),
        ("gpt2", "transformer.h.1.attn.c_attn.weight", 1),
        ("gpt2", "transformer.ln_f.weight", 0),
        ("t5", "shared.weight", 3),
        ("t5", "encoder.block.0.layer.1.layer_norm.weight", 2),
        ("t5", "decoder.block.1.layer.0.layer_norm.weight", 1),
        ("t5", "encoder.final_layer_norm.weight", 0),
        ("clip", "text_model.embeddings.token_embedding.weight", 3),
        ("clip", "vision_model.embeddings.patch_embedding.weight", 3),
        ("clip", "vision_model.encoder.layers.0.layer_norm1.weight", 2),
        ("clip", "visual_projection.weight", 0),
    ],
)
def test_depths_in_other_architectures(architecture, name, depth):
    assert groups.layer_depths(small(architecture))[name] == depth


def test_a_model_without_layers_has_one_rate():
    found = groups.layer_wise_groups(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), 0.1, 0.5)
    assert {group["lr"] for group in found} == {0.1}
