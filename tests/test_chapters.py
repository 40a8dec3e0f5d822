"""Chapters are found by every name, described by their own head, and their parameters typed."""

import json

import pytest

from cookbook import chapters
from cookbook.chapters import UsageError


def cell(kind, source, *tags):
    code = {"outputs": [], "execution_count": None} if kind == "code" else {}
    return {"cell_type": kind, "metadata": {"tags": list(tags)}, "source": source, **code}


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """A folder of two chapters in place of the real ones."""
    head = "# 07 Frost\n\n**Question** Is ice\ncold?\n\nMore.\n\n**Run time:** 3 minutes"
    knobs = 'profile = "laptop"  # how much\nseed = 0\nrate = 0.5\nfast = False\nextra = None'
    for name in ("07_frost", "08_thaw"):
        cells = [cell("markdown", head), cell("code", knobs, "parameters")]
        book = {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
        (tmp_path / f"{name}.ipynb").write_text(json.dumps(book))
    (tmp_path / "notes.ipynb").write_text("not a chapter")
    monkeypatch.setattr(chapters, "folder", lambda name: tmp_path)
    return tmp_path


def test_a_chapter_describes_itself(shelf):
    frost, thaw = chapters.chapters()
    assert (frost.path.stem, thaw.path.stem) == ("07_frost", "08_thaw")
    assert (frost.title, frost.question, frost.run_time) == (
        "07 Frost",
        "Is ice cold?",
        "3 minutes",
    )


@pytest.mark.parametrize("name", ["07", "07_frost", "frost", "07_frost.ipynb", "a/07_frost.ipynb"])
def test_a_chapter_is_found_by_every_name(shelf, name):
    assert chapters.find(name) == shelf / "07_frost.ipynb"


def test_a_wrong_name_brings_the_nearest(shelf):
    with pytest.raises(UsageError, match=r"^no chapter 'frots': did you mean frost\?$"):
        chapters.find("frots")
    with pytest.raises(UsageError, match="^no chapter '99': there are frost, thaw$"):
        chapters.find("99")


def test_parameters_are_read_in_order(shelf):
    found = chapters.parameters(chapters.find("07"))
    assert list(found.items()) == [
        ("profile", "laptop"),
        ("seed", 0),
        ("rate", 0.5),
        ("fast", False),
        ("extra", None),
    ]


def test_a_notebook_without_parameters_is_named(tmp_path):
    path = tmp_path / "01_bare.ipynb"
    path.write_text(json.dumps({"cells": [cell("markdown", "# Bare")]}))
    with pytest.raises(UsageError, match="01_bare.ipynb has no cell tagged 'parameters'"):
        chapters.parameters(path)


DEFAULTS = {
    "profile": "laptop",
    "dataset": "",
    "seed": 0,
    "rate": 0.5,
    "fast": False,
    "sizes": [1],
    "extra": None,
}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("profile=smoke", "smoke"),
        ("dataset=7", "7"),
        ("seed=-7", -7),
        ("rate=1", 1.0),
        ("rate=1e-3", 0.001),
        ("fast=true", True),
        ("fast=False", False),
        ("sizes=[2, 3]", [2, 3]),
        ("extra=4", 4),
        ("extra=four", "four"),
    ],
)
def test_values_take_the_type_of_the_default(text, value):
    name, typed_in = text.split("=")
    (got,) = chapters.typed({name: typed_in}, DEFAULTS).values()
    assert got == value and type(got) is type(value)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"sed": "1"}, r"no parameter 'sed': did you mean seed\?"),
        ({"seed": "1.5"}, "seed=1.5 is not of type int: the default is 0"),
        ({"seed": "true"}, "seed=true is not of type int: the default is 0"),
        ({"fast": "1"}, "fast=1 is not of type bool: the default is False"),
        ({"rate": "quick"}, "rate=quick is not of type float: the default is 0.5"),
        ({"profile": "fast"}, "no profile 'fast': choose one of smoke, laptop, gpu"),
    ],
)
def test_a_wrong_parameter_is_one_line(given, message):
    with pytest.raises(UsageError, match=f"^{message}$"):
        chapters.typed(given, DEFAULTS)
