"""A reader's set runs the section that its columns ask for; the others are skipped, and said."""

import json

import pytest
from datasets import Dataset, DatasetDict

from cookbook.data import DataError
from cookbook.finetuning import sections

COLUMNS = {
    "tagging": {"tokens": [["a", "b"]] * 12, "ner_tags": [["O", "B-x"]] * 12},
    "questions": {"context": ["c"], "question": ["q"], "answers": [["c"]]},
    "translation": {"source": ["a"], "target": ["b"]},
    "summaries": {"text": ["a"], "summary": ["b"]},
    "pairs": {"text": ["a"], "text_pair": ["b"], "label": [1]},
    "classification": {"text": ["a"], "label": [1]},
}


@pytest.mark.parametrize("task", COLUMNS)
def test_the_columns_tell_the_task(task):
    columns = {name.replace("ner_", ""): values for name, values in COLUMNS[task].items()}
    assert sections.guess(DatasetDict(train=Dataset.from_dict(columns))) == task


def test_a_file_of_the_readers_runs_its_section_alone(tmp_path, capsys):
    path = tmp_path / "names.jsonl"
    rows = [{"tokens": ["a", f"b{i}"], "ner_tags": ["O", "B-x"]} for i in range(12)]
    path.write_text("\n".join(map(json.dumps, rows)))
    planned = sections.plan(str(path))
    assert list(planned) == ["tagging"] and set(planned["tagging"]) == {
        "train",
        "validation",
        "test",
    }
    said = capsys.readouterr().out
    assert "tagging on names.jsonl" in said and "skipped: classification, pairs" in said
    with pytest.raises(DataError, match="translation needs source and target"):
        sections.plan(str(path), "translation")


def test_rows_to_test_on_only_are_tested_on_after_training_on_the_embedded_set(tmp_path, capsys):
    rows = [{"source": f"{i} apples", "target": f"{i} Äpfel"} for i in range(5)]
    (tmp_path / "test.jsonl").write_text("\n".join(map(json.dumps, rows)))
    planned = sections.plan(str(tmp_path))["translation"]
    assert len(planned["test"]) == 5 and len(planned["train"]) > 1000
    assert "nothing to train on" in capsys.readouterr().out


def test_all_sections_or_one_of_them():
    assert list(sections.plan(task="translation")) == ["translation"]
    with pytest.raises(DataError, match="unknown task 'poems'"):
        sections.plan(task="poems")
    with pytest.raises(DataError, match="none of them tells the task"):
        sections.guess(DatasetDict(train=Dataset.from_dict({"text": ["a"]})))


def test_the_magic_runs_a_cell_or_says_that_it_is_skipped(capsys):
    from IPython.core.interactiveshell import InteractiveShell

    shell = InteractiveShell.instance()
    try:
        sections.register({"tagging": None})
        shell.run_cell("%%section tagging\nx = 41 + 1").raise_error()
        shell.run_cell("%%section tagging\n'not shown';").raise_error()
        shell.run_cell("%%section pairs\nx = 0").raise_error()
        assert shell.user_ns["x"] == 42
        said = capsys.readouterr().out
        assert "skipped: this run is about tagging" in said and "not shown" not in said
        with pytest.raises(ZeroDivisionError):
            shell.run_cell("%%section tagging\n1 / 0").raise_error()
    finally:
        InteractiveShell.clear_instance()
