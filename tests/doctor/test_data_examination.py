import copy

import pytest
import torch

from cookbook.doctor.data_examination import examine_data


def rows_of(count=60, start=0, label=lambda i: i % 2):
    return [{"text": f"the solver computes {i} tensors and {i * i} more", "label": label(i)}
            for i in range(start, start + count)]  # fmt: skip


@pytest.fixture
def model(tiny_bert):
    return tiny_bert("BertForSequenceClassification", num_labels=2)


def test_healthy_rows_are_healthy(tokenizer, model):
    train, test = rows_of(200), rows_of(60, 1000)
    for more in ([], [tokenizer], [tokenizer, model]):
        report = examine_data(train, test, *more)
        assert report.healthy and len(report.checked) > 3, str(report)
    assert examine_data(rows_of(label=lambda i: ["ham", "spam"][i % 2])).healthy
    assert examine_data(train).healthy


@pytest.mark.parametrize(
    ("train", "test", "fault"),
    [
        (rows_of(100), rows_of(60, 50), "D1"),
        (rows_of(100) + rows_of(20, label=lambda i: 1 - i % 2), rows_of(60, 1000), "D2"),
        ([{"text": "", "label": 0}] * 10 + rows_of(100), None, "D9"),
        ([{"text": f"ÄÖÜ ß{i} ßü öß", "label": i % 2} for i in range(100)], None, "T5"),
        ([{"text": f"<|im_start|> of {i} <|im_end|>", "label": 0} for i in range(99)], None, "T8"),
    ],
)  # fmt: skip
def test_faults_of_rows_and_of_the_tokenizer(tokenizer, train, test, fault):
    assert fault in examine_data(train, test, tokenizer).faults()


def test_faults_against_a_model(tokenizer, model):
    three = rows_of(label=lambda i: i % 3)
    assert examine_data(three, None, tokenizer, model).faults() == ["M4"]
    named = rows_of(label=lambda i: "abc"[i % 3])
    assert examine_data(named, None, tokenizer, model).faults() == ["M4"]
    larger = copy.deepcopy(tokenizer)
    larger.add_tokens(["<new>"])
    assert examine_data(rows_of(), None, larger, model).faults() == ["T9"]
    weights = [p.clone() for p in model.parameters()]
    examine_data(three, None, tokenizer, model)
    assert all(torch.equal(a, b) for a, b in zip(weights, model.parameters(), strict=True))


def test_columns_are_chosen():
    rows = [{"id": f"row {i}", "review": f"it is number {i} of many", "stars": i % 5, "n": i}
            for i in range(60)]  # fmt: skip
    other = [{**row, "id": "x", "n": 0} for row in rows]
    chosen = {"text_column": "review", "label_column": "stars"}
    assert examine_data(rows, other, **chosen).faults() == ["D1"]
    twice = rows + [{**row, "stars": 9} for row in rows]
    assert examine_data(twice, **chosen).faults() == ["D2"]
    with pytest.raises(ValueError, match="no column 'star': there are id, review"):
        examine_data(rows, label_column="star")
