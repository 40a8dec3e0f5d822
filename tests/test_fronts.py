"""The front by hand and by brute force; every point is named, and no name covers another."""

import matplotlib.pyplot as plt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.text import Text

from cookbook.fronts import front, pareto


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def test_a_case_by_hand():
    points = {"dear": (9, 0.9), "cheap": (1, 0.5), "beaten": (9.5, 0.9), "bad": (2, 0.5)}
    assert front(points) == ["cheap", "dear"]


@given(st.dictionaries(st.text("abc", min_size=1), st.tuples(*[st.integers(1, 6)] * 2), min_size=1))
def test_nothing_beats_what_is_on_it_and_something_beats_the_rest(points):
    kept = front(points)
    for cost, quality in points.values():
        better = [
            other
            for other, (c, q) in points.items()
            if c <= cost and q >= quality and (c, q) != (cost, quality)
        ]
        twins = [other for other in kept if points[other] == (cost, quality)]
        assert (len(twins) == 1) is not bool(better)


def test_every_point_is_named_and_no_name_covers_another():
    points = {f"strategy-{i}": (10 ** (4 + i % 3), 0.7 + i / 1e3, 0.65, 0.75) for i in range(17)}
    ax = pareto(points, x_label="weights")
    ax.figure.draw_without_rendering()
    boxes = [Text.get_window_extent(text) for text in ax.texts]  # without its arrow
    assert sorted(text.get_text() for text in ax.texts) == sorted(points)
    crossing = [(a, b) for i, a in enumerate(boxes) for b in boxes[:i] if a.overlaps(b)]
    assert crossing == []
