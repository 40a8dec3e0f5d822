import pytest
import torch
from datasets import Dataset
from torch import nn
from torch.utils.data import IterableDataset

from cookbook.doctor import duplicate_checks
from cookbook.doctor.checks import Skip
from cookbook.doctor.duplicate_checks import check_evaluation_is_new, check_inputs_have_one_label
from cookbook.doctor.subject import Subject


def found(check, train, evaluation=None, model=None, **more):
    try:
        subject = Subject(model, train_dataset=train, eval_dataset=evaluation, **more)
        return [(f.fault, f.severity) for f in check(subject)]
    except Skip:
        return []


def texts(start, count):
    return [{"text": f"row {i} speaks of {i * 7} tensors", "label": i % 2}
            for i in range(start, start + count)]  # fmt: skip


def ids(start, count):
    generator = torch.Generator().manual_seed(start)
    drawn = torch.randint(5, 100, (count, 12), generator=generator).tolist()
    return [{"input_ids": row, "attention_mask": [1] * 12, "label": 0} for row in drawn]


def images(start, count):
    generator = torch.Generator().manual_seed(start)
    drawn = torch.rand(count, 1, 4, 4, generator=generator)
    return [(x, i % 3) for i, x in enumerate(drawn)]


def pixels(start, count):
    return [{"pixel_values": x, "labels": y} for x, y in images(start, count)]


@pytest.mark.parametrize("rows", [texts, ids, images, pixels])
@pytest.mark.parametrize(
    ("copies", "expected"),
    [(0, None), (4, None), (6, "warn"), (20, "error"), (200, "error")],
)
def test_copies_of_training_rows_in_evaluation(rows, copies, expected):
    train = rows(0, 400)
    evaluation = train[100 : 100 + copies] + rows(1000, 200 - copies)
    assert found(check_evaluation_is_new, train, evaluation) == (
        [("D1", expected)] if expected else []
    )


def test_a_different_case_is_the_same_text():
    train = texts(0, 100)
    shouted = [{**row, "text": row["text"].upper() + " "} for row in train[:50]]
    assert found(check_evaluation_is_new, train, shouted + texts(500, 50)) == [("D1", "error")]


