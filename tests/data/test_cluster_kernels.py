"""What a worker does to its rows, without any worker."""

import numpy as np
import pyarrow as pa
import pytest
from datasets import ClassLabel, Dataset, Features, Value
from pandas import DataFrame
from pyarrow.parquet import read_table, write_table

from cookbook.data import cluster_kernels as kernels
from cookbook.data import deduplication, sampling
from cookbook.data.filters import DOCUMENTS

PROSE = "The tokenizer reads the corpus once and counts how often every pair of symbols is seen."


def frame(texts, start=0, labels=None, pairs=None):
    rows = np.arange(start, start + len(texts))
    columns = {
        "text": texts,
        "pair": pairs or [""] * len(texts),
        "label": labels or [""] * len(texts),
    }
    return DataFrame({"row": rows} | columns, dtype=object).astype({"row": "int64"})


def stored(tmp_path, features, **columns):
    rows = Dataset.from_dict(columns, features)
    table = rows.with_format("arrow")[:]
    write_table(
        table.replace_schema_metadata(features.arrow_schema.metadata), tmp_path / "a.parquet"
    )
    return rows, str(tmp_path / "a.parquet")


FEATURES = Features(text=Value("string"), label=ClassLabel(names=["ham", "spam"]))


def test_rows_are_read_with_their_numbers_and_the_names_of_their_classes(tmp_path):
    rows, file = stored(tmp_path, FEATURES, text=["a", None, "c"], label=[1, 0, None])
    found = kernels.load(file, 10, "text", "label")
    assert found["row"].tolist() == [10, 11, 12] and found["text"].tolist() == ["a", None, "c"]
    assert found["label"].tolist() == sampling.value_names(rows, "label")


def test_a_plain_parquet_file_has_plain_labels(tmp_path):
    write_table(pa.table({"text": ["a"], "label": [3.5]}), tmp_path / "a.parquet")
    assert kernels.load(str(tmp_path / "a.parquet"), 0, "text", "label")["label"][0] == "3.5"


def test_normalise_counts_what_it_rewrites():
    found = kernels.normalise(frame(["<b>x</b>", None, "y", " "]), DOCUMENTS, True)
    assert found["text"].tolist() == ["x", "", "y", ""]
    assert kernels.rewritten(found) == 1
    assert kernels.without_text(found)["row"].tolist() == [1, 3]


def test_verdicts_name_the_row():
    rows = frame([PROSE, "1 2", "Das ist ein ganz gewöhnlicher Satz in deutscher Sprache, ja."], 5)
    assert kernels.quality(rows, DOCUMENTS, "en").values.tolist() == [[6, "too few words"]]
    assert dict(kernels.language(rows).values) == {5: "en", 7: "de"}


def test_copies_are_judged_in_the_order_of_rows():
    shuffled = frame(["b", "A", "a!", "b"], labels=["x", "y", "y", "z"]).iloc[[3, 1, 0, 2]]
    found = kernels.copies(kernels.keyed(shuffled)).sort_values("row")
    assert found["row"].tolist() == [0, 1, 2, 3]
    assert found["reason"].tolist() == [
        "conflicting label",
        "",
        "exact duplicate",
        "conflicting label",
    ]
    assert found["twin"].tolist() == [0, 1, 1, 0] and found["first"].tolist() == [0, 1, 1, 0]


def test_buckets_lead_to_the_pairs_of_one_process():
    words = [f"w{i}" for i in range(60)]
    texts = [" ".join(words[i : i + 40]) for i in range(8)] + ["", "?"]
    parts = [frame(texts[:4]), frame(texts[4:], 4)]
    buckets = np.concatenate([kernels.buckets(part, 0.8).to_numpy() for part in parts])
    found = kernels.candidates(DataFrame(buckets, columns=["bucket", "row"]))
    both = found.assign(
        text_left=[texts[row] for row in found["left"]],
        text_right=[texts[row] for row in found["right"]],
    )
    pairs = kernels.verified(both, 0.8).to_numpy()
    assert (pairs[:, 0] < pairs[:, 1]).all()
    leader = deduplication.components(np.arange(len(texts)), pairs)
    assert leader.tolist() == deduplication.near_duplicates(texts).tolist()


def test_unlike_texts_meet_in_no_bucket():
    texts = [" ".join(f"w{j}" for j in range(50 * i, 50 * i + 50)) for i in range(20)]
    found = kernels.buckets(frame(texts), 0.8)
    assert len(found) == 20 * 21 and found["bucket"].is_unique


def test_the_fullest_bucket():
    assert kernels.largest(DataFrame({"bucket": [1, 2, 2], "row": [0, 0, 1]})) == 2
    assert kernels.largest(DataFrame({"bucket": [], "row": []})) == 0


@pytest.mark.parametrize("pairs", [None, ["p", "q"]])
def test_keys_join_the_pair(pairs):
    expected = ["a", "b"] if pairs is None else ["a\np", "b\nq"]
    assert kernels.keys(frame(["a", "b"], pairs=pairs)) == expected


def test_the_kept_rows_are_written_with_features_and_clean_text(tmp_path):
    _, file = stored(tmp_path, FEATURES, text=["<b>a</b>", "x", "c"], label=[1, 0, 1])
    kept = frame(["a", "c"]).assign(row=[20, 22])
    assert kernels.write(kept, file, 20, "text", str(tmp_path / "out" / "b.parquet")) == 2
    table = read_table(tmp_path / "out" / "b.parquet")
    assert table.to_pydict() == {"text": ["a", "c"], "label": [1, 1]}
    assert Features.from_arrow_schema(table.schema) == FEATURES
