"""Where am I: the profile, the output folder, what is recorded, the claims."""

import errno
import html
import json
import math
import random
import re

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from cookbook import session


@pytest.fixture(autouse=True)
def no_profile_from_outside(monkeypatch):
    monkeypatch.delenv("COOKBOOK_PROFILE", raising=False)


@pytest.fixture
def start(tmp_path):
    def start(profile="smoke", **given):
        return session.start("07_test", profile=profile, **{"output_dir": str(tmp_path)} | given)

    return start


def results(run):
    return json.loads((run.output_dir / "results.json").read_text())


def test_the_environment_overrides_the_profile(monkeypatch, start):
    monkeypatch.setenv("COOKBOOK_PROFILE", "smoke")
    assert start("laptop").profile == "smoke"
    monkeypatch.setenv("COOKBOOK_PROFILE", "")
    assert start("laptop").profile == "laptop"


def test_an_unknown_profile_is_named_wherever_it_comes_from(monkeypatch, start):
    message = "unknown profile 'desktop': choose one of smoke, laptop, gpu"
    with pytest.raises(ValueError, match=f"^{message}$"):
        start("desktop")
    monkeypatch.setenv("COOKBOOK_PROFILE", "desktop")
    with pytest.raises(ValueError, match=f"^{message}$"):
        start("laptop")


@pytest.mark.parametrize("profile, without, given", [
    ("smoke", 1, 1), ("laptop", 2, 2), ("gpu", 2, 3),
])  # fmt: skip
def test_pick_takes_the_value_of_the_profile(start, profile, without, given):
    run = start(profile)
    assert run.pick(smoke=1, laptop=2) == without
    assert run.pick(smoke=1, laptop=2, gpu=3) == given


def test_pick_takes_a_false_value_for_gpu_as_given(start):
    assert start("gpu").pick(smoke=1, laptop=2, gpu=0) == 0


def test_the_same_seed_gives_the_same_numbers(start):
    def draw(seed):
        start(seed=seed)
        return random.random(), np.random.rand(), torch.rand(1).item()

    assert draw(3) == draw(3)
    assert not set(draw(3)) & set(draw(4))


def test_the_probe_that_laptop_runs_does_not_change_what_is_drawn(start):
    def draw(profile):
        start(profile, seed=5)
        return random.random(), np.random.rand(), torch.rand(1).item()

    assert draw("smoke") == draw("laptop")


def test_fastest_precision_leaves_every_random_state():
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    assert session.fastest_precision("cpu", seconds=0.0) in ("fp32", "bf16")
    after = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    assert before[:2] == after[:2]
    assert torch.equal(before[2], after[2])


@pytest.mark.parametrize("seconds, fastest", [
    ({False: 1.0, True: 0.95}, "fp32"),  # within a tenth, the precise one
    ({False: 1.0, True: 0.85}, "bf16"),
    ({False: 1.0, True: 4.0}, "fp32"),
])  # fmt: skip
def test_bf16_is_taken_where_it_is_a_tenth_faster(monkeypatch, seconds, fastest):
    monkeypatch.setattr(session, "_time_once", lambda block, x, half: seconds[half])
    assert session.fastest_precision("cpu", seconds=0.0) == fastest


def test_smoke_computes_in_fp32_everywhere(monkeypatch, start):
    monkeypatch.setattr(session, "fastest_precision", lambda device: "bf16")
    assert start("smoke").precision == "fp32"
    assert start("laptop").precision == "bf16"


def test_record_writes_flat_names_and_numbers_at_once(start):
    run = start()
    run.record(rows=np.int64(3), loss=torch.tensor(0.5))
    run.record(better=True, rows=4)
    assert results(run) == {"rows": 4.0, "loss": 0.5, "better": 1.0}
    assert [path.name for path in run.output_dir.iterdir()] == ["results.json"]


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_none_is_refused_and_nothing_of_its_call_kept(start, number):
    run = start()
    run.record(good=1)
    with pytest.raises(ValueError, match="^loss is -?(nan|inf): only finite numbers are recorded$"):
        run.record(other=2, loss=number)
    assert results(run) == run.results == {"good": 1.0}


