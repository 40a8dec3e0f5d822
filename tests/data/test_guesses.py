"""What unknown columns are taken for; `test_sources` tests the same through `load`."""

import pytest
from datasets import Dataset

from cookbook.data.guesses import guess, label_candidates, only_other

LONG, SHORT = "a rather long sentence that somebody wrote", "short"


def table(**columns):
    return Dataset.from_dict({name: [value] * 3 for name, value in columns.items()})


@pytest.mark.parametrize(
    ("columns", "roles"),
    [
        ({"reviewText": LONG, "stars": 5}, {"text": "reviewText"}),
        ({"id": "7", "premise": LONG, "hypothesis": LONG},
         {"text": "premise", "text_pair": "hypothesis"}),
        ({"context": LONG, "question": LONG, "answers": {"text": ["a"], "answer_start": [0]}},
         {"context": "context", "question": "question", "answers": "answers"}),
        ({"tokens": ["a", "b"], "ner_tags": ["O", "O"]}, {"tokens": "tokens", "tags": "ner_tags"}),
        ({"en": LONG, "zh": "数据"}, {"source": "en", "target": "zh"}),
        ({"article": LONG, "highlights": SHORT}, {"text": "article", "summary": "highlights"}),
        ({"x": SHORT, "unheard_of": LONG}, {"text": "unheard_of"}),
        ({"age": 7}, {}),
    ],
)  # fmt: skip
def test_roles_are_guessed_from_names_types_and_lengths(columns, roles):
    assert guess(table(**columns), {}) == roles


def test_what_is_given_is_never_overruled():
    rows = table(review=LONG, title=SHORT)
    assert guess(rows, {"text": "title"}) == {"text": "title"}


def test_label_candidates_come_likeliest_first_and_never_for_a_summary():
    rows = table(text=LONG, topic=SHORT, label=1, text_length=40)
    assert label_candidates(rows, {"text": "text"}) == ["label", "topic"]
    assert label_candidates(rows, {"text": "text", "summary": "topic"}) == []


def test_the_only_other_column_may_be_the_label_whatever_its_name():
    assert only_other(table(text=LONG, grp=1), {"text": "text"}) == "grp"
    assert only_other(table(text=LONG, grp=1, more=2), {"text": "text"}) is None
