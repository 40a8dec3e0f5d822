"""Splits share no text and no group, lose no row, and keep their fractions and classes."""

from collections import Counter

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value
from hypothesis import given, settings
from hypothesis import strategies as st

from cookbook.data import splits
from cookbook.data.deduplication import fingerprint
from cookbook.data.errors import DataError


def table(texts, labels=None, **columns):
    rows = {"text": list(texts), "id": list(range(len(texts)))} | columns
    if labels is None:
        return Dataset.from_dict(rows)
    names = sorted({str(label) for label in labels if label is not None})
    kinds = Dataset.from_dict(rows).features
    features = Features({**kinds, "label": ClassLabel(names=names)})
    named = [None if label is None else str(label) for label in labels]
    return Dataset.from_dict(rows | {"label": named}, features=features)


def sizes(parts):
    return [len(parts[name]) for name in splits.NAMES]


# Few words and groups, so that rows are linked in long chains, and sometimes not at all.
WORDS = st.sampled_from(
    ["Red fox", "red  FOX!", "", " ", "grey wolf", "a", "b", "c", "数据", "数 据"]
)
ROWS = st.lists(st.tuples(WORDS, st.integers(0, 6), st.integers(0, 2)), min_size=3, max_size=40)


few_examples = settings(max_examples=25)  # making a Dataset costs more than splitting it


@few_examples
@given(ROWS, st.integers(0, 3), st.booleans())
def test_no_text_and_no_group_is_on_two_sides_and_every_row_on_one(rows, seed, grouped):
    texts, groups, labels = zip(*rows, strict=True)
    try:
        parts = splits.split(table(texts, labels), groups=groups if grouped else None, seed=seed)
    except DataError as error:
        assert "too few to make" in str(error)
        return
    assert sorted(row for part in parts.values() for row in part["id"]) == list(range(len(rows)))
    sides = [{name for name in map(fingerprint, part["text"]) if name} for part in parts.values()]
    assert sum(map(len, sides)) == len(set.union(*sides))
    if grouped:
        sides = [{groups[row] for row in part["id"]} for part in parts.values()]
        assert sum(map(len, sides)) == len(set.union(*sides))
    assert min(sizes(parts)) > 0
    splits.check_disjoint(parts)


@few_examples
@given(st.lists(st.integers(1, 40), min_size=1, max_size=30), st.integers(0, 2))
def test_single_rows_keep_the_fractions_and_the_classes_to_the_row(per_class, seed):
    labels = [label for label, count in enumerate(per_class) for _ in range(count)]
    if len(labels) < 10:  # too few for a tenth of a row: every split gets one first
        labels = labels * 10
    parts = splits.split(table([f"row {i}" for i in range(len(labels))], labels), seed=seed)
    expected = np.array(splits.FRACTIONS) * len(labels)
    assert np.abs(sizes(parts) - expected).max() < 2
    sides = [Counter(part["label"]) for part in parts.values()]
    for label, count in Counter(labels).items():
        name = parts["train"].features["label"].str2int(str(label))
        got = np.array([side[name] for side in sides])
        assert np.abs(got - np.array(splits.FRACTIONS) * count).max() < 2


@few_examples
@given(st.lists(st.integers(1, 9), min_size=30, max_size=60), st.integers(0, 2))
def test_groups_keep_the_fractions_to_the_largest_group(group_sizes, seed):
    groups = [group for group, size in enumerate(group_sizes) for _ in range(size)]
    parts = splits.split(table([f"row {i}" for i in range(len(groups))]), groups=groups, seed=seed)
    expected = np.array(splits.FRACTIONS) * len(groups)
    assert np.abs(sizes(parts) - expected).max() <= max(group_sizes)


def test_a_hundred_classes_of_three_rows_are_still_eighty_ten_ten():
    parts = splits.split(table([f"row {i}" for i in range(300)], [i % 100 for i in range(300)]))
    assert sizes(parts) == [240, 30, 30]


def test_large_groups_go_where_there_is_room_for_them():
    groups = [0] * 30 + [1] * 30 + [2] * 30 + list(range(3, 13))
    parts = splits.split(table([f"row {i}" for i in range(100)]), groups=groups)
    assert sizes(parts) == [90, 5, 5]


def test_the_seed_decides():
    rows = table([f"row {i}" for i in range(50)])
    ids = [splits.split(rows, seed=seed)["test"]["id"][:] for seed in (0, 0, 1)]
    assert ids[0] == ids[1] != ids[2]


