"""What a run leaves behind: everything when it was whole, and nothing that pretends to be."""

import errno
import io

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from cookbook import execution
from cookbook.chapters import parameters
from cookbook.session import OutputError


@pytest.fixture
def chapter(tmp_path):
    knobs = new_code_cell('output_dir = ""', metadata={"tags": ["parameters"]})
    path = tmp_path / "07_frost.ipynb"
    nbformat.write(new_notebook(cells=[knobs]), path)
    return path


@pytest.mark.parametrize("step", ["execute", "_write_html"])
def test_a_full_disk_is_one_line_and_leaves_nothing_final(chapter, tmp_path, monkeypatch, step):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(execution, "execute", lambda *_: new_notebook())
    monkeypatch.setattr(execution, step, full)
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "07_frost.ipynb").write_text("of an earlier run")
    (folder / "results.json").write_text("of an earlier run")
    message = r"^cannot write .*out \(No space left on device\): make room or name another$"
    with pytest.raises(OutputError, match=message):
        execution.run(chapter, {}, folder)
    assert list(folder.iterdir()) == []


def test_output_dir_is_passed_on(chapter, tmp_path, monkeypatch):
    seen = {}

    def fake(path, values, partial):
        seen.update(values)
        partial.write_text("whole")
        return new_notebook()

    monkeypatch.setattr(execution, "execute", fake)
    final = execution.run(chapter, {}, tmp_path / "out")
    assert seen == {"output_dir": str(tmp_path / "out")} and "output_dir" in parameters(chapter)
    assert final.read_text() == "whole"
    assert sorted(path.name for path in final.parent.iterdir()) == [
        "07_frost.html",
        "07_frost.ipynb",
    ]


def test_bars_go_and_words_stay():
    bars = "epoch 1\r 50%|##   | 1/2 [00:01<00:01]\n100%|####| 2/2 [00:02<00:00]\n"
    only_bars = new_output("stream", name="stderr", text=bars.replace("epoch 1", ""))
    mixed = new_output("stream", name="stderr", text=bars + "UserWarning: cold\n")
    printed = new_output("stream", name="stdout", text="100%|####| printed on purpose")
    book = new_notebook(cells=[new_code_cell("", outputs=[only_bars, mixed, printed])])
    execution.without_progress_bars(book)
    assert [output.text for output in book.cells[0].outputs] == [
        "epoch 1\nUserWarning: cold",
        "100%|####| printed on purpose",
    ]


class Terminal(io.StringIO):
    def isatty(self):
        return True


def watch(out):
    progress = execution.Progress(12, out)
    progress.start_cell(new_markdown_cell("## 4. Pretraining\n\nwords"), 6)
    progress.start_cell(new_code_cell("train()"), 7)
    progress.write("\r 10%|#    | 1/10\r 20%|##   | 2/10")
    progress.write("\n")
    progress.close()
    return out.getvalue()


def test_a_terminal_shows_one_line_with_the_last_words(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    lines = watch(Terminal()).split("\r\x1b[K")
    assert lines == [
        "",
        "[7/12] 4. Pretraining",
        "[8/12] 4. Pretraining",
        "[8/12] 4. Pretraining · 20%|##   | 2/10",
        "",
    ]


def test_a_log_shows_the_sections():
    assert watch(io.StringIO()) == "[7/12] 4. Pretraining\n"
