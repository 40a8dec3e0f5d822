"""The committed results of `benchmarks/`: whole, consistent with what was measured, floors held.

It measures nothing: no test depends on a clock. Run `make bench` to measure anew.
"""

import copy
import importlib
import json
import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent / "benchmarks"
RESULTS = FOLDER / "results"


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module


def read(name):
    if not (RESULTS / f"{name}.json").is_file():
        pytest.skip(f"not measured yet: make bench ONLY={name}")
    return json.loads((RESULTS / f"{name}.json").read_text())


@pytest.mark.parametrize("name", ["pretraining_speed", "pretraining_quality"])
def test_a_result_says_on_what_it_was_measured(name):
    found = read(name)["machine"]
    assert found["cpu"] and found["cores"] >= 1 and found["torch"] and found["transformers"]
    assert found["threads"] == 1


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*.json")), ids=lambda path: path.name)
def test_no_result_names_a_folder_of_the_machine(path):
    assert not re.search(r'"(/|[A-Z]:\\\\)|/(home|root|tmp|Users)/', path.read_text())


def test_speed_ratios_follow_from_the_turns_and_hold_the_floors(script):
    speed, found = script("pretraining_speed"), read("pretraining_speed")
    rounds = {turn["round"] for turn in found["turns"]}
    assert len(rounds) == found["rounds"] >= 3
    assert len(found["turns"]) == len(rounds) * len(speed.BATCHES) * len(speed.PATHS)
    assert {name: found[name] for name in ("tokens_per_second", "ratios")} == speed.summary(
        found["turns"]
    )
    assert speed.missed(found) == []


def test_a_missed_floor_is_named(script):
    speed, found = script("pretraining_speed"), {"precision": "bf16", "machine": {"gpu": None}}
    at_floor = {
        f"{path}.{batch}.{clock}": {"median": floor}
        for path, floors in speed.FLOORS.items()
        for batch, floor in floors.items()
        for clock in ("wall", "cpu")
    }
    assert speed.missed(found | {"ratios": at_floor}) == []
    below = copy.deepcopy(at_floor)
    below["padded.32.cpu"]["median"] = 4.99
    assert speed.missed(found | {"ratios": below}) == [
        "4.99 times padded at batch 32 (cpu clock): the floor is 5.0"
    ]
    assert speed.missed(found | {"ratios": below, "precision": "fp32"}) == []


def test_speed_ratios_are_taken_within_a_round(script):
    speed = script("pretraining_speed")
    turns = [
        {"round": number, "batch": batch, "path": path, "wall": value, "cpu": value}
        for number, slow in enumerate((1, 2, 4))  # the whole machine slows down
        for batch in speed.BATCHES
        for path, value in (("fast", 12 / slow), ("plain", 6 / slow), ("padded", 3 / slow))
    ]
    ratios = speed.summary(turns)["ratios"]
    assert ratios["plain.8.wall"] == {"median": 2, "min": 2, "max": 2}
    assert ratios["padded.32.cpu"] == {"median": 4, "min": 4, "max": 4}


def test_quality_has_two_seeds_of_three_million_tokens_and_its_verdict(script):
    quality, found = script("pretraining_quality"), read("pretraining_quality")
    assert found["complete"]
    assert sorted((f["arm"], f["seed"]) for f in found["arms"]) == sorted(quality.ORDER)
    assert {f["tokens"] >= 3e6 for f in found["arms"]} == {True}
    assert len({(f["masked_tokens"], f["corpus"]) for f in found["arms"]}) == 1  # same questions
    again = quality.verdict(found["arms"])
    assert {name: found[name] for name in again} == again
    assert found["not_worse"]


def test_quality_is_worse_only_beyond_the_spread_of_the_seeds(script):
    quality = script("pretraining_quality")

    def arms(*losses):
        return [
            {"arm": arm, "loss": loss}
            for arm, loss in zip(("fast", "fast", "plain", "plain"), losses, strict=True)
        ]

    assert quality.verdict(arms(3.10, 3.12, 3.05, 3.15))["not_worse"]
    assert not quality.verdict(arms(3.30, 3.32, 3.10, 3.15))["not_worse"]
    assert quality.verdict(arms(2.90, 2.92, 3.10, 3.15))["not_worse"]


def test_gradient_caching_holds_its_bounds_and_says_when_it_does_not(script):
    bench, found = script("gradient_cache"), read("gradient_cache")
    again = bench.summary(found["peak_bytes"], found["turns"])
    assert {name: found[name] for name in again} == pytest.approx(again)
    assert (found["pairs"], found["times"], bench.missed(found)) == (32, 32, [])
    assert found["bounds"] == bench.BOUNDS
    assert bench.missed(found | {"memory_ratio": 1.3}) == ["memory_ratio is 1.3: the bound is 1.2"]


