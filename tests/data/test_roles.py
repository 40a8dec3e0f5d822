"""Roles: what is guessed from names and types, what is refused, what is renamed."""

import pytest
from datasets import Dataset, Features, Image, Translation, Value

from cookbook.data.errors import DataError
from cookbook.data.guesses import guess, label_candidates
from cookbook.data.roles import asked, assign

PROSE = ["some words of prose that run on", "other words, quite as many of them"]


def guessed(given=(), **columns):
    """Guess on two rows; a string becomes prose, anything else stays."""
    made = {name: PROSE if value == "prose" else value for name, value in columns.items()}
    rows = Dataset.from_dict(made)
    chosen = guess(rows, dict(given))
    if "label" not in chosen and (labels := label_candidates(rows, chosen)):
        chosen["label"] = labels[0]
    return chosen


@pytest.mark.parametrize(
    "columns, expected",
    [
        ("review stars", {"text": "review", "label": "stars"}),
        ("id reviewText overall_rating", {"text": "reviewText", "label": "overall_rating"}),
        ("Message Category", {"text": "Message", "label": "Category"}),
        ("v1 v2", {"text": "v2", "label": "v1"}),
        ("review_id comment toxic", {"text": "comment", "label": "toxic"}),
        ("text_length content", {"text": "content"}),
        ("内容 标签", {"text": "内容", "label": "标签"}),
        ("sentence1 sentence2 score",
         {"text": "sentence1", "text_pair": "sentence2", "label": "score"}),
        ("premise hypothesis gold_label",
         {"text": "premise", "text_pair": "hypothesis", "label": "gold_label"}),
        ("anchor positive negative", {"text": "anchor", "text_pair": "positive"}),
        ("question answer", {"text": "question", "text_pair": "answer"}),
        ("context question answers",
         {"context": "context", "question": "question", "answers": "answers"}),
        ("source target", {"source": "source", "target": "target"}),
        ("de en", {"source": "de", "target": "en"}),
        ("id de en", {"source": "de", "target": "en"}),
        ("id en", {"source": "id", "target": "en"}),
        ("article highlights", {"text": "article", "summary": "highlights"}),
        ("title author text", {"text": "text"}),
        ("narrative kind", {"text": "narrative"}),
        ("review_id narrative", {"text": "narrative"}),
    ],
)  # fmt: skip
def test_guesses_by_name(columns, expected):
    short = set(
        "stars overall_rating Category v1 toxic 标签 score gold_label kind review_id".split()
    )
    made = {name: ["a", "b"] if name in short else "prose" for name in columns.split()}
    assert guessed(**made) == expected


def test_guesses_by_type():
    words = [["a", "b"], ["c"]]
    assert guessed(tokens=words, ner_tags=words) == {"tokens": "tokens", "tags": "ner_tags"}
    pixels = Features(picture=Image(), title=Value("string"), label=Value("int8"))
    rows = Dataset.from_dict({"picture": [None], "title": ["t"], "label": [1]}, features=pixels)
    assert guess(rows, {}) == {"image": "picture", "caption": "title"}
    assert guess(rows.remove_columns("title"), {}) == {"image": "picture"}
    # The longest text is the text, a number never is.
    assert guessed(a=["x", "y"], b="prose", c=[1, 2]) == {"text": "b"}


def test_what_is_given_decides_the_task():
    columns = {"context": "prose", "question": "prose", "answers": [["a"], ["b"]]}
    assert guessed({"text": "context"}, **columns) == {"text": "context"}
    assert guessed({"source": "zh"}, en="prose", zh="prose") == {"source": "zh", "target": "en"}
    assert guessed({"text": "zh"}, en="prose", zh="prose") == {"text": "zh"}
    assert guessed({"text": "note"}, note="prose", en="prose", zh="prose") == {"text": "note"}
    pair = guessed({"text": "premise"}, premise="prose", hypothesis="prose")
    assert pair == {"text": "premise", "text_pair": "hypothesis"}


def test_the_only_other_column_is_the_label_if_it_repeats(capsys):
    rows = Dataset.from_dict({"words": PROSE * 5, "kind": ["a", "b"] * 5})
    parts, known = assign({"train": rows}, {}, where="a.csv")
    assert known == ["text", "label"] and parts["train"].column_names == ["text", "label"]
    rows = Dataset.from_dict({"words": PROSE * 5, "number": list(range(10))})
    assert assign({"train": rows}, {}, where="a.csv")[1] == ["text"]


