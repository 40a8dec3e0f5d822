"""CSV and TSV: separators, quotes, numbers, and refusals that name the line."""

import csv

import pytest

from cookbook.data.delimited import read
from cookbook.data.errors import DataError


@pytest.fixture
def table(tmp_path):
    """table(content, name) -> the rows, as `read` gives them."""

    def load(content, name="a.csv"):
        path = tmp_path / name
        path.write_bytes(content.encode())
        return read(path)

    return load


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_the_separator_is_found(table, separator, end):
    rows = [("text", "label"), ("no, yes; or|and", "x"), ('"two"\nlines', "y")]
    quoted = [separator.join('"' + v.replace('"', '""') + '"' for v in row) for row in rows]
    found = table(end.join(quoted))
    assert found["text"][:] == ["no, yes; or|and", '"two"\nlines']
    assert found["label"][:] == ["x", "y"]


def test_a_single_column_needs_no_separator(table):
    assert table('text\n""\nit is; so\n')["text"][:] == ["", "it is; so"]


def test_words_for_missing_values_are_words_in_a_text(table):
    found = table("text,n\nNA,1\nnull,NA\nNone,\nok,4\n")
    assert found["text"][:] == ["NA", "null", "None", "ok"]
    assert found["n"][:] == [1, None, None, 4]


@pytest.mark.parametrize(
    "values, dtype, first",
    [
        (["1", "-2", "+3"], "int64", 1),
        (["1", "2.5", "1e-3"], "float64", 1.0),
        (["007", "1", "2"], "string", "007"),  # a code: the zeros matter
        (["0.5", "00.5", "1"], "string", "0.5"),
        (["1234567890123456789", "1", "2"], "string", "1234567890123456789"),  # a post's id
        (["1", "2", "x"], "string", "1"),
        (["1,5", "2,5", "3"], "string", "1,5"),
        (["", "NA", " "], "string", ""),
    ],
)
def test_only_columns_of_nothing_but_numbers_become_numbers(table, values, dtype, first):
    found = table("text;n\n" + "".join(f"row;{value}\n" for value in values))
    assert found.features["n"].dtype == dtype and found["n"][0] == first
    assert found.column_names == ["text", "n"]


def test_a_number_among_many_texts_does_not_change_them(table):
    found = table("n\n" + "".join(f"{i}\n" for i in range(200)) + "last\n")
    assert found["n"][0] == "0" and found["n"][200] == "last"


def test_a_column_without_a_name_gets_one(table):
    assert table(",text\n0,a\n1,b\n").column_names == ["column_1", "text"]


def test_tsv_with_lone_quotes_is_read_as_it_stands(table, capsys):
    found = table('sentence\tlabel\n"Hello there\t1\nhe said "x" to\t0\n', "glue.tsv")
    assert found["sentence"][:] == ['"Hello there', 'he said "x" to']
    assert capsys.readouterr().out == (
        "glue.tsv: its quotes do not pair up, so they are read as plain characters\n"
    )


def test_tsv_with_proper_quotes_is_unquoted(table):
    assert table('a\tb\n"x\ty"\t1\n', "a.tsv")["a"][:] == ["x\ty"]


@pytest.mark.parametrize(
    "content, message",
    [
        ("a,b\n1,2\n1,2,3\n",
         "a.csv line 3 has 3 fields, the header has 2: put a field that holds ',' in double "
         "quotes"),
        ("a;b\n1;2\n1\n",
         "a.csv line 3 has 1 field, the header has 2: put a field that holds ';' in double quotes"),
        ('a,b\n"x\ny",2\n\n1,2,3\n',  # the physical line, after a quoted and a blank one
         "a.csv line 5 has 3 fields, the header has 2: put a field that holds ',' in double "
         "quotes"),
        ("text,label,text\na,b,c\n",
         "a.csv has two columns named 'text' (columns 1 and 3): rename one in the header"),
        ("text,label\n", "a.csv has a header (text, label) and no rows: add some"),
        (" \n\n", "a.csv is empty: it has only blank lines; check how it was written"),
        ('a,b\n1,2\n"open,3\n4,5\n',
         "a.csv line 3 opens a double quote that is never closed: close it, or double it"),
        ('a,b\n"x"y,2\n',
         "a.csv line 2 cannot be read as CSV (',' expected after '\"'): a double quote inside a "
         "quoted field is doubled"),
    ],
)  # fmt: skip
def test_refusals(table, content, message):
    with pytest.raises(DataError) as caught:
        table(content)
    assert str(caught.value) == message


def test_a_field_of_10_mb_over_many_lines_is_refused(table):
    csv.field_size_limit(131_072)
    with pytest.raises(DataError) as caught:
        table('a,b\n"' + ("x" * 999 + "\n") * 10_001 + '",1\n')
    assert str(caught.value) == (
        "a.csv line 2 starts a field of 10 MB or longer: is a quote left open there?"
    )
    assert csv.field_size_limit() == 131_072  # a setting of the whole process
