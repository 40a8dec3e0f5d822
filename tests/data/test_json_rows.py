"""JSON in every form that people write it; `test_readers` tests errors and large files."""

import json

import pytest

from cookbook.data.errors import DataError
from cookbook.data.json_rows import read

ROWS = [{"text": "one", "stars": 5}, {"text": "two", "stars": 1}]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", "\n".join(map(json.dumps, ROWS))),
        ("a.json", "\n".join(map(json.dumps, ROWS))),
        ("a.json", json.dumps(ROWS)),
        ("a.jsonl", json.dumps(ROWS)),
        ("a.json", json.dumps({"data": ROWS})),
        ("a.json", json.dumps({"text": ["one", "two"], "stars": [5, 1]})),
        ("a.json", json.dumps({"text": {"0": "one", "1": "two"}, "stars": {"0": 5, "1": 1}})),
        ("a.json", json.dumps(ROWS, indent=2)),
    ],
)
def test_the_same_rows_in_every_form(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    assert list(read(tmp_path / name)) == ROWS


def test_a_key_that_comes_late_is_null_before_and_loses_nothing(tmp_path):
    path = tmp_path / "late.jsonl"
    path.write_text('{"text": "one"}\n{"text": "two", "extra": 1}\n')
    assert list(read(path)) == [{"text": "one", "extra": None}, {"text": "two", "extra": 1}]


def test_a_column_of_mixed_types_becomes_text(tmp_path):
    path = tmp_path / "mixed.jsonl"
    path.write_text('{"text": "one", "code": 7}\n{"text": "two", "code": "x"}\n')
    assert read(path)["code"][:] == ["7", "x"]


def test_broken_json_is_refused_with_its_line(tmp_path):
    path = tmp_path / "broken.jsonl"
    path.write_text('{"text": "one"}\n{"text": \n')
    with pytest.raises(DataError, match="line 2"):
        read(path)
