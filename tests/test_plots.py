"""Figures show the numbers they were given, survive odd input, and need nothing but numpy first."""

import subprocess
import sys
import warnings
from types import SimpleNamespace

import matplotlib
import numpy as np
import pytest

from cookbook import plots

matplotlib.use("Agg")


@pytest.fixture(autouse=True)
def drawn_without_a_warning():
    import matplotlib.pyplot as plt

    plt.close("all")  # the doctests' figures
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield
        for number in plt.get_fignums():
            plt.figure(
                number
            ).draw_without_rendering()  # layout happens here, and so do its warnings
    plt.close("all")


def texts(ax):
    return [text.get_text() for text in ax.texts]


LEDGER = SimpleNamespace(
    steps=[
        ("normalise", 100, 100, {}),
        ("filter", 100, 88, {"too short": 10, "symbols": 2, "unused": 0}),
        ("near duplicates", 88, 60, {"near duplicate": 28}),
    ]
)

EVERY = {
    "loss_curves": ({"a": [(0, 3.0), (10, 2.0)], "b": [(0, 3.0)]},),
    "schedule_curves": ({"linear": [1.0, 0.5, 0.0]},),
    "ledger_waterfall": (LEDGER,),
    "class_balance": ({"ham": 10, "spam": 2},),
    "intervals": ({"full": (0.8, 0.7, 0.9)},),
    "bars": ({"a": -1.0, "b": 2.0},),
    "lengths": ([1, 2, 500],),
    "confusion": ([[3, 1], [0, 0]], ["x", "y"]),
    "heatmap": ([[0.1, 0.9]], ["q"], ["a", "b"]),
}


@pytest.mark.parametrize("name", EVERY)
def test_draws_on_given_axes_and_titles_them(name):
    import matplotlib.pyplot as plt

    ax = plt.subplots(layout="constrained")[1]
    assert getattr(plots, name)(*EVERY[name], ax=ax, title="A title") is ax
    assert ax.get_title(loc="left") + ax.get_title() == "A title"
    assert getattr(plots, name)(*EVERY[name]) is not ax


def test_loss_curves_show_the_points_and_name_the_ends():
    ax = plots.loss_curves({"fast": [(0, 9.0), (5, 4.0)], "slow": [(0, 9.0), (5, 6.0)]})
    assert [line.get_xydata().tolist() for line in ax.lines] == [
        [[0, 9], [5, 4]],
        [[0, 9], [5, 6]],
    ]
    assert texts(ax) == ["fast", "slow"]
    assert [text.get_color() for text in ax.texts] == [line.get_color() for line in ax.lines]


def test_a_run_that_broke_is_named_where_it_broke():
    broken = [(0, 2.0), (1, 5.0), (2, float("nan")), (3, float("nan"))]
    ax = plots.loss_curves({"broken": broken, "fine": [(0, 2.0), (3, 1.0)]})
    assert {text.get_text(): text.xy[1] for text in ax.texts} == {"broken": 5.0, "fine": 1.0}


def test_smoothing_is_a_running_mean_and_keeps_the_raw_line():
    raw, smooth = plots.loss_curves({"a": list(enumerate([4.0, 2, 6, 4]))}, smooth=2).lines
    assert raw.get_ydata().tolist() == [4, 2, 6, 4]
    assert smooth.get_xydata().tolist() == [[1, 3], [2, 4], [3, 5]]


def test_names_that_would_overlap_are_pushed_apart():
    ax = plots.loss_curves({name: [(0, 9.0), (1, 4.0)] for name in "abcd"}, reference={"ln V": 9})
    heights = sorted(text.xy[1] for text in ax.texts)
    low, high = ax.get_ylim()
    assert min(np.diff(heights)) >= 0.0649 * (high - low)


