"""A wheel needs no checkout: built, installed into an empty environment, it runs a chapter."""

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.notebook


def done(*command, **options):
    """The output of a command that must succeed."""
    process = subprocess.run(
        [str(word) for word in command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **options,
    )
    assert process.returncode == 0, process.stdout[-4000:]
    return process.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built from a copy: a build leaves its scraps in the tree."""
    place = tmp_path_factory.mktemp("wheel")
    left_out = shutil.ignore_patterns(".*", "build", "tests", "benchmarks", "*.egg-info")
    shutil.copytree(ROOT, place / "tree", ignore=left_out)
    pip = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index"]
    done(*pip, "-w", place, place / "tree")
    (built,) = place.glob("cookbook-*.whl")
    return built


@pytest.fixture(scope="module")
def environment(wheel, tmp_path_factory):
    """An environment with the dependencies, but without this checkout, and the wheel in it."""
    folder = tmp_path_factory.mktemp("environment")
    done(sys.executable, "-m", "venv", "--without-pip", folder)
    (site,) = folder.glob("lib/python*/site-packages")
    # A plain path: the .pth files in there, the editable install among them, are not read.
    (site / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"])
    pip = [sys.executable, "-m", "pip", "--python", folder / "bin" / "python", "install"]
    done(*pip, "--no-deps", "--no-index", "--force-reinstall", wheel)
    return folder


def test_the_wheel_carries_the_checkpoint_and_the_notebooks(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    shipped = [name for name in names if name.startswith("cookbook/_shipped/")]
    assert "cookbook/_shipped/docbert/model.safetensors" in shipped
    for path in (ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"):
        assert f"cookbook/_shipped/notebooks/{path.name}" in shipped
    assert not [name for name in names if name.startswith(("tests", "benchmarks", "data/"))]
    assert not [name for name in shipped if name.endswith(".py")]


def test_a_chapter_runs_from_the_wheel_alone(environment, tmp_path):
    kept = {k: v for k, v in os.environ.items() if k not in ("MPLBACKEND", "PYTHONPATH")}
    # nbconvert looks for its templates in the environment, which has only what the wheel brought.
    kept |= {"JUPYTER_PATH": str(Path(sys.prefix) / "share" / "jupyter"), "OMP_NUM_THREADS": "1"}
    where = [environment / "bin" / "python", "-c", "import cookbook; print(cookbook.__file__)"]
    assert done(*where, cwd=tmp_path, env=kept).startswith(str(environment))
    command = [environment / "bin" / "cookbook", "run", "00", "--profile", "smoke", "-o", "out"]
    done(*command, cwd=tmp_path, env=kept)
    assert (tmp_path / "out" / "00_quickstart.ipynb").is_file()
    assert (tmp_path / "out" / "00_quickstart.html").is_file()
    assert (tmp_path / "out" / "results.json").is_file()
