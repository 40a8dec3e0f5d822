"""The ladder and the time to a loss, as committed: consistent with what was measured, floors held.

It measures nothing: no test depends on a clock. Run `make bench ONLY=speed_ladder` to measure anew.
"""

import importlib
import json
import statistics
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module


def read(name):
    path = FOLDER / "results" / f"{name}.json"
    if not path.is_file():
        pytest.skip(f"not measured yet: make bench ONLY={name}")
    return json.loads(path.read_text())


def test_the_ladder_has_every_rung_in_at_least_three_rounds():
    from cookbook.scaling.speed import ladder

    found = read("speed_ladder")
    assert [r["name"] for r in found["rungs"]] == list(
        ladder(found["half"], compiled=found["compiled"])
    )
    speeds = {r["name"]: r["speeds"] for r in found["rungs"]}
    assert {len(values) for values in speeds.values()} == {found["rounds"]}
    assert found["rounds"] >= 3
    for rung in found["rungs"]:
        base = speeds[rung["stands_on"] or rung["name"]]
        assert rung["ratios"] == pytest.approx(
            [a / b for a, b in zip(rung["speeds"], base, strict=True)]
        )


def test_the_ladders_top_does_little_that_nobody_needs():
    rungs = {r["name"]: r for r in read("speed_ladder")["rungs"]}
    assert rungs["padded"]["executed"] > 2 * rungs["padded"]["nominal"]
    assert rungs["larger batch"]["executed"] < 1.1 * rungs["larger batch"]["nominal"]
    speed = {name: statistics.median(r["speeds"]) for name, r in rungs.items()}
    assert speed["larger batch"] > 3 * speed["padded"]
    assert rungs["accumulation"]["peak"] < rungs["larger batch"]["peak"]
    assert rungs["checkpointing"]["peak"] < rungs["larger batch"]["peak"]


def test_what_half_precision_costs_lies_within_the_seeds_or_a_twentieth_of_a_nat():
    found = read("speed_ladder")
    losses = {name: statistics.mean(each) for name, each in found["losses"].items()}
    assert {len(each) for each in found["losses"].values()} == {2}
    assert abs(losses[found["half"]] - losses["document masks"]) < 0.05


def test_the_time_to_a_loss_follows_from_tokens_and_seconds(script):
    bench, found = script("time_to_loss"), read("time_to_loss")
    again = bench.summary(found["opponents"], found["ours"], found["turns"])
    assert {name: found[name] for name in again} == again
    assert bench.missed(found) == []
    for mine in found["ours"]:
        (target,) = [
            o for o in found["opponents"]
            if (o["arm"], o["seed"]) == (mine["target"], mine["seed"])
        ]  # fmt: skip
        assert mine["reached"] == (mine["loss"] <= target["loss"])
    assert len({(o["masked_tokens"], o["corpus"]) for o in found["opponents"]}) == 1
    assert [entry["name"] for entry in found["log"]] == [name for name, *_ in bench.LOG]


def test_ratios_are_taken_within_a_round_and_a_target_that_was_missed_counts_for_nothing(script):
    bench = script("time_to_loss")
    opponents = [{"arm": "defaults", "seed": s, "tokens": 1000} for s in (0, 1)]
    mine = {"target": "defaults", "tokens": 100, "reached": True}
    ours = [{**mine, "seed": 0}, {**mine, "seed": 1, "reached": False}]
    turns = [{"plain": 3.0 * slow, "ours": 1.0 * slow} for slow in (1, 2, 4)]
    found = bench.summary(opponents, ours, turns)
    assert found["ratios"] == {
        "defaults": {"median": 30.0, "min": 30.0, "max": 30.0, "seeds": 1, "tokens": 10.0}
    }
    assert found["cheaper_a_token"] == {"median": 3.0, "min": 3.0, "max": 3.0}


def test_a_floor_that_is_missed_is_named_where_the_probe_prefers_bf16(script):
    bench = script("time_to_loss")
    slow = {"precision": "bf16", "ratios": {"defaults": {"median": 3.9}}}
    assert bench.missed(slow) == ["3.9 times sooner than run_mlm.py's defaults: the floor is 4.0"]
    assert bench.missed(slow | {"precision": "fp32"}) == []
    assert bench.missed({"precision": "bf16", "ratios": {}}) != []
