"""Spans that contradict their own row, and the odd ones that do not."""

import pytest

from cookbook.doctor import span_checks
from cookbook.doctor.checks import attempt
from cookbook.doctor.subject import Subject

TEXTS = ["the solver returns an array of two numbers", "a tensor holds the gradient of the loss"]


def rows(tokenizer, change=lambda row, encoded: row, count=40, length=64, **kept):
    """Questions whose answer is the fourth word of the text, found by offsets."""
    found = []
    for i in range(count):
        text = TEXTS[i % 2]
        words = text.split()
        begin = len(" ".join(words[:3])) + 1
        encoded = tokenizer(
            "what is the fourth word", text, truncation="only_second", max_length=length,
            return_offsets_mapping=True, return_token_type_ids=True,
        )  # fmt: skip
        sides = encoded.sequence_ids()
        inside = [
            k for k, (a, b) in enumerate(encoded["offset_mapping"])
            if sides[k] == 1 and begin <= a and b <= begin + len(words[3])
        ] or [0]  # fmt: skip
        row = {k: encoded[k] for k in ("input_ids", "attention_mask", "token_type_ids")}
        row |= {"start_positions": inside[0], "end_positions": inside[-1]}
        row |= {"answers": {"text": [words[3]]}} if kept.get("answers") else {}
        found.append(change(row, encoded))
    return found


def found(check, data, tokenizer):
    said, why = attempt(check, Subject(None, train_dataset=data, processing_class=tokenizer))
    assert not why.startswith("failed"), why
    return [(f.fault, f.severity) for f in said]


def moved(by):
    def change(row, encoded):
        return row | {k: row[k] + by for k in ("start_positions", "end_positions")}

    return change


def turned(row, encoded):
    return row | {"start_positions": row["end_positions"] + 1}


@pytest.mark.parametrize("answers", [False, True])
@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda row, encoded: row, []),
        (moved(30), [("M4", "error")]),  # characters, not tokens
        (turned, [("D8", "error")]),
        (lambda row, encoded: row | {"start_positions": 0, "end_positions": 0}, []),  # no answers
    ],
)
def test_spans_against_their_row(tokenizer, change, expected, answers):
    data = rows(tokenizer, change, answers=answers)
    assert found(span_checks.check_spans_are_of_their_rows, data, tokenizer) == expected


def test_some_spans_in_the_question_and_others_in_the_text(tokenizer):
    half = [r if i % 2 else moved(1 - r["start_positions"])(r, None) for i, r in
            enumerate(rows(tokenizer))]  # fmt: skip
    check = span_checks.check_spans_are_of_their_rows
    assert found(check, half, tokenizer) == [("D8", "error")]


def test_the_answer_that_stands_in_the_row_decides(tokenizer):
    data = rows(tokenizer, moved(2), answers=True)
    assert found(span_checks.check_spans_are_of_their_rows, data, tokenizer) == [("D8", "error")]


def test_answers_that_truncation_cut_off(tokenizer):
    check = span_checks.check_answers_survive
    whole = rows(tokenizer, length=64)
    short = min(row["start_positions"] for row in whole)
    cut = rows(tokenizer, length=short)
    assert {row["start_positions"] for row in cut} == {0}
    assert found(check, cut, tokenizer) == [("T4", "warn")]
    assert found(check, whole, tokenizer) == []
    none = rows(tokenizer, lambda row, e: row | {"start_positions": 0, "end_positions": 0})
    uneven = [row | {k: row[k][:-1] for k in ("input_ids", "attention_mask", "token_type_ids")}
              for row in none[:30]]  # fmt: skip
    assert found(check, [*none[:20], *uneven], tokenizer) == []  # unanswerable at any length


def test_rows_without_spans_are_none_of_its_business(tokenizer):
    data = [dict(tokenizer("a copy")) | {"labels": 0}] * 40
    assert span_checks.read(data) == []
    assert found(span_checks.check_spans_are_of_their_rows, data, tokenizer) == []


@pytest.mark.parametrize(
    ("lost", "change", "expected"),
    [
        (12, {}, ["T4"]),
        (12, {"answers": {"text": ["copy"], "answer_start": [20]}, "answer": ""}, ["T4"]),
        (3, {}, []),
        (12, {"answer": ""}, []),  # asked of a text that does not tell it
        (12, {"answer": "elsewhere"}, []),
        (12, {"context": "another window of this text finds the copy"}, []),
        (12, {"attention_mask": [1] * 8 + [0] * 2}, []),  # shorter than the limit: not cut
    ],
)
def test_answers_that_were_cut_away_and_are_still_told(lost, change, expected):
    whole = {"input_ids": list(range(10)), "attention_mask": [1] * 10, "answer": "the copy",
             "start_positions": 4, "end_positions": 5}  # fmt: skip
    rows = [whole | {"context": f"text {i} that tells of the copy at its end"} for i in range(40)]
    rows.append(whole | {"context": "another window of this text finds the copy"})
    rows[:lost] = [row | {"start_positions": 0, "end_positions": 0} | change for row in rows[:lost]]
    subject = Subject(None, train_dataset=rows)
    found = span_checks.check_told_answers_are_pointed_at(subject)
    assert [f.fault for f in found] == expected
