"""What is new is said, what was there stays, and identity means identity."""

import math

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from cookbook.models.initialization import load_model, save_half
from cookbook.models.profiling import overfit
from cookbook.models.registry import architecture, build
from cookbook.models.surgery import add_layers, change_head, layers_of, pour, report_of

IDS = torch.randint(5, 50, (2, 9), generator=torch.Generator().manual_seed(0))
SMALL = {"vocab_size": 60, "length": 32, "dropout": 0.0}


def test_a_checkpoints_report_is_one_line(tiny_bert, tokenizer, tmp_path):
    save_half(tiny_bert(), tokenizer, tmp_path)
    report = str(report_of(load_model(str(tmp_path), "classification", num_labels=3)))
    assert "\n" not in report
    assert report.startswith("drawn at random: 4 (bert.pooler.dense.bias, bert.pooler.dense.weight")
    assert "not used: 5 (cls.predictions.bias" in report and "…" in report


def test_pouring_says_what_it_could_not(tiny_bert):
    source, target = tiny_bert(seed=1), tiny_bert(seed=2, intermediate_size=64)
    weights = source.state_dict() | {"extra.weight": torch.ones(2)}
    del weights["bert.embeddings.LayerNorm.bias"]
    before = {name: tensor.clone() for name, tensor in target.state_dict().items()}
    report = pour(target, weights)
    assert report.missing == ["bert.embeddings.LayerNorm.bias"]
    assert report.unexpected == ["extra.weight"]
    assert len(report.other_shape) == 2 * 3  # two layers: up, its bias, down
    for name, tensor in target.state_dict().items():
        kept = name in report.missing or name in report.other_shape
        assert torch.equal(tensor, (before if kept else weights)[name]), name


def test_a_tied_weight_under_one_of_its_names_is_not_missing(tiny_bert):
    weights = tiny_bert(seed=1).state_dict()
    del weights["cls.predictions.decoder.weight"]
    assert pour(tiny_bert(seed=2), weights).missing == []


def test_a_prefix_that_keeps_everything_out_is_an_error(tiny_bert):
    weights = {f"module.{name}": tensor for name, tensor in tiny_bert().state_dict().items()}
    with pytest.raises(ValueError, match="no weight fits: .* 'module.bert") as caught:
        pour(tiny_bert(), weights)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_added_as_the_identity_layers_change_nothing_and_learn(name, tmp_path):
    model = build(name, **SMALL).eval()
    with torch.no_grad():
        before = model(IDS).logits
        written = model.generate(IDS, max_new_tokens=6, do_sample=False)
        add_layers(model, 2, start="identity")
        assert layers_of(model) == model.config.num_hidden_layers == 4
        assert torch.equal(model(IDS).logits, before)
        for use_cache in (True, False):  # each layer keeps its keys in its own place
            again = model.generate(IDS, max_new_tokens=6, do_sample=False, use_cache=use_cache)
            assert torch.equal(again, written)
    model.save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    assert torch.equal(loaded(IDS).logits, before)
    losses, _ = overfit(model, {"input_ids": IDS, "labels": IDS}, steps=20)
    assert losses[-1] < 0.7 * losses[0]
    top = [p for n, p in model.named_parameters() if ".3." in n and n.endswith("_proj.weight")]
    assert any(p.abs().sum() > 0 for p in top)


@pytest.mark.parametrize("name", ["bert", "roberta", "gpt2"])
def test_added_as_copies_they_are_those_below_and_not_the_same(name):
    model = build(name, **SMALL)
    add_layers(model, 2)
    first, copied = (
        {n.replace(f".{i}.", ".#."): p for n, p in model.named_parameters() if f".{i}." in n}
        for i in (1, 3)
    )
    assert first.keys() == copied.keys() and len(first) > 5
    assert all(torch.equal(first[n], copied[n]) and first[n] is not copied[n] for n in first)
    assert model(input_ids=IDS).logits.isfinite().all()


@pytest.mark.parametrize("name, settings, words", [
    ("bert", {"count": 1, "start": "identity"}, "start 'identity' is not possible for bert"),
    ("gpt2", {"count": 3}, "3 layers cannot be copied from 2"),
    ("gpt2", {"count": 0}, "0 layers cannot be copied from 2"),
    ("t5", {"count": 1}, "the layers of 't5' are not known"),
])  # fmt: skip
def test_what_cannot_be_added_is_refused(name, settings, words):
    with pytest.raises(ValueError, match=words):
        add_layers(build(name, **SMALL), **settings)


def test_a_changed_head_of_a_text_model(tiny_bert, tmp_path):
    model = tiny_bert("BertForSequenceClassification", num_labels=2).eval()
    body = {n: p.clone() for n, p in model.bert.named_parameters()}
    change_head(model, ["good", "bad", "neither"], seed=3)
    assert all(torch.equal(p, body[n]) for n, p in model.bert.named_parameters())
    output = model(IDS, labels=torch.tensor([2, 0]))
    assert output.logits.shape == (2, 3)
    assert output.loss.item() == pytest.approx(math.log(3), rel=0.1)
    model.save_pretrained(tmp_path)
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    assert loaded.config.label2id == {"good": 0, "bad": 1, "neither": 2}
    assert torch.equal(loaded(IDS).logits, output.logits)
    weight = model.classifier.weight
    assert weight.abs().max() < 0.1
    again = change_head(tiny_bert("BertForSequenceClassification"), ["a", "b", "c"], seed=3)
    assert torch.equal(again.classifier.weight, weight)


@pytest.mark.parametrize("name", ["resnet", "efficientnet", "vit"])
def test_a_changed_head_of_an_image_model_learns(name):
    model = change_head(build(name, dropout=0.0), ["odd", "even"])
    batch = architecture(name).batch()
    batch["labels"] = batch["labels"] % 2
    losses, _ = overfit(model, batch, steps=15)
    assert losses[0] == pytest.approx(math.log(2), rel=0.25) and losses[-1] < 0.7 * losses[0]


def test_a_model_without_a_head_is_refused(tiny_bert):
    with pytest.raises(ValueError, match="BertForMaskedLM has no linear layer of its classes"):
        change_head(tiny_bert(), ["a", "b"])
