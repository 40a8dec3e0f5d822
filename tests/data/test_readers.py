"""Text, JSON and parquet files: what arrives, and what is refused in which words."""

import json

import datasets
import pandas
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cookbook.data import readers
from cookbook.data.errors import DataError
from cookbook.data.formats import read_file


@pytest.fixture
def file(tmp_path):
    """file(name, content) -> path."""

    def write(name, content):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def refusal(path):
    with pytest.raises(DataError) as caught:
        read_file(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_lines_keep_what_is_in_them(file):
    path = file("a.txt", b"\xef\xbb\xbf  two spaces \r\n\r\nold mac\rnext\nline\xe2\x80\xa8sep")
    assert read_file(path)["text"][:] == ["  two spaces ", "", "old mac", "next", "line\u2028sep"]


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text(st.characters(exclude_categories=("Cs", "Cc"))), min_size=1))
def test_every_line_is_a_row(tmp_path, texts):
    path = tmp_path / "any.txt"
    path.write_text("".join(text + "\n" for text in texts), encoding="utf-8", newline="")
    expected = [texts[0].removeprefix("\ufeff"), *texts[1:]]  # there it is a byte order mark
    assert read_file(path)["text"][:] == expected


def test_empty_files_are_refused(file):
    assert refusal(file("a.csv", "")) == (
        "a.csv is empty: it has 0 bytes; check how it was written"
    )
    for name, content in (("a.json", "[]"), ("a.jsonl", "\n\n"), ("b.json", " ")):
        assert refusal(file(name, content)).startswith(f"{name} is empty: it has no rows")


def test_unknown_kinds_are_refused(file):
    assert refusal(file("a.xlsx", "x")) == (
        "a.xlsx is of a kind that is not read here: convert it to one of "
        ".csv, .tsv, .jsonl, .json, .parquet, .txt"
    )


def test_a_file_that_cannot_be_opened_is_refused_in_one_line(file, monkeypatch):
    path = file("a.txt", "x")

    def denied(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(path), "open", denied)
    assert refusal(path) == "a.txt cannot be read: Permission denied"


@pytest.mark.parametrize("name", ["a.txt", "a.csv", "a.jsonl"])
def test_a_line_of_10_mb_is_refused(file, name):
    path = file(name, "text\n" * 2 + "x" * 10_000_000 + "\n")
    if name == "a.jsonl":
        path.write_text('{"text": 1}\n{"text": 2}\n"' + "x" * 10_000_000 + '"\n')
    assert refusal(path) == (
        f"{name} line 3 is 10 MB long or longer: put one document on a line, or cut it into "
        "paragraphs"
    )


def test_a_line_just_below_the_limit_is_read(file, monkeypatch):
    monkeypatch.setattr(readers, "LONGEST", 100)
    assert read_file(file("a.txt", "x" * 98 + "\n"))["text"][0] == "x" * 98
    assert "line 1" in refusal(file("a.txt", "x" * 99 + "\n"))


def test_bytes_that_are_not_utf8_are_located(file):
    text = "text\nfine\ncaf\u00e9 au lait\n"
    assert refusal(file("a.txt", text.encode("latin-1"))) == (
        "a.txt is not UTF-8: byte 0xe9 at offset 13 (line 3); convert it with "
        "iconv -f WINDOWS-1252 -t UTF-8 a.txt > utf8-a.txt"
    )
    chinese = refusal(file("zh.csv", "text\n很好吃\n".encode("gb18030")))
    assert "offset 5 (line 2); convert it with iconv -f GB18030 -t UTF-8" in chinese
    assert refusal(file("a.json", b'[{"text":\n"caf\xe9"}]')).startswith(
        "a.json is not UTF-8: byte 0xe9 at offset 14 (line 2)"
    )
    assert refusal(file("w.csv", text.encode("utf-16"))).startswith(
        "w.csv is UTF-16, not UTF-8: convert it with iconv -f UTF-16 -t UTF-8 w.csv"
    )


def test_binary_files_are_named(file):
    assert refusal(file("a.csv", bytes(range(256)) * 4)) == (
        "a.csv is not text but binary: 104 of its first 1024 bytes are control characters; "
        "export it as .csv"
    )
    assert refusal(file("b.csv", b"PK\x03\x04rest")) == (
        "b.csv is not text but a zip archive or an Excel workbook: unpack or export it as .csv"
    )
    assert refusal(file("c.parquet", b"not parquet at all")).startswith(
        "c.parquet is not a readable parquet file: "
    )


