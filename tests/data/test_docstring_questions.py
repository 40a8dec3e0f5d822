"""A question about a parameter is answered by a span that stands where it is said to stand."""

import pytest

from cookbook.data import docstring_questions as qa

TEXT = """Sum over an axis.

Longer words about sums.

Parameters
----------
a : array_like
    Elements to sum. They are not
    changed.
axis : None or int, optional
    Axis along which a sum is performed,
    e.g. the last. By default all.

    .. versionadded:: 1.7
x, y : float
    Where to start
*args
keepdims : bool

Other Parameters
----------------
**kwargs : Any
    Passed on!

Returns
-------
sum_along_axis : ndarray
    An array. Not a parameter.
"""


def asked(text):
    return {row["question"]: row for row in qa.ask({"text": text})}


def test_every_parameter_is_asked_for_and_nothing_else():
    assert list(asked(TEXT)) == [
        "what is `a`?", "what is `axis`?", "what is `x, y`?", "what is `*args`?",
        "what is `keepdims`?", "what is `**kwargs`?",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("a", "Elements to sum."),
        ("axis", "Axis along which a sum is performed,\n    e.g. the last."),
        ("x, y", "Where to start"),
        ("**kwargs", "Passed on!"),
    ],
)
def test_the_answer_is_the_first_sentence_and_stands_there(name, answer):
    row = asked(TEXT)[f"what is `{name}`?"]
    (start,) = row["answers"]["answer_start"]
    assert row["answers"]["text"] == [answer]
    assert row["context"] == TEXT and TEXT[start : start + len(answer)] == answer


def test_what_is_not_described_has_a_reason():
    rows = asked(TEXT)
    assert rows["what is `*args`?"]["reason"] == "parameter without a description"
    assert rows["what is `keepdims`?"]["reason"] == "parameter without a description"
    assert rows["what is `a`?"]["reason"] == ""
    long = TEXT.replace("Elements to sum.", f"Elements {'very ' * 60}long.")
    assert asked(long)["what is `a`?"]["reason"] == "answer too long"
    assert qa.ask({"text": "No section at all."}) == "no parameter section"


def test_a_section_at_the_end_of_the_text_and_an_empty_one():
    end = "Sum.\n\nParameters\n----------\nn : int\n    How many"
    assert asked(end)["what is `n`?"]["answers"]["text"] == ["How many"]
    assert qa.ask({"text": "Sum.\n\nParameters\n----------\n"}) == "no parameter section"
    assert qa.ask({"text": "Sum.\n\nParameters\n==========\nn : int\n    How many"}) == (
        "no parameter section"
    )
