"""Two Dask workers keep the same rows and write the same ledger as one process."""

import sys

import pytest
from datasets import ClassLabel, Dataset, Features, Value
from pyarrow.parquet import read_table

from cookbook.data import cluster
from cookbook.data.cleaning import clean
from cookbook.data.errors import DataError

WORDS = [f"word{chr(97 + i % 26)}{chr(97 + i // 26)}" for i in range(300)]
FEATURES = Features(text=Value("string"), label=ClassLabel(names=["ham", "spam"]))


def rows():
    """Copies, near-copies, torn labels and rubbish, spread over all partitions."""
    texts, labels = [], []
    for i in range(40):
        base = " ".join(WORDS[(7 * i + j) % 300] for j in range(40 + i % 9))
        for text in (base, base + " and more", f"<p>{base}</p>", base.title(), f"only {i}"):
            texts.append(text)
            labels.append((i + len(text)) % 2)
    texts[3:3], labels[3:3] = [None, " ", "&nbsp;"], [0, 1, 1]
    return Dataset.from_dict({"text": texts, "label": labels}, FEATURES)


@pytest.fixture(scope="module")
def client():
    pytest.importorskip("dask.dataframe")
    pytest.importorskip("distributed")
    with cluster.local_client(workers=2) as client:
        yield client


def test_the_same_rows_and_the_same_ledger(client, tmp_path):
    source = rows()
    kept, ledger = clean(source)
    folder, spread = cluster.clean(source, tmp_path, client=client)
    assert {"exact duplicate", "near duplicate", "conflicting label"} <= set(ledger.dropped)
    assert spread.check().rows() == ledger.rows()
    assert spread.kept.tolist() == ledger.kept.tolist()
    assert spread.notes == ledger.notes
    assert spread.examples == ledger.examples
    assert spread.conflicts == ledger.conflicts
    tables = [read_table(file) for file in sorted(folder.glob("*.parquet"))]
    assert [text for table in tables for text in table["text"].to_pylist()] == kept["text"][:]
    assert Features.from_arrow_schema(tables[0].schema) == FEATURES


def test_a_bucket_that_overflows(client, tmp_path):
    """70 rows that overlap in a ring, more than a bucket is searched for at once."""
    words = WORDS[:200]
    texts = [" ".join(words[i : i + 100]) for i in range(100)]
    source = Dataset.from_dict({"text": texts + [f"{text} x" for text in texts]})
    _, ledger = clean(source, rules="labelled", near_threshold=0.3)
    _, spread = cluster.clean(source, tmp_path, client=client, rules="labelled", near_threshold=0.3)
    assert spread.kept.tolist() == ledger.kept.tolist() and len(ledger.kept) < 200


def test_parquet_files_are_read_where_they_lie(client, tmp_path):
    source = rows()
    source.to_parquet(tmp_path / "0.parquet")
    options = {"rules": "documents", "label_column": ""}
    files = str(tmp_path / "*.parquet")
    _, spread = cluster.clean(files, tmp_path / "out", client=client, **options)
    ledger = clean(source, **options)[1]
    assert "language" in [step.step for step in ledger.steps]
    assert spread.rows() == ledger.rows() and spread.examples == ledger.examples


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ("nothing/*.parquet", {}, "no file matches 'nothing/"),
        (Dataset.from_dict({"text": ["a"]}), {"text_column": "b"}, "there is no column 'b'"),
        (Dataset.from_dict({"text": ["", None]}), {}, "all 2 rows were dropped"),
    ],
)
def test_what_is_refused(client, tmp_path, source, options, message):
    with pytest.raises(DataError, match=message):
        cluster.clean(source, tmp_path, client=client, **options)


def test_without_dask_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(DataError, match="Dask is not installed: pip install"):
        cluster.clean(rows(), tmp_path)
