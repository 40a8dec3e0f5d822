"""What the sets made of docstrings promise: on rows made for it, and on the real corpus."""

import re
from collections import Counter

import numpy as np
import pytest
from datasets import Dataset, DatasetDict
from hypothesis import given
from hypothesis import strategies as st

from cookbook.data import deduplication, docstring_sets, embedded, splits
from cookbook.data.docstring_sets import MASK, TOPICS, mask_names

LONG = "computes a great many things about tensors, arrays and what else there may be to compute"


def row(text, library="torch", module="torch.nn", name="f", signature="(x)"):
    return {"text": text, "library": library, "module": module, "name": name,
            "signature": signature}  # fmt: skip


def dict_of(**parts):
    return DatasetDict({name: Dataset.from_list(rows) for name, rows in parts.items()})


@pytest.mark.parametrize("text, masked", [
    ("import torch", f"import {MASK}"),
    ("TorchInductor and matplotlibrc", f"{MASK} and {MASK}"),
    ("np.array, pd.DataFrame, plt.plot, nx.Graph",
     f"{MASK}.array, {MASK}.DataFrame, {MASK}.plot, {MASK}.Graph"),
    ("`scikit-learn`, scikits.learn, scikit_learn, sklearn.svm",
     f"`{MASK}`, scikits.learn, {MASK}, {MASK}.svm"),
    ("Hugging Face, huggingface, hugging-face", f"{MASK}, {MASK}, {MASK}"),
    ("🤗 Transformers are transformers; a transformer is not",
     f"🤗 {MASK} are {MASK}; a transformer is not"),
    ("mpl_toolkits, mplDeprecation, implement, simple",
     f"{MASK}_toolkits, {MASK}, implement, simple"),
    ("a pd matrix, n.p. and the plan", "a pd matrix, n.p. and the plan"),
    ("NumPy SCIPY SymPy Pandas NetworkX", " ".join([MASK] * 5)),
])  # fmt: skip
def test_names_and_aliases_are_masked_and_nothing_else(text, masked):
    assert mask_names(text) == masked


@given(st.text(alphabet="torchscipyandmplx_. -", max_size=60))
def test_masking_twice_is_masking_once(text):
    once = mask_names(text)
    assert mask_names(once) == once
    assert not re.search("torch|scipy|numpy", once)


def test_a_pair_is_the_signature_with_the_first_line_and_the_rest():
    pair = docstring_sets.pair_of(row(f"\n Sum of two numbers.\n\n    {LONG}\n", name="add"))
    assert pair["text"] == "add(x)\nSum of two numbers."
    assert pair["text_pair"] == LONG
    assert pair["summary"] == "Sum of two numbers."
    assert (pair["library"], pair["module"], pair["name"]) == ("torch", "torch.nn", "add")


@pytest.mark.parametrize("text", ["", "One line only, though quite long.", f"Short.\n{LONG}",
                                  "A first line that will do.\nA short rest."])  # fmt: skip
def test_a_docstring_without_enough_of_either_half_is_no_pair(text):
    assert docstring_sets.pair_of(row(text)) is None


def test_a_very_long_signature_does_not_push_the_first_line_out():
    pair = docstring_sets.pair_of(row(f"Sum of two numbers.\n{LONG}", signature="(a, " * 200))
    assert len(pair["text"]) == 200 + len("\nSum of two numbers.")


def test_the_held_out_side_loses_what_training_says_and_test_what_validation_says():
    texts = {"train": [LONG, "alpha beta"],
             "validation": [LONG.upper(), f"{LONG} indeed", "gamma delta", "epsilon zeta"],
             "test": ["Alpha, beta!", "gamma delta.", "eta theta"]}  # fmt: skip
    kept = docstring_sets.drop_leaks(
        dict_of(**{name: [row(text) for text in part] for name, part in texts.items()})
    )
    assert {name: part["text"][:] for name, part in kept.items()} == {
        "train": texts["train"], "validation": ["gamma delta", "epsilon zeta"],
        "test": ["eta theta"],
    }  # fmt: skip


def test_the_training_split_keeps_its_duplicates():
    kept = docstring_sets.drop_leaks(
        dict_of(train=[row("a")] * 3, validation=[row("b")] * 2, test=[row("c")])
    )
    assert {name: len(part) for name, part in kept.items()} == {
        "train": 3, "validation": 2, "test": 1,
    }  # fmt: skip


def test_cap_takes_some_of_each_class_whatever_the_order():
    rows = [{"text": f"text {i}", "label": i % 3} for i in range(30)] + [{"text": "x", "label": 3}]
    capped = docstring_sets.cap(Dataset.from_list(rows), 4)
    assert Counter(capped["label"]) == {0: 4, 1: 4, 2: 4, 3: 1}
    again = docstring_sets.cap(Dataset.from_list(rows[::-1]), 4)
    assert sorted(capped["text"]) == sorted(again["text"])


