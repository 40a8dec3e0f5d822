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

SENTENCES = [
    f"{who} {what} the {thing} of {count} tensors, and returns {other}."
    for who in ("The solver", "A sparse matrix", "This function", "An estimator")
    for what in ("computes", "normalizes", "interpolates", "transposes")
    for thing, other in (("gradient", "a copy"), ("eigenvalue", "None"), ("median", "an array"))
    for count in ("two", "several")
]
PRINTABLE = [chr(code) for code in range(33, 127)]
LETTERS = [f"{character} a{character}" for character in PRINTABLE for _ in range(2)]

NOT_TESTED, MISSING_ROWS = pytest.StashKey[list](), pytest.StashKey[list]()


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config):
    """A bare `pytest` shares the quick tests among two processes; with `-n0` it does not."""
    if hasattr(config, "workerinput"):
        return  # one of the two, which would start two more
    option = config.option
    whole = config.args_source is pytest.Config.ArgsSource.TESTPATHS
    quick = option.markexpr and f"-m {option.markexpr.strip()}" in config.getini("addopts")
    if whole and quick and not (option.collectonly or option.usepdb):
        if getattr(option, "numprocesses", 0) is None:  # pytest-xdist is there, and was not asked
            option.numprocesses, option.dist = 2, "loadfile"


def pytest_configure(config):
    config.stash[NOT_TESTED], config.stash[MISSING_ROWS] = [], []


def pytest_sessionfinish(session):
    if hasattr(session.config, "workeroutput"):  # one of the two processes: tell the first
        session.config.workeroutput["missing"] = session.config.stash[MISSING_ROWS]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
    node.config.stash[MISSING_ROWS] += getattr(node, "workeroutput", {}).get("missing", [])


def pytest_collection_modifyitems(items):
    """Unit tests first: a typo should not wait for fifteen minutes of notebooks."""
    long = ("ranks", "notebook", "kills", "soak")
    items.sort(key=lambda item: any(map(item.get_closest_marker, long)))


@pytest.fixture(scope="session")
def not_tested(request):
    """The list that a notebook's test adds to: claims that smoke could not test."""
    return request.config.stash[NOT_TESTED]


@pytest.fixture(scope="session")
def missing_rows(request):
    """The list of the mission's rows that nothing proves yet."""
    return request.config.stash[MISSING_ROWS]


@pytest.fixture(scope="session")
def corpus():
    """The real `docstrings`: from the cache, or harvested once, in about a minute."""
    from cookbook.data import embedded

    return embedded.build("docstrings")


@pytest.fixture(scope="session")
def sentences():
    """The texts that `tokenizer` was trained on: 48 sentences of about 18 tokens."""
    return list(SENTENCES)


@pytest.fixture(scope="session")
def tokenizer():
    """A small WordPiece tokenizer that knows every ASCII letter, at the start and inside."""
    from cookbook.data.tokenization import train_tokenizer

    return train_tokenizer([*SENTENCES, *LETTERS], vocab_size=400, max_length=64)


@pytest.fixture
def tiny_bert(tokenizer):
    """Makes a BERT of hidden size 32, the same one each time; settings by keyword."""

    def make(head="BertForMaskedLM", seed=0, **settings):
        import torch
        import transformers

        from cookbook.models.text import bert_config

        defaults = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
        config = bert_config(len(tokenizer), "tiny", length=64, **(defaults | settings))
        torch.manual_seed(seed)
        return getattr(transformers, head)(config)

    return make


def pytest_terminal_summary(terminalreporter, config):
    for title, key in {
        "claims that the smoke profile does not test": NOT_TESTED,
        "rows of the mission that nothing proves yet": MISSING_ROWS,
    }.items():
        if config.stash[key]:
            terminalreporter.section(title)
            for line in config.stash[key]:
                terminalreporter.line(line)
