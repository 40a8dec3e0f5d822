"""No answer is lost between windows, and a span of tokens is the text it came from."""

import pytest
from datasets import Dataset

from cookbook.data import DataError, answer_spans
from cookbook.models import load_tokenizer

TOKENIZER = load_tokenizer("docbert")
PLAIN = " ".join(f"word{i}, and then" for i in range(60))


def asked(answers, context=PLAIN, question="what is it?"):
    rows = [{"context": context, "question": question, "answers": answer} for answer in answers]
    return Dataset.from_list(rows)


def squad(text):
    return {"text": [text], "answer_start": [PLAIN.index(text)]}


def test_every_answer_is_whole_in_some_window_and_reads_as_it_stands():
    answers = [squad(f"word{i}, and") for i in range(60)]
    found = answer_spans.windows(asked(answers), TOKENIZER, max_length=48, stride=16)
    assert {found.example[i] for i in found.holding()} == set(range(60))
    for i in found.holding():
        row, example = found.rows[i], found.example[i]
        ends = row["start_positions"], row["end_positions"]
        text = answer_spans.text_between(PLAIN, found.offsets[i], *ends)
        assert text == answers[example]["text"][0]
    assert max(len(row["input_ids"]) for row in found.rows) == 48


def test_plain_truncation_loses_what_stands_behind_it():
    dataset = asked([squad("word2, and"), squad("word50, and")])
    found = answer_spans.windows(dataset, TOKENIZER, max_length=48, cut=True)
    assert found.example == [0, 1] and found.holding() == [0]


def test_windows_of_a_context_overlap_by_the_stride():
    found = answer_spans.windows(asked([squad("word2")]), TOKENIZER, max_length=48, stride=16)
    inside = [[place for place in part if place] for part in found.offsets]
    for before, after in zip(inside, inside[1:], strict=False):
        assert len(set(before) & set(after)) == 16
    assert inside[-1][-1][1] == len(PLAIN)


def test_an_answer_that_is_cut_by_the_edge_counts_as_absent():
    offsets = [None, (0, 4), (5, 9)]
    assert answer_spans.positions(offsets, (5, 12)) == (0, 0)
    assert answer_spans.positions(offsets, (0, 0)) == (0, 0)
    assert answer_spans.positions(offsets, (1, 8)) == (1, 2)
    assert answer_spans.positions([None, (0, 3), (3, 4), (4, 6)], (3, 4)) == (2, 2)


def test_a_long_question_leaves_room_for_the_context():
    dataset = asked([squad("word9")], question="why " * 100)
    found = answer_spans.windows(dataset, TOKENIZER, max_length=48, stride=8)
    assert found.holding()


def test_answers_may_be_texts_and_must_stand_where_they_are_said_to():
    assert answer_spans.first_span("fox", "the fox") == (4, 7)
    assert answer_spans.first_span(["wolf"], "the fox") == (0, 0)
    assert answer_spans.first_span({"text": [], "answer_start": []}, "the fox") == (0, 0)
    with pytest.raises(DataError, match="answer_start 3 points at ' fox'"):
        answer_spans.first_span({"text": ["fox"], "answer_start": [3]}, "the fox")


def test_without_answers_nothing_is_asked_of_the_positions():
    dataset = asked([squad("word2")]).remove_columns("answers")
    assert answer_spans.windows(dataset, TOKENIZER).holding() == []


def test_what_is_no_span_of_the_context_reads_as_nothing():
    assert answer_spans.text_between("fox", [None, (0, 3)], 0, 1) == ""
    assert answer_spans.text_between("fox", [None, (0, 3)], 1, 7) == ""
