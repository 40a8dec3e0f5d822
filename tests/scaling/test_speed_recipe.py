"""Recipes: two networks of one size, clocks that stand still while it is measured, an early end."""

import numpy as np
import pytest

from cookbook.scaling import speed_recipe
from cookbook.scaling.speed_recipe import Point, Recipe, follow, halved, network, reached
from cookbook.training.pretraining import masked_lm_rows

PLAIN = {"precision": "fp32", "batch_size": 4}


@pytest.fixture(scope="module")
def rows(tokenizer, sentences):
    return masked_lm_rows(sentences, tokenizer, 32)


def count(model):
    return sum(p.numel() for p in model.parameters())


def test_both_networks_have_about_as_many_weights(tokenizer):
    made = [network(Recipe(network=kind), tokenizer, "mini") for kind in ("bert", "modern")]
    assert count(made[1]) == pytest.approx(count(made[0]), rel=0.07)


@pytest.mark.parametrize("change", [{}, {"network": "bert", "optimizer": "AdamW"}, {"short": 0.5},
                                    {"masked_only": False}])  # fmt: skip
def test_a_recipe_learns(tokenizer, rows, change):
    recipe = Recipe(**PLAIN | {"rate": 5e-3} | change)
    _, points = follow(recipe, tokenizer, rows, rows, tokens=30 * 128, size="tiny",
                       measure_every=15)  # fmt: skip
    assert [point.tokens for point in points] == [15 * 128, 30 * 128]
    assert points[1].loss < np.log(len(tokenizer)) - 0.5
    assert points[1].cpu > points[0].cpu > 0


def test_it_stops_where_it_was_told_to(tokenizer, rows):
    _, points = follow(Recipe(**PLAIN), tokenizer, rows, rows, tokens=30 * 128, size="tiny",
                       measure_every=1, stop_at=99.0)  # fmt: skip
    assert len(points) == 1 and points[0].tokens == 128


def test_what_is_measured_is_not_on_the_clock(monkeypatch):
    now = iter(range(0, 1000, 10))
    tick = lambda: float(next(now))  # noqa: E731
    monkeypatch.setattr(speed_recipe.time, "process_time", tick)
    monkeypatch.setattr(speed_recipe.time, "perf_counter", lambda: 0.0)
    clock = speed_recipe._Clock()  # at 0
    clock.pause()  # at 10
    clock.go()  # at 20: the ten between do not count
    clock.pause()  # at 30
    assert clock.read == (20.0, 0.0)


def test_half_rows_hold_the_same_tokens(rows):
    assert halved(rows).tokens == rows.tokens and len(halved(rows)) == 2 * len(rows)


def test_a_loss_that_was_never_reached_is_none():
    assert reached([Point(1, 1.0, 1.0, 5.0)], 4.0) is None
