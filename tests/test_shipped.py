"""The folders that ship are found in a checkout and in a wheel, and never a stranger's."""

import pytest

from cookbook import shipped


def test_a_checkout_has_them_where_git_does():
    assert shipped.folder("notebooks") == shipped.PACKAGE.parent / "notebooks"


def test_a_wheel_has_them_inside_the_package(tmp_path, monkeypatch):
    package = tmp_path / "site-packages" / "cookbook"
    (package / "_shipped" / "notebooks").mkdir(parents=True)
    (package.parent / "notebooks").mkdir()  # a stranger's, beside the package
    monkeypatch.setattr(shipped, "PACKAGE", package)
    assert shipped.folder("notebooks") == package / "_shipped" / "notebooks"


def test_a_missing_folder_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(shipped, "PACKAGE", tmp_path)
    with pytest.raises(FileNotFoundError, match="docbert is missing"):
        shipped.folder("docbert")
    with pytest.raises(KeyError):
        shipped.folder("passwords")


def test_results_are_read_from_a_checkout_only(tmp_path, monkeypatch):
    results = tmp_path / "benchmarks" / "results"
    results.mkdir(parents=True)
    (results / "speed.json").write_text('{"ratio": 2}')
    monkeypatch.setattr(shipped, "PACKAGE", tmp_path / "cookbook")
    assert shipped.measured("speed") is None  # no pyproject.toml: somebody else's folder
    (tmp_path / "pyproject.toml").touch()
    assert shipped.measured("speed") == {"ratio": 2}
    assert shipped.measured("silence") is None
