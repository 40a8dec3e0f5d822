"""The bench of plain networks: a slice of it, and what is committed of the whole."""

import importlib
import json
import warnings
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("doctor_plain")


@pytest.mark.parametrize(
    ("name", "task"),
    [("one score to choose", "one_score"), ("minus the loss", "numbers"), ("as it is", "numbers"),
     ("one table alone", "factors"), ("SGD far too fast", "dense")],
)  # fmt: skip
def test_a_slice(bench, name, task):
    (one,) = [way for way in bench.WAYS if way.name == name and task in way.tasks]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        told = bench._told(one, task)
    assert told["right"] if one.fault else told["faults"] == []


def test_every_task_is_healthy_and_broken(bench):
    tasks = set(importlib.import_module("plain_networks").tasks())
    for broken in (True, False):
        assert tasks <= {
            task for way in bench.WAYS if bool(way.fault) is broken for task in way.tasks
        }
    names = [(way.fault, way.name, task) for way in bench.WAYS for task in way.tasks]
    assert len(set(names)) == len(names) > 140


def test_the_committed_result_is_of_these_ways(bench):
    found = json.loads((BENCHMARKS / "results" / "doctor_plain.json").read_text())
    runs = {bool(way.fault): 0 for way in bench.WAYS}
    for way in bench.WAYS:
        runs[bool(way.fault)] += len(way.tasks)
    assert (found["fault_runs"], found["healthy_runs"]) == (runs[True], runs[False])
    assert found["detected"] >= 0.95 and found["right"] >= 0.85 and found["alarms"] == []
