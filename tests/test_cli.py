"""The command line: one line for every mistake, and runs that end whole or say where they broke.

The chapter that runs here is a throw-away one; the real ones are run by
test_notebooks.py.
"""

import json
import re

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from PIL import Image

from cookbook import chapters, cli

HEAD = "# 07 Frost\n\n**Question.** Is ice cold?\n\n**Run time.** Seconds"
KNOBS = """
profile = "laptop"  # how much
dataset = "frost.txt"  # read from the working directory
seed = 0
output_dir = ""
mood = "fine"  # which way to end
"""
READ = """
print("read", open(dataset).read(), "under", profile)
for _ in tqdm(range(2), desc="melting"):
    pass
print("kept: a warning", file=sys.stderr)
"""
END = """
if mood == "data":
    raise DataError("frost.txt has no rows: check the export")
if mood == "output":
    raise OutputError("cannot write results.json: No space left on device")
if mood == "crash":
    raise KeyError("ice\\nand more")
if mood == "die":
    os._exit(9)
"""
RECORD = """
Path(output_dir, "results.json").write_text(json.dumps({"seed": seed, "degrees": -3.5}))
"""
IMPORTS = """
import json, os, sys
from pathlib import Path
from tqdm.auto import tqdm
from cookbook.data.errors import DataError
from cookbook.session import OutputError
"""


def write_chapter(folder):
    """Write `07_frost.ipynb` into a folder."""
    cells = [
        new_markdown_cell(HEAD),
        new_code_cell(IMPORTS.strip()),
        new_code_cell(KNOBS.strip(), metadata={"tags": ["parameters"]}),
        new_markdown_cell("## 1. Reading"),
        new_code_cell(READ.strip()),
        new_markdown_cell("## 2. Melting"),
        new_code_cell(END.strip()),
        new_code_cell(RECORD.strip()),
    ]
    nbformat.write(new_notebook(cells=cells), folder / "07_frost.ipynb")


@pytest.fixture
def desk(tmp_path, monkeypatch):
    """A working directory with the reader's file, and a shelf elsewhere."""
    shelf, desk = tmp_path / "shelf", tmp_path / "desk"
    shelf.mkdir()
    desk.mkdir()
    write_chapter(shelf)
    (desk / "frost.txt").write_text("ice")
    monkeypatch.setattr(chapters, "folder", lambda name: shelf)
    monkeypatch.chdir(desk)
    return desk


def said(capsys):
    """What went to stderr, less the log of sections."""
    lines = capsys.readouterr().err.splitlines()
    return [line for line in lines if not re.match(r"\[\d+/\d+\] ", line)]


def test_list_shows_title_time_and_question(desk, capsys):
    assert cli.main(["list"]) == 0
    assert capsys.readouterr().out.split("\n")[:3] == [
        "07_frost  (Seconds)",
        "    07 Frost",
        "    Is ice cold?",
    ]


def test_a_whole_run(desk, capsys):
    (desk / "mine.txt").write_text("snow")
    given = ["-p", "dataset=mine.txt", "-p", "seed=3", "--profile", "smoke"]
    assert cli.main(["run", "frost", *given, "-o", "out"]) == 0
    printed = capsys.readouterr()
    assert "[1/8] 07 Frost\n" in printed.err
    assert re.search(r"^  seed +3$", printed.out, re.M)
    assert re.search(r"^  degrees +-3\.5$", printed.out, re.M)
    out = desk / "out"
    assert sorted(path.name for path in out.iterdir()) == [
        "07_frost.html",
        "07_frost.ipynb",
        "results.json",
    ]
    assert json.loads((out / "results.json").read_text()) == {"seed": 3, "degrees": -3.5}
    assert "read snow" in (out / "07_frost.html").read_text()
    cells = nbformat.read(out / "07_frost.ipynb", as_version=4).cells
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    streams = [output.text for output in outputs if output.output_type == "stream"]
    assert streams == ["read snow under smoke\n", "kept: a warning"]


