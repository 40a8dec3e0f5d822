"""`load`: every kind of source, the splits it makes or keeps, and each refusal word for word."""

import csv
import json
import os

import pytest
from datasets import Dataset, DatasetDict
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cookbook.data import embedded, readers, splits
from cookbook.data.errors import DataError
from cookbook.data.sources import load, load_apart

REVIEWS = "review,stars\n" + "".join(f"review no {i},{1 + i % 5}\n" for i in range(50))


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Run in an empty folder, with neither sets of the user nor a cache of earlier runs."""
    monkeypatch.delenv("COOKBOOK_DATA_DIR", raising=False)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "cache"))
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)


def write(path, content):
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    with open(path, "wb") as file:
        file.write(content if isinstance(content, bytes) else content.encode())


def refusal(*args, **kwargs):
    with pytest.raises(DataError) as caught:
        load(*args, **kwargs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_csv_is_guessed_said_renamed_and_split(capsys):
    write("reviews.csv", REVIEWS)
    dataset = load("reviews.csv")
    assert capsys.readouterr().out == (
        "guessed text=review (mean 12 characters), label=stars (5 classes); "
        "say otherwise with columns={...}\n"
    )
    assert dataset.num_rows == {"train": 40, "validation": 5, "test": 5}
    assert dataset["train"].features["label"].names == ["1", "2", "3", "4", "5"]
    for part in dataset.values():  # text and label of a row stay together
        for row in part:
            assert int(row["text"].split()[-1]) % 5 == row["label"]


def test_what_is_given_is_not_announced_as_a_guess(capsys):
    write("reviews.csv", REVIEWS)
    load("reviews.csv", text_column="review", label_column="stars")
    assert capsys.readouterr().out == ""


def test_shortcuts_win_over_columns():
    write("two.csv", "a,b\n" + "".join(f"left {i},right {i}\n" for i in range(9)))
    dataset = load("two.csv", text_column="b", columns={"text": "a"})
    assert dataset["train"][0]["text"].startswith("right")
    assert dataset["train"][0]["a"].startswith("left")


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "json", "parquet"])
def test_every_format_gives_the_same_rows(kind, capsys):
    texts = [f"text, {i}\nand 'more' \"of\" it" for i in range(20)]
    rows = Dataset.from_dict({"text": texts, "label": ["ham", "spam"] * 10})
    frame = rows.to_pandas()
    if kind == "parquet":
        frame.to_parquet("rows.parquet")
    elif kind in ("json", "jsonl"):
        frame.to_json(f"rows.{kind}", orient="records", lines=kind == "jsonl")
    else:
        frame.to_csv(f"rows.{kind}", sep="\t" if kind == "tsv" else ",", index=False)
    dataset = load(f"rows.{kind}")
    found = [row for part in dataset.values() for row in part]
    assert sorted(row["text"] for row in found) == sorted(texts)
    assert {(int(row["text"].split()[1]) % 2, row["label"]) for row in found} == {(0, 0), (1, 1)}


def test_text_files_have_a_row_a_line_and_empty_ones_are_kept_and_counted(capsys):
    write("lines.txt", "one\r\ntwo\r\n\r\nthree\r\nfour")
    dataset = load("lines.txt")
    texts = [text for part in dataset.values() for text in part["text"]]
    assert sorted(texts) == ["", "four", "one", "three", "two"]
    said = "lines.txt: 1 of 5 rows have an empty text, kept here: cleaning drops them"
    assert said in capsys.readouterr().out


ANY_TEXT = st.text(
    st.characters(exclude_categories=("Cs", "Cc"), include_characters="\n\r\t"), max_size=30
)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(ANY_TEXT, max_size=20), st.sampled_from([",", ";", "\t", "|"]))
def test_no_row_of_a_csv_is_lost(texts, separator):
    texts = [*texts, "a first row", "a second row", "a third row"]  # three splits need three
    with open("any.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter=separator)
        writer.writerows([("text", "number"), *((text, i) for i, text in enumerate(texts))])
    dataset = load("any.csv")
    rows = {row["number"]: row["text"] for part in dataset.values() for row in part}
    assert [rows[i] for i in range(len(texts))] == texts
    assert sum(dataset.num_rows.values()) == len(texts)


def test_equal_seeds_split_alike_and_others_do_not():
    write("reviews.csv", REVIEWS)
    first, again, other = (load("reviews.csv", seed=seed) for seed in (3, 3, 4))
    assert first["test"]["text"][:] == again["test"]["text"][:] != other["test"]["text"][:]


def test_made_splits_share_no_text_however_it_is_spelt():
    write("copies.csv", "text,label\n" + "".join(
        f"Free entry {i // 4}{'!' * (i % 4)},{i % 2}\n" for i in range(80)))  # fmt: skip
    assert splits.check_disjoint(load("copies.csv")) == 20


def test_a_group_stays_on_one_side():
    rows = "".join(f"text {i},author {i % 10},{i % 2}\n" for i in range(60))
    write("authors.csv", "text,who,label\n" + rows)
    dataset = load("authors.csv", columns={"group": "who"})
    splits.check_disjoint(dataset, groups="group")
    assert all(dataset.num_rows.values())


@pytest.mark.parametrize(
    "row, key",
    [
        ({"context": "passage {g}", "question": "why {i}?", "answers": ["a"]}, "context"),
        ({"en": "hello {g}", "zh": "你好 {i}"}, "source"),
        ({"premise": "it rains {g}", "hypothesis": "it is wet {i}", "label": "yes"}, "text"),
        ({"tokens": ["word", "{g}"], "ner_tags": ["O", "O"]}, "tokens"),
    ],
)
def test_what_repeats_by_design_is_split_by_it(row, key):
    """A passage with many questions, a sentence with many translations: all on one side."""
    text = json.dumps(row, ensure_ascii=False)
    write("rows.jsonl", "".join(
        text.replace("{g}", str(i % 12)).replace("{i}", str(i))
        .replace('"yes"', '"yes"' if i % 2 else '"no"') + "\n" for i in range(60)))  # fmt: skip
    sides = [set(map(str, part[key])) for part in load("rows.jsonl").values()]
    assert sum(map(len, sides)) == len(set.union(*sides)) == 12


def test_a_column_that_only_has_the_name_of_a_role_decides_no_split():
    write("tweets.csv", "text,source,label\n" + "".join(f"t {i},web,{i % 2}\n" for i in range(40)))
    assert load("tweets.csv").num_rows == {"train": 32, "validation": 4, "test": 4}


def test_given_splits_are_kept_and_their_overlap_is_said(capsys):
    for name, start in (("train", 0), ("dev", 38), ("test", 100)):
        rows = "".join(f"Review {i},{i % 2}\n" for i in range(start, start + 40))
        write(f"set/{name}.csv", "text,label\n" + rows)
    dataset = load("set")
    assert dataset.num_rows == {"train": 40, "validation": 40, "test": 40}
    assert (
        "set: 2 rows of validation repeat a text of train, so scores on them flatter; kept as given"
    ) in capsys.readouterr().out.splitlines()


def test_a_missing_validation_split_is_cut_from_train_and_test_is_left_alone(capsys):
    for name, count in (("train", 90), ("test", 20)):
        rows = "".join(f"{name} review {i},{i % 2}\n" for i in range(count))
        write(f"set/{name}.csv", "text,label\n" + rows)
    assert load("set").num_rows == {"train": 80, "validation": 10, "test": 20}
    assert "no validation split is given: cut from train" in capsys.readouterr().out


def test_a_set_with_only_a_test_split_keeps_it_beside_empty_ones(capsys):
    write("quiz/test.jsonl", '{"context": "c", "question": "q", "answers": ["a"]}\n' * 5)
    dataset = load("quiz")
    assert dataset.num_rows == {"train": 0, "validation": 0, "test": 5}
    assert dataset["train"].features == dataset["test"].features
    said = "only test is given, for evaluation: no rows in train and validation"
    assert said in capsys.readouterr().out


def test_embedded_sets_come_as_built_and_can_be_seen_otherwise(monkeypatch, capsys):
    part = Dataset.from_dict({"text": ["a", "b"], "library": ["x", "y"], "summary": ["s", "s"]})
    built = DatasetDict({name: part for name in splits.NAMES})
    monkeypatch.setattr(embedded, "build", lambda name: built)
    assert load("docstrings")["train"].column_names == ["text", "library", "summary"]
    assert capsys.readouterr().out == ""
    seen = load("docstrings", label_column="library")["test"]
    assert seen["label"][:] == [0, 1] and seen.features["label"].names == ["x", "y"]


def test_a_bare_name_is_looked_for_in_the_users_folder_first(tmp_path, monkeypatch):
    monkeypatch.setenv("COOKBOOK_DATA_DIR", str(tmp_path / "sets"))
    write(tmp_path / "sets" / "digits" / "train.csv", REVIEWS)  # hides the embedded one
    write(tmp_path / "sets" / "mine.csv", REVIEWS.replace("review no", "mine no"))
    write("mine.csv", REVIEWS)
    assert load("digits")["train"][0]["text"].startswith("review")
    assert load("mine.csv")["train"][0]["text"].startswith("mine")
    assert load("./mine.csv")["train"][0]["text"].startswith("review")


def test_files_that_somebody_has_split_stay_as_they_are(capsys):
    write("train.csv", "review,stars\ngood,5\nbad,1\n")
    write("held_out.csv", "review,stars\ngood,5\nso so,3\nbad,1\n")
    parts = load_apart({"train": "train.csv", "test": "held_out.csv"}, text_column="review")
    assert {name: part["text"][:] for name, part in parts.items()} == {
        "train": ["good", "bad"], "test": ["good", "so so", "bad"]
    }  # fmt: skip
    names = parts["test"].features["label"].names
    assert [names[i] for i in parts["test"]["label"]] == ["5", "3", "1"]
    assert parts["train"].features == parts["test"].features
    with pytest.raises(DataError, match="there is no file or folder gone.csv"):
        load_apart({"train": "gone.csv"})


def test_a_large_file_stays_on_disk(monkeypatch, tmp_path):
    write("reviews.csv", REVIEWS)
    small = load("reviews.csv")
    monkeypatch.setattr(readers, "IN_MEMORY", 10)
    large = load("reviews.csv")
    assert small["train"].cache_files == []
    assert large["train"].cache_files[0]["filename"].startswith(str(tmp_path / "cache"))
    assert large["train"][:] == small["train"][:]
    write("reviews.csv", REVIEWS.replace("review no", "edited no"))
    assert load("reviews.csv")["train"][0]["text"].startswith("edited")


def test_a_role_in_the_way_of_another_column_loses_neither():
    rows = "".join(f"id {i},the body {i},old {i}\n" for i in range(9))
    write("clash.csv", "text,body,text_original\n" + rows)
    row = load("clash.csv", text_column="body")["train"][0]
    number = row["text"].split()[-1]
    assert row == {
        "text": f"the body {number}", "text_original_": f"id {number}",
        "text_original": f"old {number}",
    }  # fmt: skip


def test_roles_can_be_swapped():
    write("swap.csv", "text,label\n" + "".join(f"{'ab'[i % 2]},long {i}\n" for i in range(9)))
    row = load("swap.csv", columns={"text": "label", "label": "text"})["train"][0]
    assert row["text"].startswith("long") and row["label"] in (0, 1)


def test_refusals_of_names():
    write("reviews.csv", REVIEWS)
    assert refusal("revews.csv") == (
        "there is no file or folder revews.csv: did you mean reviews.csv?"
    )
    assert refusal("./nothing") == "there is no file or folder ./nothing: check the path"
    assert refusal("no/such/reviews.csv") == (
        "there is no folder no/such: check the path of reviews.csv"
    )
    assert refusal("docstrngs").startswith(
        "'docstrngs' is no embedded data set, file or folder: the nearest names are docstrings, "
    )
    assert refusal("docstrngs").endswith("; a hub id has the form owner/name")
    assert refusal(" ") == "no data source is given: name an embedded set, a file or a folder"


def test_a_misspelt_name_of_the_users_folder_is_recognised(monkeypatch, tmp_path):
    (tmp_path / "sets" / "sms_spam").mkdir(parents=True)
    monkeypatch.setenv("COOKBOOK_DATA_DIR", str(tmp_path / "sets"))
    assert "the nearest names are sms_spam;" in refusal("sms_span")


def test_too_few_rows():
    write("one.csv", "text,label\nonly,1\n")
    assert refusal("one.csv", label_column="label") == (
        "one.csv has 1 row, too few to make train, validation and test: at least 3 are needed"
    )
    write("same.txt", "again\n" * 5)
    assert refusal("same.txt").startswith("all 5 rows belong to 1 group(s)")