def cut_texts(start, count, ending="", head=lambda i: [i // 90 + 3, i % 90 + 3]):
    return [{**row, "text": row["text"] + ending, "input_ids": [*head(i), 7, 8, 9, 10]}
            for i, row in enumerate(texts(start, count), start)]  # fmt: skip


def test_texts_that_differ_only_where_they_were_cut_off():
    train, others = cut_texts(0, 100), cut_texts(500, 50)
    dated = cut_texts(60, 50, " (retrieved on 2 May)")
    assert found(check_evaluation_is_new, train, dated) == [("D1", "error")]
    assert found(check_evaluation_is_new, train, others) == []
    # Where all rows begin with one and the same instruction, that they do says nothing.
    same = {"head": lambda i: [i % 20, 3]}
    evaluation = cut_texts(500, 50, **same)
    assert found(check_evaluation_is_new, cut_texts(0, 100, **same), evaluation) == []


def pairs_of_ids(start, count):
    return [{"text_ids": row["input_ids"], "pair_ids": row["input_ids"][::-1]}
            for row in ids(start, count)]  # fmt: skip


def test_pairs_whose_towers_have_ids_of_their_own():
    train, other = pairs_of_ids(0, 100), pairs_of_ids(1000, 50)
    assert found(check_evaluation_is_new, train, train[:20] + other) == [("D1", "error")]
    assert found(check_evaluation_is_new, train, other) == []
    # The same text beside another one is another pair.
    mixed = [{**row, "pair_ids": o["pair_ids"]} for row, o in zip(train, other, strict=False)]
    assert found(check_evaluation_is_new, train, mixed) == []


@pytest.mark.parametrize("as_dataset", [list, lambda rows: Dataset.from_list(rows)])
def test_the_whole_training_set_is_looked_through(as_dataset):
    """The sample alone would miss most: 2,000 of 12,000 rows against 30 copies of 400."""
    train = texts(0, 12_000)
    evaluation = train[-30:] + texts(50_000, 370)
    (finding,) = check_evaluation_is_new(
        Subject(None, train_dataset=as_dataset(train), eval_dataset=as_dataset(evaluation))
    )
    assert finding.severity == "error" and finding.measured["shared_rows"] == 30


class Stream(IterableDataset):
    def __init__(self, rows):
        self.rows = rows

    def __iter__(self):
        return iter(self.rows)


def test_streams_are_compared_too():
    train = texts(0, 1000)
    assert found(check_evaluation_is_new, Stream(train), Stream(train[500:600])) == [
        ("D1", "error")
    ]
    assert found(check_evaluation_is_new, Stream(train), Stream(texts(2000, 100))) == []


def test_overfitting_one_batch_on_purpose_is_no_leak():
    rows = texts(0, 8)
    assert found(check_evaluation_is_new, rows, rows) == []
    assert found(check_evaluation_is_new, texts(0, 100), texts(0, 100)) == [("D1", "error")]


def test_short_rows_and_repetitive_features_are_no_copies():
    short = [{"text": ["good", "bad film", "so so"][i % 3], "label": 0} for i in range(100)]
    assert found(check_evaluation_is_new, short, short[:50]) == []
    drawn = torch.randint(0, 3, (600, 5), generator=torch.Generator().manual_seed(0))
    table = [(row.float(), 0) for row in drawn]  # 243 different rows in all
    assert found(check_evaluation_is_new, table[:400], table[400:]) == []


def test_a_split_after_oversampling_is_a_leak_of_pixels_too():
    rows = images(0, 200) * 2
    order = torch.randperm(400, generator=torch.Generator().manual_seed(0)).tolist()
    mixed = [rows[i] for i in order]
    assert found(check_evaluation_is_new, mixed[:300], mixed[300:]) == [("D1", "error")]


# -- D2 ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [texts, ids, images, pixels])
@pytest.mark.parametrize(("contradicted", "expected"), [(0, []), (1, []), (10, [("D2", "warn")])])
def test_one_input_with_two_labels(rows, contradicted, expected):
    train = rows(0, 200)
    other = [(r[0], 9) if isinstance(r, tuple) else {**r, "label" if "label" in r else "labels": 9}
             for r in train[:contradicted]]  # fmt: skip
    assert found(check_inputs_have_one_label, train + other) == expected


def test_copies_that_agree_and_measurements_that_repeat_are_fine(tiny_bert):
    assert found(check_inputs_have_one_label, texts(0, 100) * 2) == []
    measured = [{"text": row["text"], "label": float(i)} for i, row in enumerate(texts(0, 50) * 2)]
    assert found(check_inputs_have_one_label, measured) == []
    regression = tiny_bert("BertForSequenceClassification", num_labels=1)
    ages = [{"input_ids": row["input_ids"], "labels": i} for i, row in enumerate(ids(0, 50) * 2)]
    assert found(check_inputs_have_one_label, ages, model=regression) == []
    assert found(check_inputs_have_one_label, [(torch.ones(9), i % 2) for i in range(50)],
                 model=nn.Linear(9, 2)) == []  # fmt: skip


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        ((9, 9), ["D2"]),
        ((0, 0), ["D2"]),  # one annotator found none
        ((4, 4), []),  # the same row twice
        ((4, 6), []),  # an annotator ends a word later
        ((11, 11), []),  # the answer stands in the text again
    ],
)
def test_a_question_with_answers_at_two_places(other, expected):
    def row(i, start, end):
        ids = [i, *range(100, 110), 103, 111]
        return {"input_ids": ids, "start_positions": start, "end_positions": end}

    once = [row(i, 4, 4) for i in range(90)]

    def of(rows):
        try:
            subject = Subject(None, train_dataset=rows)
            return [f.fault for f in duplicate_checks.check_questions_have_one_answer(subject)]
        except Skip:
            return []

    assert of(once) == of(once + [row(0, *other)]) == []
    assert of(once + [row(i, *other) for i in range(30)]) == expected
