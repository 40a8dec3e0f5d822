"""Weights come from a checkpoint, in fp32 and from safetensors, or at random, and say so."""

import json
from pathlib import Path

import pytest
import torch
import transformers
from safetensors import safe_open

from cookbook.models import initialization
from cookbook.models.initialization import (
    count_parameters,
    extend_vocabulary,
    freeze,
    load_model,
    load_tokenizer,
    save_half,
)
from cookbook.models.text import bert_config

NEW_CLASSIFIER = [
    "bert.pooler.dense.bias", "bert.pooler.dense.weight", "classifier.bias", "classifier.weight",
]  # fmt: skip
OLD_HEAD = [
    "cls.predictions.bias", "cls.predictions.transform.LayerNorm.bias",
    "cls.predictions.transform.LayerNorm.weight", "cls.predictions.transform.dense.bias",
    "cls.predictions.transform.dense.weight",
]  # fmt: skip


@pytest.fixture
def stored(tiny_bert, tokenizer, tmp_path):
    """A masked-LM checkpoint in half precision, as `docbert` is stored."""
    save_half(tiny_bert(hidden_dropout_prob=0.1), tokenizer, tmp_path / "stored")
    return str(tmp_path / "stored")


def same(first, second):
    a, b = first.state_dict(), second.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_a_checkpoint_comes_back(tiny_bert, stored):
    model, original = load_model(stored), tiny_bert()
    assert type(model) is transformers.BertForMaskedLM
    assert model.missing_keys == model.unexpected_keys == []
    for name, tensor in original.state_dict().items():
        close = torch.allclose(model.state_dict()[name].float(), tensor.float(), atol=1e-3)
        assert close, name


def test_half_precision_on_disk_is_single_in_memory(stored, tiny_bert, tmp_path):
    with safe_open(f"{stored}/model.safetensors", "pt") as file:
        assert {file.get_tensor(name).dtype for name in file.keys()} == {torch.float16}
    assert {p.dtype for p in load_model(stored).parameters()} == {torch.float32}
    # The reason: the library keeps what it finds, and half precision would train badly.
    tiny_bert().half().save_pretrained(tmp_path / "half")
    plain = transformers.AutoModelForMaskedLM.from_pretrained(tmp_path / "half")
    assert plain.dtype == torch.float16
    ours = load_model(str(tmp_path / "half"))
    assert {p.dtype for p in ours.parameters()} == {torch.float32}


def test_dropout_is_stored_and_overridden(stored):
    assert load_model(stored).config.hidden_dropout_prob == 0.1
    model = load_model(stored, hidden_dropout_prob=0.0)
    assert model.config.hidden_dropout_prob == model.bert.embeddings.dropout.p == 0.0


def test_a_new_head_is_reported_and_drawn_from_the_seed(stored):
    models = [load_model(stored, "classification", num_labels=3, seed=seed) for seed in (0, 0, 1)]
    assert models[0].missing_keys == NEW_CLASSIFIER
    assert models[0].unexpected_keys == OLD_HEAD
    assert models[0].classifier.weight.shape == (3, 32)
    assert same(models[0], models[1])
    assert not torch.equal(models[0].classifier.weight, models[2].classifier.weight)
    assert same(models[0].bert.encoder, models[2].bert.encoder)


@pytest.mark.parametrize("task, kind", [
    ("encoder", "BertModel"), ("masked-lm", "BertForMaskedLM"),
    ("classification", "BertForSequenceClassification"),
    ("next-sentence", "BertForNextSentencePrediction"), ("pretraining", "BertForPreTraining"),
])  # fmt: skip
def test_every_task_has_its_head(stored, task, kind):
    for random in (False, True):
        model = load_model(stored, task, random=random)
        assert type(model).__name__ == kind
        assert not any(torch.isnan(p).any() for p in model.parameters())


def test_random_weights_have_the_shape_of_the_checkpoint_and_nothing_of_its_contents(stored):
    pretrained = load_model(stored)
    first, again, other = (load_model(stored, random=True, seed=seed) for seed in (0, 0, 1))
    assert count_parameters(first) == count_parameters(pretrained)
    assert {p.dtype for p in first.parameters()} == {torch.float32}
    assert same(first, again) and not same(first, other)
    weight = "bert.encoder.layer.0.output.dense.weight"
    assert not torch.allclose(first.get_parameter(weight), pretrained.get_parameter(weight))
    assert first.missing_keys == first.unexpected_keys == []


