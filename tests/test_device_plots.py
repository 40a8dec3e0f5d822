import matplotlib.pyplot as plt
import pytest

from cookbook import device_plots


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


def test_a_curve_for_each_kind_over_doubling_devices():
    curves = {"slow": [(1, 8.0), (2, 5.0), (512, 3.0)], "fast": [(1, 8.0), (2, 4.0), (512, 0.1)]}
    ax = device_plots.by_devices(curves, reference={"80 GB": 2.0}, y_label="hours")
    assert [line.get_label() for line in ax.lines[1:]] == ["slow", "fast"]
    assert ax.lines[2].get_xydata().tolist() == [list(map(float, p)) for p in curves["fast"]]
    assert [tick for tick in ax.get_xticks() if tick <= 512] == [1, 2, 512]
    assert (ax.get_xscale(), ax.get_yscale(), ax.get_ylabel()) == ("log", "log", "hours")
    assert ax.texts[0].get_text() == "80 GB"


def test_values_may_be_linear_and_axes_given():
    _, given = plt.subplots()
    ax = device_plots.by_devices({"a": [(1, 1.0), (2, 0.5)]}, log=False, ax=given)
    assert ax is given and ax.get_yscale() == "linear"


def test_a_restart_is_a_fall():
    ax = device_plots.restarts({"one": [1, 2, 1, 2], "none": [1, 2]}, title="a fall")
    first, second = (line.get_xydata().tolist() for line in ax.lines)
    assert first == [[1, 1], [2, 2], [3, 1], [4, 2]]
    assert [x for x, _ in second] == [1, 2] and second[0][1] > 1  # beside, not upon the other
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["one", "none"]


def test_every_slot_is_a_box_on_its_stage():
    slots = [(0, 0, False, 0.0, 1.0), (1, 0, False, 1.0, 2.0), (1, 0, True, 2.0, 4.0)]
    ax = device_plots.belt(slots, title="two stages")
    boxes = [(b.get_x(), b.get_width(), round(b.get_y() + b.get_height() / 2)) for b in ax.patches]
    assert boxes == [(0.0, 1.0, 0), (1.0, 1.0, 1), (2.0, 2.0, 1)]
    assert [text.get_text() for text in ax.texts] == ["1", "1", "1"]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["rank 0", "rank 1"]
