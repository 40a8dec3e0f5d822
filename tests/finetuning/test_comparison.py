"""The harness: order, reuse, interruption, budget, and one clear line for bad input."""

import re

import numpy as np
import pytest

from cookbook.data.errors import DataError
from cookbook.finetuning import comparison, strategies
from cookbook.finetuning.comparison import Comparison, compare
from cookbook.finetuning.results import Result

TEXTS = ["The solver computes the gradient of two tensors, and returns a copy."] * 12
PAIR = ("linear-probe", "bitfit")
RATES = {"linear-probe": (1e-9, 3e-2), "bitfit": (1e-3,)}


@pytest.fixture
def run(checkpoint, labelled, tmp_path):
    def go(names=PAIR, seeds=(0, 1), dataset=labelled, **more):
        how = {"rates": RATES, "max_steps": 2, "batch_size": 8, "measure": False, "max_length": 64}
        settings = {"folder": tmp_path / "cells", **how, **more}
        return compare(checkpoint, dataset, strategies=names, seeds=seeds, **settings)

    return go


@pytest.fixture
def calls(monkeypatch):
    """(strategy, seed, rates) of every run that is really trained."""
    seen, tune = [], comparison.fine_tune

    def spy(model, dataset, name, *, seed, learning_rate, **how):
        seen.append((name, seed, tuple(learning_rate)))
        return tune(model, dataset, name, seed=seed, learning_rate=learning_rate, **how)

    monkeypatch.setattr(comparison, "fine_tune", spy)
    return seen


def test_the_first_seed_chooses_and_the_others_follow(run, calls):
    done = run()
    assert calls == [
        ("linear-probe", 0, (1e-9, 3e-2)), ("bitfit", 0, (1e-3,)),
        ("linear-probe", 1, (3e-2,)), ("bitfit", 1, (1e-3,)),
    ]  # fmt: skip
    assert done.rates == {"linear-probe": 3e-2, "bitfit": 1e-3}
    assert [(r.name, r.seed) for r in done.results] == [
        ("linear-probe", 0), ("linear-probe", 1), ("bitfit", 0), ("bitfit", 1),
    ]  # fmt: skip
    assert done.right("bitfit").shape == (2, 21) and done.missing == 0


def test_finished_cells_are_read_and_only_where_everything_agrees(run, calls):
    first = run()
    calls.clear()
    again = run()
    assert calls == [] and again.reused == 4
    for one, other in zip(first.results, again.results, strict=True):
        assert np.array_equal(one.predictions, other.predictions)
    run(names=["linear-probe"], seeds=(0, 1, 2))
    assert [call[:2] for call in calls] == [("linear-probe", 2)]
    calls.clear()
    run(max_steps=3, names=["linear-probe"], seeds=[0])
    assert len(calls) == 1
    calls.clear()
    run(rates={**RATES, "linear-probe": (3e-2,)}, seeds=[0])
    assert [call[0] for call in calls] == ["linear-probe"]


def test_other_data_is_another_comparison(run, calls, labelled):
    run(names=["linear-probe"], seeds=[0])
    turned = labelled.map(lambda row: {"label": (row["label"] + 1) % 3})
    run(names=["linear-probe"], seeds=[0], dataset=turned)
    assert len(calls) == 2


def test_an_interrupt_keeps_what_is_finished_and_a_second_call_goes_on(run, monkeypatch, capsys):
    tune = comparison.fine_tune

    def interrupted(model, dataset, name, **how):
        if name == "bitfit":
            raise KeyboardInterrupt
        return tune(model, dataset, name, **how)

    monkeypatch.setattr(comparison, "fine_tune", interrupted)
    done = run()
    assert [r.name for r in done.results] == ["linear-probe"] and done.missing == 3
    assert "interrupted; 1 finished runs are kept" in capsys.readouterr().out
    monkeypatch.setattr(comparison, "fine_tune", tune)
    done = run()
    assert (len(done.results), done.reused, done.missing) == (4, 1, 0)


def test_after_the_budget_no_run_is_started(run, calls, monkeypatch, capsys):
    clock = iter(range(0, 10_000, 100))  # a hundred seconds between two looks
    monkeypatch.setattr(comparison.time, "monotonic", lambda: next(clock))
    done = run(budget=3)
    assert [call[:2] for call in calls] == [("linear-probe", 0)]
    assert done.missing == 3
    assert "3 runs are still to do" in capsys.readouterr().out


def test_what_an_architecture_has_no_place_for_is_skipped_with_its_reason(run, monkeypatch, capsys):
    def impossible(job):
        raise ValueError("no such layers\nand more")

    monkeypatch.setitem(strategies.STRATEGIES, "bitfit", impossible)
    done = run()
    assert done.skipped == {"bitfit": "no such layers"} and done.missing == 0
    assert "skipped bitfit: no such layers" in capsys.readouterr().out


def test_costs_and_memory_of_the_pretraining_stand_in_the_table(run):
    done = run(seeds=(0,), measure=True, pretraining_texts=TEXTS)
    table = done.table()
    assert 0 <= done.remembered < 1
    assert table.loc["linear-probe", "forgets"] == 0
    assert (table["peak MB"] > 0).all() and (table["disk MB"] > 0).all()


def scripted(name, seed, right, seconds, tried):
    labels = np.zeros(10, dtype=int)
    scores = {"accuracy": right / 10, "f1": right / 20, "mcc": 0.0}
    answers = np.repeat([0, 1], [right, 10 - right])
    return Result(name, seed, 1e-3, scores, scores, answers, labels, seconds, 100, 7,
                  rates_tried=tried, size=2_000_000, peak=3_000_000, remembers=0.25)  # fmt: skip


def test_the_table_by_hand():
    results = [
        scripted("a", 0, 6, 30.0, 3),
        scripted("a", 1, 8, 12.0, 1),
        scripted("b", 0, 9, 4, 2),
    ]
    table = Comparison(results, remembered=0.5).table()
    assert list(table.index) == ["b", "a"]
    row = table.loc["a"]
    assert (row["accuracy"], row["macro F1"]) == pytest.approx((0.7, 0.35))
    assert (row["seconds"], row["trainable"], row["seeds"]) == (12.0, 7, 2)
    assert (row["disk MB"], row["peak MB"], row["forgets"]) == (2.0, 3.0, 25.0)
    assert table.loc["b", "seconds"] == 2.0  # one seed: what a rate took on average


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"names": ["magic"]}, "unknown strategy 'magic': choose one of full"),
        ({"seeds": ()}, "seeds is empty: give at least one"),
        ({"budget": 0}, "budget is 0 minutes: give a positive number, or None"),
        ({"epoch": 3}, "unknown setting 'epoch': choose from epochs, max_steps"),
    ],
)
def test_bad_input_is_one_clear_line(run, calls, given, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        run(**given)
    assert calls == []


def test_text_in_another_alphabet_is_refused_before_anything_is_trained(run, calls, labelled):
    with pytest.raises(DataError, match="cannot read this text"):
        run(
            dataset=labelled.map(
                lambda row, i: {"text": "味道不错" * (i % 5 + 1)}, with_indices=True
            )
        )
    assert calls == []


def test_one_bar_is_shown_and_the_level_of_logging_comes_back(run, capsys):
    from transformers.utils import logging

    level = logging.get_verbosity()
    run(names=["bitfit"], seeds=[0])
    shown = capsys.readouterr().err
    assert "comparing" in shown and "training" not in shown
    assert logging.get_verbosity() == level