def test_a_head_for_other_classes_is_drawn_anew_and_reported(stored, tmp_path):
    fine_tuned = load_model(stored, "classification", num_labels=3)
    fine_tuned.save_pretrained(tmp_path / "three")
    kept = load_model(str(tmp_path / "three"), "classification", num_labels=3)
    assert kept.missing_keys == [] and same(kept, fine_tuned)
    model = load_model(str(tmp_path / "three"), "classification", num_labels=5)
    assert model.missing_keys == ["classifier.bias", "classifier.weight"]
    assert model.classifier.weight.shape == (5, 32) and same(model.bert, fine_tuned.bert)
    assert model.classifier.weight.abs().sum() > 0


@pytest.mark.parametrize("name", ["no/such-model", "what is this?", "/nowhere/at/all", "", "a/b/c"])
@pytest.mark.parametrize("load", [load_model, load_tokenizer])
def test_a_name_that_is_none_gives_one_line(load, name):
    with pytest.raises(ValueError) as caught:
        load(name)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"no usable checkpoint {name!r}: ")
    assert str(caught.value).endswith("or a hub id")


def damage(stored, how):
    path = Path(stored) / "model.safetensors"
    if how == "cut off":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif how == "garbage":
        path.write_bytes(b"garbage")
    elif how == "none":
        path.unlink()
    elif how == "pickle instead":
        torch.save(load_model(stored).state_dict(), path.with_name("pytorch_model.bin"))
        path.unlink()
    elif how == "no type":
        path.with_name("config.json").write_text("{}")
    else:
        path.with_name("config.json").write_text("{not json")


@pytest.mark.parametrize("how", [
    "cut off", "garbage", "none", "pickle instead", "no type", "no json",
])  # fmt: skip
def test_a_damaged_checkpoint_gives_one_line(stored, how):
    damage(stored, how)
    with pytest.raises(ValueError) as caught:
        load_model(stored)
    message = str(caught.value)
    assert "\n" not in message and message.startswith("no usable checkpoint")
    if how in ("none", "pickle instead"):
        assert "no file named model.safetensors" in message


def test_a_body_of_another_shape_is_refused_not_drawn_anew(stored):
    with pytest.raises(ValueError, match="another shape than the configuration asks for"):
        load_model(stored, intermediate_size=64)


def test_a_folder_without_a_tokenizer_gives_one_line(stored, tmp_path):
    with pytest.raises(ValueError) as caught:
        load_tokenizer(str(tmp_path))
    assert "\n" not in str(caught.value)


def test_a_task_that_the_architecture_has_not_gives_one_line(tokenizer, tmp_path):
    config = transformers.DistilBertConfig(
        vocab_size=len(tokenizer), dim=32, n_layers=1, n_heads=2, hidden_dim=64
    )
    transformers.DistilBertForMaskedLM(config).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="AutoModelForNextSentencePrediction") as caught:
        load_model(str(tmp_path), "next-sentence")
    assert "\n" not in str(caught.value)


def test_an_unknown_task_is_named():
    with pytest.raises(ValueError) as caught:
        load_model("docbert", "poetry")
    assert str(caught.value) == (
        "unknown task 'poetry': choose one of encoder, masked-lm, classification, next-sentence, "
        "pretraining, tagging, question-answering, writing"
    )


