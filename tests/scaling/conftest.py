"""Two launches serve all tests that need real ranks: see ranks_programs.py."""

from pathlib import Path

import pytest

from cookbook.scaling import launching

PROGRAMS = Path(__file__).with_name("ranks_programs.py")


@pytest.fixture(scope="session")
def programs():
    """The module of the programs, for what the test compares with, and its path."""
    return launching.resolve(f"{PROGRAMS}:everything").__globals__, PROGRAMS


@pytest.fixture(scope="session")
def ranks_folder(tmp_path_factory, programs):
    folder = tmp_path_factory.mktemp("ranks")
    programs[0]["write_rows"](folder)
    return folder


@pytest.fixture(scope="session")
def two_ranks(ranks_folder):
    """What `everything` returned, by rank."""
    return launching.launch(f"{PROGRAMS}:everything", {"folder": str(ranks_folder)}, ranks=2)


@pytest.fixture(scope="session")
def four_ranks(two_ranks, ranks_folder):
    return launching.launch(f"{PROGRAMS}:four", {"folder": str(ranks_folder)}, ranks=4)
