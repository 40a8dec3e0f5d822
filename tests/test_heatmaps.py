"""Small heat maps show the matrices they were given, on one scale, and survive odd numbers."""

import subprocess
import sys
import warnings

import matplotlib
import numpy as np
import pytest

from cookbook import heatmaps

matplotlib.use("Agg")
MATRICES = {f"head {n}": np.full((3, 4), n / 5) for n in range(5)}


@pytest.fixture(autouse=True)
def drawn_without_a_warning():
    import matplotlib.pyplot as plt

    plt.close("all")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield
        for number in plt.get_fignums():
            plt.figure(number).draw_without_rendering()
    plt.close("all")


def test_every_matrix_has_its_map_and_its_name():
    axes = heatmaps.panels(MATRICES, columns=3, title="five heads", bar="weight")
    assert [ax.get_title("left") for ax in axes] == list(MATRICES)
    for ax, matrix in zip(axes, MATRICES.values(), strict=True):
        assert np.array_equal(ax.images[0].get_array(), matrix)
    left = axes[0].figure.axes
    assert len(left) == 6  # five maps and the colour scale; the sixth place is empty
    assert axes[0].figure.get_suptitle() == "five heads"


def test_all_maps_share_one_scale():
    axes = heatmaps.panels(MATRICES, limits=(-1, 2))
    assert {ax.images[0].get_clim() for ax in axes} == {(-1, 2)}


@pytest.mark.parametrize("count", [0, 1, 4, 7])
def test_any_number_of_maps(count):
    matrices = {str(n): [[0.0, 1.0]] for n in range(count)}
    assert len(heatmaps.panels(matrices, columns=4, x_label="key", bar="weight")) == count


def test_draws_on_given_axes():
    import matplotlib.pyplot as plt

    _, given = plt.subplots(1, 2)
    assert heatmaps.panels({"a": [[0]], "b": [[1]]}, axes=given) == list(given)
    with pytest.raises(ValueError):
        heatmaps.panels({"a": [[0]]}, axes=given)


def test_the_style_does_not_leak():
    before = dict(matplotlib.rcParams)
    heatmaps.panels(MATRICES)
    assert dict(matplotlib.rcParams) == before


def test_importing_needs_no_matplotlib():
    program = "import sys, cookbook.heatmaps; print('matplotlib' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert run.stdout.strip() == "False"
