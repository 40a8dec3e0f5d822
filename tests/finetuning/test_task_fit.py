"""Tasks from columns, families from configurations, and that every pair has an answer."""

import pytest
import transformers
from datasets import ClassLabel, Dataset, DatasetDict, Features, Sequence, Value

from cookbook.finetuning.task_fit import FAMILIES, FITS, family_of, task_fit, task_of


def columns(**kinds):
    features = Features(kinds)
    return DatasetDict(train=Dataset.from_dict({name: [] for name in kinds}, features=features))


TEXT, LABEL = Value("string"), ClassLabel(names=["no", "yes"])


@pytest.mark.parametrize(
    ("kinds", "task"),
    [
        ({"text": TEXT, "label": LABEL}, "classification"),
        ({"text": TEXT, "text_pair": TEXT, "label": LABEL}, "classification"),
        ({"text": TEXT, "text_pair": TEXT, "label": Value("float32")}, "regression"),
        ({"text": TEXT}, "language modelling"),
        ({"text": TEXT, "text_pair": TEXT}, "retrieval"),
        ({"tokens": Sequence(TEXT), "tags": Sequence(LABEL)}, "tagging"),
        ({"question": TEXT, "context": TEXT, "answers": TEXT}, "question answering"),
        ({"source": TEXT, "target": TEXT}, "writing"),
        ({"text": TEXT, "summary": TEXT}, "writing"),
        ({"image": TEXT, "label": LABEL}, "image classification"),
        ({"image": TEXT, "caption": TEXT}, "matching"),
    ],
)
def test_the_columns_say_what_is_asked(kinds, task):
    assert task_of(columns(**kinds)) == task


@pytest.mark.parametrize(
    ("config", "family"),
    [
        ("BertConfig", "encoder"),
        ("RobertaConfig", "encoder"),
        ("ElectraConfig", "encoder"),
        ("DistilBertConfig", "encoder"),
        ("GPT2Config", "decoder"),
        ("LlamaConfig", "decoder"),
        ("XLNetConfig", "decoder"),
        ("BartConfig", "encoder-decoder"),
        ("T5Config", "encoder-decoder"),
        ("ViTConfig", "vision"),
        ("ResNetConfig", "vision"),
        ("CLIPConfig", "joint"),
    ],
)
def test_the_configuration_says_the_family(config, family):
    assert family_of(getattr(transformers, config)()) == family


def test_a_bert_that_was_saved_as_a_decoder_is_one():
    assert family_of(transformers.BertConfig(is_decoder=True)) == "decoder"
    assert family_of(transformers.BertConfig(architectures=["BertLMHeadModel"])) == "decoder"


def test_an_image_reader_that_writes_is_joint():
    halves = transformers.ViTConfig(), transformers.GPT2Config()
    both = transformers.VisionEncoderDecoderConfig.from_encoder_decoder_configs(*halves)
    assert family_of(both) == "joint"


@pytest.mark.parametrize("task", FITS)
def test_every_task_has_an_answer_for_every_family_and_someone_who_is_made_for_it(task):
    grades = [task_fit(task, family).grade for family in FAMILIES]
    assert len(FITS[task]) == len(FAMILIES) and max(grades) == 2
    assert all(task_fit(task, family).why for family in FAMILIES)
    assert task_fit(task, "unknown").grade == 0
