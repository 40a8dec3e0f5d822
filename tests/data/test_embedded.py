"""What is harvested is cached whole, once, under a name that its versions decide."""

import subprocess
import sys
from collections import Counter
from textwrap import dedent

import numpy as np
import pytest

from cookbook.data import embedded, splits
from cookbook.data.errors import DataError


def write_packages(root, *, say="Says"):
    """Two small libraries of thirty modules each, which fill every split."""
    for library in ("torch", "scipy"):
        for i in range(30):
            path = root / library / f"part{i}" / "__init__.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            body = " ".join(f"{library} module {i} clause {j} of many" for j in range(12))
            path.write_text(
                f'def f{i}(x):\n    """{say} what {library} {i} does.\n\n    {body}."""\n'
            )
    return root


@pytest.fixture
def packages(tmp_path, monkeypatch):
    """A corpus of two small libraries, one that is not installed, and an empty cache."""
    root = write_packages(tmp_path / "installed")
    roots = [("scipy", root / "scipy"), ("sympy", root / "sympy"), ("torch", root / "torch")]
    monkeypatch.setattr(embedded, "_roots", lambda: roots)
    monkeypatch.setenv("COOKBOOK_CACHE_DIR", str(tmp_path / "cache"))
    return root


def no_second_harvest(monkeypatch):
    def again(files):
        raise AssertionError("harvested a second time")

    monkeypatch.setattr(embedded, "_harvest", again)


def test_an_unknown_name():
    with pytest.raises(DataError) as caught:
        embedded.build("docstring")
    assert str(caught.value) == (
        "'docstring' is not an embedded data set: choose one of "
        "digits, docstring-mentions, docstring-pairs, docstring-qa, docstring-summaries, "
        "docstring-topics, docstrings, glyphs, locale-names"
    )


def test_every_docstring_is_harvested_once_with_where_it_stands(packages):
    built = embedded.build("docstrings")
    rows = [row for part in built.values() for row in part.to_list()]
    assert len(rows) == 60
    row = next(row for row in rows if row["module"] == "torch.part7")
    assert list(row) == ["text", "library", "module", "name", "signature"]
    assert (row["library"], row["name"], row["signature"]) == ("torch", "f7", "(x)")
    assert row["text"].startswith("Says what torch 7 does.\n\ntorch module 7 clause 0")


def test_a_module_is_where_assign_puts_it(packages):
    for name, part in embedded.build("docstrings").items():
        assert len(part) > 0
        for row in part:
            assert splits.assign(f"{row['library']}/{row['module']}") == name


def test_what_is_not_installed_is_named(packages, capsys):
    embedded.build("docstrings")
    assert capsys.readouterr().out == "not installed here, so not in the corpus: sympy\n"


def test_a_package_that_is_not_installed_has_no_folder(monkeypatch):
    monkeypatch.setitem(embedded.PACKAGES, "no-such-package", "no_such_package")
    missing = [name for name, folder in embedded._roots() if not folder.is_dir()]
    assert "no-such-package" in missing and "torch" not in missing
    assert embedded.versions()["no-such-package"] == ""


def test_tests_and_vendored_packages_are_not_read(packages):
    for folder in ("tests", "test", "testing", "site-packages"):
        path = packages / "torch" / folder / "x.py"
        path.parent.mkdir()
        path.write_text('"Not to be read."')
    assert not any("Not to be read." in text for part in embedded.build("docstrings").values()
                   for text in part["text"])  # fmt: skip


def test_what_is_cached_is_not_made_again(packages, monkeypatch):
    first = embedded.build("docstrings")
    no_second_harvest(monkeypatch)
    again = embedded.build("docstrings")
    assert {name: part.to_list() for name, part in first.items()} == {
        name: part.to_list() for name, part in again.items()
    }


def test_a_derived_set_builds_the_corpus_first(packages):
    built = embedded.build("docstring-pairs")
    assert sorted(path.name for path in embedded.cache_folder().iterdir() if path.is_dir()) == [
        "docstring-pairs", "docstrings",
    ]  # fmt: skip
    assert built["train"].column_names[:2] == ["text", "text_pair"]


def test_other_versions_have_another_cache(packages, monkeypatch):
    before = embedded.cache_folder()
    assert embedded.cache_folder() == before
    monkeypatch.setattr(embedded, "versions", lambda: {"torch": "1.0"})
    other = embedded.cache_folder()
    monkeypatch.setattr(embedded, "RECIPE", embedded.RECIPE + 1)
    assert len({before, other, embedded.cache_folder()}) == 3


@pytest.mark.parametrize("left", ["", "train/data-00000-of-00001.arrow", "fingerprint.json"])
def test_a_half_written_folder_is_not_taken_for_a_whole_one(packages, left):
    folder = embedded.cache_folder() / "docstrings"
    path = folder / left
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("half") if left else path.mkdir(exist_ok=True)
    assert sum(len(part) for part in embedded.build("docstrings").values()) == 60


