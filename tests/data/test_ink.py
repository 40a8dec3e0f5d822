"""Ink on another ground: nothing is lost, nothing squeezed, and it stands where it should."""

import numpy as np
import pytest
from PIL import Image

from cookbook.data import glyphs, ink


def page(top, bottom, left, right):
    """Black ink in a window of a white page."""
    pixels = np.full((32, 32), 255, np.uint8)
    pixels[top:bottom, left:right] = 0
    return Image.fromarray(pixels)


@pytest.mark.parametrize("place", [(0, 8), (20, 28)])
def test_where_the_ink_stood_does_not_matter(place):
    found = ink.cut_out(page(*place, 4, 12), 8)
    assert (found == 255).all()


@pytest.mark.parametrize(
    ("window", "filled"),
    [((4, 20, 9, 17), (slice(None), slice(2, 6))), ((4, 12, 9, 25), (slice(2, 6), slice(None)))],
)
def test_the_shape_is_kept_and_stands_in_the_middle(window, filled):
    expected = np.zeros((8, 8), np.uint8)
    expected[filled] = 255
    assert np.array_equal(ink.cut_out(page(*window), 8), expected)


def test_a_blank_page_has_no_ink():
    assert not ink.cut_out(page(0, 0, 0, 0), 8).any()


def test_on_paper_a_digit_is_dark_and_stands_on_the_baseline():
    pixels = np.zeros((8, 8), np.uint8)
    pixels[:, 3:5] = 255
    found = np.asarray(ink.on_paper(Image.fromarray(pixels)))
    rows = np.flatnonzero((found < 128).any(1))
    columns = np.flatnonzero((found < 128).any(0))
    assert found.shape == (glyphs.SIDE, glyphs.SIDE)
    assert rows[-1] + 1 == glyphs.BASELINE and len(rows) == ink.TALL
    assert abs(columns.mean() - 15.5) <= 1 and found[0].min() == 255


def test_there_and_back_a_bar_is_a_bar():
    pixels = np.zeros((8, 8), np.uint8)
    pixels[:, 2:6] = 255
    back = ink.cut_out(ink.on_paper(Image.fromarray(pixels)), 8)
    assert (back[:, 2:5] > 240).all() and not back[:, [0, 6, 7]].any()