def test_three_rows_make_three_splits():
    assert sizes(splits.split(table(["a", "b", "c"]))) == [1, 1, 1]


def test_one_row_is_too_few():
    with pytest.raises(DataError) as caught:
        splits.split(table(["alone"]))
    assert str(caught.value) == (
        "the data has 1 row, too few to make train, validation, test: at least 3 are needed"
    )
    with pytest.raises(DataError, match="^the data has 0 rows, too few"):
        splits.split(table([]))


@pytest.mark.parametrize("texts, groups", [
    ("abcde", [7] * 5), (["Same", "same!", " SAME", "same", "same."], None),
    ("aabcc", [1, 2, 2, 2, 3]),  # two groups and a text in both of them: one chain
])  # fmt: skip
def test_one_group_cannot_be_split(texts, groups):
    with pytest.raises(DataError) as caught:
        splits.split(table(texts), groups=groups)
    assert str(caught.value) == (
        "all 5 rows belong to 1 group(s) of equal text or group column, too few to make train, "
        "validation, test: add rows or another group column"
    )


def test_a_group_for_each_row_is_needed():
    with pytest.raises(DataError, match="^2 groups are given for 3 rows: give one a row$"):
        splits.split(table("abc"), groups=[1, 2])


def test_texts_and_groups_link_rows_through_each_other():
    # 0 -text- 1 -group- 2 -text- 3: never apart, though 0 and 3 have nothing in common.
    rows = table(["a", "A", "b", "B!", *"cdefgh"])
    groups = [0, 1, 1, 2, *range(3, 9)]
    for seed in range(10):
        parts = splits.split(rows, groups=groups, seed=seed)
        assert any({0, 1, 2, 3} <= set(part["id"]) for part in parts.values())


def test_a_group_and_a_text_of_the_same_name_are_no_link():
    parts = splits.split(table("abc"), groups=["b", "c", "a"])
    assert sizes(parts) == [1, 1, 1]


def test_empty_texts_stand_alone_and_are_no_overlap():
    parts = splits.split(table(["", "", " ", None, "a", "b"]))
    assert sum(sizes(parts)) == 6 and min(sizes(parts)) > 0
    assert splits.check_disjoint(parts) == 2


def test_one_very_long_text_costs_no_memory_for_the_others():
    # An array of fixed-width strings would take 5,000 x 2,000,000 x 4 bytes.
    parts = splits.split(table(["x" * 2_000_000, *(f"row {i}" for i in range(5_000))]))
    assert sum(sizes(parts)) == 5_001


def test_of_pairs_only_equal_pairs_belong_together():
    texts, pairs = ["q", "q", "Q", "r", "s", None], ["1", "2", "1!", "3", "4", None]
    rows = table(texts, text_pair=pairs)
    parts = splits.split(rows)
    assert any({0, 2} <= set(part["id"]) for part in parts.values())
    assert splits.check_disjoint(parts) == 4
    only = DatasetDict(train=rows.select([0]), test=rows.select([1]))
    assert splits.check_disjoint(only) == 2
    with pytest.raises(DataError):
        splits.check_disjoint(DatasetDict(train=rows.select([0]), test=rows.select([2])))


def test_without_a_text_column_only_groups_count():
    rows = Dataset.from_dict({"id": list(range(6))})
    groups = [0, 0, 1, 1, 2, 2]
    assert sizes(splits.split(rows, groups=groups)) == [2, 2, 2]
    assert sum(sizes(splits.split(rows))) == 6


def test_rows_without_a_label_are_dealt_too():
    parts = splits.split(table([f"row {i}" for i in range(20)], [0, None] * 10))
    assert sizes(parts) == [16, 2, 2]


def test_two_splits_by_other_names():
    rows = table([f"row {i}" for i in range(20)])
    parts = splits.split(rows, fractions=(0.75, 0.25), names=("train", "test"))
    assert {name: len(part) for name, part in parts.items()} == {"train": 15, "test": 5}


def test_check_disjoint_names_what_overlaps_and_where():
    parts = DatasetDict(train=table(["Red fox"]), test=table(["a", "red FOX!"]))
    with pytest.raises(DataError) as caught:
        splits.check_disjoint(parts)
    assert str(caught.value) == (
        "1 texts or groups of test are in train too, such as 'text red fox': split by group, or "
        "drop the copies"
    )


