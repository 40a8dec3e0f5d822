"""The rules of a chapter, read off the committed notebooks; nothing is executed here."""

import ast
import json
import re
import statistics
from pathlib import Path

import pytest

from cookbook import chapters

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
REQUIRED = {"profile", "dataset", "model", "seed", "output_dir"}
every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def cells(path, kind):
    return [cell for cell in chapters.read(path)["cells"] if cell["cell_type"] == kind]


def source(cell):
    return "".join(cell["source"])


def python(cell):
    """The syntax tree of a code cell; a line of IPython's own counts as `pass`."""
    return ast.parse(re.sub(r"^(\s*)[%!].*$", r"\1pass", source(cell), flags=re.MULTILINE))


def installs(cell):
    return "pip install" in source(cell)


def outputs(path):
    return [output for cell in cells(path, "code") for output in cell["outputs"]]


def test_there_are_chapters_and_each_has_a_number():
    assert NOTEBOOKS
    assert all(re.fullmatch(r"\d\d_[a-z0-9_]+", path.stem) for path in NOTEBOOKS)


@every_notebook
def test_the_head_says_what_it_asks_and_how_long_it_takes(path):
    chapter = chapters.describe(path)
    assert chapter.title and chapter.question and chapter.run_time


@every_notebook
def test_one_parameters_cell_of_literals_each_with_its_why(path):
    tagged = [
        cell for cell in cells(path, "code") if "parameters" in cell["metadata"].get("tags", [])
    ]
    (cell,) = tagged
    for node in ast.parse(source(cell)).body:
        assert isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
        ast.literal_eval(node.value)
        assert "#" in source(cell).splitlines()[node.end_lineno - 1], f"line {node.lineno}: no why"
    values = chapters.parameters(path)
    assert values.keys() >= REQUIRED
    assert values["profile"] == "laptop" and values["output_dir"] == ""


@every_notebook
def test_code_cells_are_short(path):
    lengths = [len(source(cell).strip().splitlines()) for cell in cells(path, "code")]
    assert statistics.median(lengths) <= 6
    assert max(lengths) <= 25


@every_notebook
def test_there_is_as_much_prose_as_code(path):
    assert 0.9 <= len(cells(path, "markdown")) / len(cells(path, "code")) <= 1.6


@every_notebook
def test_nothing_is_defined_in_a_notebook(path):
    definitions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    for cell in cells(path, "code"):
        found = [node for node in ast.walk(python(cell)) if isinstance(node, definitions)]
        assert not found, f"{found[0].name} belongs in the package"


@every_notebook
def test_imports_stand_in_one_cell_and_installs_in_the_bootstrap(path):
    code = cells(path, "code")
    assert [number for number, cell in enumerate(code) if installs(cell)] in ([], [0])
    importing = [
        cell
        for cell in code
        if not installs(cell)
        and any(isinstance(node, ast.Import | ast.ImportFrom) for node in ast.walk(python(cell)))
    ]
    assert len(importing) == 1


@every_notebook
def test_outputs_are_of_one_clean_run(path):
    counts = [cell["execution_count"] for cell in cells(path, "code")]
    assert counts == list(range(1, len(counts) + 1))
    assert not [output for output in outputs(path) if output["output_type"] == "error"]
    assert "papermill" not in chapters.read(path)["metadata"]


@every_notebook
def test_outputs_are_of_the_laptop_profile(path):
    text = json.dumps(outputs(path))
    assert "laptop profile on" in text and "smoke profile on" not in text


@every_notebook
def test_outputs_are_small_and_show_a_figure(path):
    assert path.stat().st_size <= 300 * 1024
    kinds = {kind for output in outputs(path) for kind in output.get("data", {})}
    assert kinds & {"image/png", "image/svg+xml"}
    assert not [kind for kind in kinds if "widget" in kind], "a bar that only a live kernel draws"


@every_notebook
def test_no_warning_no_progress_bar_and_no_path_of_a_machine(path):
    streams = [output for output in outputs(path) if output["output_type"] == "stream"]
    assert [source({"source": s["text"]}) for s in streams if s["name"] == "stderr"] == []
    # In base64 `/tmp/` is but five letters: pictures are left out.
    texts = [source({"source": stream["text"]}) for stream in streams]
    texts += [
        source({"source": content})
        for output in outputs(path)
        for kind, content in output.get("data", {}).items()
        if not kind.startswith("image/") and isinstance(content, str | list)
    ]
    texts += [source(cell) for cell in chapters.read(path)["cells"]]
    places = {str(ROOT), str(Path.home()), "/tmp/", "/home/", "/Users/", r"C:\Users"} - {"/"}
    for text in texts:
        assert "\r" not in text and not re.search(r"\w+Warning:", text), text
        assert not [place for place in places if place in text], text


@every_notebook
def test_the_readme_names_it(path):
    assert path.name in (ROOT / "README.md").read_text()