@pytest.mark.parametrize(
    ("mood", "code", "message"),
    [
        ("data", 2, r"frost\.txt has no rows: check the export"),
        ("output", 2, r"cannot write results\.json: No space left on device"),
        (
            "crash",
            1,
            r"07_frost failed in '2\. Melting', cell \[5\]: KeyError: 'ice\\nand more'; "
            r"the notebook so far: build/07_frost/07_frost\.partial\.ipynb",
        ),
        (
            "die",
            1,
            r"07_frost broke off in '2\. Melting': Kernel died; "
            r"the notebook so far: build/07_frost/07_frost\.partial\.ipynb",
        ),
    ],
)
def test_a_broken_run_is_one_line_and_stays_partial(desk, capsys, mood, code, message):
    out = desk / "build" / "07_frost"
    out.mkdir(parents=True)
    (out / "07_frost.ipynb").write_text("of an earlier run")
    assert cli.main(["run", "07", "-p", f"mood={mood}", "--profile", "smoke"]) == code
    (line,) = said(capsys)
    assert re.fullmatch("cookbook: " + message, line)
    assert [path.name for path in out.iterdir()] == ["07_frost.partial.ipynb"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("run frots", "no chapter 'frots': did you mean frost?"),
        ("run 07 -p sed=1", "no parameter 'sed': did you mean seed?"),
        ("run 07 -p seed=one", "seed=one is not of type int: the default is 0"),
        ("run 07 -p profile=huge", "no profile 'huge': choose one of smoke, laptop, gpu"),
        ("run 07 -p seed", "-p seed: write KEY=VALUE, as in -p seed=1"),
        ("run 07 -p =3", "-p =3: write KEY=VALUE, as in -p seed=1"),
    ],
)
def test_a_mistyped_command_is_one_line(desk, capsys, arguments, message):
    assert cli.main(arguments.split()) == 2
    assert said(capsys) == [f"cookbook: {message}"]
    assert not (desk / "build").exists()


@pytest.mark.parametrize("where", ["frost.txt", "frost.txt/below"])
def test_a_file_in_the_place_of_output_dir(desk, capsys, where):
    assert cli.main(["run", "07", "-o", where]) == 2
    assert said(capsys) == [
        f"cookbook: output_dir {where!r} is, or lies below, a file: name a folder"
    ]
    assert (desk / "frost.txt").read_text() == "ice"