@pytest.mark.parametrize("kind", ["text", "summary"])
def test_retrieval_reports_three_seeds_with_intervals_whoever_wins(kind):
    found = read("contrastive_retrieval")["queries"][kind]
    assert set(found) == {"TF-IDF", "BM25", "untrained", "trained", "BM25 + trained"}
    assert {name: by["seeds"] for name, by in found.items() if by["seeds"] > 1} == {
        "trained": 3, "BM25 + trained": 3,
    }  # fmt: skip
    for figures in found.values():
        for figure in ("recall@10", "MRR"):
            assert 0 < figures[figure]["low"] <= figures[figure]["estimate"] <= 1
    gain = found["trained"]["recall@10 - BM25"]["estimate"]
    means = [found[name]["recall@10"]["estimate"] for name in ("trained", "BM25")]
    assert gain == pytest.approx(means[0] - means[1], abs=2e-4)
    assert found["trained"]["recall@10"]["low"] > found["untrained"]["recall@10"]["high"]


def test_sentence_similarity_reports_before_and_after():
    found = read("sentence_similarity")["figures"]
    assert set(found) == {"TF-IDF", "before", "unsupervised SimCSE", "supervised SimCSE"}
    for name in ("unsupervised SimCSE", "supervised SimCSE"):
        mean = sum(found[name]["each"]) / found[name]["seeds"]
        assert found[name]["seeds"] == 3
        assert found[name]["spearman"]["estimate"] == pytest.approx(mean, abs=0.02)
        after = found[name]["spearman"]["estimate"] - found["before"]["spearman"]["estimate"]
        assert found[name]["gain"]["estimate"] == pytest.approx(after, abs=0.01)


def test_selection_has_ten_candidates_and_its_correlations_follow(script):
    selection, found = script("selection"), read("selection")
    assert len(found["scores"]) >= 8
    assert {len(each["accuracy"]) for each in found["scores"].values()} == {len(selection.SEEDS)}
    assert selection.correlations(found["scores"]) == found["correlations"]
    assert all(each["low"] <= each["spearman"] for each in found["correlations"].values())


def test_memory_was_predicted_within_15_percent_and_time_within_25():
    found = read("selection")
    assert len(found["memory"]) >= 6 and len(found["time"]) >= 3
    for name, each in found["memory"].items():
        assert abs(each["predicted"]["peak"] / each["measured"] - 1) < 0.15, name
    for name, each in found["time"].items():
        assert abs(each["predicted_cpu"] / each["measured_cpu"] - 1) < 0.25, name


def test_other_data_is_commands_with_parameters_alone_and_their_results(script):
    from cookbook import chapters

    bench, found = script("other_data"), read("other_data")["runs"]
    assert found.keys() == bench.RUNS.keys()
    for name, run in found.items():
        words = bench.command(name, "build")
        assert run["command"] == "cookbook " + " ".join(words)
        given = {words[i + 1].split("=")[0] for i, word in enumerate(words) if word == "-p"}
        assert given <= chapters.parameters(chapters.find(bench.RUNS[name][0])).keys()
    assert [name for name, run in found.items() if "refused" in run] == ["waimai_zh, docbert"]
    assert "cannot read this text" in found["waimai_zh, docbert"]["refused"]
    for name in ("sst2", "banking77", "waimai_zh", "another size"):
        best = max(found[name]["accuracy.full"], found[name]["accuracy.linear-probe"])
        assert best > found[name]["accuracy.majority_class"] + 0.1
    assert abs(found["cola"]["MCC.full"]) < 0.1  # no claim is made where nothing was learnt


def test_no_grid_of_rates_ends_too_early(script):
    from cookbook.finetuning.strategies import RATES

    bench, found = script("rate_edges"), read("rate_edges")["strategies"]
    assert found.keys() == RATES.keys()
    for name, row in found.items():
        assert row["grid"].keys() == {f"{rate:g}" for rate in RATES[name]}
        ((higher, beyond),) = row["above"].items()
        assert float(higher) == bench.above(RATES[name][-1])
        assert beyond["validation"] <= max(one["validation"] for one in row["grid"].values())


def test_eight_bits_by_torchao_are_as_small_and_slower_here():
    ways = read("int8")["ways"]
    plain, ours = ways["fp32"], ways["torch dynamic int8"]
    for name in ("torchao int8 weights", "torchao dynamic int8"):
        assert abs(ways[name]["bytes"] / ours["bytes"] - 1) < 0.05
        assert ways[name]["same answer"]["low"] > 0.9
        for rows, milliseconds in ways[name]["milliseconds"].items():
            assert ours["milliseconds"][rows] < plain["milliseconds"][rows] < milliseconds
