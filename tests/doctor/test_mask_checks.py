"""T10 of masks that belong to other tokens: words hidden, the padding of a pair seen."""

import pytest
import torch

from cookbook.doctor import mask_checks
from cookbook.doctor.checks import Skip, attempt
from cookbook.doctor.subject import Subject


def found(check, rows, collate):
    try:
        subject = Subject(None, train_dataset=rows, data_collator=collate)
        return [(f.fault, f.severity) for f in check(subject)]
    except Skip:
        return []


def rows_of(count=64):
    return [{"input_ids": list(range(5, 13 + i % 6)), "pair_ids": list(range(30, 33 + i % 4))}
            for i in range(count)]  # fmt: skip


def padded(lists):
    width = max(map(len, lists))
    return torch.tensor([[*one, *[0] * (width - len(one))] for one in lists])


def collated(rows):
    ids, pair = padded([r["input_ids"] for r in rows]), padded([r["pair_ids"] for r in rows])
    return {"input_ids": ids, "attention_mask": (ids != 0).long(), "pair_ids": pair,
            "pair_mask": (pair != 0).long()}  # fmt: skip


def by_the_pair(rows):
    batch = collated(rows)
    place, lengths = torch.arange(batch["input_ids"].shape[1]), batch["pair_mask"].sum(1)
    return batch | {"attention_mask": (place < lengths[:, None]).long()}


def a_few_words_dropped(rows):
    batch = collated(rows)
    torch.manual_seed(0)
    kept = torch.rand(batch["input_ids"].shape) < 0.8
    return batch | {"attention_mask": batch["attention_mask"] * kept}


def without_the_last(rows):
    """As by `ids != pad`, where the end of a row is the padding token too."""
    batch = collated(rows)
    mask = batch["attention_mask"]
    mask[:, :-1] *= mask[:, 1:].clone()
    return batch


def packed(rows):
    ids = torch.tensor(sum((row["input_ids"] for row in rows), []))[None]
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


@pytest.mark.parametrize(
    ("collate", "expected"),
    [
        (by_the_pair, [("T10", "warn")]),
        (collated, []),
        (a_few_words_dropped, []),
        (packed, []),
        (without_the_last, []),
    ],
)
def test_masks_made_of_the_lengths_of_another_text(collate, expected):
    assert found(mask_checks.check_mask_shows_the_words, rows_of(), collate) == expected


def test_rows_that_hide_their_own_end_mean_it():
    rows = [row | {"attention_mask": [1, 1, *[0] * (len(row["input_ids"]) - 2)]}
            for row in rows_of()]  # fmt: skip

    def collate(some):
        return collated(some) | {"attention_mask": padded([r["attention_mask"] for r in some])}

    assert found(mask_checks.check_mask_shows_the_words, rows, collate) == []


def ones(rows):
    batch = collated(rows)
    return batch | {"pair_mask": torch.ones_like(batch["pair_mask"])}


@pytest.mark.parametrize(
    ("collate", "expected"), [(ones, [("T10", "error")]), (collated, []), (packed, [])]
)
def test_a_second_text_whose_padding_is_seen(collate, expected):
    assert found(mask_checks.check_pairs_hide_their_padding, rows_of(), collate) == expected


def test_second_texts_of_one_length_have_no_padding():
    rows = [row | {"pair_ids": [7, 8, 9]} for row in rows_of()]
    assert found(mask_checks.check_pairs_hide_their_padding, rows, ones) == []


@pytest.mark.parametrize(("swapped", "expected"), [(True, [("T10", "error")]), (False, [])])
@pytest.mark.parametrize("pairs", [True, False])
def test_a_mask_and_token_types_that_changed_places(swapped, expected, pairs):
    rows = []
    for i in range(32):
        length, first = 8 + i % 5, 4 if pairs else 1
        types = [0] * first + [1] * (length - first) + [0] * (12 - length)
        mask = [1] * length + [0] * (12 - length)
        mask, types = (types, mask) if swapped else (mask, types)
        rows.append({"input_ids": [9] * 12, "attention_mask": mask, "token_type_ids": types})
    subject = Subject(None, train_dataset=rows)
    said, why = attempt(mask_checks.check_mask_and_types_are_in_their_places, subject)
    assert not why and [(f.fault, f.severity) for f in said] == expected


def test_padding_on_the_left_hides_the_first_token_by_right():
    rows = [{"input_ids": [0, 0, 9, 9], "attention_mask": [0, 0, 1, 1],
             "token_type_ids": [0, 0, 0, 1]}] * 32  # fmt: skip
    said, _ = attempt(
        mask_checks.check_mask_and_types_are_in_their_places, Subject(None, train_dataset=rows)
    )
    assert said == []
