"""The bench on MNIST: parameters alone, parameters that the chapter has, and what it recorded."""

import importlib
import json
from pathlib import Path

import pytest

from cookbook import chapters

FOLDER = Path(__file__).parent.parent / "benchmarks"
RESULT = FOLDER / "results" / "mnist.json"


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("mnist")


def test_the_command_names_parameters_of_the_chapter(bench):
    words = bench.command("folder")
    given = dict(word.split("=") for word in words if "=" in word)
    assert given == bench.GIVEN and words[:2] == ["run", "14"]
    assert given.keys() <= chapters.parameters(chapters.find("14")).keys()


def test_the_result_is_of_that_command_and_no_worse_than_a_linear_model(bench):
    if not RESULT.is_file():
        pytest.skip("not measured yet: make bench ONLY=mnist")
    found = json.loads(RESULT.read_text())
    assert found["command"] == bench.written("build/mnist")
    measured = found["measured"]
    assert found["published"]["one layer, linear"] < measured["test_accuracy"] < 1
    assert measured["test_linear"] + measured["test_gain"] == pytest.approx(
        measured["test_accuracy"], abs=1e-3
    )
    assert found["machine"]["threads"] == 1 and found["cpu_minutes"] > 0