def test_waterfall_accounts_for_every_row():
    ax = plots.ledger_waterfall(LEDGER)
    widths = [bar.get_width() for bar in ax.patches]
    assert widths == [100, 10, 2, 28, 60]  # rows in = dropped + kept, and no bar for 0 rows
    assert widths[0] == sum(widths[1:])
    assert [bar.get_x() for bar in ax.patches] == [0, 90, 88, 60, 0]
    assert texts(ax) == ["100", "−10  10.0%", "−2  2.0%", "−28  28.0%", "60  60.0%"]


def test_class_balance_ranks_and_shortens():
    ax = plots.class_balance({"few": 1, "many": 9})
    assert [label.get_text() for label in ax.get_yticklabels()] == ["many", "few"]
    assert texts(ax) == ["9  90.0%", "1  10.0%", "even"]
    ax = plots.class_balance({f"c{i}": i for i in range(77)})
    names = [label.get_text() for label in ax.get_yticklabels()]
    assert (names[0], names[12], names[-1], len(names)) == ("c76", "… 60 more classes", "c0", 18)


def test_intervals_and_bars_show_their_numbers():
    ax = plots.intervals({"full": (0.8, 0.75, 0.9)}, reference=0.2, reference_label="majority")
    assert ax.lines[0].get_xdata().tolist() == [0.75, 0.9]
    assert texts(ax) == ["0.800  [0.750, 0.900]", "majority"]
    assert ax.get_xlim()[0] < 0.2
    ax = plots.bars({"down": -2.0, "up": 1234.0})
    assert [bar.get_width() for bar in ax.patches] == [-2, 1234]
    assert texts(ax)[0] == "-2"


def test_lengths_count_every_row_and_what_the_limit_cuts():
    sizes = [5] * 60 + [100] * 39 + [9000]
    ax = plots.lengths(sizes, limit=64)
    assert sum(bar.get_height() for bar in ax.patches) == 100
    assert texts(ax) == ["limit 64: 40.0% of rows are longer"]
    assert "longest 9,000" in ax.get_xlabel()
    assert ax.get_xlim()[1] < 1000


def test_confusion_shows_shares_of_the_true_class():
    ax = plots.confusion([[3, 1], [0, 0]], ["x", "y"])
    assert texts(ax) == ["75%", "25%", "0%", "0%"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("predicted", "true")


def test_a_large_matrix_stays_readable():
    names = [f"class {i}" for i in range(77)]
    ax = plots.heatmap(np.eye(77), names, names)
    assert not ax.texts
    assert len(ax.get_yticklabels()) <= 26


def test_wrong_number_of_names_is_refused():
    with pytest.raises(ValueError, match=r"matrix \(1, 2\) needs as many .* found \(1, 1\)"):
        plots.heatmap([[0.1, 0.2]], ["a"], ["b"])


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("loss_curves", ({},)),
        ("loss_curves", ({"empty": [], "broke": [(0, 1.0), (1, float("nan"))]},)),
        ("ledger_waterfall", (SimpleNamespace(steps=[]),)),
        ("ledger_waterfall", (SimpleNamespace(steps=[("a", 2, 0, {"all": 2})]),)),
        ("class_balance", ({},)),
        ("class_balance", ({"only": 0},)),
        ("intervals", ({},)),
        ("intervals", ({"sure": (1.0, 1.0, 1.0)},)),
        ("bars", ({},)),
        ("lengths", ([],)),
        ("lengths", ([0, 0],)),
        ("heatmap", ([[1.0]], ["a"], ["b"])),
    ],
)
def test_odd_input_still_draws(name, arguments):
    assert getattr(plots, name)(*arguments) is not None


def test_import_is_light_and_free_of_wings():
    code = (
        "import sys, cookbook.plots;"
        "bad = [m for m in sys.modules if m in ('matplotlib', 'torch') or m.startswith("
        "('cookbook.data', 'cookbook.training', 'cookbook.models', 'cookbook.evaluation'))];"
        "sys.exit(str(bad) if bad else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
