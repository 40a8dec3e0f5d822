"""What stands beside which picture, and in which colour."""

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_hex

from cookbook import image_plots
from cookbook.canvas import BLUE, GREY, RED

matplotlib.use("Agg")
SHADES = [np.full((8, 8), shade, np.uint8) for shade in (0, 90, 180)]


def drawn(ax):
    """(centre, shade) of every picture, in the order drawn."""
    found = []
    for image in ax.images:
        left, right, bottom, top = image.get_extent()
        found.append((((left + right) / 2, (bottom + top) / 2), int(image.get_array()[0, 0])))
    return found


def test_a_contact_sheet_reads_from_left_to_right():
    ax = image_plots.contact_sheet(SHADES, ["black", "dark", "a light one, with many words"],
                                   columns=2)  # fmt: skip
    assert [shade for _, shade in drawn(ax)] == [0, 90, 180]
    places = np.array([place for place, _ in drawn(ax)])
    np.testing.assert_allclose(places, [(0, 0), (1, 0), (0, 1)])
    assert ax.texts[2].get_text() == "a light one,\nwith many words"
    assert ax.get_xlim()[0] < -0.3 and ax.get_ylim()[0] > 1.9  # all of it can be seen


def test_a_missing_caption_is_refused():
    with pytest.raises(ValueError, match="3 pictures have 1 captions"):
        image_plots.contact_sheet(SHADES, ["one"])


def test_captions_found_tell_right_from_wrong_by_colour():
    found = [["a", "b"], ["c", "d"], ["e", "f"]]
    ax = image_plots.captions_found(SHADES, found, ["b", "x", "e"])
    said = {text.get_text(): text.get_color() for text in ax.texts}
    assert said == {"1  a": GREY, "2  b": BLUE, "1  c": GREY, "2  d": GREY, "–  x": RED,
                    "1  e": BLUE, "2  f": GREY}  # fmt: skip
    heights = [text.get_position()[1] for text in ax.texts]
    assert heights == sorted(heights)  # each picture's words beside it, none over another's


def test_pictures_found_frame_the_right_one():
    given = matplotlib.pyplot.subplots()[1]
    ax = image_plots.pictures_found(["sun", "moon"], [SHADES, SHADES[::-1]], [1, -1], ax=given)
    assert ax is given
    frames = [to_hex(line.get_color()).upper() == BLUE for line in ax.lines]
    assert frames == [False, True, False, False, False, False]
    assert ax.texts[1].get_color() == RED != ax.texts[0].get_color()


def test_colours_are_drawn_as_they_are():
    red = np.zeros((4, 4, 3), np.uint8)
    red[..., 0] = 255
    ax = image_plots.contact_sheet([red], ["red"])
    assert ax.images[0].get_array().shape == (4, 4, 3)


def test_boxes_stand_where_they_were_found_and_say_whether_they_are_right():
    found = {"boxes": np.array([[0, 0, 8, 4], [4, 4, 8, 8]]), "labels": [1, 0],
             "scores": [0.913, 0.5], "right": [True, False]}  # fmt: skip
    ax = image_plots.boxes_found(SHADES[:2], [found, {"boxes": [], "labels": []}], ["one", "two"])
    frames = [line for line in ax.lines if line.get_linewidth() == 1.4]
    assert [to_hex(line.get_color()).upper() for line in frames] == [BLUE, RED]
    np.testing.assert_allclose(frames[0].get_xydata().min(0), (-0.45, -0.45))
    np.testing.assert_allclose(frames[0].get_xydata().max(0), (0.45, 0))  # the upper half
    np.testing.assert_allclose(frames[1].get_xydata().min(0), (0, 0))
    assert [text.get_text() for text in ax.texts] == ["two 91", "one 50"]


def test_true_boxes_have_no_score():
    true = {"boxes": np.array([[1, 2, 3, 4]]), "labels": np.array([2])}
    ax = image_plots.boxes_found([SHADES[0]], [true], ["a", "b", "c"])
    assert ax.texts[0].get_text() == "c"