def fill_the_disk(monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(session.os, "replace", full)


def test_a_full_disk_leaves_the_old_results_and_no_scraps(monkeypatch, start):
    run = start()
    run.record(good=1)
    fill_the_disk(monkeypatch)
    with pytest.raises(
        session.OutputError, match=r"^cannot write results\.json: No space left on device$"
    ):
        run.record(more=2)
    assert [path.name for path in run.output_dir.iterdir()] == ["results.json"]
    assert results(run) == {"good": 1.0}


def test_save_takes_axes_or_a_figure_and_returns_it(start):
    run = start()
    figure, axes = plt.subplots()
    assert run.save(axes, "by_axes") is axes
    assert run.save(figure, "by_figure") is figure
    plt.close(figure)
    for name in ("by_axes.png", "by_figure.png"):
        assert (run.output_dir / name).read_bytes().startswith(b"\x89PNG")


def test_a_full_disk_leaves_no_half_of_a_figure(monkeypatch, start):
    run = start()
    figure, axes = plt.subplots()
    fill_the_disk(monkeypatch)
    with pytest.raises(session.OutputError, match=r"^cannot write curve\.png: No space left"):
        run.save(axes, "curve")
    plt.close(figure)
    assert list(run.output_dir.iterdir()) == []


DEFAULTS = {"dataset": "docstrings", "model": "docbert"}


@pytest.mark.parametrize("profile, dataset, holds, verdict, recorded", [
    ("laptop", "docstrings", True, "held", {"claim.wins.tested": 1, "claim.wins.held": 1}),
    ("laptop", "mine.csv", False, "did not hold", {"claim.wins.tested": 1, "claim.wins.held": 0}),
    ("laptop", "mine.csv", np.True_, "held", {"claim.wins.tested": 1, "claim.wins.held": 1}),
    ("smoke", "docstrings", False, "not tested (smoke)", {"claim.wins.tested": 0}),
])  # fmt: skip
def test_a_claim_is_reported(start, capsys, profile, dataset, holds, verdict, recorded):
    run = start(profile, dataset=dataset, model="docbert", defaults=DEFAULTS)
    assert run.expect("wins", holds) == verdict
    assert capsys.readouterr().out.splitlines()[-1] == f"claim: wins: {verdict}"
    assert results(run) == recorded


def test_a_claim_that_was_promised_must_hold_and_is_recorded_before_it_fails(start):
    run = start("laptop", defaults=DEFAULTS, **DEFAULTS)
    with pytest.raises(AssertionError, match="^claim did not hold: wins$"):
        run.expect("wins", False)
    assert results(run) == {"claim.wins.tested": 1, "claim.wins.held": 0}


def test_another_model_is_not_the_one_that_was_promised(start):
    run = start("laptop", defaults=DEFAULTS, dataset="docstrings", model="other")
    assert run.expect("wins", False) == "did not hold"


def test_the_output_folder_is_made_below_build_where_none_is_named(monkeypatch, tmp_path, start):
    monkeypatch.chdir(tmp_path)
    assert start(output_dir="").output_dir.resolve() == tmp_path / "build" / "07_test"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert start(output_dir="~/deep/er").output_dir == tmp_path / "deep" / "er"
    assert (tmp_path / "deep" / "er").is_dir()


@pytest.mark.parametrize("below", ["", "/deeper"])
def test_an_output_folder_that_is_or_lies_below_a_file(tmp_path, start, below):
    path = tmp_path / "taken"
    path.write_text("a file")
    with pytest.raises(session.OutputError) as caught:
        start(output_dir=f"{path}{below}")
    expected = f"output_dir '{path}{below}' is, or lies below, a file: name a folder"
    assert str(caught.value) == expected
    assert path.read_text() == "a file"


def test_an_output_folder_that_cannot_be_written(monkeypatch, tmp_path, start):
    # Simulated, because root may write everywhere.
    def read_only(*_):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(session.Path, "touch", read_only)
    with pytest.raises(session.OutputError) as caught:
        start()
    expected = f"output_dir '{tmp_path}' cannot be written (Read-only file system): name another"
    assert str(caught.value) == expected


def test_show_returns_the_source_even_of_a_decorated_function():
    shown = session.show(torch.no_grad()(session.fastest_precision))
    assert "def fastest_precision(" in shown.data
    assert repr(shown) == shown.data
    assert "class Session" in session.show(session.Session).data


def test_shown_source_is_whole_in_a_fixed_width_and_brings_only_the_colours_it_uses():
    shown = session.show(session.show)
    page = shown._repr_html_()
    style, body = page.split("</style>")
    assert html.unescape(re.sub("<[^>]+>", "", body)).strip() == shown.data.strip()
    assert "monospace" in body
    coloured = set(re.findall(r'class="(\w+)"', body)) - {"source"}
    assert coloured and coloured == set(re.findall(r"\.source \.(\w+) ", style))