ROWS = [{"text": "one", "n": 1}, {"text": "two", "n": 2}]


@pytest.mark.parametrize(
    "name, content",
    [
        ("lines.jsonl", "".join(json.dumps(row) + "\n" for row in ROWS)),
        ("lines.json", "".join(json.dumps(row) + "\r\n\r\n" for row in ROWS)),
        ("list.json", json.dumps(ROWS, indent=2)),
        ("list.jsonl", "\ufeff" + json.dumps(ROWS)),
        ("wrapped.json", json.dumps({"data": ROWS})),
        ("columns.json", json.dumps({"text": ["one", "two"], "n": [1, 2]}, indent=1)),
        ("pandas.json", pandas.DataFrame(ROWS).to_json()),
    ],
)
def test_every_shape_of_json_is_the_same_table(file, name, content):
    assert list(read_file(file(name, content))) == ROWS


def test_keys_that_differ_are_filled_with_null_and_said(file, capsys, monkeypatch):
    monkeypatch.setattr(readers, "ROWS_PER_BATCH", 2)  # types are joined over batches
    rows = [{"a": "x"}, {"a": "y"}, {"a": "z", "b": 1}, {"b": 2.5}]
    found = read_file(file("a.jsonl", "".join(json.dumps(row) + "\n" for row in rows)))
    assert found["a"][:] == ["x", "y", "z", None] and found["b"][:] == [None, None, 1.0, 2.5]
    assert capsys.readouterr().out == (
        "a.jsonl: of 4 rows some lack a key, null there: a in 1, b in 2\n"
    )


def test_mixed_types_become_text_and_it_is_said(file, capsys):
    rows = [{"a": 1}, {"a": "1"}, {"a": None}, {"a": [True]}]
    found = read_file(file("a.jsonl", "".join(json.dumps(row) + "\n" for row in rows)))
    assert found["a"][:] == ["1", "1", None, "[true]"]
    assert capsys.readouterr().out == "a.jsonl: column 'a' mixes types, so it is read as text\n"


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("a.jsonl", '{"a": 1}\n{a}\n', "a.jsonl line 2 is not JSON: Expecting property name"),
        ("a.jsonl", '{"a": 1}\n[1]\n', "a.jsonl line 2 is a list, not an object such as"),
        ("a.json", '[{"a": 1}, 2]', "a.json row 2 is a int, not an object such as"),
        ("a.json", '[{"a": 1},', "a.json is not JSON: Expecting value"),
        ("a.json", '{"a": 1}', "a.json is one JSON dict, not a table: write a list of objects"),
        ("a.json", '{"a": [1, 2], "b": [1]}', "a.json has columns of different length: a 2, b 1"),
        ("a.jsonl", '{"a": "\\ud800"}', "a.jsonl holds '\\ud800', half of a character"),
        ("a.json", "[" * 100_000, "a.json is not JSON: "),
    ],
)
def test_json_that_is_no_table_is_refused(file, name, content, message):
    assert refusal(file(name, content)).startswith(message)


def test_parquet_keeps_the_features_that_datasets_wrote(file, tmp_path):
    features = datasets.Features(
        text=datasets.Value("string"), label=datasets.ClassLabel(names=["no", "yes"])
    )
    rows = datasets.Dataset.from_dict({"text": ["a", "b"], "label": [1, 0]}, features=features)
    rows.to_parquet(tmp_path / "a.parquet")
    assert read_file(tmp_path / "a.parquet").features == features


def test_nothing_half_written_is_left_in_the_cache(file, tmp_path, monkeypatch):
    monkeypatch.setattr(readers, "IN_MEMORY", 1)
    monkeypatch.setattr(readers, "ROWS_PER_BATCH", 1)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "cache"))
    assert "line 2" in refusal(file("a.txt", b"fine\ncaf\xe9\n"))
    assert list((tmp_path / "cache" / "cookbook-files").iterdir()) == []


def test_large_json_is_read_once_and_then_from_the_cache(file, tmp_path, monkeypatch):
    monkeypatch.setattr(readers, "IN_MEMORY", 1)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "cache"))
    path = file("a.jsonl", '{"a": 1}\n{"a": "b"}\n')
    first = read_file(path)
    monkeypatch.setattr("cookbook.data.json_rows.lines", None)
    assert read_file(path)["a"][:] == first["a"][:] == ["1", "b"]
