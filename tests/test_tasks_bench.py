"""Chapter 15 on other data: the runs are shell commands, and what was kept belongs to them."""

import importlib
import json
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent / "benchmarks"
PATH = FOLDER / "results" / "tasks.json"


@pytest.fixture
def tasks(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("tasks")


def test_a_run_is_a_command_with_parameters_alone(tasks):
    said = " ".join(tasks.command("wnut17", "build"))
    assert said.startswith("run 15 --profile laptop -o build/wnut17 -p dataset=wnut17")
    from cookbook import chapters

    for name in tasks.RUNS:
        known = chapters.parameters(chapters.find(tasks.CHAPTER.get(name, "15")))
        words = tasks.command(name, "build")
        given = [words[i + 1].split("=")[0] for i, word in enumerate(words) if word == "-p"]
        assert set(given) <= known.keys()


def test_what_was_measured_belongs_to_the_commands_and_has_published_figures_beside_it(tasks):
    if not PATH.is_file():
        pytest.skip("not measured yet: make bench ONLY=tasks")
    found = json.loads(PATH.read_text())["runs"]
    assert found.keys() >= {"wnut17", "tatoeba_en_zh"}
    for name, run in found.items():
        assert run["command"] == " ".join(["cookbook", *tasks.command(name, "build")])
        assert run["published"] or name in ("imdb_label_errors", "xquad_zh")
        assert all(row["million weights"] > 70 for row in run["published"])
    wnut, tatoeba = found["wnut17"], found["tatoeba_en_zh"]
    assert 0 < wnut["entity_f1_memory"] < wnut["entity_f1"] < 0.44  # ours is twenty times smaller
    assert 0 < tatoeba["greedy_zh_bleu"] < 31.4