def test_stopping_is_one_line(desk, capsys, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("cookbook.execution.run", stop)
    assert cli.main(["run", "07"]) == 130
    assert said(capsys) == ["cookbook: stopped"]


def test_data_previews_a_file(desk, capsys):
    rows = [f"I like snow number {n},{'good' if n % 3 else 'bad'}" for n in range(60)]
    (desk / "reviews.csv").write_text("\n".join(["review,verdict", *rows]))
    assert cli.main(["data", "reviews.csv", "--text-column", "review"]) == 0
    out = capsys.readouterr().out
    counts = re.search(r"^splits  train (\d+) · validation (\d+) · test (\d+)$", out, re.M)
    assert counts and sum(map(int, counts.groups())) == 60
    assert re.search(r"^  text +string$", out, re.M) and re.search(
        r"^  label +2 classes$", out, re.M
    )
    assert out.count("I like snow number") == 3
    assert re.search(r"^  good +\d+  +\d+\.\d%$", out, re.M)


def test_data_previews_pictures_by_their_size(tmp_path, capsys):
    folder = tmp_path / "pictures"
    folder.mkdir()
    lines = ["file_name,caption"]
    for row in range(12):
        Image.new("RGB", (30, 20), (20 * row, 0, 0)).save(folder / f"{row}.png")
        lines.append(f"{row}.png,a red of strength {row} in a row")
    (folder / "metadata.csv").write_text("\n".join(lines))
    assert cli.main(["data", str(folder)]) == 0
    shown = capsys.readouterr().out
    assert "a picture of 30 x 20 pixels, RGB" in shown and "0x" not in shown


def test_data_that_is_not_there_is_one_line(desk, capsys):
    assert cli.main(["data", "missing.csv"]) == 2
    (line,) = said(capsys)
    assert line.startswith("cookbook: ") and "missing.csv" in line


def test_doctor_explains_an_entry_of_the_catalogue(capsys):
    assert cli.main(["doctor", "--explain", "l3"]) == 0
    assert capsys.readouterr().out.startswith("L3 · Accumulation changes the gradient\n  symptom")
    assert cli.main(["doctor", "--explain", "L9"]) == 2
    assert "no fault 'L9': there are D1, D2" in capsys.readouterr().err


def test_doctor_reads_a_log_and_says_what_no_log_tells(tmp_path, capsys):
    history = [{"step": i, "loss": 2.0, "learning_rate": 0.0} for i in range(1, 9)]
    state = {"global_step": 8, "max_steps": 8, "log_history": history}
    (tmp_path / "trainer_state.json").write_text(json.dumps(state))
    assert cli.main(["doctor", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert out.startswith("O2 · Learning rate zero or far too low  (error)")
    assert "8 entries with loss, learning_rate." in out and "seldom why" in out
    assert cli.main(["doctor", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["primary"]["fault"] == "O2"


def test_doctor_checks_data_before_any_training(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    texts = [
        f"review number {i} of a film that was {'good' if i % 2 else 'bad'}" for i in range(90)
    ]
    header = "review,stars\n"
    rows = [f"{text},{i % 2}\n" for i, text in enumerate(texts)]
    (tmp_path / "train.csv").write_text(header + "".join(rows[:60]))
    (tmp_path / "leaks.csv").write_text(header + "".join(rows[40:80]))
    (tmp_path / "new.csv").write_text(header + "".join(rows[60:]))
    columns = ["--text-column", "review", "--label-column", "stars"]
    assert cli.main(["doctor", "--data", "train.csv", "--eval", "leaks.csv", *columns]) == 0
    assert capsys.readouterr().out.startswith("D1 · Training and evaluation share rows")
    model = ["--model", "docbert"]
    assert cli.main(["doctor", "--data", "train.csv", "--eval", "new.csv", *model, *columns]) == 0
    assert capsys.readouterr().out.startswith("no fault found")


def test_doctor_tells_in_one_line_what_it_lacks(tmp_path, capsys):
    (tmp_path / "few.csv").write_text("text,label\na text of words,1\nanother one of words,0\n")
    few = ("doctor", "--data", str(tmp_path / "few.csv"), "--model")
    for words, message in {
        (*few, str(tmp_path / "gone")): "there is no such folder",
        (*few, str(tmp_path)): "no usable checkpoint",
        ("doctor",): "name a run's folder, or --data SOURCE",
        ("doctor", str(tmp_path / "gone")): "there is no file or folder",
        ("doctor", "--data", "gone.csv"): "there is no file or folder gone.csv",
    }.items():
        assert cli.main(list(words)) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1


def test_recommend_ranks_with_reasons(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rows = [f"returns the {'sum' if i % 2 else 'plot'} of array {i}\t{i % 2}\n" for i in range(90)]
    (tmp_path / "rows.tsv").write_text("text\tlabel\n" + "".join(rows))
    words = ["recommend", "rows.tsv", "--candidates", "docbert", "gone", "--rows", "40"]
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert cli.main([*words, "--memory", "8GB", "--minutes", "30"]) == 0
    out = capsys.readouterr().out
    assert "\n 1  docbert\n" in out and "licence apache-2.0" in out
    assert re.search(r"^ -  gone\n +refused: no usable checkpoint 'gone'", out, re.M)


def test_recommend_refuses_in_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    texts = [f"送餐很快,味道{'不错' if i % 2 else '难吃'} {i}" for i in range(60)]
    rows = "".join(f"{text}\t{i % 2}\n" for i, text in enumerate(texts))
    (tmp_path / "meals.tsv").write_text("text\tlabel\n" + rows)
    for words, message in {
        ("recommend", "meals.tsv"): "docbert cannot read this text",
        ("recommend", "meals.tsv", "--memory", "lots"): "'lots' is no amount of memory",
        ("recommend", "gone.tsv"): "there is no file or folder gone.tsv",
    }.items():
        assert cli.main(list(words)) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1