def test_a_label_that_cannot_be_one_is_left_and_said_when_nobody_asked(capsys):
    rows = Dataset.from_dict({"text": PROSE, "label": ["ham", "ham"]})
    parts, known = assign({"train": rows}, {}, where="a.csv")
    assert known == ["text"] and parts["train"]["label"][:] == ["ham", "ham"]
    assert capsys.readouterr().out == (
        "no label guessed: the label column 'label' of a.csv has one class only, 'ham', in all 2 "
        "rows: a classifier needs two\n"
        "guessed text (mean 32 characters); say otherwise with columns={...}\n"
    )


def test_hub_translations_and_pandas_images_are_unfolded():
    features = Features(id=Value("string"), translation=Translation(languages=["de", "en"]))
    rows = {"id": ["1"], "translation": [{"de": "Hallo", "en": "hello"}]}
    part = Dataset.from_dict(rows, features=features)
    parts, _ = assign({"train": part}, {}, where="a")
    assert parts["train"][0] == {"source": "Hallo", "target": "hello", "id": "1"}
    png = {"bytes": b"png", "path": None}
    part = Dataset.from_dict({"image": [png], "label": [0]})
    parts, _ = assign({"train": part}, {"image": "image"}, where="a")
    assert isinstance(parts["train"].features["image"], Image)


def test_null_texts_become_empty_ones():
    rows = Dataset.from_dict({"text": ["a", None]})
    parts, _ = assign({"train": rows}, {"text": "text"}, where="a")
    assert parts["train"]["text"][:] == ["a", ""]


@pytest.mark.parametrize(
    "given, message",
    [
        ({"text": "reviw"}, "a.csv has no column 'reviw': its columns are review, stars, words, "
                            "blank, gone; did you mean 'review'?"),
        ({"text": "zzz"}, "a.csv has no column 'zzz': its columns are review, stars, words, blank, "
                          "gone"),
        ({"text": "stars"}, "the text column 'stars' of a.csv holds whole numbers, not text: "
                            "choose among review, blank"),
        ({"text": "blank"}, "the text column 'blank' of a.csv is empty in all 2 rows: fill it in, "
                            "or choose another"),
        ({"text": "gone"}, "the text column 'gone' of a.csv is empty in all 2 rows: fill it in, or "
                           "choose another"),
        ({"tokens": "review"}, "the tokens column 'review' of a.csv holds text, not lists: choose "
                               "among words"),
        ({"image": "review"}, "the image column 'review' of a.csv holds text, not bytes or images "
                              "or lists: choose among words"),
        ({"label": "words"}, "the label column 'words' of a.csv holds lists, not one class or "
                             "number a row: choose another (review, stars, blank, gone)"),
    ],
)  # fmt: skip
def test_refusals(given, message):
    rows = Dataset.from_dict({
        "review": PROSE, "stars": [1, 2], "words": [["a"], ["b"]], "blank": ["", " "],
        "gone": [None, None],
    })  # fmt: skip
    with pytest.raises(DataError) as caught:
        assign({"train": rows}, given, where="a.csv")
    assert str(caught.value) == message


def test_a_table_without_text_is_refused():
    with pytest.raises(DataError) as caught:
        assign({"train": Dataset.from_dict({"x": [1], "y": [[2]]})}, {}, where="a.csv")
    assert str(caught.value) == (
        "a.csv has no column of text or images: its columns are x (whole numbers), y (lists); "
        "name one with columns={...}"
    )


def test_a_file_without_a_header_is_recognised():
    rows = Dataset.from_dict({"it was good": PROSE * 5, "1": [0, 1] * 5})
    with pytest.raises(DataError) as caught:
        assign({"train": rows}, {}, where="a.csv")
    assert str(caught.value) == (
        "column '1' of a.csv is named like one of its values: if the file has no header, put one "
        "such as text,label before the first row"
    )


def test_a_split_that_lacks_the_column_is_named():
    parts = {"train": Dataset.from_dict({"a": PROSE}), "test": Dataset.from_dict({"b": PROSE})}
    with pytest.raises(DataError) as caught:
        assign(parts, {"text": "a"}, where="set")
    assert str(caught.value) == (
        "set (test) has no column 'a': its columns are b; give all splits the same columns"
    )


def test_refusals_of_requests():
    with pytest.raises(DataError, match="^'txt' is not a role: choose among text, text_pair, "):
        asked({"txt": "review"}, "", "")
    with pytest.raises(DataError) as caught:
        asked({"label": "review"}, "review", "")
    assert str(caught.value) == (
        "column 'review' is given as label and as text: give each its own column"
    )