def test_check_disjoint_finds_a_group_on_two_sides():
    parts = DatasetDict(train=table("ab", who=[1, 2]), test=table("cd", who=[2, 3]))
    assert splits.check_disjoint(parts) == 4
    with pytest.raises(DataError, match="such as 'group 2'"):
        splits.check_disjoint(parts, groups="who")


def test_check_disjoint_looks_between_validation_and_test_too():
    parts = DatasetDict(train=table("a"), validation=table("b"), test=table("b"))
    with pytest.raises(DataError, match="of test are in validation too"):
        splits.check_disjoint(parts)


@given(st.text(max_size=20), st.integers(0, 3))
def test_assign_is_a_function_of_the_key_and_the_seed(key, seed):
    assert splits.assign(key, seed=seed) == splits.assign(key, seed=seed)
    assert splits.assign(key, fractions=(1, 0, 0), seed=seed) == "train"
    assert splits.assign(key, fractions=(0, 0, 1), seed=seed) == "test"


def test_assign_stays_what_it_was():
    """The shipped checkpoint has read the training modules of this very function."""
    sides = {"torch/torch.nn.modules.linear": "train", "python/json.decoder": "validation",
             "transformers/transformers.trainer": "validation",
             "scipy/scipy.stats._stats_py": "test"}  # fmt: skip
    assert {module: splits.assign(module) for module in sides} == sides


def test_assign_keeps_the_fractions():
    counts = Counter(splits.assign(f"module {i}") for i in range(10_000))
    for name, fraction in zip(splits.NAMES, splits.FRACTIONS, strict=True):
        spread = (fraction * (1 - fraction) / 10_000) ** 0.5
        assert abs(counts[name] / 10_000 - fraction) < 4 * spread


@few_examples
@given(st.lists(st.integers(0, 3), min_size=1, max_size=40), st.integers(1, 40), st.integers(0, 2))
def test_few_draws_the_classes_evenly_and_no_row_twice(labels, rows, seed):
    part = table([f"row {i}" for i in range(len(labels))], labels)
    drawn = splits.few(DatasetDict(train=part), rows, 5, seed=seed)["train"]
    assert len(drawn) == min(rows, len(labels)) == len(set(drawn["id"]))
    left = Counter(part["label"]) - Counter(drawn["label"])
    taken = Counter(drawn["label"])
    # A class gets two more than another only where the other has none left.
    assert all(taken[a] <= taken[b] + 1 for a in taken for b in left)


def test_few_takes_held_out_rows_by_their_own_number():
    parts = DatasetDict({name: table([f"{name} {i}" for i in range(20)]) for name in splits.NAMES})
    parts = DatasetDict({name: part.add_column("x", [0] * 20) for name, part in parts.items()})
    assert sizes(splits.few(parts, 10, 4)) == [10, 4, 4]
    assert splits.few(parts, 10, 4)["test"].column_names == ["text", "id", "x"]


@few_examples
@given(st.lists(st.integers(0, 6), min_size=9, max_size=40), st.integers(1, 9), st.integers(0, 3))
def test_few_draws_no_text_twice_though_the_set_repeats_itself(texts, rows, seed):
    third = len(texts) // 3
    given_ = {name: texts[i * third : (i + 1) * third] for i, name in enumerate(splits.NAMES)}
    parts = DatasetDict({n: table([f"text {t}" for t in own]) for n, own in given_.items()})
    try:
        drawn = splits.few(parts, rows, rows, seed=seed)
    except DataError as error:
        name = "validation" if "for validation" in str(error) else "train"
        assert {*parts[name]["text"]} <= {t for n in parts if n != name for t in parts[n]["text"]}
        return
    splits.check_disjoint(drawn)
    assert len(drawn["test"]) == min(rows, third)
    open_ = [t for t in parts["train"]["text"] if t not in {*drawn["validation"]["text"],
                                                           *drawn["test"]["text"]}]  # fmt: skip
    assert len(drawn["train"]) == min(rows, len(open_))


def test_few_says_when_all_of_a_split_is_held_out():
    same = table(["a", "b", "c"])
    with pytest.raises(DataError) as error:
        splits.few(DatasetDict(train=same, test=same), 3, 3)
    assert str(error.value) == (
        "each of the 3 texts of train is also drawn to be held out: nothing is left for train. "
        "Give splits that share no text, or draw fewer rows"
    )
    fewer = splits.few(DatasetDict(train=same, test=same), 3, 1)
    assert {name: len(part) for name, part in fewer.items()} == {"train": 2, "test": 1}


def test_value_is_kept():
    assert splits.split(table("abc"))["train"].features["text"] == Value("string")
