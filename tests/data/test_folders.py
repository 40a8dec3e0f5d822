"""Folders and hub ids: which files, which splits, and one line for what `datasets` raises."""

import datasets
import pytest

from cookbook.data import folders
from cookbook.data.errors import DataError
from cookbook.data.folders import read_folder, read_hub

ROWS = "text,label\n" + "".join(f"row {i},{i % 2}\n" for i in range(6))


@pytest.fixture
def write(tmp_path, monkeypatch):
    """write(name, content): a file below the working folder; returns that folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")

    def make(name, content=ROWS):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return tmp_path

    return make


def sizes(parts):
    return {name: len(part) for name, part in parts.items()}


def refusal(function, *args):
    with pytest.raises(DataError) as caught:
        function(*args)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_files_are_split_by_name_and_read_strictly(write):
    write("set/train.csv")
    write("set/dev.csv")
    root = write("set/test.csv", "text,label\nNA,1\n")
    parts = read_folder(root / "set")
    assert sizes(parts) == {"train": 6, "validation": 6, "test": 1}
    assert parts["test"]["text"][:] == ["NA"]  # pandas, and so `datasets`, would give None
    write("set/test.csv", "text,label\na,1,b\n")
    assert refusal(read_folder, root / "set").startswith("test.csv line 2 has 3 fields")


def test_the_parts_of_a_split_are_joined(write):
    write("set/train-00000-of-00002.csv", "text,n,label\na,1,x\n")
    root = write("set/train-00001-of-00002.csv", "text,n,label\nb,2.5,0\n")
    rows = read_folder(root / "set")["train"]
    assert rows["text"][:] == ["a", "b"]
    assert rows["n"][:] == [1.0, 2.5] and rows["label"][:] == ["x", "0"]
    write("set/train-00001-of-00002.csv", "text,other\nb,2\n")
    assert refusal(read_folder, root / "set") == (
        "train-00001-of-00002.csv has the columns text, other, train-00000-of-00002.csv has text, "
        "n, label: give all files of a split the same columns"
    )


def test_many_text_files_are_a_document_each(write, capsys, monkeypatch):
    for i in range(3):
        root = write(f"books/{i}.txt", f"book {i}\r\nsecond line\n")
    rows = read_folder(root / "books")["train"]
    assert rows[2] == {"text": "book 2\r\nsecond line", "file": "2.txt"}
    assert capsys.readouterr().out == "3 text files read, a document each\n"
    monkeypatch.setattr("cookbook.data.readers.LONGEST", 20)  # too large to be one document
    assert len(read_folder(root / "books")["train"]) == 6


def test_folders_of_documents_are_a_column(write):
    for split in ("train", "test"):
        for i in range(4):
            root = write(f"films/{split}/{'pos' if i % 2 else 'neg'}/{i}.txt", f"{split} {i}")
    parts = read_folder(root / "films")
    assert sizes(parts) == {"train": 4, "test": 4}
    for part in parts.values():
        pairs = sorted(zip(part["file"], part["category"], strict=True))
        assert pairs == [("0.txt", "neg"), ("1.txt", "pos"), ("2.txt", "neg"), ("3.txt", "pos")]


def test_a_document_that_is_not_utf8_is_named(write):
    for name in "ab":
        write(f"books/{name}.txt", "fine")
    root = write("books/c.txt", b"caf\xe9")
    assert refusal(read_folder, root / "books").startswith("c.txt is not UTF-8: byte 0xe9")


def test_one_or_two_text_files_have_a_row_a_line(write):
    root = write("corpus/part.txt", "one\ntwo\n")
    assert read_folder(root / "corpus")["train"]["text"][:] == ["one", "two"]


def test_saved_folders_are_read_again(write, tmp_path):
    write("x")
    rows = datasets.Dataset.from_dict({"text": ["a", "b"]})
    rows.save_to_disk(tmp_path / "one")
    datasets.DatasetDict(train=rows, valid=rows).save_to_disk(tmp_path / "two")
    assert sizes(read_folder(tmp_path / "one")) == {"train": 2}
    assert sizes(read_folder(tmp_path / "two")) == {"train": 2, "validation": 2}


def test_images_are_left_to_datasets(write, tmp_path):
    from PIL import Image

    for name in ("cat/1.png", "dog/2.png"):
        write(f"pets/train/{name}")
        Image.new("L", (2, 2)).save(tmp_path / "pets" / "train" / name)
    parts = read_folder(tmp_path / "pets")
    assert parts["train"].features["label"].names == ["cat", "dog"]


def test_a_repository_in_the_hubs_layout(write):
    """The code for hub ids, on a folder: `datasets` takes either under the same name."""
    write("someone/reviews/data/train-00000-of-00001.csv")
    write("someone/reviews/data/test-00000-of-00001.csv")
    write("someone/reviews/README.md", "---\nlicense: mit\n---\n# Reviews\n")
    assert sizes(read_hub("someone/reviews")) == {"train": 6, "test": 6}


def test_configurations_are_named_after_a_colon(write):
    card = "---\nconfigs:\n" + "".join(
        f"- config_name: {name}\n  data_files: {name}.csv\n" for name in "ab"
    )
    for name in "ab":
        write(f"me/set/{name}.csv")
    root = write("me/set/README.md", card + "---\n")
    said = "me/set has several configurations: write me/set:NAME, NAME among a, b"
    assert refusal(read_hub, "me/set") == said
    assert refusal(read_folder, root / "me" / "set").startswith("set has several configurations")
    assert sizes(read_hub("me/set:b")) == {"train": 6}
    assert sizes(read_folder(root / "me" / "set", "a")) == {"train": 6}


def test_no_code_of_a_repository_is_executed(write, tmp_path):
    code = "import pathlib\npathlib.Path('executed').write_text('')\n"
    root = write("me/script/script.py", code)
    assert "cannot be loaded: Dataset scripts are no longer supported" in refusal(
        read_folder, root / "me" / "script"
    )
    refusal(read_hub, "me/script")
    assert not (tmp_path / "executed").exists()


def test_folders_without_data_are_refused(write, tmp_path):
    (tmp_path / "empty").mkdir()
    write("notes/README.md", "nothing here")
    for name in ("empty", "notes"):
        assert refusal(read_folder, tmp_path / name) == (
            f"{name} holds no data that can be read: expected .csv, .tsv, .jsonl, .json, "
            ".parquet, .txt files"
        )


@pytest.mark.parametrize(
    "error, reason",
    [
        (ConnectionError("Couldn't reach 'a/b' on the Hub\n(offline)"),
         "is no file or folder here, and the hub cannot be reached: check the name"),
        (FileNotFoundError("Dataset 'a/b' doesn't exist on the Hub or cannot be accessed."),
         "is no file or folder here, and the hub has no such data set: check the name"),
        (ValueError("something\nelse"), "cannot be loaded: something else"),
    ],
)  # fmt: skip
def test_what_the_hub_answers_is_one_line(monkeypatch, error, reason):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(datasets, "load_dataset", fail)
    assert refusal(read_hub, "a/b") == f"a/b {reason}"


def test_odd_splits_are_left_out_and_said(capsys):
    rows = datasets.Dataset.from_dict({"text": ["a"]})
    parts = folders._known_splits({"train": rows, "validation_matched": rows, "unsupervised": rows})
    assert sizes(parts) == {"train": 1, "validation": 1}
    assert capsys.readouterr().out == (
        "left out, for being neither train, validation nor test: unsupervised (1 rows)\n"
    )
    assert sizes(folders._known_splits({"all": rows})) == {"train": 1}
    assert refusal(folders._known_splits, {"a": rows, "b": rows}) == (
        "no split is called train: there are a, b"
    )