def test_a_build_that_dies_leaves_nothing_that_looks_whole(packages, monkeypatch):
    from datasets import DatasetDict

    save = DatasetDict.save_to_disk

    def die(made, folder):
        save(made, folder)
        raise OSError("No space left on device")

    monkeypatch.setattr(DatasetDict, "save_to_disk", die)
    with pytest.raises(OSError, match="No space left"):
        embedded.build("docstrings")
    assert not (embedded.cache_folder() / "docstrings").exists()
    monkeypatch.setattr(DatasetDict, "save_to_disk", save)
    assert sum(len(part) for part in embedded.build("docstrings").values()) == 60


def test_two_processes_at_once_harvest_once(packages, tmp_path):
    script = tmp_path / "build.py"
    script.write_text(
        dedent(f"""
        from pathlib import Path
        from cookbook.data import embedded
        root, harvest = Path({str(packages)!r}), embedded._harvest
        def counted(files):
            with open({str(tmp_path / "harvests")!r}, "a") as log:
                log.write("once\\n")
            yield from harvest(files)
        embedded._roots = lambda: [("scipy", root / "scipy"), ("torch", root / "torch")]
        embedded._harvest = counted
        print(sum(len(part) for part in embedded.build("docstrings").values()))
    """)
    )
    started = [
        subprocess.Popen(
            [sys.executable, script], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        for _ in range(2)
    ]
    assert [process.communicate()[0] for process in started] == [b"60\n", b"60\n"]
    assert (tmp_path / "harvests").read_text() == "once\n"


def test_the_fingerprint_names_the_text(packages, tmp_path, monkeypatch):
    first = embedded.fingerprint()
    assert len(first) == 12 and int(first, 16) >= 0
    assert embedded.fingerprint() == first
    monkeypatch.setenv("COOKBOOK_CACHE_DIR", str(tmp_path / "second"))
    assert embedded.fingerprint() == first
    write_packages(packages, say="Tells")
    monkeypatch.setenv("COOKBOOK_CACHE_DIR", str(tmp_path / "third"))
    assert embedded.fingerprint() != first


def test_the_order_of_the_rows_does_not_depend_on_which_worker_was_first(packages, monkeypatch):
    rows = [list(embedded._harvest(embedded._files())) for _ in range(2)]
    monkeypatch.setattr(embedded.os, "cpu_count", lambda: 1)
    assert rows[0] == rows[1] == list(embedded._harvest(embedded._files()))


def test_files_in_the_working_directory_are_not_imported_by_the_workers(
    packages, tmp_path, monkeypatch
):
    (tmp_path / "json.py").write_text("raise SystemExit('the wrong json')")
    monkeypatch.chdir(tmp_path)
    assert len(list(embedded._harvest(embedded._files()))) == 60


def test_a_worker_that_fails_is_reported(packages, monkeypatch):
    monkeypatch.setattr(embedded, "_start_worker", lambda paths: subprocess.Popen(
        [sys.executable, "-c", "raise SystemExit(3)"], stdout=subprocess.PIPE, text=True
    ))  # fmt: skip
    with pytest.raises(DataError, match="^a process that reads docstrings failed"):
        embedded.build("docstrings")
    assert not (embedded.cache_folder() / "docstrings").exists()


@pytest.fixture(scope="module")
def digits():
    return embedded.build("digits")


def test_the_digits_are_all_there(digits):
    assert sum(len(part) for part in digits.values()) == 1797
    assert abs(len(digits["train"]) / 1797 - 0.8) < 0.03
    for part in digits.values():
        assert part.column_names == ["image", "label"]
        assert part.features["label"].names == [str(digit) for digit in range(10)]
        counts = Counter(part["label"])
        assert len(counts) == 10 and max(counts.values()) < 2 * min(counts.values())


def test_a_digit_is_the_picture_that_scikit_learn_has(digits):
    from sklearn.datasets import load_digits

    known = {(p * 15.9).astype(np.uint8).tobytes(): y for p, y in
             zip(load_digits().images, load_digits().target, strict=True)}  # fmt: skip
    for row in digits["test"].select(range(20)):
        assert row["image"].size == (8, 8)
        assert known[np.asarray(row["image"]).tobytes()] == row["label"]


def test_the_hand_that_wrote_a_digit_is_on_one_side(digits):
    from sklearn.datasets import load_digits

    blocks = {}
    for row, picture in enumerate(load_digits().images):
        blocks.setdefault((picture * 15.9).astype(np.uint8).tobytes(), row // 40)
    sides = [{blocks[np.asarray(i).tobytes()] for i in part["image"]} for part in digits.values()]
    assert sum(map(len, sides)) == len(set.union(*sides)) == 45
