"""A language is named where there are several, and each is scored in its own way."""

import pytest
from datasets import Dataset

from cookbook.evaluation import generation
from cookbook.finetuning import languages

ROWS = {
    "source": ["five kilometers", "red", "five kilometers", "a red house"],
    "target": ["fünf Kilometer", "rot", "五公里远", "一个红色的房子"],
}
NAMES = ["de", "de", "zh", "zh"]


def test_the_model_is_told_where_there_are_several_languages():
    both = Dataset.from_dict(ROWS | {"language": NAMES})
    assert languages.sources(both)[0] == "de: five kilometers"
    assert languages.sources(both.select([0, 1])) == ROWS["source"][:2]


def test_without_a_column_the_alphabet_says_chinese():
    plain = Dataset.from_dict(ROWS)
    assert set(languages.languages(plain.select([2, 3]))) == {"zh"}
    assert set(languages.languages(plain.select([0, 1]))) == {""}


def test_each_language_is_scored_by_itself():
    both = Dataset.from_dict(ROWS | {"language": NAMES})
    written = ["fünf Kilometer", "grün", "五公里近", "一个红色的房子"]
    found = languages.scores(written, both)
    assert found["de"]["exact"] == found["zh"]["exact"] == 0.5
    chinese = generation.bleu(written[2:], ROWS["target"][2:], language="zh")
    assert found["zh"]["bleu"] == pytest.approx(chinese) and chinese > 50
    assert found["de"]["chrf"] == pytest.approx(generation.chrf(written[:2], ROWS["target"][:2]))
