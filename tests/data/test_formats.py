"""The reader is chosen by the ending; `test_readers` and its neighbours test the reading."""

import pytest

from cookbook.data.errors import DataError
from cookbook.data.formats import FORMATS, read_file

SAME = {
    ".csv": "text\nrow\n",
    ".tsv": "text\nrow\n",
    ".jsonl": '{"text": "row"}\n',
    ".json": '[{"text": "row"}]',
    ".txt": "row\n",
}


@pytest.mark.parametrize("ending", [*SAME, ".CSV"])
def test_one_row_reads_alike_from_every_text_format(tmp_path, ending):
    path = tmp_path / f"one{ending}"
    path.write_text(SAME[ending.lower()])
    assert read_file(path)["text"][:] == ["row"]


def test_parquet_reads_alike_too(tmp_path):
    from datasets import Dataset

    Dataset.from_dict({"text": ["row"]}).to_parquet(tmp_path / "one.parquet")
    assert read_file(tmp_path / "one.parquet")["text"][:] == ["row"]
    assert set(FORMATS) == {*SAME, ".parquet"}


def test_another_ending_is_refused_with_what_is_read(tmp_path):
    path = tmp_path / "one.docx"
    path.write_text("row")
    with pytest.raises(DataError, match=r"^one\.docx is of a kind that is not read here: convert"):
        read_file(path)