def test_code_that_comes_with_a_checkpoint_is_never_run(stored, tmp_path):
    config = Path(stored) / "config.json"
    settings = json.loads(config.read_text())
    settings["auto_map"] = {"AutoConfig": "evil.Config", "AutoModelForMaskedLM": "evil.Model"}
    settings["model_type"] = "evil"
    config.write_text(json.dumps(settings))
    (Path(stored) / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(ValueError):
        load_model(stored)
    assert not (tmp_path / "ran").exists()


def test_loading_is_silent_and_leaves_the_loggers_as_they_were(stored, capfd):
    from transformers.utils import logging

    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    load_model(stored, "classification", num_labels=7)
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before
    assert capfd.readouterr() == ("", "")


def test_the_shipped_name_is_a_folder_and_others_are_what_they_are(monkeypatch, tmp_path):
    monkeypatch.setattr(initialization.shipped, "folder", lambda name: tmp_path / name)
    assert initialization.resolve("docbert") == str(tmp_path / "docbert")
    assert initialization.resolve("./docbert") == "./docbert"


def test_tied_weights_count_and_are_stored_once(tiny_bert, stored, tokenizer):
    model = tiny_bert()
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    names = [name for name, _ in model.named_parameters()]
    assert len(names) == len({p.data_ptr() for p in model.parameters()})
    total, _ = count_parameters(model)
    with safe_open(f"{stored}/model.safetensors", "pt") as file:
        held = sum(file.get_tensor(name).numel() for name in file.keys())
    assert held == total
    loaded = load_model(stored)
    assert loaded.get_output_embeddings().weight is loaded.get_input_embeddings().weight


def test_half_precision_takes_half_the_room_and_leaves_the_model_alone(
    tiny_bert, tokenizer, tmp_path
):
    model, untouched = tiny_bert(), tiny_bert()
    save_half(model, tokenizer, tmp_path / "half")
    model.save_pretrained(tmp_path / "full")
    half, full = (
        (tmp_path / kind / "model.safetensors").stat().st_size for kind in ("half", "full")
    )
    assert half < 0.53 * full  # the header does not halve
    assert same(model, untouched) and model.dtype == torch.float32


def test_the_tokenizer_is_stored_beside(stored, tokenizer):
    loaded = load_tokenizer(stored)
    text = "The Solver computes THE gradient."
    assert loaded(text)["input_ids"] == tokenizer(text)["input_ids"]
    assert loaded.model_max_length == tokenizer.model_max_length


def test_freezing_and_counting(tiny_bert):
    model = tiny_bert("BertForSequenceClassification")
    total, trainable = count_parameters(model)
    assert total == trainable
    assert freeze(model.bert) is model.bert
    head = sum(p.numel() for p in model.classifier.parameters())
    assert count_parameters(model) == (total, head)


def own_copy(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    return load_tokenizer(str(tmp_path))


@pytest.mark.parametrize("tie", [True, False])
def test_new_tokens_start_as_the_mean_of_their_pieces(tiny_bert, tokenizer, tmp_path, tie):
    model, tokenizer = tiny_bert(tie_word_embeddings=tie), own_copy(tokenizer, tmp_path)
    tables = [model.get_input_embeddings().weight, model.get_output_embeddings().weight]
    before = [table.detach().clone() for table in tables]
    pieces = tokenizer("transposesgradient", add_special_tokens=False)["input_ids"]
    assert len(pieces) > 1
    size = len(tokenizer)
    added = extend_vocabulary(model, tokenizer, ["transposesgradient", "the", "transposesgradient"])
    assert added == 1 and len(tokenizer) == size + 1
    row = tokenizer.convert_tokens_to_ids("transposesgradient")
    assert tokenizer("transposesgradient", add_special_tokens=False)["input_ids"] == [row]
    tables = [model.get_input_embeddings().weight, model.get_output_embeddings().weight]
    assert (tables[0] is tables[1]) == tie
    for table, old in zip(tables, before, strict=True):
        assert table.shape == (size + 1, 32)
        assert torch.equal(table[:size], old)
        assert torch.allclose(table[row], old[pieces].mean(0))
    assert model.config.vocab_size == size + 1
    logits = model(torch.tensor([[row, 5]])).logits
    assert logits.shape == (1, 2, size + 1) and logits.isfinite().all()


def test_a_vocabulary_that_has_all_stays(tiny_bert, tokenizer, tmp_path):
    model, tokenizer = tiny_bert(), own_copy(tokenizer, tmp_path)
    before = tiny_bert()
    assert extend_vocabulary(model, tokenizer, ["the", "of"]) == 0
    assert extend_vocabulary(model, tokenizer, []) == 0
    assert same(model, before)


def test_spare_rows_of_a_table_are_used_not_cut_off(tokenizer, tmp_path):
    tokenizer = own_copy(tokenizer, tmp_path)
    model = transformers.BertForMaskedLM(bert_config(len(tokenizer) + 8, "tiny"))
    assert extend_vocabulary(model, tokenizer, ["transposesgradient"]) == 1
    assert model.get_input_embeddings().weight.shape[0] == len(tokenizer) + 7