def test_topics_of_a_few_rows():
    made = docstring_sets.topics(dict_of(
        train=[row(f"torch and numpy; {LONG} one"), row(f"Torch and numpy: {LONG} ONE"),
               row("too short"), row(f"not asked for {LONG} two", library="jinja2")],
        validation=[row(f"scipy first, then something new: {LONG[::-1]}", library="scipy")],
        test=[row(f"what torch and numpy; {LONG} one", library="scipy")],
    ))  # fmt: skip
    assert made["train"].to_list() == [
        {"text": f"{MASK} and {MASK}; {LONG} one", "label": TOPICS.index("torch"),
         "module": "torch.nn"}
    ]  # fmt: skip
    assert made["validation"]["label"][:] == [TOPICS.index("scipy")]
    assert len(made["test"]) == 0


def test_of_pairs_neither_half_crosses_the_splits():
    other = LONG[::-1]
    made = docstring_sets.pairs(dict_of(
        train=[row(f"Sum of two numbers.\n{LONG}")],
        validation=[row(f"Sum of two numbers.\n{other}"), row(f"Another line.\n{LONG}")],
        test=[row(f"Something else again.\n{' '.join(other)}")],
    ))  # fmt: skip
    assert {name: len(part) for name, part in made.items()} == {
        "train": 1, "validation": 0, "test": 1,
    }  # fmt: skip


# The real sets: what the chapters rely on.


def crossing(parts, column):
    """How many rows of a split (nearly) repeat a row of an earlier one; another seed than ours."""
    train, validation, test = (parts[name][column][:] for name in splits.NAMES)
    against_train = deduplication.near_duplicates_across(train, validation + test, seed=7)
    return (against_train >= 0).sum() + (
        deduplication.near_duplicates_across(validation, test, seed=7) >= 0
    ).sum()


def test_the_corpus_is_large_and_complete(corpus):
    assert sum(len(part) for part in corpus.values()) >= 60_000
    assert corpus["train"].column_names == ["text", "library", "module", "name", "signature"]
    libraries = Counter(corpus["train"]["library"])
    assert {*TOPICS, "numpy", "python"} <= set(libraries)
    # A few were written as blanks; training keeps what it finds, for chapter 01 to clean.
    blank = {name: sum(not text.strip() for text in part["text"]) for name, part in corpus.items()}
    assert blank["train"] < 50 and blank["validation"] == blank["test"] == 0


def test_modules_of_the_corpus_are_where_assign_puts_them(corpus):
    for name, part in corpus.items():
        modules = set(zip(part["library"], part["module"], strict=True))
        assert {splits.assign(f"{library}/{module}") for library, module in modules} == {name}


def test_no_text_of_the_corpus_crosses_the_splits(corpus):
    assert splits.check_disjoint(corpus) > 50_000
    assert crossing(corpus, "text") == 0


def test_the_training_split_of_the_corpus_is_not_cleaned(corpus):
    texts = corpus["train"]["text"][:]
    first = deduplication.exact_duplicates(texts)
    assert 0.05 < np.mean(first != np.arange(len(texts))) < 0.25


def test_the_corpus_has_a_fingerprint(corpus):
    assert re.fullmatch("[0-9a-f]{12}", embedded.fingerprint())


@pytest.fixture(scope="module")
def topics(corpus):
    return embedded.build("docstring-topics")


def test_topics_are_eight_capped_classes(topics):
    for name, part in topics.items():
        assert part.column_names == ["text", "label", "module"]
        assert part.features["label"].names == list(TOPICS)
        counts = Counter(part["label"])
        assert len(counts) == 8 and max(counts.values()) <= docstring_sets.CAP[name]
        assert min(counts.values()) > docstring_sets.CAP[name] / 2


def test_no_topic_says_its_name(topics):
    # Written anew, not the pattern that did the masking.
    names = "torch scipy numpy pandas matplotlib pyplot sklearn networkx sympy huggingface".split()
    aliases = ("np.", "pd.", "plt.", "nx.")
    for part in topics.values():
        for text in part["text"]:
            lower = text.lower()
            assert not [name for name in names if name in lower]
            assert not re.search(r"\btransformers\b|scikit[-_ ]learn|hugging[-_ ]face", lower)
            words = lower.split()
            assert not [word for word in words if word.startswith(aliases)]


def test_no_topic_crosses_the_splits_and_none_is_repeated(topics):
    splits.check_disjoint(topics, groups="module")
    assert crossing(topics, "text") == 0
    texts = [text for part in topics.values() for text in part["text"]]
    assert len(set(map(deduplication.fingerprint, texts))) == len(texts)


def test_topics_are_tested_on_modules_that_pretraining_never_read(topics, corpus):
    read = set(corpus["train"]["module"])
    for name in ("validation", "test"):
        assert not set(topics[name]["module"]) & read


@pytest.fixture(scope="module")
def pairs(corpus):
    return embedded.build("docstring-pairs")


def test_pairs_have_their_columns(pairs):
    for part in pairs.values():
        assert part.column_names == ["text", "text_pair", "summary", "library", "module", "name"]
        for text, rest, summary in part.select(range(0, len(part), 50)).select_columns(
            ["text", "text_pair", "summary"]
        ).iter(1):  # fmt: skip
            assert text and rest and summary
    assert len(pairs["train"]) > 25_000 and len(pairs["test"]) > 2_000


@pytest.mark.parametrize("column", ["text", "text_pair"])
def test_neither_half_of_a_pair_crosses_the_splits(pairs, column):
    splits.check_disjoint(pairs, text_column=column)
    assert crossing(pairs, column) == 0
