"""The recipe of the shipped checkpoint, at a size for a test; and the checkpoint itself."""

import json
import re

import numpy as np
import pytest
import torch

from cookbook import shipped
from cookbook.data import embedded
from cookbook.data.tokenization import Packed
from cookbook.models.initialization import count_parameters, load_model, load_tokenizer
from cookbook.training import docbert, pretraining

TINY = {"vocab_size": 200, "size": "tiny", "length": 24, "steps": 3, "batch_size": 4, "warmup": 1}


def docstrings_of(split):
    words = {"train": "gradient", "validation": "median", "test": "eigenvalue"}
    return [f"Compute the {words[split]} of tensor number {n}, and return a copy of {n} arrays."
            for n in range(30)]  # fmt: skip


@pytest.fixture
def small_corpus(monkeypatch):
    corpus = {split: {"text": docstrings_of(split)} for split in ("train", "validation", "test")}
    corpus["train"]["text"] += corpus["train"]["text"][:5]
    monkeypatch.setattr(embedded, "build", lambda name: corpus)
    monkeypatch.setattr(embedded, "fingerprint", lambda: "0123456789ab")
    return corpus


@pytest.fixture
def made(small_corpus, tmp_path):
    folder, work = tmp_path / "docbert", tmp_path / "work"
    return folder, work, docbert.make(folder, work, **TINY)


def test_copies_are_read_once(small_corpus):
    assert docbert.training_texts() == docstrings_of("train")


def test_the_recipe_leaves_a_model_that_loads(made):
    folder, _, facts = made
    model, tokenizer = load_model(str(folder)), load_tokenizer(str(folder))
    assert model.missing_keys == model.unexpected_keys == []
    assert model.config.hidden_dropout_prob == model.config.attention_probs_dropout_prob == 0.1
    assert model.config.vocab_size == len(tokenizer) and model.config.pad_token_id == 0
    assert tokenizer.model_max_length == model.config.max_position_embeddings == 24
    assert {path.suffix for path in folder.iterdir()} == {".json", ".safetensors"}
    assert facts["documents"] == 30 and facts["corpus"] == "0123456789ab"
    assert facts["tokens"] > 0 and facts["recipe"]["steps"] == 3


def test_dropout_is_off_while_it_pretrains(small_corpus, tmp_path, monkeypatch):
    seen = []

    def watch(model, *args, **kwargs):
        seen.append({m.p for m in model.modules() if isinstance(m, torch.nn.Dropout)})
        return pretrain(model, *args, **kwargs)

    pretrain = pretraining.pretrain
    monkeypatch.setattr(pretraining, "pretrain", watch)
    docbert.make(tmp_path / "docbert", tmp_path / "work", **TINY)
    assert seen == [{0.0}]


def test_the_card_gives_what_was_measured_on_the_stored_file(made):
    folder, _, facts = made
    figures = docbert.write_card(folder, facts)
    model, tokenizer = load_model(str(folder)), load_tokenizer(str(folder))
    test = pretraining.masked_lm_rows(docstrings_of("test"), tokenizer, 24)
    measured = pretraining.evaluate_masked_lm(model, tokenizer, test)
    assert {name: figures[name] for name in measured} == measured
    assert json.loads((folder / "figures.json").read_text()) == figures | {"corpus": "0123456789ab"}
    card = (folder / "README.md").read_text()
    for said in ("`0123456789ab`", "make docbert", "python -m cookbook.training.docbert",
                 f"{measured['masked_accuracy']:.1%}", f"{measured['perplexity']:.1f}",
                 f"{facts['tokens']:,}"):  # fmt: skip
        assert said in card
    assert "{" not in card and "nan" not in card


def test_a_stopped_run_goes_on_with_the_tokenizer_that_it_began_with(
    small_corpus, tmp_path, monkeypatch
):
    class Stopped(Exception):
        pass

    def stop(*args, **kwargs):
        raise Stopped

    work = tmp_path / "work"
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(pretraining, "pretrain", stop)
        docbert.make(tmp_path / "docbert", work, **TINY)
    begun = load_tokenizer(str(work / "tokenizer")).get_vocab()

    def second(*args, **kwargs):
        raise AssertionError("a second training would number some tokens otherwise")

    monkeypatch.setattr(docbert.tokenization, "train_tokenizer", second)
    docbert.make(tmp_path / "docbert", work, **TINY)
    assert load_tokenizer(str(tmp_path / "docbert")).get_vocab() == begun


def test_checkpoints_without_their_tokenizer_are_refused(small_corpus, tmp_path):
    (tmp_path / "checkpoint-250").mkdir()
    with pytest.raises(ValueError, match="holds checkpoints without the tokenizer"):
        docbert.make(tmp_path / "docbert", tmp_path, **TINY)
    assert not (tmp_path / "docbert").exists()


# The checkpoint that ships.


@pytest.fixture(scope="module")
def folder():
    try:
        return shipped.folder("docbert")
    except FileNotFoundError:
        pytest.skip("docbert was not yet trained: make docbert")


@pytest.fixture(scope="module")
def figures(folder):
    return json.loads((folder / "figures.json").read_text())


def test_what_ships_is_small_and_holds_no_pickle(folder):
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 12e6
    assert {path.name for path in files} == {
        "README.md", "config.json", "figures.json", "model.safetensors", "tokenizer.json",
        "tokenizer_config.json",
    }  # fmt: skip


def test_what_ships_loads_in_single_precision_with_dropout(folder):
    model, tokenizer = load_model("docbert"), load_tokenizer("docbert")
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert model.missing_keys == model.unexpected_keys == []
    config = model.config
    assert config.hidden_dropout_prob == config.attention_probs_dropout_prob == docbert.DROPOUT
    assert len(tokenizer) == config.vocab_size == docbert.RECIPE["vocab_size"]
    shape = (config.hidden_size, config.num_hidden_layers, config.max_position_embeddings)
    assert shape == (256, 4, 128)
    assert 4.5e6 < count_parameters(model)[0] < 6e6


def test_its_card_names_the_text_the_command_and_the_figures(folder, figures):
    card = (folder / "README.md").read_text()
    assert f"fingerprint `{figures['corpus']}`" in card
    assert "`make docbert`" in card and "python -m cookbook.training.docbert" in card
    assert f"| masked accuracy | {figures['masked_accuracy']:.1%} |" in card
    assert f"| perplexity | {figures['perplexity']:.1f} |" in card
    assert re.search(r"tokens read\*\* [\d,]{10,}", card)
    assert figures["masked_accuracy"] > 2 * figures["baseline"]


def test_a_sample_of_the_held_out_text_gives_the_figures_on_the_card(corpus, figures):
    if embedded.fingerprint() != figures["corpus"]:
        pytest.skip("other package versions: the card was measured on another text")
    model, tokenizer = load_model("docbert"), load_tokenizer("docbert")
    rows = pretraining.masked_lm_rows(corpus["test"]["text"], tokenizer, 128)
    some = np.random.default_rng(0).permutation(len(rows))[:200]
    sample = Packed(rows.input_ids[some], rows.document_ids[some], rows.position_ids[some])
    found = pretraining.evaluate_masked_lm(model, tokenizer, sample)
    assert found["masked_tokens"] > 3000
    # Tokens of one row stand or fall together: their spread is about twice that of a coin.
    assert abs(found["masked_accuracy"] - figures["masked_accuracy"]) < 0.04
    assert abs(found["loss"] - figures["loss"]) < 0.25
