"""The bench of CLIP: its results are whole and say what was claimed; its sums, by hand."""

import importlib
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

FOLDER = Path(__file__).parent.parent / "benchmarks"
RESULT = FOLDER / "results" / "clip_glyphs.json"


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("clip_glyphs")


@pytest.fixture(scope="module")
def found():
    if not RESULT.is_file():
        pytest.skip("not measured yet: make bench ONLY=clip_glyphs")
    return json.loads(RESULT.read_text())


def test_the_result_is_whole(bench, found):
    assert found["machine"]["cpu"] and found["machine"]["threads"] == 1
    assert found["arms"].keys() == bench.ARMS.keys() <= found.keys()
    assert found["seeds"] == list(bench.SEEDS)
    for arm in bench.ARMS:
        assert len(found[arm]["cpu_minutes_a_seed"]) == len(bench.SEEDS) >= 3
        for way in ("find the caption", "find the picture"):
            numbers = found[arm][way]
            for k in bench.AT:
                estimate, low, high = numbers[f"recall@{k}"]
                assert 0 <= low <= estimate <= high <= 1
                assert found[arm]["chance"][f"recall@{k}"] == k / found[arm]["candidates"]
            difference = numbers["recall@10"][0] - numbers["recall@10, copied"][0]
            assert numbers["recall@10, difference"][0] == pytest.approx(difference, abs=1e-9)


def test_new_characters_are_named_above_chance_and_above_copying(found):
    for way in ("find the caption", "find the picture"):
        numbers = found["glyphs"][way]
        assert numbers["recall@10"][1] > 10 * found["glyphs"]["chance"]["recall@10"]
        assert numbers["recall@10, difference"][1] > 0
    for way in ("find the caption", "find the picture"):
        emoji = found["noto_emoji"]
        assert emoji[way]["recall@10"][1] > 2 * emoji["chance"]["recall@10"]


def test_the_confusion_counts_every_row_of_every_seed(bench, found):
    classes = found["glyphs"]["classes"]
    matrix = np.array(classes["confusion, all seeds"])
    assert matrix.sum() == classes["rows"] * len(bench.SEEDS)
    assert matrix.shape == (len(classes["names"]),) * 2
    right = matrix.trace() / matrix.sum()
    assert classes["accuracy"]["average"][0] == pytest.approx(right, abs=1e-9)
    assert matrix.sum(1).max() / matrix.sum() == pytest.approx(classes["majority"], abs=1e-9)


def test_classes_by_hand(bench):
    task = SimpleNamespace(labels=np.array([0, 0, 0, 1, -1]), classes={"a": "", "b": ""})
    seeds = [{"guesses": {"average": [0, 0, 1, 1, 0]}}, {"guesses": {"average": [0, 0, 0, 0, 1]}}]
    made = bench.classified(task, seeds)
    assert (made["rows"], made["without a class"], made["majority"]) == (4, 1, 0.75)
    assert made["confusion, all seeds"] == [[5, 1], [1, 1]]
    assert made["accuracy"]["average"].estimate == 0.75
    assert made["balanced accuracy"]["average"] == pytest.approx((5 / 6 + 1 / 2) / 2)
