"""Recommendations: each question answered no, in one line, and yes, in order."""

import itertools
import shutil

import pytest
import torch
import transformers
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

from cookbook.finetuning import selection
from cookbook.finetuning.selection import recommend
from cookbook.models.initialization import load_model


@pytest.fixture
def ticks():
    """A clock on which every step takes a second."""
    return itertools.count().__next__


def chinese():
    features = Features({"text": Value("string"), "label": ClassLabel(names=["bad", "good"])})
    texts = ["味道不错,送餐很快", "太难吃了 下次不会再点"] * 20
    part = Dataset.from_dict({"text": texts, "label": [1, 0] * 20}, features=features)
    return DatasetDict(train=part, validation=part, test=part)


def test_what_fits_is_proposed_with_its_reasons(checkpoint, labelled, ticks):
    found = recommend(labelled, [checkpoint], memory="8GB", minutes=30, clock=ticks, rows=40)
    best = found.best
    assert found.task == "classification" and found.baseline == pytest.approx(1 / 3)
    assert (best.strategy, best.family, best.licence) == ("full", "encoder", "")
    assert best.scores.rows == 40 and best.unknown == 0
    # a tick for each of 3 batches in 4 epochs, and for each of 5 looks at the validation split
    assert best.seconds == pytest.approx(4 * 3 + 5, rel=0.2)
    words = " ".join(best.reasons)
    for part in ("encoder: every token", "reads the text", "linear probe", "full:", "no licence"):
        assert part in words


def test_docbert_cannot_read_chinese(ticks):
    found = recommend(chinese(), ["docbert"], clock=ticks)
    assert found.best is None
    (only,) = found.candidates
    assert only.reasons[-1].startswith("refused: docbert cannot read this text")
    assert "\n" not in only.reasons[-1]


def test_too_little_memory(checkpoint, labelled, ticks):
    found = recommend(labelled, [checkpoint], clock=ticks, rows=40, memory=selection.PROCESS + 1)
    assert found.best is None
    assert "nothing fits: full needs" in found.candidates[0].reasons[-1]


@pytest.mark.parametrize(("minutes", "strategy"), [(1e-9, ""), (0.1, "linear-probe")])
def test_too_little_time(checkpoint, labelled, ticks, minutes, strategy):
    given = {"minutes": minutes, "strategies": ("full", "linear-probe"), "rows": 40}
    (found,) = recommend(labelled, [checkpoint], clock=ticks, **given).candidates
    assert found.strategy == strategy
    assert "full takes" in " ".join(found.reasons)


def test_models_for_something_else_and_no_models_at_all(checkpoint, labelled, tmp_path, ticks):
    vision, empty = tmp_path / "vision", tmp_path / "empty"
    transformers.ViTConfig().save_pretrained(vision)
    empty.mkdir()
    found = recommend(labelled, [str(vision), str(empty), checkpoint], clock=ticks, rows=40)
    assert found.best.model == checkpoint
    by_name = {each.model: each.reasons[-1] for each in found.candidates}
    assert "vision, and for classification no use" in by_name[str(vision)]
    assert "no usable checkpoint" in by_name[str(empty)]
    assert [each.refused for each in found.candidates] == [False, True, True]


def test_one_that_has_learnt_something_is_before_one_that_has_not(checkpoint, labelled, tmp_path):
    """Its embeddings wiped out, a checkpoint says the same of every row."""
    blank = str(tmp_path / "blank")
    shutil.copytree(checkpoint, blank)
    model = load_model(blank, "masked-lm")
    with torch.no_grad():
        model.get_input_embeddings().weight.zero_()
    model.save_pretrained(blank)
    ticks = itertools.count().__next__
    found = recommend(labelled, [blank, checkpoint], clock=ticks, rows=48)
    first, last = found.candidates
    assert first.model == checkpoint
    assert first.scores.logme > last.scores.logme and first.scores.probe > last.scores.probe + 0.3


def test_features_of_other_families(checkpoint, labelled, tmp_path, tokenizer, ticks):
    folder = str(tmp_path / "t5")
    size = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2}
    special = {"pad_token_id": tokenizer.pad_token_id, "decoder_start_token_id": 0}
    config = transformers.T5Config(vocab_size=len(tokenizer), **size, **special)
    transformers.T5ForConditionalGeneration(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    found = recommend(labelled, [folder], clock=ticks, rows=40).best
    assert (found.family, found.strategy, found.scores.rows) == ("encoder-decoder", "full", 40)


def test_data_without_labels(checkpoint, labelled, ticks):
    texts = labelled.remove_columns("label")
    found = recommend(texts, [checkpoint], clock=ticks, rows=40)
    assert found.task == "language modelling" and found.baseline == 0
    assert found.best.scores is None and found.best.strategy == "full"


def test_an_impossible_budget():
    with pytest.raises(ValueError, match="no amount of memory"):
        recommend(chinese(), ["docbert"], memory="plenty")
