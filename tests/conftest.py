"""What every test stands on: one thread, no network, the long tests last, what smoke skipped.

Set before torch is imported: with two threads on a busy machine a tiny model is 40 times slower.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["MPLBACKEND"] = "Agg"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import hypothesis
import pytest

# No test depends on a clock, and a failure must come back on the next run.
hypothesis.settings.register_profile("cookbook", deadline=None, derandomize=True)
hypothesis.settings.load_profile("cookbook")

NOT_TESTED = pytest.StashKey[list]()


def pytest_configure(config):
    config.stash[NOT_TESTED] = []


def pytest_collection_modifyitems(items):
    """Unit tests first: a typo should not wait for fifteen minutes of notebooks."""
    items.sort(key=lambda item: any(map(item.get_closest_marker, ("notebook", "kills", "soak"))))


@pytest.fixture(scope="session")
def not_tested(request):
    """The list that a notebook's test adds to: claims that smoke could not test."""
    return request.config.stash[NOT_TESTED]


def pytest_terminal_summary(terminalreporter, config):
    if config.stash[NOT_TESTED]:
        terminalreporter.section("claims that the smoke profile does not test")
        for line in config.stash[NOT_TESTED]:
            terminalreporter.line(line)
